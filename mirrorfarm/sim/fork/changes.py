"""What a what-if does to a forked cluster, in short words: lost messages, crashes, pauses."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.sim.acts.kinds import duration_ns, duration_text
from mirrorfarm.transport import messages

ANY: Final = "any"
KINDS: Final = {
    name: kind
    for name, kind in vars(messages).items()
    if isinstance(kind, type)
    and issubclass(kind, messages.Message)
    and kind is not messages.Message
}
FORMS: Final = {
    "drop": "KIND n1->n2 5s [+1s]",
    "delay": "n1->n2 200ms 5s [+1s]",
    "crash": "n1 [+1s]",
    "pause": "n1 500ms [+1s]",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is done; `after_ns` the fork it begins."""

    kind: str  # drop delay crash pause
    node: str
    to: str = ""
    message: str = ""  # "": all, and the replicators' stream.
    late_ns: int = 0
    for_ns: int = 0
    after_ns: int = 0

    def __str__(self) -> str:
        way = f" {self.node}->{self.to}" if self.to else f" {self.node}"
        what = f" {self.message or ANY}" if self.kind == "drop" else ""
        times = [one for one in (self.late_ns, self.for_ns) if one]
        text = f"{self.kind}{what}{way}" + "".join(f" {duration_text(one)}" for one in times)
        return text + (f" +{duration_text(self.after_ns)}" if self.after_ns else "")


def drop(words: str, machines: Iterable[str]) -> Change:
    """Return `KIND n1->n2 5s`: messages of a kind, or `any`, are lost for so long."""
    parts, after_ns = _parts("drop", words, 3)
    kind = parts[0]
    if kind != ANY and kind not in KINDS:
        hint = suggestion(kind, [*KINDS, ANY])
        raise UsageInvalid(f"--drop {shown(words)}: {shown(kind)} is no message; {hint}")
    source, to = _way("drop", words, parts[1], machines)
    message = "" if kind == ANY else kind
    return Change("drop", source, to, message, for_ns=_time("drop", parts[2]), after_ns=after_ns)


def delay(words: str, machines: Iterable[str]) -> Change:
    """Return `n1->n2 200ms 5s`: for so long, everything arrives so much later."""
    parts, after_ns = _parts("delay", words, 3)
    source, to = _way("delay", words, parts[0], machines)
    late_ns, for_ns = _time("delay", parts[1]), _time("delay", parts[2])
    return Change("delay", source, to, late_ns=late_ns, for_ns=for_ns, after_ns=after_ns)


def crash(words: str, nodes: Iterable[str]) -> Change:
    """Return `n1`: it loses its power, and stays off."""
    parts, after_ns = _parts("crash", words, 1)
    return Change("crash", _node("crash", words, parts[0], nodes), after_ns=after_ns)


def pause(words: str, nodes: Iterable[str]) -> Change:
    """Return `n1 500ms`: its processes do not run for so long; its guard does."""
    parts, after_ns = _parts("pause", words, 2)
    node, for_ns = _node("pause", words, parts[0], nodes), _time("pause", parts[1])
    return Change("pause", node, for_ns=for_ns, after_ns=after_ns)


def parse(
    given: Mapping[str, Iterable[str]], nodes: tuple[str, ...], witness: str = ""
) -> list[Change]:
    """Return what options say: by `drop`, `delay`, `crash`, `pause`. Raise UsageInvalid."""
    machines = [*nodes, witness] if witness else list(nodes)
    readers: dict[str, tuple[Callable[[str, Iterable[str]], Change], Iterable[str]]] = {
        "drop": (drop, machines),
        "delay": (delay, machines),
        "crash": (crash, nodes),
        "pause": (pause, nodes),
    }
    return [
        read(words, names)
        for kind, (read, names) in readers.items()
        for words in given.get(kind, ())
    ]


def _parts(kind: str, words: str, count: int) -> tuple[list[str], int]:
    """Return the words before a `+1s`, and that time."""
    parts = words.split()
    after_ns = 0
    if parts and parts[-1].startswith("+"):
        after_ns = _time(kind, parts.pop()[1:], least_ns=0)
    if len(parts) != count:
        raise UsageInvalid(f"--{kind} {shown(words)!r}: write '{FORMS[kind]}'")
    return parts, after_ns


def _way(kind: str, words: str, text: str, machines: Iterable[str]) -> tuple[str, str]:
    source, arrow, to = text.partition("->")
    if not arrow or source == to:
        raise UsageInvalid(f"--{kind} {shown(words)!r}: write '{FORMS[kind]}'")
    return _node(kind, words, source, machines), _node(kind, words, to, machines)


def _node(kind: str, words: str, name: str, nodes: Iterable[str]) -> str:
    if name not in nodes:
        raise UsageInvalid(
            f"--{kind} {shown(words)!r}: {shown(name)} is not there; {suggestion(name, nodes)}"
        )
    return name


def _time(kind: str, text: str, *, least_ns: int = 1) -> int:
    try:
        return duration_ns(text, least_ns=least_ns)
    except ValueError as error:
        raise UsageInvalid(f"--{kind}: {error}") from None
