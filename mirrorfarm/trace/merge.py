"""The traces of several processes and nodes as one: nothing comes before what it follows from.

Each process recorded its steps in its order, and the number of every message that it sent or
received. So a step that received a message is put behind the one that sent it (L. Lamport, Time,
Clocks, and the Ordering of Events, 1978), however the clocks stand; what no message orders comes
by the clocks of the machines, once these are compared (`mirrorfarm.trace.clocks`). Memory is
bounded by the number of processes, of messages under way, and of places where steps are missing.
"""

import contextlib
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mirrorfarm.actors.effects import Send
from mirrorfarm.errors import TraceInvalid
from mirrorfarm.trace.clocks import Boot, Clocks, NodeClock, Samples, compare
from mirrorfarm.trace.decoder import Decoder, FrameBroken, Note, Slot
from mirrorfarm.trace.files import (
    OnFault,
    Source,
    frames,
    raise_fault,
    require_single,
    sources,
)
from mirrorfarm.trace.sequences import Sequences
from mirrorfarm.trace.step import MessageId, Placed, Sending, Step
from mirrorfarm.trace.steps import Gap, read_items
from mirrorfarm.transport.trace_encoder import RECV, SEND

UNDER_WAY_MAX: Final = 65_536  # Messages that were sent and may still be received.
AHEAD: Final = 64  # Steps of one process are recorded in another order than its messages leave.
CLOCK_MAX: Final = 1 << 61  # 73 years: no clock of a machine that runs shows more.
NOTES_MAX: Final = 1_000  # Of a process.


@dataclass(slots=True)
class Lane:
    """One process of one node, through all its starts."""

    node: str
    process: str
    starts: list[Source]
    notes: list[tuple[int, str]] = field(default_factory=list)  # Behind which step: what.
    head: Step | None = None
    key: int = 0
    lamport: int = 0
    count: int = 0
    incarnation: int = -1  # Of the step before the head, and
    sequence: int = 0  # the highest number of a message that it had sent.
    last_number: int = -1
    last_ns: int = 0

    @property
    def name(self) -> str:
        """As users see it."""
        return f"{self.node}/{self.process}"

    def note(self, text: str) -> None:
        """Remember what happened after the step before the head."""
        if len(self.notes) < NOTES_MAX:
            self.notes.append((self.last_number, text))


