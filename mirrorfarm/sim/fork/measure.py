"""What came of one run of a forked mirror: who served when, and how its clients fared."""

from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.fork.unserved import Says, unserved

WRITE_NS: Final = 100 * MILLISECOND_NS  # Between two writes of the client.
NOBODY: Final = "nobody"


@dataclass(frozen=True, slots=True)
class Takeover:
    """Another node than the last one began to serve."""

    node: str
    took_ns: int  # Since the other one had ended.
    needless: bool  # That one had neither failed nor been ordered to end, nor was cut off for good.


@dataclass(slots=True)
class Result:
    """One run."""

    seed: int
    takeovers: list[Takeover] = field(default_factory=list)
    at_end: str = NOBODY  # Who served then; of two, both.
    without_ns: int = 0  # In which nobody served.
    stall_ns: int | None = None  # The longest time in which no write ended well; None: no data.
    violations: list[str] = field(default_factory=list)
    unserved: tuple[Says, ...] = ()  # If nobody serves at the end: what each living node says.


def end(world: Any, result: Result, serving: tuple[str, ...]) -> None:
    """Note who serves at the end of a run; if nobody does, why."""
    result.at_end = " ".join(serving) or NOBODY
    result.unserved = () if serving else unserved(world)


def broken(world: Any) -> list[str]:
    """Return the invariants that broke since the fork; called once, at the end."""
    recorded = set(world.recording.watch.violations)
    new = (text for text in world.watch.finish() if text not in recorded)
    return sorted({text.partition(":")[0] for text in new})


@dataclass(slots=True)
class Measure:
    """Looks whenever a state machine has made a step, and at every write."""

    world: Any
    end_ns: int = 0  # Of the run, in virtual time.
    result: Result = field(default_factory=lambda: Result(0))
    _serving: tuple[str, ...] = ()
    _leader: tuple[str, Any] = ("", None)  # Who served last, with its process.
    _since_ns: int = 0  # Of `_serving`.
    _ended_ns: int = -1  # When the last leader ended; -1: it has not.
    _moved_ns: int = -1  # Orders before do not explain the next takeover.
    _written_ns: int = 0
    _begun: bool = False

    def begin(self) -> None:
        """Begin at the fork."""
        world = self.world
        self._begun = True
        self._since_ns = self._written_ns = world.now
        self._serving = self._who()
        for name in self._serving or self._served():
            self._leader = (name, self._process(name))
        if not self._serving:
            self._ended_ns = world.now
        for node in world.nodes.values():
            node.told = self._told
        world.after(WRITE_NS, self._write)

    def finish(self) -> Result:
        """End; return what came of it."""
        self.look()
        world, result = self.world, self.result
        if world.module.replication.directories:
            self._written(done=False)
        result.seed = world.seed
        end(world, result, self._serving)
        result.violations = broken(world)
        return result

    # --- service ---------------------------------------------------------------------------

    def look(self) -> None:
        """Look who serves now."""
        if not self._begun:
            return
        world, who = self.world, self._who()
        if who == self._serving and who:
            return
        if not self._serving:
            self.result.without_ns += world.now - self._since_ns
        self._since_ns = world.now
        if self._serving and not who:
            self._ended_ns = world.now
        new = [name for name in who if name != self._leader[0]]
        if new and self._leader[0]:
            self._took_over(new[0])
        if who:
            self._leader = (
                who[-1] if not new else new[0],
                self._process(new[0] if new else who[-1]),
            )
            self._ended_ns, self._moved_ns = -1, world.now
        self._serving = who

    def _took_over(self, name: str) -> None:
        world, (old, process) = self.world, self._leader
        environment = world.environment
        failed = process is None or not process.alive or process is not self._process(old)
        moved = environment.moved(old, self._moved_ns)
        needless = not (failed or moved or environment.is_cut_off(old))
        took_ns = world.now - self._ended_ns if self._ended_ns >= 0 else 0
        self.result.takeovers.append(Takeover(name, took_ns, needless))

    def _who(self) -> tuple[str, ...]:
        return tuple(name for name in self.world.nodes if self._serves(name))

    def _serves(self, name: str) -> bool:
        process = self._process(name)
        if process is None or not process.alive or process.paused:
            return False
        hands, module = self.world.nodes[name].hands, self.world.module
        if (module.vips and not hands.vip) or (module.has_scripts and not hands.app.runs):
            return False  # Its guard has fenced it, or its application ended.
        return bool(self.world.nodes[name].machine.state.phase is Phase.LEADING)

    def _served(self) -> list[str]:
        """Return who served last, if nobody does: who holds the register, unless it takes over."""
        register = self.world.recording.register
        if register is None:
            return []
        node = self.world.nodes[register.holder]
        if not node.cores or node.machine.state.phase is not Phase.TAKING:
            return [node.name]
        record = self.world.recording.records[node.peer]
        return [node.peer] if record is not None and record.was in {"prim", "alone"} else []

    def _process(self, name: str) -> Any:
        return self.world.nodes[name].host.processes.get(self.world.module_name)

    # --- writes ----------------------------------------------------------------------------

    def _write(self) -> None:
        self.look()
        if self.world.module.replication.directories:
            self.world.write()
        self.world.after(WRITE_NS, self._write)

    def _told(self, name: str, write: int, extent: int, result: int) -> None:
        del name, write, extent
        if result == 0:
            self._written(done=True)

    def _written(self, *, done: bool) -> None:
        stalled_ns = self.world.now - self._written_ns
        self.result.stall_ns = max(self.result.stall_ns or 0, stalled_ns)
        if done:
            self._written_ns = self.world.now
