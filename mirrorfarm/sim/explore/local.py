"""What one machine does with one event: the real cores, and hands that obey them at once.

The result depends on this machine and on the time alone. Whatever concerns others — messages,
frames, what an invariant asks for — is listed, in order, for the state that it becomes part of.
"""

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
from mirrorfarm.sim.explore.state import MODULE, WITNESS, Arbitration, Machine, Wake, module
from mirrorfarm.sim.storage import loaded
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, Address

Said = tuple[Any, ...]  # Which method of `step.Step` is told, and with what.


class Local(planes.Hands):
    """A node that may be changed, and what it says meanwhile."""

    def __init__(self, node: Machine, now: int) -> None:
        self.machine, self.said = node, list[Said]()
        self._now = now
        self._told: list[tuple[str, Any]] = []

    def _settle(self) -> None:
        """Do everything that follows at once."""
        while self._told:
            actor, event = self._told.pop(0)
            self._handle(actor, event)

    # --- what can happen to it -------------------------------------------------------------

    def deliver(self, actor: str, message: Any) -> None:
        """A message arrives."""
        if self.machine.up and actor == "plane":
            planes.receive(self.machine.plane, message, self)
        else:
            self._told.append((actor, message))
        self._settle()

    def stored(self) -> None:
        """A record is durable."""
        node = self.machine
        record = node.writing.pop(0)
        self.said.append(("recorded", node.record, record))
        node.record = record
        self.deliver(MODULE_ACTOR, ev.Stored(record.counter))

    def wake(self, wake: Wake) -> None:
        """A timer goes off."""
        node = self.machine
        node.wakes.remove(wake)
        if wake[1] != "guard":
            self.deliver(wake[1], wake[2])
        elif node.guard_ns == wake[0]:
            node.guard_ns, node.application = 0, False
            self.deliver(MODULE_ACTOR, ev.GuardActed(wake[0]))

    def stream_broken(self, term: int, sid: int) -> None:
        """Its end of a stream notices that it is broken."""
        if self.machine.up:
            planes.broken(self.machine.plane, term, sid, self)
        self._settle()

    def write(self, number: int) -> None:
        """The application writes."""
        planes.write(self.machine.plane, number, self)
        self._settle()

    def crash(self) -> None:
        """Everything is gone but the disk."""
        node = self.machine
        node.cores, node.writing, node.wakes, node.guard_ns = {}, [], [], 0
        node.application, node.behind_ns = False, 0
        node.plane.end()

    def sleep(self, outage_ns: int) -> None:
        """A virtual machine is stopped: it does not know of it afterwards."""
        self.machine.asleep = True
        self.machine.behind_ns += outage_ns

    def awake(self) -> None:
        """It goes on."""
        self.machine.asleep = False

    def start(self, again: bool) -> None:
        """Start the processes."""
        node = self.machine
        node.incarnation += 1
        name, configured = node.name, module()
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
        self._told += [(actor, ev.Started()) for actor in ("heartbeat", "arbiter", MODULE_ACTOR)]
        self._settle()

    def command(self, verb: str) -> None:
        """Give an administrator's order."""
        source = Address(self.machine.name, "cli-1", "cli")
        self.deliver(MODULE_ACTOR, ev.Received(source, msg.Command(verb, verb, "test", ())))

    # --- the surroundings of the plane -----------------------------------------------------

    def say(self, message: msg.ANY_MESSAGE) -> None:  # noqa: D102
        source = Address(self.machine.name, MODULE, "replicator")
        self._told.append((MODULE_ACTOR, ev.Received(source, message)))

    def stream(self, frame: planes.Frame) -> None:  # noqa: D102
        wish = self.machine.plane.wish
        leads = wish.role == "lead" and bool(wish.sid)
        self.said.append(("stream", frame, (wish.term, wish.sid) if leads else None))

    def acknowledged(self, write: int, term: int) -> None:  # noqa: D102
        asked = self.machine.cores[MODULE_ACTOR].state.arbiter
        grows = asked.swapping and asked.purpose == "grow"
        self.said.append(("acknowledged", write, term, asked.wanted.isr if grows else ()))

    def applied(self, term: int, sid: int, copied: bool) -> None:  # noqa: D102
        self.said.append(("applied", term, sid, copied))

    # --- hands -----------------------------------------------------------------------------

    def _handle(self, actor: str, event: Any) -> None:
        node = self.machine
        if not node.up:
            return
        core = node.cores.get(actor)
        if core is None:
            self._around(event)
            return
        for effect in core.handle(event, self._now):
            self._perform(actor, effect)
        if actor == MODULE_ACTOR:
            core.state.out = []
            core.state.facts.clear()

    def _perform(self, actor: str, effect: Any) -> None:
        node = self.machine
        match effect:
            case fx.Send(to, message) if to.node == node.name:
                if isinstance(message, msg.PlaneWish):
                    planes.order(node.plane, message, self)
            case fx.Send(to, message):
                if not isinstance(message, msg.CommandResult):
                    source = Address(node.name, MODULE, actor)
                    channel = (node.name, to.node, to.actor)
                    self.said.append(("send", channel, ev.Received(source, message, "default")))
            case fx.Tell(target, event):
                self._told.append((target, event))
            case fx.Later(at_ns, event):
                node.wakes.append((max(at_ns, self._now), actor, event))
            case fx.Store(record):
                node.writing.append(record)
            case _:
                pass

    def _around(self, event: Any) -> None:
        """Obey the mirror as scripts, addresses and the guard do."""
        node = self.machine
        answer: ev.Event
        match event:
            case ev.RunSequence(run, steps):
                names = [step.name for step in steps]
                if "stop_prim" in names:
                    node.application = False
                if "start_prim" in names:
                    node.application = True
                    cons = node.cores[MODULE_ACTOR].state.record.cons
                    self.said.append(("application_started", cons))
                answer = ev.SequenceEnded(run)
            case ev.KillApplication(run):
                node.application = False
                answer = ev.ApplicationGone(run)
            case ev.VipUp(run):
                answer = ev.VipIsUp(run)
            case ev.VipDown(run):
                answer = ev.VipIsDown(run)
            case ev.VipProbe(run):
                answer = ev.VipProbed(run)
            case ev.GuardArm(deadline_ns):
                return self._arm(deadline_ns)
            case ev.GuardDisarm():
                return self._arm(0)
            case _:
                return None
        self._told.append((MODULE_ACTOR, answer))
        return None

    def _arm(self, deadline_ns: int) -> None:
        node = self.machine
        node.guard_ns = deadline_ns
        node.wakes = [wake for wake in node.wakes if wake[1] != "guard"]
        if deadline_ns:
            node.wakes.append((deadline_ns, "guard", None))


