"""The steps of cores, in the order in which they were recorded."""

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirrorfarm.trace.decoder import MALFORMED, Checkpoint, Decoder, FrameBroken, Note, Slot
from mirrorfarm.trace.files import Fault, OnFault, Source, frames, raise_fault, sources
from mirrorfarm.trace.step import Step, Unreadable
from mirrorfarm.transport.trace_encoder import SEND

_LEFT_OUT = "the rest of this frame is left out; take another copy of the file if you have one"


@dataclass(frozen=True, slots=True)
class Gap:
    """Steps are missing here: the disk was full, or a part of a file is damaged."""

    steps: int  # How many; 0: not known.
    now_ns: int = field(default=0, compare=False)


Item = Step | Checkpoint | Note | Gap


def read_steps(paths: Iterable[Path], on_fault: OnFault = raise_fault) -> Iterator[Step]:
    """Return the steps of all traces in files and folders, by the time of day they were made.

    Nodes whose clocks differ are not set right. Memory is bounded by the number of processes.
    Without `on_fault` the first thing that cannot be read raises TraceInvalid.
    """
    rows = [
        (item for item in read_items(source, on_fault) if isinstance(item, Step))
        for source in sources(paths, on_fault)
    ]
    return heapq.merge(*rows, key=lambda step: step.real_ns)


@dataclass(slots=True)
class Position:
    """How far a process's trace was read."""

    path: Path | None = None
    offset: int = 0  # Of the frame that was begun last,
    given: int = 0  # how many of its items were returned,
    before: int | None = None  # and the number of the step before it.
    number: int | None = None  # Of the last step; None: it is not known which one comes next.
    epoch_ns: int = 0  # That of the file.


def read_items(
    source: Source, on_fault: OnFault = raise_fault, at: Position | None = None
) -> Iterator[Item]:
    """Return everything that one process recorded, in its order; go on from `at`, if given.

    Of a file that its recorder removes meanwhile, as it does with the oldest, nothing is returned.
    """
    at = at or Position()
    for path in source.files:
        if at.path is not None and path < at.path:
            continue
        begin = at.offset if path == at.path else 0
        with contextlib.suppress(FileNotFoundError):
            for offset, content in frames(path, on_fault, begin):
                if (path, offset) != (at.path, at.offset):
                    at.path, at.offset, at.given, at.before = path, offset, 0, at.number
                    at.epoch_ns = source.epochs[path]
                decoder = Decoder(content, source.header.get("types"))
                items = _frame(source, decoder, at, on_fault) if offset else ()  # 0: the header.
                for count, item in enumerate(items, 1):
                    if count > at.given:
                        at.given = count
                        yield item


def _frame(source: Source, decoder: Decoder, at: Position, on_fault: OnFault) -> Iterator[Item]:
    """Return what is missing before a frame, and what it holds; `at.number` keeps up."""
    at.number = at.before
    try:
        if not decoder.open():
            return
        if at.number is not None and at.number != decoder.lamport:
            yield Gap(decoder.lamport - at.number, decoder.now)
        at.number = decoder.lamport
        for item in _items(source, decoder, at.epoch_ns):
            at.number = item.number if isinstance(item, Step) else decoder.lamport
            yield item
    except MALFORMED as error:  # FrameBroken, or what a slot holds is no value at all.
        assert at.path is not None, "a frame is in a file"
        on_fault(Fault(at.path, at.offset, f"the frame is damaged: {error}", _LEFT_OUT))
        at.number = None
        yield Gap(0, decoder.now)


def _items(source: Source, decoder: Decoder, epoch_ns: int) -> Iterator[Item]:
    """Return what one frame holds; records become steps."""
    step: Step | None = None
    made = _maker(source, decoder, epoch_ns)
    for record in decoder.read():
        if isinstance(record, Slot):
            if record.timed:
                if step is not None:
                    yield step
                step = made(record.actor, record.object())
                continue
            if step is None or step.actor != record.actor:
                raise FrameBroken("an effect that nobody asked for")
            step.effects.append(record.object())
            if record.kind == SEND:
                step.sent.append(record.sent)
        elif isinstance(record, Note) and record.name == "unreadable":
            actor, kind, *passed = record.values
            if passed:
                if step is not None:
                    yield step
                step = made(actor, Unreadable(kind))
            elif step is not None:
                step.effects.append(Unreadable(kind))
        else:
            if step is not None:
                yield step
                step = None
            if isinstance(record, Note) and record.name == "lost":
                yield Gap(int(record.values[0]), decoder.now)
            else:
                yield record
    if step is not None and not decoder.rest:  # Else the step is cut off.
        yield step


def _maker(source: Source, decoder: Decoder, epoch_ns: int) -> Callable[[str, Any], Step]:
    """Return what makes a step of the record that was read last."""
    node, process, incarnation = source.node, source.process, source.incarnation

    def made(actor: str, event: Any) -> Step:
        now, number = decoder.now, decoder.lamport
        return Step(node, actor, now, event, [], process, incarnation, number, epoch_ns)

    return made
