"""The streams between two simulated data planes: in order, or broken as a whole, like TCP."""

from typing import Any

from mirrorfarm.limits import MICROSECOND_NS

TRAVEL_NS = 300 * MICROSECOND_NS  # Constant: a stream keeps its order.


def work(world: Any, a: str, b: str) -> bool:
    """Return whether a stream between two nodes works: it needs both directions."""
    return bool(world.passes(a, b) and world.passes(b, a))


def send(world: Any, source: str, to: str, frame: tuple[object, ...]) -> None:
    """Carry a frame from one data plane to the other."""
    node = world.nodes[to]
    incarnation = node.incarnation

    def deliver() -> None:
        if not work(world, source, to) or not node.up or node.incarnation != incarnation:
            return
        if world.stands_still(node):
            node.backlog.append(deliver)
        else:
            node.plane.receive(frame)

    if work(world, source, to) and node.up:
        world.at(world.now + TRAVEL_NS, deliver)
    else:
        _break_late(world, source)


def cut(world: Any) -> None:
    """Break what runs: both ends notice when an acknowledgement is late."""
    for name in world.nodes:
        _break_late(world, name)


def _break_late(world: Any, name: str) -> None:
    plane = world.nodes[name].plane
    sid, term = plane.wish.sid, plane.wish.term

    def broken() -> None:
        same = (plane.wish.term, plane.wish.sid) == (term, sid)
        if (same or plane.flushing) and world.nodes[name].up:
            plane.broken("no acknowledgement in time")

    if sid or plane.flushing:
        world.at(world.now + world.timing.replication_timeout_ns, broken)
