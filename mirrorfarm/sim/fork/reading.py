"""One pass over merged traces: what was open at the fork, and everything that came later."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.replicator.core import PlaneStorage
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork.incidents import PAUSE_NS_MIN, Incident
from mirrorfarm.sim.fork.links import Links, Pause, Samples, Start
from mirrorfarm.sim.fork.moment import Moment
from mirrorfarm.sim.fork.waiting import Waiting
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import recorded
from mirrorfarm.trace.merge import UNDER_WAY_MAX, Merge
from mirrorfarm.trace.step import MessageId, Placed, Step
from mirrorfarm.transport.address import MODULE_ACTOR, WITNESS_PROCESS
from mirrorfarm.transport.messages import Command, Register

Name = tuple[str, str]  # Node and process.
WITNESS_ACTOR: Final = "register"
REFUSED_BEFORE_NS: Final = SECOND_NS
FILTER: Final = "farm_filter"  # Its timers say when a node of a farm did not run.


class Arrival(NamedTuple):
    """A message that was under way at the fork, and when it came."""

    at_ns: int
    name: Name
    actor: str
    event: ev.Received


@dataclass(slots=True)
class Reading:
    """What the pass found; times of day are those of the merge."""

    merge: Merge
    moment: Moment
    module: str
    watch: Watch
    app: str = "prim"  # See `Waiting`.
    waiting: dict[Name, Waiting] = field(default_factory=dict)
    open: dict[Name, Waiting] = field(default_factory=dict)  # At the fork.
    starts: dict[Name, list[Start]] = field(default_factory=dict)
    heard_of: dict[tuple[str, int], int] = field(default_factory=dict)  # When, by incarnation.
    # The first message of steps that were not recorded: when it came, and its number.
    tails: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)  # When a node heard its peer no more,
    heard: dict[str, int] = field(default_factory=dict)  # and when it did.
    arbiter_silent_ns: int = 0
    durations: dict[tuple[str, str], Samples] = field(default_factory=dict)
    missing: dict[str, set[str]] = field(default_factory=dict)  # Scripts that a node lacks.
    links: Links = field(default_factory=Links)
    arrivals: list[Arrival] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    pauses: dict[str, list[Pause]] = field(default_factory=dict)  # By node.
    register: Register | None = None  # The last one that a node knew before the fork.
    # What the clock of a machine showed at the first step behind the fork, by start of a process.
    next_clock: dict[tuple[str, int], int] = field(default_factory=dict)
    end_ns: int = 0
    forked: bool = False
    _under_way: dict[tuple[MessageId, str], int] = field(default_factory=dict)  # By recipient.
    _exits: dict[Name, int] = field(default_factory=dict)
    _refusals: dict[str, Incident] = field(default_factory=dict)  # That go on, by machine.
    _written: dict[str, int] = field(default_factory=dict)  # When a disk took a record last.

    def run(self, on_step: Callable[[int, int], None]) -> None:
        """Take all steps in."""
        total = self.merge.total
        for placed in self.merge.steps():
            if not self.forked and placed.number >= self.moment.number:
                self._fork()
            step = placed.step
            if step.process in {self.module, f"{self.module}.replica", WITNESS_PROCESS}:
                self._take(placed, (step.node, step.process))
            self.end_ns = max(self.end_ns, placed.at_ns)
            on_step(total + placed.number, 2 * total)
        if not self.forked:
            self._fork()
        for refusal in self._refusals.values():
            self._refused(refusal, 0)

    def _fork(self) -> None:
        self.forked = True
        self.open = {name: waiting.copied() for name, waiting in self.waiting.items()}

    def _take(self, placed: Placed, name: Name) -> None:
        step, at_ns = placed.step, placed.at_ns
        if self.forked:
            self.next_clock.setdefault((step.node, step.incarnation), step.now_ns)
        waiting = self._started(step, name, at_ns)
        answered = waiting.take(step, at_ns)
        tail = self.tails.get((step.node, step.incarnation))
        if tail is not None and waiting.sequence >= tail[1]:
            del self.tails[step.node, step.incarnation]  # It goes on recording.
        if answered is not None and answered.what:
            samples = self.durations.setdefault((step.node, answered.what), Samples())
            samples.add(answered.took_ns)
        if type(step.event) is ev.ScriptEnded and answered is not None:
            missing = self.missing.setdefault(step.node, set())
            (missing.discard if answered.what else missing.add)(step.event.name)
        self._disk(step, at_ns - (answered.took_ns if answered is not None else 0), at_ns)
        self._messages(step, at_ns)
        self._notices(step, at_ns)
        self._paused(step, name, at_ns)
        if self.forked:
            self._came_from_outside(step, name, at_ns)
        else:
            self.watch.step(recorded(step), at_ns)

    def _started(self, step: Step, name: Name, at_ns: int) -> Waiting:
        """Return what this start of the process waits for; doors outlive a process."""
        waiting, starts = self.waiting.get(name), self.starts.setdefault(name, [])
        if waiting is None or waiting.incarnation != step.incarnation:
            earlier = waiting
            waiting = self.waiting[name] = Waiting(step.incarnation, self.app)
            if earlier is not None:
                waiting.doors = earlier.copied().doors
            starts.append(Start(step.incarnation, at_ns, at_ns))
        starts[-1] = starts[-1]._replace(end_ns=at_ns)
        return waiting

    # --- messages --------------------------------------------------------------------------

    def _messages(self, step: Step, at_ns: int) -> None:
        message, here = step.received_id, step.node
        if message is not None:
            node, incarnation, sequence = message
            self.heard_of[node, incarnation] = at_ns
            known = any(
                waiting.incarnation == incarnation and sequence <= waiting.sequence
                for (name, _), waiting in self.waiting.items()
                if name == node
            )
            if not known and not step.event.source.module.startswith("cli-"):
                self.tails.setdefault((node, incarnation), (at_ns, sequence))
            if node != here:
                self.links.received(message, here, at_ns)
            if self._under_way.pop((message, here), None) is not None and self.forked:
                arrival = Arrival(at_ns, (here, step.process), step.actor, step.event)
                self.arrivals.append(arrival)
        sends = [one for one in step.effects if type(one) is fx.Send] if step.sent else []
        for effect, number in zip(sends, step.sent, strict=False):
            if number is None or effect.to.module.startswith("cli-"):
                continue
            process = effect.to.process
            process = WITNESS_PROCESS if effect.to.actor == WITNESS_ACTOR else process
            for name in effect.to.nodes:
                message = (here, step.incarnation, number)
                self._sent(message, name, process, at_ns, effect.network)

    def _sent(self, message: MessageId, to: str, process: str, at_ns: int, network: str) -> None:
        if not self.forked:
            self._under_way[message, to] = at_ns
            if len(self._under_way) > UNDER_WAY_MAX:
                del self._under_way[next(iter(self._under_way))]
        if to != message[0]:
            self.links.sent(message, to, process, at_ns, network)

    # --- what happened ---------------------------------------------------------------------

    def _notices(self, step: Step, at_ns: int) -> None:
        if step.actor != MODULE_ACTOR:
            return
        match step.event:
            case ev.PeerSilent():
                self.silent[step.node] = at_ns
            case ev.PeerHeard():
                self.heard[step.node] = at_ns
            case ev.ArbiterSilent():
                self.arbiter_silent_ns = at_ns
            case ev.ArbiterHeard():
                self.arbiter_silent_ns = 0
            case ev.RegisterKnown(register=register) if register is not None and not self.forked:
                if self.register is None or register.ver >= self.register.ver:
                    self.register = register

    def _paused(self, step: Step, name: Name, at_ns: int) -> None:
        """Note that a node did not run: its timers come late."""
        late_ns = 0
        if step.actor == FILTER:
            late_ns = self.waiting[name].late_ns
        elif step.actor == MODULE_ACTOR and isinstance(step.event, ev.Stalled):
            late_ns = step.event.late_ns
        row = self.pauses.setdefault(step.node, [])
        if late_ns < PAUSE_NS_MIN or (row and at_ns - late_ns <= row[-1][1]):
            return
        row.append((at_ns - late_ns, at_ns))
        if self.forked:
            self._note(at_ns - late_ns, "pause", step.node, until_ns=at_ns)

    def _disk(self, step: Step, asked_ns: int, at_ns: int) -> None:
        """Note from when to when a disk refused to write records: as long as none was written.

        It did a little before, too: a run in which the first one is to be written sooner is alike.
        """
        node = step.node
        match step.event:
            case ev.StoreFailed():
                begin_ns = max(asked_ns - REFUSED_BEFORE_NS, self._written.get(node, 0) + 1)
                refusal = Incident(begin_ns, "record_fails", node, event=step.event)
                self._refusals.setdefault(node, refusal)
            case ev.Stored() | ev.RegisterStored():
                self._written[node] = at_ns
                ended = self._refusals.pop(node, None)
                if ended is not None and asked_ns > self.moment.at_ns:
                    self._refused(ended, asked_ns)

    def _refused(self, refusal: Incident, until_ns: int) -> None:
        more = {"until_ns": until_ns, "event": refusal.event}
        self._note(refusal.at_ns, refusal.kind, refusal.node, **more)

    def _came_from_outside(self, step: Step, name: Name, at_ns: int) -> None:
        node, event = step.node, step.event
        exits = self.waiting[name].doors.exits
        if exits > self._exits.get(name, self.open[name].doors.exits if name in self.open else 0):
            self._note(at_ns, "exit", node)
        self._exits[name] = exits
        match event:
            case ev.Received(message=Command()) if step.actor == MODULE_ACTOR:
                # An administrator's, or of its own process: the node shuts down.
                self._note(at_ns, "command", node, event=event)
            case ev.ScriptEnded(name="start_prim" | "start_both", code=code) if code != 0:
                self._note(at_ns, "start_fails", node)
            case ev.CablesOut():
                self._note(at_ns, "cables", node, event=event)
            case PlaneStorage():
                self._note(at_ns, "storage_fails", node, event=event)

    def _note(self, at_ns: int, kind: str, node: str, **more: Any) -> None:
        self.incidents.append(Incident(max(at_ns, self.moment.at_ns), kind, node, **more))
