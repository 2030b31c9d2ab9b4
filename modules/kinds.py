"""Kinds of attribute values: each returns a function from text to value.

The function raises ValueError with a reason that says what is expected.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final

from mirrorfarm.limits import MICROSECOND_NS, MILLISECOND_NS, NAME_PATTERN, SECOND_NS
from mirrorfarm.modules.expressions import matches_all, posix
from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.modules.schema import MACRO, NOT_YET

PATH_BYTES_MAX: Final = 1_024
INTERFACE_BYTES_MAX: Final = 15
DURATION_NS_MAX: Final = 10 * 365 * 86_400 * SECOND_NS

UNITS: Final = {
    "us": MICROSECOND_NS,
    "ms": MILLISECOND_NS,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS,
    "d": 86_400 * SECOND_NS,
}
_UNIT_NAMES: Final = {
    "us": "microseconds",
    "ms": "milliseconds",
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
}
# This network, never a destination (RFC 1122, 3.2.1.3); and all machines of the link.
_NEVER: Final = (ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("255.255.255.255"))
_DURATION = re.compile(r"([0-9]{1,18})\s*([a-z]{0,8})", re.ASCII)
_NAME = re.compile(NAME_PATTERN)

Kind = Callable[[str], Any]


def text(characters_max: int = 256) -> Kind:
    """Any text up to a length, without control characters."""

    def convert(value: str) -> str:
        if len(value) > characters_max:
            raise ValueError(f"longer than {characters_max} characters")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise ValueError("contains a control character")
        return value

    return convert


def choice(*words: str, later: tuple[str, ...] = ()) -> Kind:
    """One of `words`; those in `later` are known to the reference product but refused."""

    def convert(value: str) -> str:
        if value in words:
            return value
        if value in later:
            raise ValueError(f"{value} is {NOT_YET}; allowed: {', '.join(words)}")
        cure = suggestion(value, words)
        raise ValueError(f"{shown(value)!r} is not allowed; {cure}")

    return convert


def switch() -> Kind:
    """Accept on or off (also yes, no), as a truth value."""
    convert_word = choice("on", "off", "yes", "no")

    def convert(value: str) -> bool:
        return convert_word(value) in {"on", "yes"}

    return convert


def whole(least: int, most: int) -> Kind:
    """Accept a whole number within bounds."""

    def convert(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", value, re.ASCII):
            raise ValueError(f"{shown(value)!r} is not a whole number ({least} to {most})")
        if not least <= int(value) <= most:
            raise ValueError(f"{value} is not within {least} to {most}")
        return int(value)

    return convert


def duration(unit: str, least_ns: int = 0) -> Kind:
    """Accept a duration, in nanoseconds; without a suffix its unit is `unit`."""
    name = _UNIT_NAMES[unit]

    def convert(value: str) -> int:
        value = shown(value.strip())
        found = _DURATION.fullmatch(value)
        if found is None or (found.group(2) and found.group(2) not in UNITS):
            raise ValueError(
                f"{value!r} is not a duration; expected {name}, or a number with one of "
                "d h m s ms us"
            )
        duration_ns = int(found.group(1)) * UNITS[found.group(2) or unit]
        if duration_ns > DURATION_NS_MAX:
            raise ValueError(f"{value!r} is longer than ten years")
        if 0 < duration_ns < UNITS[unit]:
            raise ValueError(f"{value} rounds to 0 in {name}, the unit of this attribute")
        whole_ns = duration_ns // UNITS[unit] * UNITS[unit]
        if whole_ns < least_ns:
            raise ValueError(f"{value} is shorter than {least_ns // UNITS[unit]} {name}")
        return whole_ns

    return convert


def name() -> Kind:
    """Accept a name of a node, a network, a witness."""

    def convert(value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"{shown(value)!r} is not a name: a small letter, then up to 31 of a-z 0-9 _ -"
            )
        return value

    return convert


def macro() -> Kind:
    """Accept a name that `%…%` can have."""
    convert_text = text(64)

    def convert(value: str) -> str:
        convert_text(value)
        if not MACRO.fullmatch(f"%{value}%"):
            reason = "cannot be used as %…%: a letter or _, then up to 63 of A-Z a-z 0-9 _ . -"
            raise ValueError(f"{shown(value)!r} {reason}")
        return value

    return convert


def interface() -> Kind:
    """Accept what the kernel takes as the name of an interface; or nothing: it is found."""

    def convert(value: str) -> str:
        wrong = any(sign in "/:" or sign.isspace() or not sign.isprintable() for sign in value)
        if wrong or value in {".", ".."} or len(value.encode()) > INTERFACE_BYTES_MAX:
            reason = f"{shown(value)!r} cannot name an interface: up to {INTERFACE_BYTES_MAX} bytes"
            raise ValueError(f"{reason} without blank, / and :; `ip link` lists those of a node")
        return value

    return convert


def title(characters_max: int) -> Kind:
    """Accept a name of the user's that is told, and typed: something that can be seen."""
    convert_text = text(characters_max)

    def convert(value: str) -> str:
        convert_text(value)
        if not value or value != value.strip() or not value.isprintable():
            reason = "is no name: it needs a visible sign, and none that is invisible at its ends"
            raise ValueError(f"{shown(value)!r} {reason}")
        return value

    return convert


