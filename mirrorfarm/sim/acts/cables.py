"""Acts on cables: cuts, clogs, networks that are down or bad, single messages."""

from dataclasses import dataclass
from typing import Any, Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import FARM, MIRROR, Act, OnModule, OnNode, argument, length, named
from mirrorfarm.sim.acts.kinds import (
    DURATION,
    LENGTH,
    MACHINES,
    NETWORK,
    PAIR,
    SHARE,
    known,
    number,
)
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.transport import messages

MESSAGE: Final = known(
    lambda: [name for name in vars(messages) if name[0].isupper() and name[-1].islower()],
    "the name of a message, such as `Heartbeat`",
)
MESSAGES_MAX: Final = 10_000


@named("cut", MIRROR, FARM)
@dataclass(frozen=True)
class Cut(Act):
    """The link between two machines is cut, in both directions."""

    between: tuple[str, str] = argument(PAIR)
    network: str = argument(NETWORK, "left out: all networks", key="network", default="")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        self._set(world, up=False)
        self.ends(world, self.for_ns, lambda: self._set(world, up=True))

    def _set(self, world: Any, *, up: bool) -> None:
        world.network.set_link(*self.between, up=up, network=self.network)


@named("flap", MIRROR, FARM)
@dataclass(frozen=True)
class Flap(Act):
    """The link between two machines comes and goes."""

    between: tuple[str, str] = argument(PAIR)
    away_ns: int = argument(LENGTH, "for how long it is cut each time", key="away")
    back_ns: int = argument(LENGTH, "for how long it works in between", key="back")
    count: int = argument(number(1, 1_000), "how often it is cut", key="count", default=2)

    def do(self, world: Any) -> None:  # noqa: D102
        for number_of in range(self.count):
            world.after(number_of * (self.away_ns + self.back_ns), self._cut, world)

    def _cut(self, world: Any) -> None:
        if not world.healed:
            Cut(self.between, "", self.away_ns).do(world)


@named("swizzle", MIRROR, FARM)
@dataclass(frozen=True)
class Swizzle(Act):
    """Machines lose all of their links, one after the other, and get them back one by one."""

    order: tuple[str, ...] = argument(MACHINES)
    back: tuple[str, ...] = argument(MACHINES, "the order in which they come back", key="back")
    every_ns: int = argument(DURATION, "between two of them", key="every", default=SECOND_NS)
    for_ns: int = argument(
        DURATION, "from the last cut to the first mending", key="for", default=SECOND_NS
    )

    def do(self, world: Any) -> None:  # noqa: D102
        for number_of, name in enumerate(self.order):
            world.after(number_of * self.every_ns, self._cut, world, name)
        begins_ns = (len(self.order) - 1) * self.every_ns + self.for_ns
        for number_of in range(len(self.back)):
            world.after(begins_ns + number_of * self.every_ns, self._mend, world, number_of)

    def _cut(self, world: Any, name: str) -> None:
        if not world.healed:
            world.isolate(name)

    def _mend(self, world: Any, number_of: int) -> None:
        later = self.back[number_of + 1 :]
        world.isolate(self.back[number_of], up=True, but=() if world.healed else later)


@named("mtu", MIRROR, FARM)
@dataclass(frozen=True)
class Mtu(Act):
    """Nothing long passes between two machines: what is longer is lost without a word."""

    between: tuple[str, str] = argument(PAIR)
    bytes_max: int = argument(number(1, 1_000_000), "how many pass", key="bytes")
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        self._set(world, self.bytes_max)
        self.ends(world, self.for_ns, self._set, world, 0)

    def _set(self, world: Any, bytes_max: int) -> None:
        world.network.set_narrow(*self.between, bytes_max)
        world.network.changed()


@named("one_way", MIRROR, FARM)
@dataclass(frozen=True)
class OneWay(Act):
    """Everything from the first machine to the second is lost; the other direction works."""

    way: tuple[str, str] = argument(PAIR)
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        network = world.network
        network.set_way(*self.way, up=False)
        self.ends(world, self.for_ns, lambda: network.set_way(*self.way, up=True))


