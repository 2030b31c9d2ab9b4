"""Everything that can happen next in a state."""

from collections.abc import Iterator
from typing import Any

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.explore.state import LINKS, OUTAGES_NS, Channel, World
from mirrorfarm.sim.explore.step import Move

ADVANCE: Move = ("advance",)


def moves(w: World) -> Iterator[Move]:
    """Return what can happen next.

    Timers that are due at one moment go off before a message that is sent then can arrive:
    those of different nodes do not know of one another, so one order stands for all.
    """
    yield from progress(w)
    if _due(w) is None:
        yield from belated(w)
    yield from chosen(w)


def progress(w: World) -> list[Move]:
    """Return what has to happen, in one order or another, before time goes on."""
    timer = _due(w)
    if timer is not None:
        return [timer]
    return list(_arrivals(w)) or [ADVANCE]


def belated(w: World) -> Iterator[Move]:
    """Return the messages that were held up: each may arrive at any time from now on."""
    for number, (channel, _) in enumerate(w.late):
        if not _sleeps(w, channel[1]):
            yield "deliver_late", number


def _due(w: World) -> Move | None:
    """Return the timer that goes off now, if one is due."""
    for node in w.nodes.values():
        wake = None if node.asleep else min(node.wakes, key=_at, default=None)
        if wake is not None and wake[0] + node.behind_ns <= w.now:
            return "wake", node.name, wake
    for repair in w.repairs:
        if repair[0] <= w.now:
            return "repair", repair
    for one in w.breaks:
        if one[0] <= w.now and not w.nodes[one[1]].asleep:
            return "stream_broken", one
    return None


def _arrivals(w: World) -> Iterator[Move]:
    """Return what arrives before time goes on: messages, and the answers of disks."""
    for channel in w.channels:
        if not _sleeps(w, channel[1]):
            yield "deliver", channel
    for node in w.nodes.values():
        if node.writing and not node.asleep:
            yield "stored", node.name
    if w.witness.writing:
        yield ("register_stored",)


def _sleeps(w: World, name: str) -> bool:
    return name in w.nodes and w.nodes[name].asleep


def _at(wake: tuple[int, str, Any]) -> tuple[int, str]:
    return wake[:2]


def chosen(w: World) -> Iterator[Move]:
    """Return what an application or a disturbance may do."""
    for node in w.nodes.values():
        writes = node.application and w.writes and not node.asleep
        if writes and node.plane.wish.role == "lead":
            yield "write", node.name
    if w.disturbances:
        yield from (move for move in _disturbances(w) if move[0] in w.kinds)


def _disturbances(w: World) -> Iterator[Move]:
    for outage_ns in OUTAGES_NS:
        for node in w.nodes.values():
            if node.up and not node.asleep:
                yield "crash", node.name, outage_ns
                yield "sleep", node.name, outage_ns
        if w.witness.core is not None:
            yield "crash_witness", outage_ns
        for link in LINKS:
            if link not in w.cut:
                yield "sever", link, outage_ns
    for channel in w.channels:
        if channel[2] != "plane":  # A stream is lost as a whole: the link is cut.
            yield "lose", channel
            yield "hold_up", channel


def words(w: World, move: Move) -> str:
    """Return what a move of a state is, for people."""
    match move:
        case ("deliver", channel):
            return f"{_carried(channel, w.channels[channel][0])} arrives"
        case ("lose", channel):
            return f"{_carried(channel, w.channels[channel][0])} is lost"
        case ("hold_up", channel):
            return f"{_carried(channel, w.channels[channel][0])} is held up"
        case ("deliver_late", number):
            return f"{_carried(*w.late[number])} arrives late"
        case ("stored", name):
            return f"the record of {name} is durable"
        case ("wake", name, (_, actor, event)):
            return f"{type(event).__name__} of {name}/{actor}"
        case ("repair", (_, what)):
            return f"{what} is back"
        case ("stream_broken", (_, name, *_)):
            return f"{name} finds its stream broken"
        case ("write", name):
            return f"the application on {name} writes"
        case ("crash", name, outage_ns):
            return f"{name} loses power {_span(outage_ns)}"
        case ("sleep", name, outage_ns):
            return f"{name} stands still {_span(outage_ns)}, and so does its clock"
        case ("crash_witness", outage_ns):
            return f"the witness loses power {_span(outage_ns)}"
        case ("sever", (a, b), outage_ns):
            return f"the link {a} - {b} is cut {_span(outage_ns)}"
    return {"advance": "time passes", "register_stored": "the register is durable"}[move[0]]


def _span(outage_ns: int) -> str:
    return f"for {outage_ns // MILLISECOND_NS} ms"


def _carried(channel: Channel, message: Any) -> str:
    source, to, actor = channel
    if actor == "plane":
        return f"{message[0]} {message[1]}.{message[2]} from {source} to {to}"
    return f"{type(message.message).__name__} from {source} to {to}/{actor}"
