"""Start the shells of a process and connect them; when a core breaks, end the process.

A core that broke an invariant cannot be repaired in place: its module fails over, the node goes
on. The agent starts the process again, as a new incarnation that trusts nothing of the old one.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

import pykka

from mirrorfarm.actors.shell import Core, Doors, Inbox, Shell
from mirrorfarm.limits import QUEUE_MESSAGES_MAX

BROKEN_EXIT_CODE = 70


class Supervisor:
    """The actors of one process, by name."""

    def __init__(self, log: Callable[[str, str], None]) -> None:
        self._log = log
        self._refs: dict[str, pykka.ActorRef[Any]] = {}
        self.dropped = 0  # Messages for which there was no room.

    def start(self, name: str, core: Core, doors: Doors) -> Inbox:
        """Start the shell of a core; return its inbox."""
        ref = Shell.start(name, core, doors)
        self._refs[name] = ref
        return ref.tell

    def tell(self, name: str, event: Any) -> bool:
        """Give an event to an actor; return whether there is such an actor."""
        ref = self._refs.get(name)
        if ref is None:
            return False
        try:
            ref.tell(event)
        except pykka.ActorDeadError:
            return False
        return True

    def offer(self, name: str, event: Any) -> bool:
        """Give an actor what another machine sent, unless too much waits; return whether it was.

        Whoever sent it says it again: docs/protocols/messages.md.
        """
        ref = self._refs.get(name)
        inbox: Any = None if ref is None else ref.actor_inbox
        if inbox is not None and inbox.qsize() >= QUEUE_MESSAGES_MAX:
            if not self.dropped % QUEUE_MESSAGES_MAX:
                text = f"{name} is slower than others send: {self.dropped + 1} messages left out"
                self._log("C", f"{text}; see what else this machine does")
            self.dropped += 1
            return False
        return self.tell(name, event)

    def failed(self, name: str, error: BaseException) -> None:
        """A core broke: say so and end the process at once."""
        self._end(f"the actor {name} broke an invariant and its module ends: {error!r}")

    def thread_failed(self, name: str, error: BaseException | None) -> None:
        """Who works for the cores broke: who waits for what it does would wait for ever."""
        self._end(f"the thread {name} failed and its module ends: {error!r}")

    def _end(self, why: str) -> None:
        try:
            self._log("C", why)
        finally:
            os._exit(BROKEN_EXIT_CODE)

    def close(self) -> None:
        """Stop every shell."""
        for ref in reversed(list(self._refs.values())):
            ref.stop(block=True, timeout=2)


def heard(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do what perhaps nobody asks the outcome of: that it broke must not be lost with it."""
    try:
        return work(*arguments)
    except Exception as error:
        kind, trace = type(error), error.__traceback__
        threading.excepthook(
            threading.ExceptHookArgs((kind, error, trace, threading.current_thread()))
        )
        raise
