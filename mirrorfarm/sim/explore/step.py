"""One move from a state to the next.

A move never changes the state it begins with: what it touches is made anew, the rest is shared.
What a machine does with an event within one moment depends on that machine alone, so it is
worked out once (`Memory`), however many states the others are in meanwhile.
"""

from typing import Any

import msgspec
import xxhash

from mirrorfarm.sim.explore.canonical import PEER, Part
from mirrorfarm.sim.explore.copying import copy
from mirrorfarm.sim.explore.invariants import Witnessed
from mirrorfarm.sim.explore.local import Local, LocalWitness, Said
from mirrorfarm.sim.explore.state import (
    NAMES,
    TIMING,
    WITNESS,
    Arbitration,
    Break,
    Channel,
    Machine,
    Wake,
    World,
)
from mirrorfarm.transport import messages as msg

Move = tuple[Any, ...]  # The name of a method of `Step`, and its arguments.
_encode = msgspec.msgpack.Encoder().encode


class Memory:
    """What machines did in one moment, and each of their states and messages once.

    Two machines are the same if everything about them is, moments and running numbers included:
    that is finer than `canonical`, and needs no look at the others.
    """

    def __init__(self) -> None:
        self.steps: dict[tuple[Any, ...], tuple[Any, Any, tuple[Said, ...]]] = {}
        self._machines: dict[bytes, Any] = {}
        self._values: dict[Any, Any] = {}

    def once(self, value: Any) -> Any:
        """Return the one object that stands for all that are equal to a value."""
        return self._values.setdefault(value, value)

    def machine(self, made: Machine | Arbitration) -> Any:
        """Return the one machine that stands for all that are as this one."""
        part = part_of(made)
        whole = (part.flat, part.times, part.ranked, part.names, part.behind_ns)
        return self._machines.setdefault(xxhash.xxh3_128_digest(_encode(whole)), made)


