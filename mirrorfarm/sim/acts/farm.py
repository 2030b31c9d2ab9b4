"""Acts that only a simulated farm knows."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import FARM, Act, OnNode, argument, length, named
from mirrorfarm.sim.acts.kinds import DURATION, NODE, SWITCH, Kind, number, words

POWER_MAX: Final = 4_096
ORDER: Final = words("start", "stop", "restart", "drain", "resume")
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


@named("start", FARM)
@dataclass(frozen=True)
class Start(OnNode):
    """The process of a node starts."""

    wish: str = argument(words("in", "away", "drain"), "what it does", key="wish", default="in")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.nodes[self.node].core is None:
            world.start(self.node, wish=self.wish, again=world.machines)


@named("power_off", FARM)
@dataclass(frozen=True)
class PowerOff(OnNode):
    """A node is off, with its filter and its connections."""

    def do(self, world: Any) -> None:  # noqa: D102
        world.kill(self.node)


@named("hang", FARM)
@dataclass(frozen=True)
class Hang(OnNode):
    """The agent of a node hangs: no message passes, and all of them pass afterwards."""

    for_ns: int = argument(DURATION, "how long", key="for")
    alone: bool = argument(SWITCH, "no client reaches it", key="alone", default=False)

    def do(self, world: Any) -> None:  # noqa: D102
        world.hang(self.node, self.for_ns // MILLISECOND_NS, alone=self.alone)


@named("slow_counts", FARM)
@dataclass(frozen=True)
class SlowCounts(OnNode):
    """A node takes so long to find out where its connections are."""

    by_ns: int = argument(DURATION, "how long for one count", key="by")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        filter_ = world.nodes[self.node].filter
        filter_.slow_ns = self.by_ns
        self.ends(world, self.for_ns, setattr, filter_, "slow_ns", 0)


@named("wish", FARM)
@dataclass(frozen=True)
class Wish(OnNode):
    """A node is to take part, to leave at once, or to drain; with `whole` give a command."""

    wish: str = argument(words("in", "away", "drain"), key="to")

    def do(self, world: Any) -> None:  # noqa: D102
        world.wish(self.node, self.wish)


@named("command", FARM)
@dataclass(frozen=True)
class Command(Act):
    """An administrator gives an order; only with `whole`, which has somebody to take it."""

    verb: str = argument(ORDER)
    node: str = argument(NODE, "to which node", key="node")

    def do(self, world: Any) -> None:  # noqa: D102
        world.command(self.node, *self.words())

    def words(self) -> tuple[str, ...]:
        """Return the order as it is sent."""
        return (self.verb,)


@named("weight", FARM)
@dataclass(frozen=True)
class Weight(OnNode):
    """An administrator changes a node's power: its share of the clients."""

    power: int = argument(number(0, POWER_MAX), key="to")

    def do(self, world: Any) -> None:  # noqa: D102
        if world.machines:  # The module takes it back when it stops.
            world.command(self.node, "power", str(self.power))
        else:
            world.power(self.node, self.power)


@named("deaf", FARM)
@dataclass(frozen=True)
class Deaf(OnNode):
    """A node hears nobody."""

    def do(self, world: Any) -> None:  # noqa: D102
        for other in world.names:
            if other != self.node:
                world.cut_one_way(other, self.node)


@named("mute", FARM)
@dataclass(frozen=True)
class Mute(OnNode):
    """Nobody hears a node."""

    def do(self, world: Any) -> None:  # noqa: D102
        for other in world.names:
            if other != self.node:
                world.cut_one_way(self.node, other)


@named("partition", FARM)
@dataclass(frozen=True)
class Partition(Act):
    """Every link between the sides is cut, those within each are mended."""

    sides: Sides = argument(SIDES)  # noqa: RUF009

    def do(self, world: Any) -> None:  # noqa: D102
        named = [name for side in self.sides for name in side]
        others = tuple((name,) for name in world.names if name not in named)
        world.partition(*self.sides, *others)


@named("mend", FARM)
@dataclass(frozen=True)
class Mend(Act):
    """Every link works again."""

    what: str = argument(words("all"), default="all")

    def do(self, world: Any) -> None:  # noqa: D102
        world.heal()
