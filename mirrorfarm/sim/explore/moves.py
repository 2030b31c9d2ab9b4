"""Everything that can happen next in a state."""

from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.explore.state import LINKS, OUTAGES_NS, Channel, World
from mirrorfarm.sim.explore.step import Step

Move = tuple[str, Callable[[Step], None]]  # In words, and as what it does.
P = ParamSpec("P")


def _do(
    method: Callable[Concatenate[Step, P], None], *args: P.args, **kwargs: P.kwargs
) -> Callable[[Step], None]:
    """Return a move that calls this method of a step."""
    return lambda step: method(step, *args, **kwargs)


def moves(w: World) -> Iterator[Move]:
    """Return what can happen next, each with its words.

    Timers that are due at one moment go off before a message that is sent then can arrive:
    those of different nodes do not know of one another, so one order stands for all.
    """
    yield from progress(w)
    if _due(w) is None:
        yield from belated(w)
    yield from chosen(w)


def progress(w: World) -> Iterator[Move]:
    """Return what has to happen, in one order or another, before time goes on."""
    timer = _due(w)
    if timer is not None:
        yield timer
    else:
        arrivals = list(_arrivals(w))
        yield from arrivals or [("time passes", Step.advance)]


def belated(w: World) -> Iterator[Move]:
    """Return the messages that were held up: each may arrive at any time from now on."""
    asleep = [node.name for node in w.nodes.values() if node.asleep]
    for number, (channel, message) in enumerate(w.late):
        if channel[1] not in asleep:
            yield f"{_words(channel, message)} arrives late", _do(Step.deliver_late, number)


def _due(w: World) -> Move | None:
    """Return the timer that goes off now, if one is due."""
    for node in w.nodes.values():
        wake = None if node.asleep else min(node.wakes, key=_at, default=None)
        if wake is not None and wake[0] + node.behind_ns <= w.now:
            words = f"{type(wake[2]).__name__} of {node.name}/{wake[1]}"
            return words, _do(Step.wake, node.name, wake)
    for repair in w.repairs:
        if repair[0] <= w.now:
            return f"{repair[1]} is back", _do(Step.repair, repair)
    for one in w.breaks:
        if one[0] <= w.now and not w.nodes[one[1]].asleep:
            return f"{one[1]} finds its stream broken", _do(Step.stream_broken, one)
    return None


def _arrivals(w: World) -> Iterator[Move]:
    """Return what arrives before time goes on: messages, and the answers of disks."""
    asleep = [node.name for node in w.nodes.values() if node.asleep]
    for channel, waiting in w.channels.items():
        if channel[1] in asleep:
            continue
        yield f"{_words(channel, waiting[0])} arrives", _do(Step.deliver, channel)
    for node in w.nodes.values():
        if node.writing and not node.asleep:
            yield f"the record of {node.name} is durable", _do(Step.stored, node.name)
    if w.witness.writing:
        yield "the register is durable", Step.register_stored


def _at(wake: tuple[int, str, Any]) -> tuple[int, str]:
    return wake[:2]


def chosen(w: World) -> Iterator[Move]:
    """Return what an application, a fault or a repair may do."""
    for node in w.nodes.values():
        writes = node.application and w.left.writes and not node.asleep
        if writes and node.plane.wish.role == "lead":
            yield f"the application on {node.name} writes", _do(Step.write, node.name)
    if not w.left.disturbances:
        return
    for outage_ns in OUTAGES_NS:
        span = f"for {outage_ns // MILLISECOND_NS} ms"
        for node in w.nodes.values():
            if node.up and not node.asleep:
                words = f"{node.name} loses power {span}"
                yield words, _do(Step.crash, node.name, outage_ns)
                words = f"{node.name} stands still {span}, and so does its clock"
                yield words, _do(Step.sleep, node.name, outage_ns)
        if w.witness.core is not None:
            yield f"the witness loses power {span}", _do(Step.crash_witness, outage_ns)
        for link in LINKS:
            if link not in w.cut:
                words = f"the link {link[0]} - {link[1]} is cut {span}"
                yield words, _do(Step.cut, link, outage_ns)
    for channel, waiting in w.channels.items():
        if channel[2] == "plane":
            continue  # A stream is lost as a whole: the link is cut.
        yield f"{_words(channel, waiting[0])} is lost", _do(Step.lose, channel)
        yield f"{_words(channel, waiting[0])} is held up", _do(Step.hold_up, channel)


def _words(channel: Channel, message: Any) -> str:
    source, to, actor = channel
    if actor == "plane":
        return f"{message[0]} {message[1]}.{message[2]} from {source} to {to}"
    return f"{type(message.message).__name__} from {source} to {to}/{actor}"