class Step:
    """One move: a new state that shares with the old one what it does not touch."""

    def __init__(self, before: World, memory: Memory | None = None) -> None:
        self.w = before.successor()
        self._ghost = before.ghost
        self._memory = memory or Memory()
        self._seen = Witnessed(self.w)
        self._touched: list[str] = []

    def take(self, move: Move) -> World:
        """Do the move, and everything that follows at once. Raises Violation."""
        getattr(self, move[0])(*move[1:])
        for name in self._touched:
            self._seen.stepped(name)
        if self.w.ghost is not self._ghost:
            self.w.ghost = self._memory.once(self.w.ghost)
        return self.w

    # --- moves -----------------------------------------------------------------------------

    def deliver(self, channel: Channel) -> None:
        """The first message of a channel arrives."""
        self._arrive(channel, self._pop(channel))

    def lose(self, channel: Channel) -> None:
        """The first message of a channel never arrives."""
        self._pop(channel)
        self.w.disturbances -= 1

    def hold_up(self, channel: Channel) -> None:
        """The first message of a channel arrives at any time."""
        self.w.late = (*self.w.late, (channel, self._pop(channel)))
        self.w.disturbances -= 1

    def deliver_late(self, number: int) -> None:
        """A message arrives that was held up."""
        channel, message = self.w.late[number]
        self.w.late = self.w.late[:number] + self.w.late[number + 1 :]
        self._arrive(channel, message)

    def stored(self, name: str) -> None:
        """A record is durable."""
        self._node(name, "stored")

    def register_stored(self) -> None:
        """The register is durable."""
        self._witness("stored")

    def wake(self, name: str, wake: Wake) -> None:
        """A timer goes off."""
        self._node(name, "wake", wake)

    def stream_broken(self, one: Break) -> None:
        """The end of a stream notices that it is broken."""
        self.w.breaks = tuple(other for other in self.w.breaks if other != one)
        self._node(one[1], "stream_broken", *one[2:])

    def advance(self) -> None:
        """Time passes until something is due."""
        w = self.w
        due = [one[0] for one in w.repairs]
        for node in w.nodes.values():
            if not node.asleep:
                due += [wake[0] + node.behind_ns for wake in node.wakes]
                due += [one[0] for one in w.breaks if one[1] == node.name]
        w.now = max(w.now, min(due))

    def write(self, name: str) -> None:
        """The application writes."""
        self.w.writes -= 1
        self._node(name, "write", self.w.ghost.next_write)
        self._seen.wrote()

    def start(self, name: str, again: bool) -> None:
        """Start the processes of a node."""
        self._node(name, "start", again)

    def command(self, name: str, verb: str) -> None:
        """Give an administrator's order."""
        self._node(name, "command", verb)

    # --- disturbances and their ends -------------------------------------------------------

    def _disturb(self, what: str, outage_ns: int) -> None:
        """Note when a disturbance ends by itself."""
        self.w.disturbances -= 1
        self.w.repairs = tuple(sorted((*self.w.repairs, (self.w.now + outage_ns, what))))

    def repair(self, repair: tuple[int, str]) -> None:
        """A machine or a link comes back."""
        self.w.repairs = tuple(one for one in self.w.repairs if one != repair)
        what = repair[1]
        if what in NAMES:
            self._node(what, "start", True)
        elif what.startswith("sleep "):
            self._node(what.split()[1], "awake")
        elif what == WITNESS:
            self._witness("start")
        else:
            self.w.cut -= {(what.split()[0], what.split()[1])}

    def sleep(self, name: str, outage_ns: int) -> None:
        """A machine stands still, and so does its clock."""
        self._disturb(f"sleep {name}", outage_ns)
        self._node(name, "sleep", outage_ns)
        self._break(PEER[name])
        self._seen.slept()

    def crash(self, name: str, outage_ns: int) -> None:
        """A node loses power."""
        self._disturb(name, outage_ns)
        self._node(name, "crash")
        self._break(PEER[name])

    def crash_witness(self, outage_ns: int) -> None:
        """The witness's process ends."""
        self._disturb(WITNESS, outage_ns)
        self._witness("crash")

    def sever(self, link: tuple[str, str], outage_ns: int) -> None:
        """Nothing passes a link any more, and what is under way is lost."""
        self._disturb(" ".join(link), outage_ns)
        self.w.cut |= {link}
        for channel in list(self.w.channels):
            if set(channel[:2]) == set(link):
                del self.w.channels[channel]
        if WITNESS not in link:
            for name in NAMES:
                self._break(name)

    # --- machines --------------------------------------------------------------------------

    def _node(self, name: str, does: str, *given: Any) -> None:
        """Have a node do something, or remember what it did."""
        node = self.w.nodes[name]
        made, said = self._done(node, does, given) or self._do(
            node, Local(copy(node), self.w.now - node.behind_ns), does, given
        )
        self.w.nodes[name] = made
        self._touched.append(name)
        self._tell(name, said)

    def _witness(self, does: str, *given: Any) -> None:
        witness = self.w.witness
        self.w.witness, said = self._done(witness, does, given) or self._do(
            witness, LocalWitness(copy(witness), self.w.now), does, given
        )
        self._tell(WITNESS, said)

    def _done(self, machine: Any, does: str, given: tuple[Any, ...]) -> Any:
        """Return what is remembered, if anything is."""
        known = self._memory.steps.get((id(machine), does, *given))
        return None if known is None else known[1:]

    def _do(self, machine: Any, local: Any, does: str, given: tuple[Any, ...]) -> Any:
        getattr(local, does)(*given)
        made, once = local.machine, self._memory.once
        made.part = None
        made = self._memory.machine(made)
        # Messages and frames are told apart by which object they are.
        said = tuple(
            (what, *(once(one) if what in {"send", "stream"} else one for one in rest))
            for what, *rest in local.said
        )
        # With the machine itself, so that its place is not given to another one.
        self._memory.steps[(id(machine), does, *given)] = (machine, made, said)
        return made, said

    def _tell(self, name: str, said: tuple[Said, ...]) -> None:
        """Carry out what a machine said, in order."""
        for what, *rest in said:
            match what:
                case "send":
                    self._send(*rest)
                case "stream":
                    self._stream(name, *rest)
                case "installed":
                    self._seen.installed(*rest)
                case _:
                    getattr(self._seen, what)(name, *rest)

    # --- what is under way -----------------------------------------------------------------

    def _send(self, channel: Channel, message: Any) -> None:
        source, to, _ = channel
        there: Any = self.w.witness.core if to == WITNESS else self.w.nodes[to].cores
        if there and (min(source, to), max(source, to)) not in self.w.cut:
            self._push(channel, message)

    def _stream(self, source: str, frame: Any, stream: tuple[int, int] | None) -> None:
        """Carry a frame to the peer's plane, or find out later that it was lost."""
        to = PEER[source]
        if NAMES not in self.w.cut and self.w.nodes[to].up:
            self._push((source, to, "plane"), frame)
        elif stream is not None:
            self._notice(source, *stream)

    def _push(self, channel: Channel, message: Any) -> None:
        waiting = self.w.channels.get(channel, ())
        to = self.w.nodes.get(channel[1])
        if to is not None and to.asleep and waiting and _repeats(waiting[-1], message):
            waiting = waiting[:-1]
        self.w.channels[channel] = (*waiting, message)

    def _pop(self, channel: Channel) -> Any:
        first, *rest = self.w.channels.pop(channel)
        if rest:
            self.w.channels[channel] = tuple(rest)
        return first

    def _arrive(self, channel: Channel, message: Any) -> None:
        _, to, actor = channel
        if to == WITNESS:
            self._witness("deliver", message)
        else:
            self._node(to, "deliver", actor, message)

    def _break(self, name: str) -> None:
        """Have a plane notice, when acknowledgements are late, that its stream is broken."""
        wish = self.w.nodes[name].plane.wish
        if wish.role == "lead" and wish.sid:
            self._notice(name, wish.term, wish.sid)

    def _notice(self, name: str, term: int, sid: int) -> None:
        one = (self.w.now + TIMING.replication_timeout_ns, name, term, sid)
        if all(other[1:] != one[1:] for other in self.w.breaks):
            self.w.breaks = (*self.w.breaks, one)


def _repeats(one: Any, other: Any) -> bool:
    """Return whether a heartbeat says only what the one before it says."""
    a, b = getattr(one, "message", None), getattr(other, "message", None)
    if not isinstance(a, msg.Heartbeat) or not isinstance(b, msg.Heartbeat):
        return False
    return (a.about, bool(a.promised_ns)) == (b.about, bool(b.promised_ns))


def part_of(machine: Machine | Arbitration) -> Part:
    """Return what counts of a machine."""
    if machine.part is None:
        machine.part = _of_node(machine) if isinstance(machine, Machine) else _of_witness(machine)
    assert isinstance(machine.part, Part)
    return machine.part


def _of_node(node: Machine) -> Part:
    part, name = Part(node.behind_ns), node.name
    part.add(tuple(node.cores.values()), name)
    part.add((node.plane, node.record, node.writing, node.application), name)
    part.add((node.incarnation, node.asleep))
    for at, actor, event in sorted(node.wakes, key=lambda wake: wake[:2]):
        part.time(at)
        part.add(actor)
        part.add(event, name)
    return part


def _of_witness(witness: Arbitration) -> Part:
    part = Part()
    part.add((witness.core, witness.disk, witness.writing))
    return part
