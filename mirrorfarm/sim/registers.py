"""The arbiter of a simulated cluster: the witness and its disk, or a copy on each node."""

from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.transport.address import Address

MODULE = "app"
WITNESS = "w1"
GATEWAY = "gw"  # What an arbiter of the kind `ping` asks.


def store_own(world: Any, node: Any, order: fx.RegisterStore) -> None:
    """Make a node's own copy of the register durable."""
    if node.up:
        node.register = _loaded(order)
        world.feed(node, "arbiter", ev.RegisterStored(order.counter), node.incarnation)


def feed(world: Any, event: Any) -> None:
    """Give an event to the witness, unless it is down, and do what it asks for."""
    if not world.witness_up:
        return
    for effect in world.witness.handle(event, world.now):
        match effect:
            case fx.Send(to, message, _):
                source = Address(WITNESS, MODULE, "register")
                world.deliver(WITNESS, to, ev.Received(source, message))
            case fx.RegisterStore():
                _store(world, effect, world.witness)
            case _:
                pass


def _store(world: Any, order: fx.RegisterStore, witness: Any) -> None:
    def durable() -> None:
        if world.witness is not witness:
            return  # It was restarted: the writing never happened.
        world.registers[order.module] = _loaded(order)
        world.monitors.installed(world, order.register)
        feed(world, ev.RegisterStored(order.counter))

    world.at(world.now + MILLISECOND_NS, durable)


def _loaded(order: fx.RegisterStore) -> ev.RegisterLoaded:
    return ev.RegisterLoaded(
        order.cluster,
        order.module,
        order.register,
        order.counter,
        order.lease_ns,
        order.asker,
        order.request,
    )