def names() -> Kind:
    """Names separated by spaces or commas."""
    convert_name = name()

    def convert(value: str) -> tuple[str, ...]:
        return tuple(convert_name(word) for word in value.replace(",", " ").split())

    return convert


def address() -> Kind:
    """Accept an IPv4 or IPv6 address in its usual spelling, brackets allowed; never a host name."""

    def convert(value: str) -> str:
        bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        try:
            parsed = ipaddress.ip_address(bare)
        except ValueError:
            raise ValueError(
                f"{shown(value)!r} is not an IP address; names are not resolved here, "
                "so that no failover depends on DNS"
            ) from None
        if "%" in bare:
            raise ValueError(f"{shown(value)!r} has a zone; use a routable address")
        # 240.0.0.0/4 is reserved as well, but Linux takes it, and clouds give it to machines.
        if parsed.is_multicast or parsed.is_unspecified or any(parsed in net for net in _NEVER):
            raise ValueError(f"{value} cannot be the address of one machine")
        return str(parsed)

    return convert


def addresses() -> Kind:
    """Addresses separated by spaces or commas."""
    convert_address = address()

    def convert(value: str) -> tuple[str, ...]:
        return tuple(convert_address(word) for word in value.replace(",", " ").split())

    return convert


def netmask() -> Kind:
    """Accept 255.255.255.0, or the number of bits, 1 or more."""

    def convert(value: str) -> int:
        if re.fullmatch(r"[0-9]{1,3}", value, re.ASCII):
            return int(whole(1, 128)(value))
        try:
            network = ipaddress.IPv4Network(f"0.0.0.0/{value}")
        except ValueError:
            raise ValueError(f"{shown(value)!r} is not a netmask such as 255.255.255.0") from None
        if str(network.netmask) != value:  # 0.0.0.255: which bits are the host's, as filters say.
            raise ValueError(f"{value} is not a netmask; did you mean {network.netmask}?")
        if not network.prefixlen:
            reason = "leave netmask out to have that of the interface"
            raise ValueError(f"{value} would put every address into one subnet; {reason}")
        return network.prefixlen

    return convert


def directory() -> Kind:
    """Accept an absolute path without `..`, not the root; returned without doubled slashes."""

    def convert(value: str) -> str:
        parts = _parts(value)
        if not value.startswith("/"):
            raise ValueError(f"{shown(value)!r} is not absolute; begin with /")
        if not parts:
            raise ValueError("the root directory cannot be replicated")
        return "/" + "/".join(parts)

    return convert


def path(relative: bool) -> Kind:
    """Accept a path without `..`; if `relative`, one that stays below its directory."""

    def convert(value: str) -> str:
        parts = _parts(value)
        if relative and value.startswith("/"):
            raise ValueError(f"{shown(value)!r} must be relative to the replicated directory")
        if not parts:
            raise ValueError("names no file")
        return ("/" if value.startswith("/") else "") + "/".join(parts)

    return convert


def _parts(value: str) -> list[str]:
    text(PATH_BYTES_MAX)(value)
    if len(value.encode()) > PATH_BYTES_MAX:
        raise ValueError(f"longer than {PATH_BYTES_MAX} bytes")
    parts = [part for part in value.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise ValueError(f"{shown(value)!r} contains '..'; write the path it means")
    return parts


def regex() -> Kind:
    """Accept a regular expression."""
    convert_text = text(512)

    def convert(value: str) -> str:
        convert_text(value)
        try:
            re.compile(value.removeprefix("!"))
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{shown(value)!r} is not a regular expression: {error}") from None
        return value

    return convert


def posix_regex() -> Kind:
    """Accept a POSIX extended regular expression, with a `!` before it or not."""
    convert_text = text(512)

    def convert(value: str) -> str:
        convert_text(value)
        if value in {"", "!"}:
            raise ValueError("is empty, which would match every name")
        try:
            compiled = posix(value.removeprefix("!"))
        except ValueError as error:
            raise ValueError(f"{shown(value)!r} is not a regular expression: {error}") from None
        if matches_all(compiled):
            raise ValueError(f"{shown(value)!r} would match every name")
        return value

    return convert
