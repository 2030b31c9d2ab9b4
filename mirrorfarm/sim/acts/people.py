"""Acts of administrators, of the application and its clients, and on the witness."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import FARM, MIRROR, Act, OfModule, OnModule, argument, length, named
from mirrorfarm.sim.acts.kinds import DURATION, NODE, SWITCH, number, words
from mirrorfarm.sim.acts.processes import process_of
from mirrorfarm.sim.monitors.seen import RegisterGone
from mirrorfarm.sim.storage import Latency

VERBS: Final = (
    *("start", "stop", "restart", "stopstart", "swap", "forcestop"),
    *("prim", "second", "fullsync", "primforce"),
)
ORDER: Final = words(*VERBS)
WRITES_MAX: Final = 10_000


@dataclass(frozen=True)
class OnWitness(Act):
    """An act on the witness."""

    node: str = argument(words("w1"), default="w1")


@named("command", MIRROR)
@dataclass(frozen=True)
class Command(OfModule):
    """An administrator gives an order; `fullsync` is `second fullsync`."""

    verb: str = argument(ORDER)
    node: str = argument(NODE, "to which node", key="node")
    twice: bool = argument(SWITCH, "the same request arrives twice", key="twice", default=False)

    def do(self, world: Any) -> None:  # noqa: D102
        if self.verb == "primforce":
            self.whole(world).monitors.forget()  # Its administrator gives up what others may have.
        module = self.module_name(world)
        request = world.order(self.node, module, *self.words())
        if self.twice:
            world.order(self.node, module, *self.words(), request=request)

    def words(self) -> tuple[str, ...]:
        """Return the order as it is sent."""
        return ("second", "fullsync") if self.verb == "fullsync" else (self.verb,)


@named("write", MIRROR)
@dataclass(frozen=True)
class Write(OfModule):
    """The application, wherever it runs, writes and flushes."""

    count: int = argument(number(1, WRITES_MAX))
    every_ns: int = argument(
        DURATION, "between two of them", key="every", default=10 * MILLISECOND_NS
    )

    def do(self, world: Any) -> None:  # noqa: D102
        self._one(world, self.count)

    def _one(self, world: Any, left: int) -> None:
        self.whole(world).write()
        if left > 1:
            world.after(self.every_ns, self._one, world, left - 1)


@named("application_start_fails", MIRROR, FARM)
@dataclass(frozen=True)
class StartFails(OnModule):
    """The next starts of the application fail."""

    count: int = argument(number(1, 1_000), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).hands.app.fails = self.count


@named("application_start_hangs", MIRROR, FARM)
@dataclass(frozen=True)
class StartHangs(OnModule):
    """The next start never ends: it is ended at its time limit."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).hands.app.hangs = 1


@named("application_stop_hangs", MIRROR, FARM)
@dataclass(frozen=True)
class StopHangs(OnModule):
    """The next stop never ends: it is ended at its time limit."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).hands.app.hangs_stop = 1


@named("application_exits", MIRROR, FARM)
@dataclass(frozen=True)
class Exits(OnModule):
    """The application ends by itself."""

    def do(self, world: Any) -> None:  # noqa: D102
        node = self.here(world)
        process = process_of(world, self, "module")
        if process is not None and node.hands.app.runs:
            node.hands.set_running(runs=False)
            node.hands.processes_changed(process)


@named("application_writes_at_stop", MIRROR)
@dataclass(frozen=True)
class WritesAtStop(OnModule):
    """The application writes so often while its next stop script runs, which takes as long."""

    count: int = argument(number(1, 1_000), "how often", key="count", default=5)

    def do(self, world: Any) -> None:  # noqa: D102
        self.here(world).hands.app.writes_at_stop = self.count


@named("checker_lies", MIRROR)
@dataclass(frozen=True)
class CheckerLies(OnModule):
    """The checker is told once that a running application is gone, or hears of no change."""

    says: str = argument(words("gone", "nothing"), key="says", default="gone")
    for_ns: int = length("for how long it hears nothing")

    def do(self, world: Any) -> None:  # noqa: D102
        hands, process = self.here(world).hands, process_of(world, self, "module")
        if self.says == "gone" and process is not None:
            hands.tell_checker(process, 0)
        elif self.says == "nothing":
            hands.set_deaf(deaf=True)
            self.ends(world, self.for_ns, lambda: hands.set_deaf(deaf=False))


@named("witness_restart", MIRROR)
@dataclass(frozen=True)
class WitnessRestart(OnWitness):
    """The witness is started anew."""

    def do(self, world: Any) -> None:  # noqa: D102
        world.restart_witness()


@named("witness_away", MIRROR)
@dataclass(frozen=True)
class WitnessAway(OnWitness):
    """The witness is off."""

    for_ns: int = length("left out: it stays off")

    def do(self, world: Any) -> None:  # noqa: D102
        witness = world.witness_node
        if witness.host.up:
            witness.stop()
            self.ends(world, self.for_ns, self._back, world)

    def _back(self, world: Any) -> None:
        if not world.witness_node.host.up and not world.healed:
            world.witness_node.start()


@named("witness_slow", MIRROR)
@dataclass(frozen=True)
class WitnessSlow(OnWitness):
    """The witness's disk takes long, in the mean."""

    by_ns: int = argument(DURATION, "the mean", key="by", default=300 * MILLISECOND_NS)
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        witness = world.witness_node
        witness.latency = Latency(self.by_ns)
        self.ends(world, self.for_ns, setattr, witness, "latency", Latency())


@named("witness_fails", MIRROR)
@dataclass(frozen=True)
class WitnessFails(OnWitness):
    """The next writings of the witness fail: no space. Until it is started anew it refuses."""

    count: int = argument(number(1, 1_000), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_node.failures = self.count


@named("witness_answers_lost", MIRROR)
@dataclass(frozen=True)
class WitnessAnswersLost(OnWitness):
    """What was asked of the witness is done, but nobody hears of it."""

    count: int = argument(number(1, 1_000), "how many answers", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_node.loses_answers = self.count


@named("witness_replaced", MIRROR)
@dataclass(frozen=True)
class WitnessReplaced(OnWitness):
    """Another witness takes its place, which knows of nothing."""

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_node.registers = {}
        for name in world.modules:
            world.seen(self.node, RegisterGone(name), name)
        world.restart_witness()


@named("witness_backup", MIRROR)
@dataclass(frozen=True)
class WitnessBackup(OnWitness):
    """A copy of the witness's disk is made."""

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_backup = dict(world.witness_node.registers)


@named("witness_restored", MIRROR)
@dataclass(frozen=True)
class WitnessRestored(OnWitness):
    """The copy is put back, and the witness started anew; without a copy its disk is empty."""

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_node.registers = dict(world.witness_backup)
        world.restart_witness()
