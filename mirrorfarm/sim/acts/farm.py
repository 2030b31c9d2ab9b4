"""Acts on a simulated farm."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import Act, Vocabulary, argument, length, node_argument
from mirrorfarm.sim.acts.kinds import DURATION, PAIR, SHARE, SWITCH, Kind, number, words

FARM: Final = Vocabulary()
POWER_MAX: Final = 4_096
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
            world.start(self.node, wish=self.wish)


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


@FARM.named("hang")
@dataclass(frozen=True)
class Hang(Act):
    """The agent of a node hangs: no message passes, and all of them pass afterwards."""

    node: str = node_argument()
    for_ns: int = argument(DURATION, "how long", key="for")
    alone: bool = argument(SWITCH, "no client reaches it", key="alone", default=False)

    def do(self, world: Any) -> None:  # noqa: D102
        world.hang(self.node, self.for_ns // MILLISECOND_NS, alone=self.alone)


@FARM.named("wish")
@dataclass(frozen=True)
class Wish(Act):
    """An administrator has a node take part, leave at once, or drain."""

    node: str = node_argument()
    wish: str = argument(words("in", "away", "drain"), key="to")

    def do(self, world: Any) -> None:  # noqa: D102
        world.wish(self.node, self.wish)


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


@FARM.named("partition")
@dataclass(frozen=True)
class Partition(Act):
    """Every link between the sides is cut, those within each are mended."""

    sides: Sides = argument(SIDES)

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

    def set(self, world: Any, name: str) -> None:
        """Change a chance of the network; it has whole per cents."""
        setattr(world, name, self.share // 10)


@FARM.named("loss")
@dataclass(frozen=True)
class Loss(_Bad):
    """Messages get lost, from now on."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.set(world, "loss_percent")


@FARM.named("repeat")
@dataclass(frozen=True)
class Repeat(_Bad):
    """Messages arrive twice, from now on."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.set(world, "repeat_percent")


@FARM.named("late")
@dataclass(frozen=True)
class Late(_Bad):
    """Messages are up to 150 ms late, from now on."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.set(world, "late_percent")
