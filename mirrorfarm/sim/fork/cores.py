"""The states of recorded cores at a fork: a checkpoint, and the steps from there on, replayed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import snapshot
from mirrorfarm.actors.module.farm.phases import SERVING
from mirrorfarm.actors.module.mirror.phases import RUNNING
from mirrorfarm.actors.vip.core import State as VipState
from mirrorfarm.errors import Refused, TraceInvalid
from mirrorfarm.sim.fork.waiting import Doors
from mirrorfarm.trace.decoder import Checkpoint
from mirrorfarm.trace.files import OnFault, Source
from mirrorfarm.trace.registry import CORES
from mirrorfarm.trace.replay import Replay
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import Gap, Item, read_items

FARM_CORES: Final = ("scripts", "checker", "vip", "farm_filter", "module")
MODULE_CORES: Final = ("heartbeat", "arbiter", "scripts", "checker", "vip", "guard", "module")


class State(NamedTuple):
    """A core's class, by its name, and its state as plain values."""

    kind: str
    plain: Any

    def restored(self) -> Any:
        """Return a new core in this state."""
        return snapshot.restore(CORES[self.kind], self.plain)


def require_whole(source: Source) -> None:
    """Refuse what names and states were taken out of."""
    if source.header.get("redact", "none") != "none":
        raise Refused(
            f"{source.files[0]}: a redacted trace cannot go on: names and states were taken out of "
            "it; use the original, on the node that recorded it"
        )


def states(
    source: Source, number: int, actors: tuple[str, ...], on_fault: OnFault
) -> dict[str, State]:
    """Return the state of each actor after step `number` of a process.

    Raise TraceInvalid where no checkpoint is before it, or this build's cores do something else.
    """
    replay = Replay()
    for difference in replay.run(_items(source, number, on_fault)):
        step = difference.step
        raise TraceInvalid(
            f"{source.files[0]}: step {step.number} of {step.actor}: the core of this build does "
            "something else than was recorded, so it cannot go on from there: use the version "
            f"that recorded it ({source.header.get('version', 'not known')}), or record again; "
            "mirrorfarm trace replay shows the step"
        )
    missing = [actor for actor in actors if actor not in replay.cores]
    if missing:
        raise TraceInvalid(
            f"{source.files[0]}: no checkpoint of {', '.join(missing)} of {source.node}/"
            f"{source.process} is before the fork, or steps behind it are missing: its oldest "
            "files are gone, or the disk was full; fork at a later time (--at)"
        )
    return {
        name: State(type(core).__name__, snapshot.take(core)) for name, core in replay.cores.items()
    }


def doors_of(doors: Doors, found: dict[str, State]) -> Doors:
    """Return what a module's doors hold; what no step says, its cores do."""
    core = {actor: state.restored() for actor, state in found.items()}
    state, watched = core["module"].state, core["checker"]
    watch = fx.Watch(tuple(watched.entries), watched.number) if watched.entries else None
    if "guard" in core:
        runs = state.scripts_as == "prim" and state.phase in RUNNING
        runs = runs if doors.runs is None else doors.runs
    else:
        runs = state.phase in SERVING  # Of a farm.
    return replace(
        doors,
        runs=runs,
        vip=core["vip"].state in {VipState.UP, VipState.ADDING} if doors.vip is None else doors.vip,
        guard_ns=core["guard"].deadline_ns if "guard" in core else 0,
        watch=doors.watch or watch,
        record=doors.record or state.record,
    )


def _items(source: Source, number: int, on_fault: OnFault) -> Iterator[Item]:
    """Return what is needed: of each actor its last checkpoint, and what follows it."""
    last: dict[str, int] = {}
    for index, item in enumerate(_before(source, number, lambda _: None)):
        if isinstance(item, Checkpoint):
            last[item.actor] = index
    for index, item in enumerate(_before(source, number, on_fault)):
        if isinstance(item, Step | Checkpoint):
            if index >= last.get(item.actor, 0):
                yield item
        elif isinstance(item, Gap) or index >= min(last.values(), default=0):
            yield item


def _before(source: Source, number: int, on_fault: OnFault) -> Iterator[Item]:
    for item in read_items(source, on_fault):
        if isinstance(item, Step) and item.number > number:
            return
        yield item
