"""Orders of administrators, one after the other; none is performed twice."""

import threading
from collections.abc import Callable

import msgspec

from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable
from mirrorfarm.oserrors import told
from mirrorfarm.process import say
from mirrorfarm.transport.messages import AgentCommand, AgentResult

ANSWERED_MAX = 64


def coded(exit_code: int) -> bytes:
    """Return what tells whoever gave an order which exit code its failure has."""
    return msgspec.json.encode({"exit_code": exit_code})


class Desk:
    """One order at a time; the same request again is answered again."""

    def __init__(self, perform: Callable[[AgentCommand], AgentResult]) -> None:
        self._perform = perform
        self._answered: dict[str, AgentResult] = {}
        self._lock = threading.Lock()

    def answer(self, command: AgentCommand) -> AgentResult:
        """Return the result of an order, performed once."""
        with self._lock:
            result = self._answered.get(command.request)
            if result is None:
                result = self._try(command)
                while len(self._answered) >= ANSWERED_MAX:
                    self._answered.pop(next(iter(self._answered)))
                self._answered[command.request] = result
        return result

    def _try(self, command: AgentCommand) -> AgentResult:
        try:
            return self._perform(command)
        except MirrorfarmError as error:
            return AgentResult(command.request, "refused", str(error), coded(error.exit_code))
        except OSError as error:
            text = f"{command.verb}: {told(error)}"
            return AgentResult(command.request, "failed", text, coded(SystemUnsuitable.exit_code))
        except Exception as error:  # Whoever asked would wait for an answer that never comes.
            say(f"{command.verb} failed: {error!r}")
            text = f"{command.verb}: the agent failed ({error!r}): its journal says so too"
            return AgentResult(command.request, "failed", text)