class Merge:
    """The whole; `clocks` says how those of the machines stood."""

    def __init__(
        self, paths: Iterable[Path], on_fault: OnFault = raise_fault, *, vectors: bool = False
    ) -> None:
        """Compare the clocks, in one pass over the files. Raise TraceInvalid if there are none."""
        self._found = sources(paths, on_fault)
        self._on_fault = on_fault
        self._vectors = vectors
        self._boots = {
            (one.node, one.incarnation): (one.node, str(one.header.get("os_boot", "")))
            for one in self._found
        }
        self._clocks: Clocks
        self.total: int  # How many steps there are, and
        self.begin_ns: int  # when the first of them was made.
        self._recorded: dict[tuple[str, int], Sequences] = {}  # By node and incarnation: sent.
        self._clocks, self.total, self.begin_ns = _compared(
            self._found, self._boots, self._recorded
        )
        self._begin()

    @property
    def clocks(self) -> list[NodeClock]:
        """What is known of each machine's clock, the reference first."""
        return self._clocks.report

    @property
    def cluster(self) -> str:
        """The identity of the cluster; of several, that of the first trace."""
        return str(self._found[0].header.get("cluster", ""))

    @property
    def files(self) -> list[Path]:
        """All files that are read, process by process."""
        return [path for one in self._found for path in one.files]

    @property
    def seed(self) -> int | None:
        """The seed of the simulation that recorded this; None: it is no simulation."""
        seed = self._found[0].header.get("seed")
        return seed if type(seed) is int and 0 <= seed < 1 << 64 else None

    def at(self, node: str, incarnation: int, clock_ns: int) -> int:
        """Return the time of day when the boot clock of a machine shows this."""
        return self._clocks.at(self._boots[node, incarnation], clock_ns)

    def _begin(self) -> None:
        self.lanes = _lanes(self._found)
        self.gaps = 0  # Places where steps are missing.
        self.unordered = 0  # Receipts that could not be put behind their sending.
        self.joined = 0  # Receipts whose sending is known.
        self._number = 0
        self._under_way: dict[MessageId, Sending] = {}
        self._waiting: dict[int, list[tuple[int, int]]] = {}  # By the lane that is awaited,
        # and by the lane that waits: which that is, and whether only the clock says so.
        self._awaited: dict[int, tuple[int, bool]] = {}
        self._impatient: set[int] = set()  # Lanes whose head waits no more.
        self._owner = {
            (lane.node, source.incarnation): index
            for index, lane in enumerate(self.lanes)
            for source in lane.starts
        }
        self._beside = [
            [
                other
                for other, two in enumerate(self.lanes)
                if two is not one and two.node == one.node
            ]
            for one in self.lanes
        ]
        self._latest: dict[Boot, int] = {}  # Time of a machine's last step.
        self._vector = [[0] * len(self.lanes) for _ in self.lanes] if self._vectors else []

    def steps(self) -> Iterator[Placed]:
        """Return all steps in an order that respects causality; each call begins anew."""
        self._begin()
        rows = [self._row(lane) for lane in self.lanes]
        heap: list[tuple[int, int]] = []
        for index, row in enumerate(rows):
            self._advance(index, row, heap)
        while heap:
            key, index = heapq.heappop(heap)
            step = self.lanes[index].head
            assert step is not None, "an ended lane is in no heap"
            sending, awaited = self._sending(step, index)
            if index in self._impatient:
                self._impatient.discard(index)
                self.unordered += awaited is not None
            else:
                by_clock = self._earlier(index, step) if awaited is None else None
                if awaited is not None or by_clock is not None:
                    self._wait(key, index, awaited, by_clock)
                    self._break_circle(index, heap)
                    continue
            yield self._place(index, key, step, sending)
            self._advance(index, rows[index], heap)
            for waiting in self._waiting.pop(index, ()):
                del self._awaited[waiting[1]]
                heapq.heappush(heap, waiting)  # It is looked at again.

    def _row(self, lane: Lane) -> Iterator[Step]:
        for source in lane.starts:
            for item in read_items(source, self._on_fault):
                if isinstance(item, Step):
                    if type(item.now_ns) is int and 0 <= item.now_ns < CLOCK_MAX:
                        yield item
                    else:
                        self.gaps += 1
                elif isinstance(item, Gap):
                    self.gaps += 1
                    lane.note("steps are missing here")
                elif isinstance(item, Note) and item.name == "broke":
                    lane.note(f"a core broke: {' '.join(str(value) for value in item.values)}")

    def _advance(self, index: int, row: Iterator[Step], heap: list[tuple[int, int]]) -> None:
        lane = self.lanes[index]
        lane.head = step = next(row, None)
        if step is not None:
            lane.key = max(lane.key, self.at(lane.node, step.incarnation, step.now_ns))
            heapq.heappush(heap, (lane.key, index))

    def _wait(self, key: int, index: int, awaited: int | None, by_clock: int | None) -> None:
        whom = by_clock if awaited is None else awaited
        assert whom is not None, "one of them is known"
        self._waiting.setdefault(whom, []).append((key, index))
        self._awaited[index] = (whom, awaited is None)

    def _sending(self, step: Step, index: int) -> tuple[Sending | None, int | None]:
        """Return the sending of the message that a step received; else the lane to wait for."""
        message = step.received_id
        if message is None:
            return None, None
        node, incarnation, sequence = message
        found = self._under_way.get(message)
        owner = self._owner.get((node, incarnation), index)
        if found is not None or owner == index:
            return found, None
        lane, recorded = self.lanes[owner], self._recorded.get((node, incarnation))
        gone = (
            lane.head is None
            or lane.head.incarnation > incarnation  # A process that is killed loses its last steps.
            or recorded is None
            or sequence not in recorded
            or (lane.incarnation == incarnation and lane.sequence > sequence + AHEAD)
        )
        return None, None if gone else owner

    def _earlier(self, index: int, step: Step) -> int | None:
        """Return a lane of the same machine that has made its next step earlier, by its clock."""
        boot = self._boots[step.node, step.incarnation]
        for other in self._beside[index]:
            head = self.lanes[other].head
            if head is not None and head.now_ns < step.now_ns:
                if self._boots[head.node, head.incarnation] == boot:
                    return other
        return None

    def _break_circle(self, index: int, heap: list[tuple[int, int]]) -> None:
        """Have a lane wait no more if all wait for each other: a trace may be damaged, or lie.

        Rather one that waits by the clock only: processes look at it before they are done.
        """
        circle, lane = [index], self._awaited[index][0]
        while lane != index:
            if lane not in self._awaited:
                return
            circle.append(lane)
            lane = self._awaited[lane][0]
        by_clock = [one for one in circle if self._awaited[one][1]]
        oldest = min((self.lanes[one].key, one) for one in by_clock or circle)
        rows = self._waiting[self._awaited.pop(oldest[1])[0]]
        rows.remove(oldest)
        self._impatient.add(oldest[1])
        heapq.heappush(heap, oldest)

    def _place(self, index: int, key: int, step: Step, sending: Sending | None) -> Placed:
        lane, number = self.lanes[index], self._number
        self._number = number + 1
        boot = self._boots[step.node, step.incarnation]
        key = max(key, self._latest.get(boot, 0))
        if sending is not None and sending.at_ns > key:  # By less than the clocks' error.
            key = sending.at_ns
        lane.key = self._latest[boot] = key
        vector: tuple[int, ...] = ()
        if self._vectors:
            own = self._vector[index]
            if sending is not None:
                own[:] = map(max, own, sending.vector)
            own[index] += 1
            vector = tuple(own)
        lane.lamport = max(lane.lamport, sending.lamport if sending is not None else 0) + 1
        self.joined += sending is not None
        if step.incarnation != lane.incarnation:
            lane.incarnation, lane.sequence = step.incarnation, 0
        lane.last_number, lane.last_ns = number, key
        for effect, sequence in zip(_sends(step), step.sent, strict=False):
            if sequence is not None:
                lane.sequence = max(lane.sequence, sequence)
                self._under_way[lane.node, step.incarnation, sequence] = Sending(
                    number, key, lane.lamport, vector, index, step.actor, effect
                )
        while len(self._under_way) > UNDER_WAY_MAX:
            del self._under_way[next(iter(self._under_way))]
        return Placed(step, index, number, key, lane.lamport, sending, vector)


