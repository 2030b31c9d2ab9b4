"""Acts of administrators, of the application and its clients, and on the witness."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import Act, argument, length, node_argument
from mirrorfarm.sim.acts.kinds import DURATION, NODE, SWITCH, number, words
from mirrorfarm.sim.acts.mirror import MIRROR, MODULE
from mirrorfarm.sim.storage import Latency

VERBS: Final = (
    *("start", "stop", "restart", "stopstart", "swap", "forcestop"),
    *("prim", "second", "fullsync", "primforce"),
)
ORDER: Final = words(*VERBS)
WRITES_MAX: Final = 10_000


def witness() -> Any:
    """Declare that an act is about the witness."""
    return argument(words("w1"), default="w1")


@MIRROR.named("command")
@dataclass(frozen=True)
class Command(Act):
    """An administrator gives an order; `fullsync` is `second fullsync`."""

    verb: str = argument(ORDER)
    node: str = argument(NODE, "to which node", key="node")
    twice: bool = argument(SWITCH, "the same request arrives twice", key="twice", default=False)

    def do(self, world: Any) -> None:  # noqa: D102
        if self.verb == "primforce":
            world.monitors.forget()  # Its administrator gives up what others may have.
        verb = ("second", "fullsync") if self.verb == "fullsync" else (self.verb,)
        request = world.command(self.node, *verb)
        if self.twice:
            world.order(self.node, MODULE, *verb, request=request)


@MIRROR.named("write")
@dataclass(frozen=True)
class Write(Act):
    """The application, wherever it runs, writes and flushes."""

    count: int = argument(number(1, WRITES_MAX))
    every_ns: int = argument(
        DURATION, "between two of them", key="every", default=10 * MILLISECOND_NS
    )

    def do(self, world: Any) -> None:  # noqa: D102
        self._one(world, self.count)

    def _one(self, world: Any, left: int) -> None:
        world.write()
        if left > 1:
            world.after(self.every_ns, self._one, world, left - 1)


@MIRROR.named("application_start_fails")
@dataclass(frozen=True)
class StartFails(Act):
    """The next starts of the application fail."""

    node: str = node_argument()
    count: int = argument(number(1, 1_000), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].hands.app.fails = self.count


@MIRROR.named("application_start_hangs")
@dataclass(frozen=True)
class StartHangs(Act):
    """The next start never ends: it is ended at its time limit."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].hands.app.hangs = 1


@MIRROR.named("application_stop_hangs")
@dataclass(frozen=True)
class StopHangs(Act):
    """The next stop never ends: it is ended at its time limit."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.nodes[self.node].hands.app.hangs_stop = 1


@MIRROR.named("application_exits")
@dataclass(frozen=True)
class Exits(Act):
    """The application ends by itself."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        node = world.nodes[self.node]
        process = node.host.processes.get(MODULE)
        if process is not None and node.application:
            node.hands.set_running(runs=False)
            node.hands.processes_changed(process)


@MIRROR.named("witness_restart")
@dataclass(frozen=True)
class WitnessRestart(Act):
    """The witness is started anew."""

    node: str = witness()

    def do(self, world: Any) -> None:  # noqa: D102
        world.restart_witness()


@MIRROR.named("witness_away")
@dataclass(frozen=True)
class WitnessAway(Act):
    """The witness is off."""

    node: str = witness()
    for_ns: int = length("left out: it stays off")

    def do(self, world: Any) -> None:  # noqa: D102
        witness = world.witness_node
        if witness.host.up:
            witness.stop()
            if self.for_ns:
                world.after(self.for_ns, lambda: None if witness.host.up else witness.start())


@MIRROR.named("witness_slow")
@dataclass(frozen=True)
class WitnessSlow(Act):
    """The witness's disk takes long, in the mean."""

    node: str = witness()
    by_ns: int = argument(DURATION, "the mean", key="by", default=300 * MILLISECOND_NS)
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        witness = world.witness_node
        witness.latency = Latency(self.by_ns)
        if self.for_ns:
            world.after(self.for_ns, lambda: setattr(witness, "latency", Latency()))


@MIRROR.named("witness_answers_lost")
@dataclass(frozen=True)
class WitnessAnswersLost(Act):
    """What was asked of the witness is done, but nobody hears of it."""

    node: str = witness()
    count: int = argument(number(1, 1_000), "how many answers", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_node.loses_answers = self.count


@MIRROR.named("witness_backup")
@dataclass(frozen=True)
class WitnessBackup(Act):
    """A copy of the witness's disk is made."""

    node: str = witness()

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_backup = dict(world.witness_node.registers)


@MIRROR.named("witness_restored")
@dataclass(frozen=True)
class WitnessRestored(Act):
    """The copy is put back, and the witness started anew; without a copy its disk is empty."""

    node: str = witness()

    def do(self, world: Any) -> None:  # noqa: D102
        world.witness_node.registers = dict(world.witness_backup)
        world.restart_witness()
