"""Kinds of values in scenario files: text to value, and back.

Reading raises ValueError with a reason that says what is expected. A list in a file is read as
its items with spaces between them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules import kinds
from mirrorfarm.modules.faults import shown, suggestion

DURATION_NS_MAX: Final = 48 * 3_600 * SECOND_NS
UNITS: Final = {
    "ns": 1,
    "us": MICROSECOND_NS,
    "ms": MILLISECOND_NS,
    "s": SECOND_NS,
    "min": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS,
}
_DURATION: Final = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{1,9}))? ?([a-z]{1,3})", re.ASCII)
_SHARE: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]))? ?%", re.ASCII)
_PLACES: Final = 9
SEED_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    what: str  # For the reference of the format.


def duration_ns(text: str, *, least_ns: int = 0) -> int:
    """Return nanoseconds: `300 ms`, `1.25 s`, `2 min`."""
    found = _DURATION.fullmatch(text)
    if found is None or found[4] not in UNITS:
        units = " ".join(UNITS)
        raise ValueError(
            f"{shown(text)!r} is not a duration: a number and a unit ({units}), as in 300 ms"
        )
    unit = UNITS[found[4]]
    part = int((found[3] or "0").ljust(_PLACES, "0"))
    value = int(found[2]) * unit + part * unit // 10**_PLACES
    value = -value if found[1] else value
    if not least_ns <= value <= DURATION_NS_MAX:
        least = duration_text(least_ns)
        raise ValueError(f"{text} is not within {least} to {duration_text(DURATION_NS_MAX)}")
    return value


def duration_text(value: int) -> str:
    """Return a duration with the unit that makes it short, exactly."""
    for name in ("h", "min", "s", "ms", "us"):
        unit = UNITS[name]
        if value and value % unit == 0 and (name in ("s", "ms", "us") or value // unit < 1_000):
            return f"{value // unit} {name}"
    if value == 0:
        return "0 s"
    sign = "-" if value < 0 else ""
    name = "s" if abs(value) >= SECOND_NS else "ms" if abs(value) >= MILLISECOND_NS else "us"
    whole, part = divmod(abs(value), UNITS[name])
    digits = f"{part * 10**_PLACES // UNITS[name]:09}".rstrip("0")
    return f"{sign}{whole}.{digits} {name}" if digits else f"{sign}{whole} {name}"


def _read_length(text: str) -> int:
    value = duration_ns(text)
    if not value:
        raise ValueError(f"{text} is no time at all: a longer duration is expected, as in 300 ms")
    return value


def _read_moment(text: str) -> int:
    return 0 if text == "0" else duration_ns(text)


def _read_share(text: str) -> int:
    found = _SHARE.fullmatch(text)
    thousandths = int(found[1]) * 10 + int(found[2] or 0) if found else -1
    if not 0 <= thousandths <= 1_000:
        raise ValueError(f"{shown(text)!r} is not a share: a number with %, as in 20 % or 0.5 %")
    return thousandths


def _read_seed(text: str) -> int:
    found = re.fullmatch(r"[0-9]{1,20}|0x[0-9a-f]{1,16}", text, re.ASCII | re.IGNORECASE)
    value = int(text, 16 if text[:2].lower() == "0x" else 10) if found else -1
    if not 0 <= value < 1 << SEED_BITS:
        raise ValueError(f"{shown(text)!r} is not a number of 64 bits, such as 24301 or 0x5eed")
    return value


def _write_share(value: int) -> str:
    return f"{value // 10}.{value % 10} %" if value % 10 else f"{value // 10} %"


def _read_names(least: int, most: int) -> Callable[[str], tuple[str, ...]]:
    name = kinds.name()

    def read(text: str) -> tuple[str, ...]:
        found = tuple(name(word) for word in text.split())
        if not least <= len(found) <= most:
            what = f"{least} names" if least == most else f"{least} to {most} names"
            raise ValueError(f"{shown(text)!r}: {what} are expected, as in n1 n2")
        if len(dict.fromkeys(found)) != len(found):
            raise ValueError(f"{shown(text)!r}: a name appears twice")
        return found

    return read


def names(least: int, most: int, what: str) -> Kind:
    """So many different names."""
    return Kind(_read_names(least, most), " ".join, what)


def words(*allowed: str) -> Kind:
    """One of some words."""
    return Kind(kinds.choice(*allowed), str, ", ".join(f"`{word}`" for word in allowed))


def number(least: int, most: int) -> Kind:
    """A whole number."""
    return Kind(kinds.whole(least, most), str, f"a number from {least} to {most}")


def text(characters_max: int = 200) -> Kind:
    """Text of one line."""
    return Kind(kinds.text(characters_max), str, "text")


def known(allowed: Callable[[], Any], what: str) -> Kind:
    """One of the words that a table has when it is asked."""

    def read(value: str) -> str:
        if value not in allowed():
            raise ValueError(f"{shown(value)!r} is not known; {suggestion(value, allowed())}")
        return value

    return Kind(read, str, what)


NODE: Final = Kind(kinds.name(), str, "a node")
MODULE: Final = Kind(kinds.name(), str, "a module")
PAIR: Final = names(2, 2, "two machines, as in `n1 w1`")
MACHINES: Final = names(1, 18, "machines, as in `n1 w1`")
DURATION: Final = Kind(duration_ns, duration_text, "a duration")
LENGTH: Final = Kind(_read_length, duration_text, "a duration")
OFFSET: Final = Kind(
    lambda value: duration_ns(value, least_ns=-DURATION_NS_MAX),
    duration_text,
    "a duration, or less",
)
MOMENT: Final = Kind(_read_moment, duration_text, "a duration after the beginning")
SHARE: Final = Kind(_read_share, _write_share, "a share, as in `20 %`")
SWITCH: Final = Kind(kinds.switch(), lambda on: "yes" if on else "no", "`yes` or `no`")
NETWORK: Final = words("default", "second", "third")
SEED: Final = Kind(_read_seed, str, "a number of 64 bits, as in `24301` or `0x5eed`")