@named("mend", MIRROR)
@dataclass(frozen=True)
class Mend(Act):
    """The link between two machines works again, in both directions."""

    between: tuple[str, str] = argument(PAIR)

    def do(self, world: Any) -> None:  # noqa: D102
        world.network.set_link(*self.between, up=True)


@named("isolate", MIRROR, FARM)
@dataclass(frozen=True)
class Isolate(OnNode):
    """A node loses every link."""

    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        world.isolate(self.node)
        self.ends(world, self.for_ns, lambda: world.isolate(self.node, up=True))


@named("clog", MIRROR)
@dataclass(frozen=True)
class Clog(Act):
    """Nothing from the first machine to the second arrives, then all of it does at once."""

    way: tuple[str, str] = argument(PAIR)
    for_ns: int = length("how long; left out: nothing is held back")

    def do(self, world: Any) -> None:  # noqa: D102
        world.network.clog(*self.way, world.now + self.for_ns)


@named("network_down", MIRROR, FARM)
@dataclass(frozen=True)
class NetworkDown(Act):
    """A whole network is down."""

    network: str = argument(NETWORK)
    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        network = world.network
        network.set_network(self.network, up=False)
        self.ends(world, self.for_ns, lambda: network.set_network(self.network, up=True))


@dataclass(frozen=True)
class _Bad(Act):
    share: int = argument(SHARE)
    for_ns: int = length()

    def do(self, world: Any) -> None:
        self._set(world, self.share)
        self.ends(world, self.for_ns, self._set, world, 0)

    def _set(self, world: Any, share: int) -> None:
        setattr(world.network.quality, self.name, share)
        world.network.changed()


@named("loss", MIRROR, FARM)
@dataclass(frozen=True)
class Loss(_Bad):
    """Datagrams get lost."""


@named("repeat", MIRROR, FARM)
@dataclass(frozen=True)
class Repeat(_Bad):
    """Datagrams arrive twice, past the bus that would have noticed."""


@named("late", MIRROR, FARM)
@dataclass(frozen=True)
class Late(_Bad):
    """Datagrams are up to 150 ms late, and overtaken by others."""


@named("corrupt", MIRROR, FARM)
@dataclass(frozen=True)
class Corrupt(_Bad):
    """Bytes flip on the way: the bus refuses and counts such frames."""


@named("lose", MIRROR, FARM)
@dataclass(frozen=True)
class Lose(Act):
    """Messages of one kind are lost on the way from the first machine to the second."""

    message: str = argument(MESSAGE)
    way: tuple[str, str] = argument(PAIR, "sender and receiver", key="way")
    count: int = argument(number(1, MESSAGES_MAX), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.meddle(Meddling(self.message, *self.way, self.count))


@named("hold", MIRROR, FARM)
@dataclass(frozen=True)
class Hold(Act):
    """Messages of one kind arrive so much later, overtaken by all that come after them."""

    message: str = argument(MESSAGE)
    way: tuple[str, str] = argument(PAIR, "sender and receiver", key="way")
    for_ns: int = length("how much later")
    count: int = argument(number(1, MESSAGES_MAX), "how many", key="count", default=1)

    def do(self, world: Any) -> None:  # noqa: D102
        world.meddle(Meddling(self.message, *self.way, self.count, self.for_ns))


@named("address_fails", MIRROR)
@dataclass(frozen=True)
class AddressFails(OnModule):
    """The virtual addresses cannot be configured on a node; what is there already stays."""

    for_ns: int = length()

    def do(self, world: Any) -> None:  # noqa: D102
        hands = self.here(world).hands
        hands.vip_fault = "no such device"
        self.ends(world, self.for_ns, setattr, hands, "vip_fault", "")


@named("stream_reset", MIRROR)
@dataclass(frozen=True)
class StreamReset(OnModule):
    """The connections between the replicators break, with all that is under way."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.whole(world).streams.reset(self.node, self.here(world).peer)


@named("stream_ends", MIRROR)
@dataclass(frozen=True)
class StreamEnds(OnModule):
    """The node that sends modifications gives its session up."""

    def do(self, world: Any) -> None:  # noqa: D102
        self.whole(world).break_stream(self.node)
