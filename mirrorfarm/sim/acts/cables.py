"""Acts on cables: cuts, clogs, networks that are down or bad, single messages."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.sim.acts.act import Act, argument, length, node_argument
from mirrorfarm.sim.acts.kinds import DURATION, NETWORK, PAIR, SHARE, known, number
from mirrorfarm.sim.acts.mirror import MIRROR
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.transport import messages

MESSAGE: Final = known(
    lambda: [name for name in vars(messages) if name[0].isupper() and name[-1].islower()],
    "the name of a message, such as `Heartbeat`",
)
MESSAGES_MAX: Final = 10_000


@MIRROR.named("cut")
@dataclass(frozen=True)
class Cut(Act):
    """The link between two machines is cut, in both directions."""

    between: tuple[str, str] = argument(PAIR)
    network: str = argument(NETWORK, "left out: all networks", key="network", default="")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        network = world.network
        network.set_link(*self.between, up=False, network=self.network)
        if self.for_ns:
            world.after(self.for_ns, lambda: network.set_link(*self.between, up=True))


@MIRROR.named("flap")
@dataclass(frozen=True)
class Flap(Act):
    """The link between two machines comes and goes."""

    between: tuple[str, str] = argument(PAIR)
    away_ns: int = argument(DURATION, "for how long it is cut each time", key="away")
    back_ns: int = argument(DURATION, "for how long it works in between", key="back")
    count: int = argument(number(1, 1_000), "how often it is cut", key="count", default=2)

    def do(self, world: Any) -> None:  # noqa: D102
        for number_of in range(self.count):
            world.after(number_of * (self.away_ns + self.back_ns), self._cut, world)

    def _cut(self, world: Any) -> None:
        if not world.healed:
            Cut(self.between, "", self.away_ns).do(world)


@MIRROR.named("one_way")
@dataclass(frozen=True)
class OneWay(Act):
    """Everything from the first machine to the second is lost; the other direction works."""

    way: tuple[str, str] = argument(PAIR)
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        network = world.network
        network.set_way(*self.way, up=False)
        if self.for_ns:
            world.after(self.for_ns, lambda: network.set_way(*self.way, up=True))


@MIRROR.named("mend")
@dataclass(frozen=True)
class Mend(Act):
    """The link between two machines works again, in both directions."""

    between: tuple[str, str] = argument(PAIR)

    def do(self, world: Any) -> None:  # noqa: D102
        world.network.set_link(*self.between, up=True)


@MIRROR.named("isolate")
@dataclass(frozen=True)
class Isolate(Act):
    """A node loses every link."""

    node: str = node_argument()
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        world.isolate(self.node)
        if self.for_ns:
            world.after(self.for_ns, lambda: world.isolate(self.node, up=True))


@MIRROR.named("clog")
@dataclass(frozen=True)
class Clog(Act):
    """Nothing from the first machine to the second arrives, then all of it does at once."""

    way: tuple[str, str] = argument(PAIR)
    for_ns: int = length("how long; left out: nothing is held back")

    def do(self, world: Any) -> None:  # noqa: D102
        world.network.clog(*self.way, world.now + self.for_ns)


@MIRROR.named("network_down")
@dataclass(frozen=True)
class NetworkDown(Act):
    """A whole network is down."""

    network: str = argument(NETWORK)
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        network = world.network
        network.down.add(self.network)
        network.changed()
        if self.for_ns:
            world.after(self.for_ns, lambda: network.down.discard(self.network))


@dataclass(frozen=True)
class _Bad(Act):
    share: int = argument(SHARE)
    for_ns: int = length()

    def do(self, world: Any) -> None:
        quality, name = world.network.quality, self.name
        setattr(quality, name, self.share)
        if self.for_ns:
            world.after(self.for_ns, lambda: setattr(quality, name, 0))


@MIRROR.named("loss")
@dataclass(frozen=True)
class Loss(_Bad):
    """Datagrams get lost."""


@MIRROR.named("repeat")
@dataclass(frozen=True)
class Repeat(_Bad):
    """Datagrams arrive twice, past the bus that would have noticed."""


@MIRROR.named("late")
@dataclass(frozen=True)
class Late(_Bad):
    """Datagrams are up to 150 ms late, and overtaken by others."""


@MIRROR.named("corrupt")
@dataclass(frozen=True)
class Corrupt(_Bad):
    """Bytes flip on the way: the bus refuses and counts such frames."""


@MIRROR.named("lose")
@dataclass(frozen=True)
class Lose(Act):
    """Messages of one kind are lost on the way from the first machine to the second."""

    message: str = argument(MESSAGE)
    way: tuple[str, str] = argument(PAIR, "sender and receiver", key="way")
    count: int = argument(number(1, MESSAGES_MAX), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.meddle(Meddling(self.message, *self.way, self.count))


@MIRROR.named("hold")
@dataclass(frozen=True)
class Hold(Act):
    """Messages of one kind arrive so much later, overtaken by all that come after them."""

    message: str = argument(MESSAGE)
    way: tuple[str, str] = argument(PAIR, "sender and receiver", key="way")
    for_ns: int = length("how much later")
    count: int = argument(number(1, MESSAGES_MAX), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.meddle(Meddling(self.message, *self.way, self.count, self.for_ns))


@MIRROR.named("stream_reset")
@dataclass(frozen=True)
class StreamReset(Act):
    """The connections between the replicators break, with all that is under way."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.streams.reset(self.node, world.nodes[self.node].peer)


@MIRROR.named("stream_ends")
@dataclass(frozen=True)
class StreamEnds(Act):
    """The node that sends modifications gives its session up."""

    node: str = node_argument()

    def do(self, world: Any) -> None:  # noqa: D102
        world.break_stream(self.node)
