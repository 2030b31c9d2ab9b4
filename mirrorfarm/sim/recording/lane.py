"""The trace of one simulated process: its steps, their messages' numbers, its cores' states."""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors import snapshot
from mirrorfarm.actors.effects import Send
from mirrorfarm.sim.host import Actor, Process
from mirrorfarm.trace.registry import CORES
from mirrorfarm.trace.step import TRICKS
from mirrorfarm.transport.trace_ring import Ring

Decisions = list[tuple[str, bool]]  # At sites that play tricks: which one, and whether it did.


@dataclass(frozen=True, slots=True)
class _Pending:
    """A step whose effects are being performed: which of its messages leave is not known yet."""

    actor: str
    now: int
    event: Any
    effects: tuple[Any, ...]
    sequence: int  # Of the process's last message before.
    tricks: Decisions


@dataclass(slots=True)
class Lane:
    """One start of one process."""

    ring: Ring
    process: Process
    number: int = 0  # Of the last step.
    _pending: _Pending | None = None
    _owed: dict[str, Actor] = field(default_factory=dict)  # Whose states the new file lacks.

    def begin(self, now: int) -> None:
        """Note with what states the cores begin."""
        self.ring.ready(now, self.number + 1)
        for name, actor in self.process.actors.items():
            self._checkpoint(name, actor, birth=True)

    def step(self, actor: str, now: int, event: Any, effects: Any, tricks: Decisions) -> None:
        """Take a step, before its effects are performed; the one before is whole now."""
        self.settle(actor)
        sequence = self.process.sequence
        self._pending = _Pending(actor, now, event, tuple(effects), sequence, tricks)

    def settle(self, acting: str = "") -> None:
        """Write the step that was taken last. `acting`: whose core is one step further already."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self.number += 1
            if self.ring.ready(pending.now, self.number) and self.number > 1:
                self._owed = dict(self.process.actors)
            encoder = self.ring.encoder
            if any(fired for _, fired in pending.tricks):
                encoder.note(TRICKS, pending.actor, pending.tricks)
            sent = self._sent(pending)
            encoder.step(pending.actor, pending.now, pending.event, pending.effects, sent)
        for name in [name for name in self._owed if name != acting]:
            self._checkpoint(name, self._owed.pop(name), birth=False)

    def close(self) -> None:
        """Write what there is, to the end of the last frame."""
        self.settle()
        self.ring.flush(ends=True)

    def _sent(self, pending: _Pending) -> list[int | None]:
        """Return the numbers of a step's messages; a process that died sent only some of them."""
        count = sum(type(effect) is Send for effect in pending.effects)
        first, last = pending.sequence + 1, self.process.sequence
        return [n if n <= last else None for n in range(first, first + count)]

    def _checkpoint(self, name: str, actor: Actor, *, birth: bool) -> None:
        kind = type(actor.core).__name__
        if kind in CORES:
            self.ring.encoder.checkpoint(name, kind, snapshot.take(actor.core), birth)
