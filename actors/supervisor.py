"""Start the shells of a process and connect them; when a core breaks, end the process.

A core that broke an invariant cannot be repaired in place: its module fails over, the node goes
on. The agent starts the process again, as a new incarnation that trusts nothing of the old one.
"""

import os
from collections.abc import Callable
from typing import Any

import pykka

from mirrorfarm.actors.shell import Core, Doors, Inbox, Shell

BROKEN_EXIT_CODE = 70


class Supervisor:
    """The actors of one process, by name."""

    def __init__(self, log: Callable[[str, str], None]) -> None:
        self._log = log
        self._refs: dict[str, pykka.ActorRef[Any]] = {}

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

    def failed(self, name: str, error: BaseException) -> None:
        """A core broke: say so and end the process at once."""
        self._log("C", f"the actor {name} broke an invariant and its module ends: {error!r}")
        os._exit(BROKEN_EXIT_CODE)

    def close(self) -> None:
        """Stop every shell."""
        for ref in reversed(list(self._refs.values())):
            ref.stop(block=True, timeout=2)
