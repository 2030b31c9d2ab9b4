"""Run the recorded inputs through fresh cores: the same effects must come, bit for bit.

A core begins with its recorded birth or checkpoint. Every later checkpoint must be the state
that the replayed core has by then. Where steps are missing, replay of the process rests until
each core's next checkpoint.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack

from mirrorfarm.actors import sites, snapshot
from mirrorfarm.actors.events import Event
from mirrorfarm.trace.decoder import Checkpoint, Note
from mirrorfarm.trace.registry import CORES
from mirrorfarm.trace.step import TRICKS, Step, Unreadable
from mirrorfarm.trace.steps import Gap, Item
from mirrorfarm.transport.trace_encoder import plain


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replayed core did something else than the recorded one."""

    step: Step
    recorded: list[Any]
    replayed: list[Any]
    place: int  # Of the first effect that differs.
    what: str  # effects, state, or that the core broke.


@dataclass(slots=True)
class Replay:
    """The cores of one process; `counts` says what was done."""

    cores: dict[str, Any] = field(default_factory=dict)
    differences: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                *("steps", "records", "skipped", "skipped_records"),
                *("checkpoints", "gaps", "broke"),
            ),
            0,
        )
    )
    _broken: dict[str, tuple[Step, Exception]] = field(default_factory=dict)
    _last: dict[str, Step] = field(default_factory=dict)
    _tricks: tuple[str, list[Any]] = ("", [])  # Of the next step, if it is this actor's.

    def run(self, items: Iterable[Item]) -> Iterator[Difference]:
        """Replay what a process recorded; a core that differed rests until its next checkpoint."""
        counts, cores = self.counts, self.cores
        for item in items:
            if isinstance(item, Step):
                counts["steps"] += 1
                counts["records"] += 1 + len(item.effects)
                (tricked, tricks), self._tricks = self._tricks, ("", [])
                core = cores.get(item.actor)
                if core is None:
                    self._skip(item)
                    continue
                found = self._step(core, item, tricks if tricked == item.actor else [])
            elif isinstance(item, Checkpoint):
                found = self._checkpoint(item)
            elif isinstance(item, Gap):
                counts["gaps"] += 1
                self.cores.clear()
                self._tricks = ("", [])
                continue
            else:
                self._note(item)
                continue
            if found is not None:
                self.differences += 1
                self.cores.pop(found.step.actor, None)
                yield found
        for step, error in list(self._broken.values()):
            self.differences += 1
            yield _broke(step, error)

    def _skip(self, step: Step) -> None:
        self.counts["skipped"] += 1
        self.counts["skipped_records"] += 1 + len(step.effects)

    def _step(self, core: Any, step: Step, tricks: list[Any]) -> Difference | None:
        actor = step.actor
        if actor in self._broken:
            return _broke(*self._broken.pop(actor))
        self._last[actor] = step
        if not isinstance(step.event, Event):  # Too large to be recorded, or of another build.
            self._skip(step)
            del self.cores[actor]
            return None
        try:
            if tricks:
                effects = _tricked(core, step, tricks)
            else:
                effects = core.handle(step.event, step.now_ns)
        except Exception as error:  # As it may have done when it was recorded.
            self._broken[actor] = (step, error)
            return None
        if effects == step.effects:
            return None
        place = _difference(step.effects, effects)
        if place is None:
            return None
        return Difference(step, step.effects, list(effects), place, "effects")

    def _checkpoint(self, item: Checkpoint) -> Difference | None:
        self.counts["checkpoints"] += 1
        core, kind = self.cores.get(item.actor), CORES.get(item.kind)
        if kind is None:
            self.cores.pop(item.actor, None)
            return None
        if core is not None and not item.birth and type(core) is kind:
            state = _plain(snapshot.take(core))
            step = self._last.get(item.actor)
            if state != item.state and step is not None:
                recorded, replayed = _parted(item.state, state)
                return Difference(step, [recorded], [replayed], 0, "state")
            return None
        self._broken.pop(item.actor, None)
        try:
            self.cores[item.actor] = snapshot.restore(kind, item.state)
        except ValueError:  # Of a build whose cores have another state.
            self.cores.pop(item.actor, None)
        return None

    def _note(self, note: Note) -> None:
        if note.name == TRICKS and [type(value) for value in note.values] == [str, list]:
            actor, tricks = note.values
            decided = [one for one in tricks if type(one) is list and len(one) == 2]
            self._tricks = (actor, decided)
        if note.name == "broke" and note.values and note.values[0] in self._broken:
            self.counts["broke"] += 1
            del self._broken[note.values[0]]
            self.cores.pop(note.values[0], None)


def _tricked(core: Any, step: Step, decided: list[Any]) -> Any:
    """Give a core an event; at the sites that it asks, what was decided then is so again."""

    def trick(name: str) -> bool:
        return bool(decided.pop(0)[1]) if decided and decided[0][0] == name else False

    sites.play(trick)
    try:
        return core.handle(step.event, step.now_ns)
    finally:
        sites.play(None)


def _broke(step: Step, error: Exception) -> Difference:
    text = f"{type(error).__name__}: {error}"
    return Difference(step, step.effects, [text], 0, "the core broke")


def _difference(recorded: list[Any], replayed: list[Any]) -> int | None:
    """Return the place of the first difference; None: they are the same, as a trace sees them."""
    for place, (one, other) in enumerate(zip(recorded, replayed, strict=False)):
        if isinstance(one, Unreadable) or one == other:
            continue
        if plain(one) != plain(other):
            return place
    return None if len(recorded) == len(replayed) else min(len(recorded), len(replayed))


def _plain(state: Any) -> Any:
    """Return a state as a trace holds it: rows are lists."""
    return msgpack.unpackb(msgpack.packb(state, unicode_errors="replace"))


def _parted(recorded: Any, replayed: Any, name: str = "") -> tuple[str, str]:
    """Return the first part in which two states differ, as text."""
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        for key in [*recorded, *(one for one in replayed if one not in recorded)]:
            one, other = recorded.get(key), replayed.get(key)
            if one != other:
                return _parted(one, other, f"{name}.{key}" if name else str(key))
    return f"{name} = {recorded!r}", f"{name} = {replayed!r}"
