"""One move from a state to the next: the real cores, and hands that obey them at once.

A move never changes the state it begins with: what it touches is copied, the rest is shared.
What the actors of a node tell one another arrives at once; scripts and addresses obey at once.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.client import WitnessClient
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.actors.heartbeat.core import Heartbeat
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.state import Settings
from mirrorfarm.sim.explore import plane as planes
from mirrorfarm.sim.explore.canonical import PEER
from mirrorfarm.sim.explore.copying import copy
from mirrorfarm.sim.explore.invariants import Witnessed
from mirrorfarm.sim.explore.state import (
    MODULE,
    NAMES,
    TIMING,
    WITNESS,
    Arbitration,
    Channel,
    Machine,
    World,
    module,
)
from mirrorfarm.sim.storage import loaded
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, Address


class _Hands(planes.Hands):
    """The surroundings of one plane."""

    def __init__(self, step: "Step", name: str) -> None:
        self._step, self._name = step, name

    def say(self, message: msg.ANY_MESSAGE) -> None:
        source = Address(self._name, MODULE, "replicator")
        self._step.tell(self._name, MODULE_ACTOR, ev.Received(source, message))

    def stream(self, frame: planes.Frame) -> None:
        self._step.stream(self._name, frame)

    def acknowledged(self, write: int, term: int) -> None:
        self._step.seen.acknowledged(self._name, write, term)

    def applied(self, term: int, sid: int, copied: bool) -> None:
        self._step.seen.applied(self._name, term, sid, copied)


class Step:
    """One move: a new state that shares with the old one what it does not touch."""

    def __init__(self, before: World) -> None:
        self.w = replace(
            before,
            nodes=dict(before.nodes),
            channels=dict(before.channels),
            left=copy(before.left),
            ghost=before.ghost,
        )
        self.seen = Witnessed(self.w)
        self._own: set[str] = set()
        self._told: list[tuple[str, str, Any]] = []

    def take(self, move: Callable[["Step"], None]) -> World:
        """Do the move, and everything that follows at once."""
        move(self)
        while self._told:
            name, actor, event = self._told.pop(0)
            self._handle(name, actor, event)
        for name in self._own:
            self.seen.stepped(name)
        return self.w

    # --- what moves do ---------------------------------------------------------------------

    def deliver(self, channel: Channel) -> None:
        """The first message of a channel arrives."""
        self._arrive(channel, self._pop(channel))

    def lose(self, channel: Channel) -> None:
        """The first message of a channel never arrives."""
        self._pop(channel)
        self.w.left.disturbances -= 1

    def hold_up(self, channel: Channel) -> None:
        """The first message of a channel arrives at any time."""
        self.w.late = (*self.w.late, (channel, self._pop(channel)))
        self.w.left.disturbances -= 1

    def deliver_late(self, number: int) -> None:
        """A message arrives that was held up."""
        channel, message = self.w.late[number]
        self.w.late = self.w.late[:number] + self.w.late[number + 1 :]
        self._arrive(channel, message)

    def stored(self, name: str) -> None:
        """A record is durable."""
        node = self._node(name)
        record = node.writing.pop(0)
        self.seen.recorded(name, node.record, record)
        node.record = record
        self.tell(name, MODULE_ACTOR, ev.Stored(record.counter))

    def register_stored(self) -> None:
        """The register is durable."""
        witness = self._witness()
        effect = witness.writing.pop(0)
        self.seen.installed(effect.register)
        witness.disk = loaded(effect)
        self._ask_witness(ev.RegisterStored(effect.counter))

    def wake(self, name: str, wake: tuple[int, str, Any]) -> None:
        """A timer goes off."""
        self._node(name).wakes.remove(wake)
        if wake[1] == "guard":
            self._guard(name, wake[0])
        else:
            self.tell(name, wake[1], wake[2])

    def stream_broken(self, one: tuple[int, str, int, int]) -> None:
        """The end of a stream notices that it is broken."""
        self.w.breaks = tuple(other for other in self.w.breaks if other != one)
        _, name, term, sid = one
        if self.w.nodes[name].up:
            planes.broken(self._node(name).plane, term, sid, _Hands(self, name))

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
        self.w.left.writes -= 1
        planes.write(self._node(name).plane, self.w.ghost.next_write, _Hands(self, name))
        self.seen.wrote()

    def _disturb(self, what: str, outage_ns: int) -> None:
        """Note when a disturbance ends by itself."""
        self.w.left.disturbances -= 1
        self.w.repairs = tuple(sorted((*self.w.repairs, (self.w.now + outage_ns, what))))

    def sleep(self, name: str, outage_ns: int) -> None:
        """A virtual machine is stopped: it does not know of it afterwards."""
        self._disturb(f"sleep {name}", outage_ns)
        node = self._node(name)
        node.asleep = True
        node.behind_ns += outage_ns
        self._break(PEER[name])
        self.seen.slept()

    def repair(self, repair: tuple[int, str]) -> None:
        """A machine or a link comes back."""
        self.w.repairs = tuple(one for one in self.w.repairs if one != repair)
        what = repair[1]
        if what in NAMES:
            self.start(what)
        elif what.startswith("sleep "):
            self._node(what.split()[1]).asleep = False
        elif what == WITNESS:
            self._start_witness()
        else:
            self.w.cut -= {(what.split()[0], what.split()[1])}

    def crash(self, name: str, outage_ns: int) -> None:
        """Everything is gone but the disk."""
        self._disturb(name, outage_ns)
        node = self._node(name)
        node.cores, node.writing, node.wakes, node.guard_ns = {}, [], [], 0
        node.application, node.behind_ns = False, 0
        node.plane.end()
        self._break(PEER[name])

    def crash_witness(self, outage_ns: int) -> None:
        """The witness's process ends."""
        self._disturb(WITNESS, outage_ns)
        witness = self._witness()
        witness.core, witness.writing = None, []

    def _start_witness(self) -> None:
        """It comes back with what its disk has."""
        witness = self._witness()
        witness.core = WitnessCore()
        self._ask_witness(ev.Started())
        if witness.disk is not None:
            self._ask_witness(witness.disk)

    def cut(self, link: tuple[str, str], outage_ns: int) -> None:
        """Nothing passes any more, and what is under way is lost."""
        self._disturb(" ".join(link), outage_ns)
        self.w.cut |= {link}
        for channel in list(self.w.channels):
            if set(channel[:2]) == set(link):
                del self.w.channels[channel]
        if WITNESS not in link:
            for name in NAMES:
                self._break(name)

    def start(self, name: str, *, again: bool = True) -> None:
        """Start the processes of a node."""
        node = self._node(name)
        node.incarnation += 1
        configured = module()
        boot = f"boot-{node.incarnation}"
        settings = Settings(
            "c" * 16, name, PEER[name], configured, node.incarnation, boot, 7, start=again
        )
        node.cores = {
            MODULE_ACTOR: Mirror.build(settings, node.record),
            "heartbeat": Heartbeat(
                name, PEER[name], MODULE, configured.heartbeats, configured.timing.detection_ns
            ),
            "arbiter": WitnessClient(name, WITNESS, configured),
        }
        for actor in ("heartbeat", "arbiter", MODULE_ACTOR):
            self.tell(name, actor, ev.Started())

    def command(self, name: str, verb: str) -> None:
        """Give an administrator's order."""
        source = Address(name, "cli-1", "cli")
        self.tell(name, MODULE_ACTOR, ev.Received(source, msg.Command(verb, verb, "test", ())))

    # --- hands -----------------------------------------------------------------------------

    def tell(self, name: str, actor: str, event: Any) -> None:
        """Give an event to an actor, after those that wait."""
        self._told.append((name, actor, event))

    def stream(self, source: str, frame: planes.Frame) -> None:
        """Carry a frame to the peer's plane, or find out later that it was lost."""
        to = PEER[source]
        if ("n1", "n2") in self.w.cut or not self.w.nodes[to].up:
            self._break(source)
        else:
            self._push((source, to, "plane"), frame)

    def _handle(self, name: str, actor: str, event: Any) -> None:
        node = self._node(name)
        if not node.up:
            return
        core = node.cores.get(actor)
        if core is not None:
            for effect in core.handle(event, self.w.now - node.behind_ns):
                self._perform(node, actor, effect)
            if actor == MODULE_ACTOR:
                core.state.out = []
                core.state.facts.clear()
        else:
            self._around(node, event)

    def _perform(self, node: Machine, actor: str, effect: Any) -> None:
        match effect:
            case fx.Send(to, message) if to.node == node.name:
                if isinstance(message, msg.PlaneWish):
                    planes.order(node.plane, message, _Hands(self, node.name))
            case fx.Send(to, message):
                link = (min(node.name, to.node), max(node.name, to.node))
                there = self.w.witness.core if to.node == WITNESS else self.w.nodes[to.node].cores
                if link not in self.w.cut and there and not isinstance(message, msg.CommandResult):
                    received = ev.Received(Address(node.name, MODULE, actor), message, "default")
                    self._push((node.name, to.node, to.actor), received)
            case fx.Tell(target, event):
                self.tell(node.name, target, event)
            case fx.Later(at_ns, event):
                node.wakes.append((max(at_ns, self.w.now - node.behind_ns), actor, event))
            case fx.Store(record):
                node.writing.append(record)
            case _:
                pass

    def _around(self, node: Machine, event: Any) -> None:
        """Obey the mirror as scripts, addresses and the guard do."""
        name = node.name
        match event:
            case ev.RunSequence(run, steps):
                names = [step.name for step in steps]
                if "stop_prim" in names:
                    node.application = False
                if "start_prim" in names:
                    self._start_application(node)
                self.tell(name, MODULE_ACTOR, ev.SequenceEnded(run))
            case ev.KillApplication(run):
                node.application = False
                self.tell(name, MODULE_ACTOR, ev.ApplicationGone(run))
            case ev.VipUp(run):
                self.tell(name, MODULE_ACTOR, ev.VipIsUp(run))
            case ev.VipDown(run):
                self.tell(name, MODULE_ACTOR, ev.VipIsDown(run))
            case ev.VipProbe(run):
                self.tell(name, MODULE_ACTOR, ev.VipProbed(run))
            case ev.GuardArm(deadline_ns):
                self._arm(node, deadline_ns)
            case ev.GuardDisarm():
                self._arm(node, 0)
            case _:
                pass

    def _arm(self, node: Machine, deadline_ns: int) -> None:
        node.guard_ns = deadline_ns
        node.wakes = [wake for wake in node.wakes if wake[1] != "guard"]
        if deadline_ns:
            node.wakes.append((deadline_ns, "guard", None))

    def _guard(self, name: str, deadline_ns: int) -> None:
        node = self._node(name)
        if node.guard_ns == deadline_ns:
            node.guard_ns, node.application = 0, False
            self.tell(name, MODULE_ACTOR, ev.GuardActed(deadline_ns))

    def _start_application(self, node: Machine) -> None:
        node.application = True
        self.seen.application_started(node.name)

    # --- parts of the state ----------------------------------------------------------------

    def _node(self, name: str) -> Machine:
        """Return a node that may be changed."""
        if name not in self._own:
            self._own.add(name)
            self.w.nodes[name] = copy(self.w.nodes[name])
            self.w.nodes[name].part = None
        return self.w.nodes[name]

    def _witness(self) -> Arbitration:
        if WITNESS not in self._own:
            self._own.add(WITNESS)
            self.w.witness = copy(self.w.witness)
            self.w.witness.part = None
        return self.w.witness

    def _push(self, channel: Channel, message: Any) -> None:
        self.w.channels[channel] = (*self.w.channels.get(channel, ()), message)

    def _pop(self, channel: Channel) -> Any:
        first, *rest = self.w.channels.pop(channel)
        if rest:
            self.w.channels[channel] = tuple(rest)
        return first

    def _arrive(self, channel: Channel, message: Any) -> None:
        _, to, actor = channel
        if to == WITNESS:
            self._ask_witness(message)
        elif self.w.nodes[to].up and actor == "plane":
            planes.receive(self._node(to).plane, message, _Hands(self, to))
        else:
            self.tell(to, actor, message)

    def _ask_witness(self, event: Any) -> None:
        witness = self._witness()
        if witness.core is None:
            return
        for effect in witness.core.handle(event, self.w.now):
            match effect:
                case fx.Send(to, message):
                    link = (to.node, WITNESS)
                    if link not in self.w.cut and self.w.nodes[to.node].up:
                        received = ev.Received(Address(WITNESS, MODULE, "register"), message)
                        self._push((WITNESS, to.node, to.actor), received)
                case fx.RegisterStore():
                    witness.writing.append(effect)
                case _:
                    pass

    def _break(self, name: str) -> None:
        """Have a plane notice, when acknowledgements are late, that its stream is broken."""
        wish = self.w.nodes[name].plane.wish
        if wish.role == "lead" and wish.sid:
            one = (self.w.now + TIMING.replication_timeout_ns, name, wish.term, wish.sid)
            if all(other[1:] != one[1:] for other in self.w.breaks):
                self.w.breaks = (*self.w.breaks, one)
