"""How recorded links carried messages: how long each took, how many got lost, when none came.

By direction. A message is judged only if its receiver was running and recording then; three lost in
a row were a cut, fewer were loss. Where a direction has several networks each of them is judged by
itself: while one of two is cut every second message gets lost, and the other one loses none.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.trace.merge import UNDER_WAY_MAX
from mirrorfarm.trace.step import MessageId

CUT_MESSAGES: Final = 3
UNDER_WAY_NS: Final = 250 * MILLISECOND_NS  # At the end of a recording they may still come.
SAMPLES_MAX: Final = 4_096
QUICK_NS: Final = 10 * MILLISECOND_NS  # What takes longer may have waited for its receiver.
LATE_NS: Final = 500 * MILLISECOND_NS
PAUSED: Final = 1 << 62
NETWORKS_MAX: Final = 256  # Only a trace that lies has more.

Pause = tuple[int, int]  # From when to when.
_Judgement = tuple[int, int, int]  # When a message was sent, how long it took, by which network.


class Start(NamedTuple):
    """One start of a process, as far as it recorded steps."""

    incarnation: int
    begin_ns: int
    end_ns: int


class Cut(NamedTuple):
    """Nothing came through a link in this direction."""

    source: str
    to: str
    begin_ns: int
    end_ns: int  # 0: it did not end.
    network: str = ""  # By this one; "": by any.


class _Lost(NamedTuple):
    """Messages of one direction that were lost in a row: when they were sent, and those around."""

    source: str
    to: str
    many: int
    before_ns: int  # The last one that came before them; 0: there is none.
    first_ns: int
    last_ns: int
    after_ns: int  # The first one that came behind them; 0: there is none.
    network: str = ""  # That all of them were sent by; "": by any.


@dataclass(slots=True)
class Samples:
    """Durations, in nanoseconds; of many, every second, fourth … one."""

    values: "array[int]" = field(default_factory=lambda: array("q"))
    _every: int = 1
    _skip: int = 0

    def add(self, duration_ns: int) -> None:
        """Take one in."""
        if self._skip:
            self._skip -= 1
            return
        self._skip = self._every - 1
        self.values.append(max(0, duration_ns))
        if len(self.values) > SAMPLES_MAX:
            self.values = self.values[::2]
            self._every *= 2


@dataclass(slots=True)
class Judged:
    """What became of all messages."""

    cuts: list[Cut] = field(default_factory=list)
    # By source and receiver: how many of 1,000 got lost, and how long the others took.
    losses: dict[tuple[str, str], int] = field(default_factory=dict)
    delays: dict[tuple[str, str], Samples] = field(default_factory=dict)
    # By network as well, where a direction has several.
    network_losses: dict[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class Link:
    """One direction between two machines."""

    to_process: str  # Whose messages are judged.
    sent_ns: "array[int]" = field(default_factory=lambda: array("q"))
    took_ns: "array[int]" = field(default_factory=lambda: array("q"))  # -1: it did not come.
    networks: "array[int]" = field(default_factory=lambda: array("H"))  # By their numbers.


@dataclass(slots=True)
class Links:
    """All directions; `judge` says what became of them."""

    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    _under_way: dict[tuple[MessageId, str], int] = field(default_factory=dict)
    _networks: dict[str, int] = field(default_factory=lambda: {"": 0})  # Their numbers.

    def sent(
        self, message: MessageId, to: str, process: str, at_ns: int, network: str = ""
    ) -> None:
        """A message left for another machine, by one network or (empty) all of them."""
        link = self.links.get((message[0], to))
        if link is None:
            link = self.links[message[0], to] = Link(process)
        if link.to_process != process:
            return
        self._under_way[message, to] = len(link.sent_ns)
        link.sent_ns.append(at_ns)
        link.took_ns.append(-1)
        if network not in self._networks and len(self._networks) < NETWORKS_MAX:
            self._networks[network] = len(self._networks)
        link.networks.append(self._networks.get(network, 0))
        if len(self._under_way) > UNDER_WAY_MAX:
            del self._under_way[next(iter(self._under_way))]

    def received(self, message: MessageId, to: str, at_ns: int) -> None:
        """A message came."""
        index = self._under_way.pop((message, to), None)
        if index is not None:
            link = self.links[message[0], to]
            link.took_ns[index] = max(0, at_ns - link.sent_ns[index])

    def judge(
        self, starts: dict[tuple[str, str], list[Start]], pauses: dict[str, list[Pause]]
    ) -> Judged:
        """Say when nothing came through, and how links were otherwise.

        `pauses`: when a machine did not run. A message that came as late as from a cable that was
        put back came through none while it was under way.
        """
        rows: list[_Lost] = []
        result = Judged()
        for (source, to), link in self.links.items():
            samples = result.delays[source, to] = Samples()
            judged = list(_judged(link, starts.get((to, link.to_process), []), pauses.get(to, [])))
            for _, took_ns, _ in judged:
                if 0 <= took_ns < PAUSED:
                    samples.add(took_ns)
            losses = []
            for network, own in self._by_network(judged):
                found = list(_rows(source, to, own, network))
                rows += [row for row in found if row.many >= CUT_MESSAGES]
                lost = sum(row.many for row in found if row.many < CUT_MESSAGES)
                losses.append(lost * 1_000 // max(1, len(own)))
                if network:
                    result.network_losses[source, to, network] = losses[-1]
            result.losses[source, to] = min(losses)  # What goes by all is lost by none alone.
        cuts = {_cut(row, [one for one in rows if _share(one, row)]) for row in rows}
        result.cuts = sorted(_joined(cuts, result.network_losses), key=lambda cut: cut.begin_ns)
        return result

    def _by_network(self, judged: list[_Judgement]) -> list[tuple[str, list[_Judgement]]]:
        """Return the messages of each network of a direction; of one network, all together.

        Of several, what goes by all of them is rare, and says nothing that heartbeats do not.
        """
        used = {number for _, _, number in judged if number}
        if len(used) < 2:
            return [("", judged)]
        return [
            (name, [one for one in judged if one[2] == number])
            for name, number in self._networks.items()
            if number in used
        ]


def _rows(source: str, to: str, judged: list[_Judgement], network: str = "") -> Iterator[_Lost]:
    count = before_ns = first_ns = last_ns = 0
    for at_ns, took_ns, _ in judged:
        if took_ns < 0:
            count, first_ns, last_ns = count + 1, first_ns if count else at_ns, at_ns
            continue
        if count:
            yield _Lost(source, to, count, before_ns, first_ns, last_ns, at_ns, network)
        count, before_ns = 0, at_ns
    if count:
        yield _Lost(source, to, count, before_ns, first_ns, last_ns, 0, network)


def _share(one: _Lost, other: _Lost) -> bool:
    """Return whether two directions have a machine in common."""
    return bool({one.source, one.to} & {other.source, other.to})


def _joined(cuts: set[Cut], networks: Iterable[tuple[str, str, str]]) -> set[Cut]:
    """Return cuts of all networks of a direction at a time as one."""
    found = set()
    for cut in cuts:
        of_all = {
            cut._replace(network=network)
            for source, to, network in networks
            if (source, to) == (cut.source, cut.to)
        }
        found.add(cut._replace(network="") if of_all <= cuts else cut)
    return found


def _cut(row: _Lost, near: list[_Lost]) -> Cut:
    """Return the cut that lost a row of messages.

    A link that is used rarely tells late that it was cut. It is taken to have been cut, and mended,
    together with another one of the same machine if that may be: a cable carries all of them.
    """
    begins = [one.first_ns for one in near if row.before_ns < one.first_ns <= row.first_ns]
    ends = [one.after_ns for one in near if row.last_ns < one.after_ns <= row.after_ns]
    # Of messages that one step sends through several networks, some may come while others do not.
    begin_ns = min(begins, default=row.first_ns)
    return Cut(row.source, row.to, begin_ns, min(ends, default=row.after_ns), row.network)


def _judged(link: Link, starts: list[Start], pauses: list[Pause]) -> Iterator[_Judgement]:
    """Return each message that could be received.

    -1: it did not come, or as late as from behind a cut; PAUSED: its receiver did not run.
    """
    for at_ns, took_ns, network in zip(link.sent_ns, link.took_ns, link.networks, strict=True):
        if took_ns >= QUICK_NS and any(
            begin_ns <= at_ns + took_ns and at_ns <= end_ns for begin_ns, end_ns in pauses
        ):
            yield at_ns, PAUSED, network
        elif took_ns >= 0:
            yield at_ns, took_ns if took_ns < LATE_NS else -1, network
        elif any(one.begin_ns <= at_ns < one.end_ns - UNDER_WAY_NS for one in starts):
            yield at_ns, -1, network
