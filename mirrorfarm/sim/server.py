"""One machine of a simulated pair: what all modules on it share, which is power and time."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorfarm.sim.host import Host

if TYPE_CHECKING:
    from mirrorfarm.sim.pair import MirrorNode


@dataclass(slots=True, eq=False)
class Server:
    """A machine and the modules on it."""

    host: Host
    modules: list["MirrorNode"] = field(default_factory=list)
    frozen_until: int = 0
    frozen_only: str = ""  # Of this module; "": of all of them.

    def start(self, *, again: bool) -> None:
        """Start the processes of all modules; `again`: the modules start by themselves."""
        host = self.host
        assert not host.up
        host.up, host.agent = True, True
        host.windows.clear()
        for module in self.modules:
            module.start(again=again)

    def stop(self, *, power: bool) -> None:
        """End all processes at once; with `power`, memory is lost as well."""
        host = self.host
        host.up = False
        for process in list(host.processes.values()):
            process.die()
        host.processes = {}
        self.frozen_until = 0
        host.boot += power
        for module in self.modules:
            module.ended(power=power)

    def freeze(self, until: int, *, only: str = "") -> None:
        """Stop all processes until a time, or one: the module's of this name; guards go on."""
        if until > self.frozen_until:  # A machine that stands still does not go on sooner.
            self.frozen_until, self.frozen_only = until, only
        for process in self.host.processes.values():
            if only in ("", process.name):
                process.pause()

    def thaw(self) -> None:
        """Let all processes go on, unless they were stopped anew."""
        if self.host.engine.now >= self.frozen_until:
            for process in list(self.host.processes.values()):
                if process.paused:
                    process.go_on()

    def guards_are_in_time(self) -> None:
        """Have the guards of all modules act when they should, again."""
        for module in self.modules:
            module.hands.guard.late_ns = 0

    def is_frozen(self, module: str) -> bool:
        """Return whether a process of a module that starts now has to wait."""
        frozen = self.host.engine.now < self.frozen_until
        return frozen and self.frozen_only in ("", module)
