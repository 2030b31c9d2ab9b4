"""Run a core: events in, effects out. The one place where cores meet threads."""

import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pykka

from mirrorfarm.actors.effects import ANY_EFFECT
from mirrorfarm.actors.events import Event

Inbox = Callable[[Any], None]


class Core(Protocol):
    """A pure state machine: same events and times, same effects, on any machine."""

    def handle(self, event: Any, now: int) -> list[ANY_EFFECT]:
        """Apply one event at `now` (nanoseconds of the boot clock); return what to do."""
        ...


@dataclass(frozen=True, slots=True)
class Visit:
    """Not an event: look at the core between two of them, on its own thread."""

    look: Callable[[Any], None]


class Doors(Protocol):
    """Ways out of the process. The simulator has its own; an embedder writes what it needs."""

    def now(self) -> int:
        """Return the boot clock, in nanoseconds."""
        ...

    def perform(self, actor: str, effect: ANY_EFFECT, inbox: Inbox) -> None:
        """Do what the core of `actor` asks; events that follow go to `inbox`, later."""
        ...

    def record(self, actor: str, now: int, event: Event, effects: list[ANY_EFFECT]) -> None:
        """Write one step to the trace, before its effects are performed."""
        ...

    def failed(self, actor: str, error: BaseException) -> None:
        """Hear that the core of `actor` broke an invariant: its module must fail over."""
        ...


class Shell(pykka.ThreadingActor):
    """The thread and the inbox of one core."""

    use_daemon_thread = True

    @staticmethod
    def _create_actor_inbox() -> Any:
        """Return an unbounded queue; of the two there are the one that costs a tenth."""
        return queue.SimpleQueue()

    def __init__(self, name: str, core: Core, doors: Doors) -> None:
        super().__init__()
        self._name = name
        self._core = core
        self._doors = doors
        self._inbox: Inbox = self._take

    def on_receive(self, message: Any) -> None:
        """Feed one event to the core and do what it asks, in order."""
        if type(message) is Visit:
            message.look(self._core)
            return
        now = self._doors.now()
        try:
            effects = self._core.handle(message, now)
        except BaseException:
            self._doors.record(self._name, now, message, [])  # What broke it.
            raise
        # Recorded first: if an effect ends the process, the trace still shows its cause.
        self._doors.record(self._name, now, message, effects)
        for effect in effects:
            self._doors.perform(self._name, effect, self._inbox)

    def _take(self, event: Any) -> None:
        """Put an event into the inbox; doors may still bring some when the actor has ended."""
        with contextlib.suppress(pykka.ActorDeadError):
            self.actor_ref.tell(event)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: Any,
    ) -> None:
        """Tell the doors; pykka has already stopped this actor."""
        del exception_type, traceback
        self._doors.failed(self._name, exception_value or AssertionError("core failed"))
