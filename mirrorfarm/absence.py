"""What an agent answers for a module whose process does not come to run."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import SECOND_NS

NOT_RUNNING: Final = "NOT RUNNING"


@dataclass(frozen=True, slots=True)
class Absence:
    """A module without a process, and why."""

    node: str
    module: str
    reason: str
    now_ns: int
    since_ns: int
    retry_ns: int  # Between two attempts; 0: none is made.

    @property
    def would_change(self) -> str:
        """What would make it run."""
        mend = "mend what the reason says"
        if self.retry_ns:
            pause = max(1, self.retry_ns // SECOND_NS)
            return f"{mend}: the agent starts it again every {pause} s"
        return f"{mend}, then configure the module again"

    @property
    def command(self) -> str:
        """The command that helps."""
        if self.retry_ns:
            return "journalctl -u mirrorfarm -n 50"
        return f"mirrorfarm -H {self.node} module config {self.module}"

    def refusal(self) -> str:
        """Answer to a command."""
        return (
            f"{self.module} does not run on {self.node}: {self.reason}. What would change it: "
            f"{self.would_change} (`{self.command}`)"
        )

    def state(self) -> dict[str, Any]:
        """Answer to a question for the state; the keys that are known (docs/protocols/state.md)."""
        return {
            "module": self.module,
            "node": self.node,
            "state": NOT_RUNNING,
            "status": "NotReady",
            "now_ns": self.now_ns,
            "since_ns": self.since_ns,
            "reason": self.reason,
            "would_change": self.would_change,
            "command": self.command,
            "facts": [],
            "resources": {},
        }
