"""Acts on a simulated farm."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import Act, Vocabulary, argument, length, node_argument
from mirrorfarm.sim.acts.cables import Hold, Lose
from mirrorfarm.sim.acts.kinds import DURATION, NODE, PAIR, SHARE, SWITCH, Kind, number, words

FARM: Final = Vocabulary()
POWER_MAX: Final = 4_096
EFFECTS_MAX: Final = 10_000
Sides = tuple[tuple[str, ...], ...]


def _read_sides(text: str) -> Sides:
    sides = tuple(tuple(side.split()) for side in text.split("|"))
    every = [name for side in sides for name in side]
    if not all(sides) or len(dict.fromkeys(every)) != len(every):
        raise ValueError(f"{text!r}: sides with a | between them are expected, as in n1 n2 | n3")
    return sides


SIDES: Final = Kind(
    _read_sides,
    lambda sides: " | ".join(" ".join(side) for side in sides),
    "the nodes of each side, as in `n1 n2 | n3`",
)


@FARM.named("start")
@dataclass(frozen=True)
class Start(Act):
    """The process of a node starts."""

    node: str = node_argument()
    wish: str = argument(words("in", "away", "drain"), "what it does", key="wish", default="in")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.nodes[self.node].core is None:
            world.start(self.node, wish=self.wish, again=world.machines)


@FARM.named("power_off")
@dataclass(frozen=True)
class PowerOff(Act):
    """A node is off, with its filter and its connections."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.kill(self.node)


@FARM.named("kill_processes")
@dataclass(frozen=True)
class KillProcesses(Act):
    """The processes of a node are killed; the filter in its kernel goes on."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.kill(self.node, machine=False)


@FARM.named("pause")
@dataclass(frozen=True)
class Pause(Act):
    """The processes of a node do not run for a while; its filter goes on."""

    node: str = node_argument()
    for_ns: int = argument(DURATION, "how long", key="for")

    def do(self, world: Any) -> None:  # noqa: D102
        world.freeze(self.node, self.for_ns // MILLISECOND_NS)


@FARM.named("crash")
@dataclass(frozen=True)
class Crash(Act):
    """The process of a node crashes after so many effects, perhaps between two of one step."""

    node: str = node_argument()
    effects: int = argument(
        number(0, EFFECTS_MAX), "how many it still performs", key="after_effects", default=0
    )

    def do(self, world: Any) -> None:  # noqa: D102
        process = world.nodes[self.node].process
        if process is not None:
            process.doom = self.effects


@FARM.named("slow")
@dataclass(frozen=True)
class Slow(Act):
    """The process of a node takes so long for every event."""

    node: str = node_argument()
    by_ns: int = argument(DURATION, "how long for one event", key="by")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        process = world.nodes[self.node].process
        if process is not None:
            process.slow_ns = self.by_ns
            if self.for_ns:
                world.after(self.for_ns, lambda: setattr(process, "slow_ns", 0))


@FARM.named("hang")
@dataclass(frozen=True)
class Hang(Act):
    """The agent of a node hangs: no message passes, and all of them pass afterwards."""

    node: str = node_argument()
    for_ns: int = argument(DURATION, "how long", key="for")
    alone: bool = argument(SWITCH, "no client reaches it", key="alone", default=False)

    def do(self, world: Any) -> None:  # noqa: D102
        world.hang(self.node, self.for_ns // MILLISECOND_NS, alone=self.alone)


@FARM.named("slow_counts")
@dataclass(frozen=True)
class SlowCounts(Act):
    """A node takes so long to find out where its connections are."""

    node: str = node_argument()
    by_ns: int = argument(DURATION, "how long for one count", key="by")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        filter_ = world.nodes[self.node].filter
        filter_.slow_ns = self.by_ns
        if self.for_ns:
            world.after(self.for_ns, lambda: setattr(filter_, "slow_ns", 0))


@FARM.named("wish")
@dataclass(frozen=True)
class Wish(Act):
    """A node is to take part, to leave at once, or to drain; with `whole` give a command."""

    node: str = node_argument()
    wish: str = argument(words("in", "away", "drain"), key="to")

    def do(self, world: Any) -> None:  # noqa: D102
        world.wish(self.node, self.wish)


@FARM.named("command")
@dataclass(frozen=True)
class Command(Act):
    """An administrator gives an order; only with `whole`, which has somebody to take it."""

    verb: str = argument(words("start", "stop", "restart", "drain", "resume"))
    node: str = argument(NODE, "to which node", key="node")

    def do(self, world: Any) -> None:  # noqa: D102
        world.command(self.node, self.verb)


@FARM.named("weight")
@dataclass(frozen=True)
class Weight(Act):
    """An administrator changes a node's power: its share of the clients."""

    node: str = node_argument()
    power: int = argument(number(0, POWER_MAX), key="to")

    def do(self, world: Any) -> None:  # noqa: D102
        world.power(self.node, self.power)


@FARM.named("cut")
@dataclass(frozen=True)
class Cut(Act):
    """The link between two nodes is cut, in both directions."""

    between: tuple[str, str] = argument(PAIR)
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        world.set_link(*self.between, up=False)
        if self.for_ns:
            world.at(world.now + self.for_ns, lambda: world.set_link(*self.between, up=True))


@FARM.named("one_way")
@dataclass(frozen=True)
class OneWay(Act):
    """Everything from the first node to the second is lost; the other direction works."""

    way: tuple[str, str] = argument(PAIR)

    def do(self, world: Any) -> None:  # noqa: D102
        world.cut_one_way(*self.way)


@FARM.named("deaf")
@dataclass(frozen=True)
class Deaf(Act):
    """A node hears nobody."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        for other in world.names:
            if other != self.node:
                world.cut_one_way(other, self.node)


@FARM.named("mute")
@dataclass(frozen=True)
class Mute(Act):
    """Nobody hears a node."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        for other in world.names:
            if other != self.node:
                world.cut_one_way(self.node, other)


@FARM.named("partition")
@dataclass(frozen=True)
class Partition(Act):
    """Every link between the sides is cut, those within each are mended."""

    sides: Sides = argument(SIDES)  # noqa: RUF009

    def do(self, world: Any) -> None:  # noqa: D102
        named = [name for side in self.sides for name in side]
        others = tuple((name,) for name in world.names if name not in named)
        world.partition(*self.sides, *others)


@FARM.named("mend")
@dataclass(frozen=True)
class Mend(Act):
    """Every link works again."""

    what: str = argument(words("all"), default="all")

    def do(self, world: Any) -> None:  # noqa: D102
        world.heal()


@dataclass(frozen=True)
class _Bad(Act):
    share: int = argument(SHARE)

    def do(self, world: Any) -> None:
        setattr(world.network.quality, self.name, self.share)
        world.links_changed()


@FARM.named("loss")
@dataclass(frozen=True)
class Loss(_Bad):
    """Messages get lost, from now on."""


@FARM.named("repeat")
@dataclass(frozen=True)
class Repeat(_Bad):
    """Messages arrive twice, from now on."""


@FARM.named("late")
@dataclass(frozen=True)
class Late(_Bad):
    """Messages are up to 150 ms late, from now on."""


FARM.named("lose")(Lose)
FARM.named("hold")(Hold)