class LocalWitness:
    """The witness, likewise."""

    def __init__(self, witness: Arbitration, now: int) -> None:
        self.machine, self.said = witness, list[Said]()
        self._now = now

    def deliver(self, message: Any) -> None:
        """A question arrives."""
        self._ask(message)

    def stored(self) -> None:
        """The register is durable."""
        witness = self.machine
        effect = witness.writing.pop(0)
        self.said.append(("installed", effect.register))
        witness.disk = loaded(effect)
        self._ask(ev.RegisterStored(effect.counter))

    def crash(self) -> None:
        """Its process ends."""
        self.machine.core, self.machine.writing = None, []

    def start(self) -> None:
        """It comes back with what its disk has."""
        self.machine.core = WitnessCore()
        self._ask(ev.Started())
        if self.machine.disk is not None:
            self._ask(self.machine.disk)

    def _ask(self, event: Any) -> None:
        witness = self.machine
        if witness.core is None:
            return
        for effect in witness.core.handle(event, self._now):
            match effect:
                case fx.Send(to, message):
                    received = ev.Received(Address(WITNESS, MODULE, "register"), message)
                    self.said.append(("send", (WITNESS, to.node, to.actor), received))
                case fx.RegisterStore():
                    witness.writing.append(effect)
                case _:
                    pass
