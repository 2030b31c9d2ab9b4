"""What came of one run of a forked farm: which clients had no node, for how long, and why."""

from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.limits import BUCKETS, MILLISECOND_NS
from mirrorfarm.sim.fork.measure import Result, Takeover, broken, end

LOOK_NS: Final = 10 * MILLISECOND_NS


@dataclass(slots=True)
class FarmMeasure:
    """Looks at the filters every 10 ms: a bucket that nobody lets in is a part of the clients."""

    world: Any
    end_ns: int = 0
    result: Result = field(default_factory=lambda: Result(0))
    _answering: tuple[str, ...] = ()  # When every client was answered last.
    _processes: dict[str, Any] = field(default_factory=dict)  # Of the nodes then.
    _lost_ns: int = -1  # Since when some client is not; -1: all are.
    _closed: int = 0  # Buckets, at the last look.
    _since_ns: int = 0  # When that was.
    _moved_ns: int = -1
    _begun: bool = False

    def begin(self) -> None:
        """Begin at the fork."""
        self._begun, self._since_ns = True, self.world.now
        self._note_all()
        self._tick()

    def finish(self) -> Result:
        """End; return what came of it."""
        self.look()
        world, result = self.world, self.result
        if self._lost_ns >= 0:
            self._longest(world.now - self._lost_ns)
        result.seed = world.seed
        result.without_ns //= BUCKETS * len(self._groups())
        end(world, result, self._who())
        result.violations = broken(world)
        return result

    def look(self) -> None:
        """Look which clients have a node."""
        if not self._begun:
            return
        now = self.world.now
        self.result.without_ns += self._closed * (now - self._since_ns)
        self._since_ns, self._closed = now, self._unanswered()
        if self._closed and self._lost_ns < 0:
            self._lost_ns = now
        elif not self._closed:
            if self._lost_ns >= 0:
                self._answered_again(now - self._lost_ns)
            self._note_all()

    def _answered_again(self, took_ns: int) -> None:
        gone = [name for name in self._answering if name not in self._who()]
        self._longest(took_ns)
        self._lost_ns = -1
        if not gone:
            return
        environment = self.world.environment
        failed = any(self._process(name) is not self._processes[name] for name in gone)
        cut = any(environment.is_cut_off(name) for name in gone)
        moved = any(environment.moved(name, self._moved_ns) for name in gone)
        needless = not (failed or cut or moved)
        self.result.takeovers.append(Takeover(" ".join(gone), took_ns, needless))

    def _note_all(self) -> None:
        self._answering, self._moved_ns = self._who(), self.world.now
        old = self._processes
        self._processes = {
            # A filter may go on answering for a process that has ended.
            name: old.get(name) if self._is_left_behind(name) else self._process(name)
            for name in self._answering
        }

    def _is_left_behind(self, name: str) -> bool:
        left: bool = self.world.nodes[name].filter.left_behind
        return left

    def _longest(self, lasted_ns: int) -> None:
        self.result.stall_ns = max(self.result.stall_ns or 0, lasted_ns)

    def _tick(self) -> None:
        self.look()
        self.world.after(LOOK_NS, self._tick)

    def _who(self) -> tuple[str, ...]:
        return tuple(name for name in self.world.nodes if self.world.answers(name))

    def _process(self, name: str) -> Any:
        process = self.world.nodes[name].process
        return process if process is not None and process.alive else None

    def _groups(self) -> range:
        return range(self.world.groups)

    def _unanswered(self) -> int:
        """Return how many buckets nobody lets in."""
        able = [node.filter for node in self.world.nodes.values() if node.filter.answers()]
        missing = 0
        for group in self._groups():
            opened = 0
            for one in able:
                opened |= int.from_bytes(one.opened[group], "little")
            missing += BUCKETS - opened.bit_count()
        return missing