def _sends(step: Step) -> list[Send]:
    return [effect for effect in step.effects if type(effect) is Send] if step.sent else []


def _lanes(found: list[Source]) -> list[Lane]:
    """Return the processes, each once and of one cluster; else raise TraceInvalid."""
    lanes: dict[tuple[str, str], Lane] = {}
    for source in found:
        lane = lanes.setdefault(
            (source.node, source.process), Lane(source.node, source.process, [])
        )
        if lane.starts and source.header.get("redact") == "drop":
            raise TraceInvalid(
                f"{source.files[0]}: its names are gone (redact --mode drop), so nodes cannot "
                "be told apart: such a copy can only be shown; make one with --mode hash"
            )
        lane.starts.append(source)
    require_single(found)
    _require_one_cluster(found)
    return list(lanes.values())


def _require_one_cluster(found: list[Source]) -> None:
    clusters: dict[str, Path] = {}
    for source in found:
        clusters.setdefault(str(source.header.get("cluster", "")), source.files[0])
    if len(clusters) > 1:
        told = ", ".join(f"{file} of {name or 'none'}" for name, file in sorted(clusters.items()))
        raise TraceInvalid(f"{told}: traces of different clusters: name those of one")


def _compared(
    found: list[Source],
    boots: dict[tuple[str, int], Boot],
    recorded: dict[tuple[str, int], Sequences],
) -> tuple[Clocks, int, int]:
    """Return the compared clocks, how many steps there are, and the time of the first one.

    `recorded` gets the numbers of all messages that are recorded as sent.
    """
    samples = Samples()
    epochs: dict[Boot, int] = {}
    spans: dict[Boot, tuple[int, int]] = {}
    total = 0
    for source in found:
        boot = boots[source.node, source.incarnation]
        epochs.setdefault(boot, source.epoch_ns)
        sent = recorded.setdefault((source.node, source.incarnation), Sequences())
        for decoder, record in _records(source):
            if not record.timed:
                if record.kind == SEND and record.sent is not None:
                    sent.add(record.sent)
                    samples.sent(boot, source.incarnation, record.sent, decoder.now)
                continue
            total += 1
            first, last = spans.get(boot, (decoder.now, decoder.now))
            spans[boot] = (min(first, decoder.now), max(last, decoder.now))
            if record.kind == RECV and record.value[5:]:
                _, address, _, _, incarnation, sequence = record.value[:6]
                known = type(incarnation) is int and type(sequence) is int and sequence
                if known and isinstance(address, list | tuple) and address:
                    samples.received(boot, str(address[0]), incarnation, sequence, decoder.now)
        spans.setdefault(boot, (0, 0))
    clocks = compare(epochs, spans, samples.pairs())
    begin_ns = min(clocks.at(boot, first) for boot, (first, _) in spans.items())
    if begin_ns < 0:  # Whoever takes the times in takes 0 for their beginning.
        clocks.begin_later(-begin_ns)
    return clocks, total, max(begin_ns, 0)


def _records(source: Source) -> Iterator[tuple[Decoder, Slot]]:
    """Return a source's records as plain values; what is damaged is told by the pass after."""
    for path in source.files:
        with contextlib.suppress(FileNotFoundError):  # It was removed meanwhile.
            for offset, content in frames(path, lambda _: None):
                decoder = Decoder(content)
                if offset:
                    with contextlib.suppress(FrameBroken):
                        for record in decoder.read() if decoder.open() else ():
                            if isinstance(record, Slot):
                                yield decoder, record
