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
    frozen: dict[str, int] = field(default_factory=dict)  # Until when, by process; "": all.
    stands_until: int = 0  # With all that is on it, clocks and guards as well.

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
        self.frozen.clear()
        self.stands_until = 0
        host.boot += power
        for module in self.modules:
            module.ended(power=power)

    def freeze(self, until: int, *, only: str = "", stands: bool = False) -> None:
        """Stop all processes until a time, or one: the module's of this name; guards go on.

        `stands`: the machine stands still, of which its clocks know until when.
        """
        self.frozen[only] = max(until, self.frozen.get(only, 0))
        if stands:
            self.stands_until = max(until, self.stands_until)
        for process in self.host.processes.values():
            if only in ("", process.name):
                process.pause()

    def thaw(self) -> None:
        """Let all processes go on, but those that were stopped for longer."""
        for process in list(self.host.processes.values()):
            if process.paused and not self.is_frozen(process.name):
                process.go_on()

    def end_pauses(self) -> None:
        """Let all processes go on; a machine that stands still does so at its time."""
        self.frozen = {"": self.stands_until}
        self.thaw()

    def suspend(self, until: int) -> None:
        """Have the guards of all modules stand still with the machine, until a time."""
        for module in self.modules:
            guard = module.hands.guard
            guard.suspended_until = max(until, guard.suspended_until)

    def is_frozen(self, process: str) -> bool:
        """Return whether a process that starts now has to wait."""
        now = self.host.engine.now
        return any(now < self.frozen.get(name, 0) for name in ("", process))
