"""What several monitors need to know, folded once from the steps.

By module: the register and its history, what the disks hold, who leads, what was asked and
answered. From recorded traces the answers to effects (`Stored`) tell of disks; in a simulation
the disks themselves do.
"""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.messages import Announcement, PlaneIs, Register


@dataclass(slots=True)
class Side:
    """One node's side of a module."""

    record: NodeRecord | None = None  # The durable one.
    before: NodeRecord | None = None  # The one that it took the place of, or that rotted.
    rotted: NodeRecord | None = None  # That one, until another one knows of a session.
    about: Announcement = field(default_factory=Announcement)  # What it says of itself.
    incarnation: int = 0
    inherited: bool = False  # Its plane is as an earlier process of the module left it.
    boot_id: str = ""
    known: Register | None = None  # The last register that the arbiter told it of.
    asked: dict[int, ev.AskCas] = field(default_factory=dict)  # Swaps without an answer.
    runs: bool = False  # Its application.
    vip: bool = False
    guard_ns: int = 0  # Deadline of its guard, by its own boot clock; 0: none.
    gate: tuple[str, int] = ("frozen", 0)  # Last ordered: mode and term.
    plane: str = ""  # What it last said that it is: off lead follow, or dead; "": nothing yet.
    plane_boot: str = ""  # In which boot of the system its process began.
    memory: dict[int, int] = field(default_factory=dict)  # Extent: write.
    kept: dict[int, int] = field(default_factory=dict)  # Set aside: extent, newest write.

    @property
    def forgetful(self) -> bool:
        """Whether it lost what it had confirmed from memory, and its record tells it so (R12).

        Without a record it is promoted by nobody but an administrator, even less.
        """
        record = self.record or self.rotted
        return bool(record and record.from_memory and record.os_boot != self.boot_id)


@dataclass(slots=True)
class ModuleFacts:
    """What is known of one mirror module."""

    sides: dict[str, Side] = field(default_factory=dict)
    register: Register | None = None
    replaced: Register | None = None  # What `register` took the place of.
    anew: bool = False  # The next one takes the place of none: its arbiter knows of no other.
    lives: int = 1  # How many there were that know nothing of each other, nor of their terms.
    history: dict[int, Register] = field(default_factory=dict)  # The first of each term.
    forced: set[int] = field(default_factory=set)  # Versions that an administrator made.
    grants: dict[int, tuple[str, int]] = field(default_factory=dict)  # Term: node, incarnation.
    told: dict[int, int] = field(default_factory=dict)  # Extent: newest write told as done.
    directories: bool = True
    advisory: bool = False  # No witness: two holders are possible.

    def side(self, node: str) -> Side:
        """Return one node's side."""
        found = self.sides.get(node)
        if found is None:
            found = self.sides[node] = Side()
        return found


class Facts:
    """The facts of all modules."""

    events = (
        seen.RecordDurable,
        seen.RecordGone,
        seen.RegisterDurable,
        seen.RegisterGone,
        seen.AppRuns,
        seen.VipIs,
        seen.Told,
        seen.Wrote,
        seen.Kept,
        seen.PowerLost,
        seen.Begun,
        seen.Accepts,
        fx.Store,
        ev.Stored,
        fx.RegisterStore,
        ev.RegisterStored,
        ev.Announce,
        ev.AskCas,
        ev.RegisterKnown,
        fx.GuardOrder,
        ev.GuardActed,
        fx.PlaneOrder,
        PlaneIs,
    )

    def __init__(self, *, simulated: bool) -> None:
        self.simulated = simulated
        self.modules: dict[str, ModuleFacts] = {}
        self._pending: dict[tuple[str, str, int], Any] = {}  # Writings ordered of a disk.
        self.installed = ""  # Module of the register that the witness changed last.

    def module(self, name: str) -> ModuleFacts:
        """Return what is known of a module."""
        found = self.modules.get(name)
        if found is None:
            found = self.modules[name] = ModuleFacts()
        return found

    def of(self, step: Step) -> ModuleFacts:
        """Return what is known of the module that a step is about."""
        if step.process == "witness":  # It keeps the registers of several; its last one is meant.
            return self.module(self.installed)
        found = self.modules.get(step.process)
        return found or self.module(step.process.removesuffix(".replica"))

    def on(self, step: Step) -> None:
        """Take one step."""
        event = step.event
        if isinstance(event, seen.Seen):
            self._on_seen(step, event)
            return
        match event:
            case ev.Stored(counter) | ev.RegisterStored(counter):
                done = self._pending.pop((step.node, step.actor, counter), None)
                if done is not None and not self.simulated:
                    self._durable(step.node, step.process, done)
            case ev.RegisterKnown():
                side = self.of(step).side(step.node)
                side.asked.pop(event.request, None)
                known, news = side.known, event.register
                anew = news is not None and known is not None and news.instance != known.instance
                if news is not None and (known is None or anew or news.ver >= known.ver):
                    side.known = news
            case ev.GuardActed(deadline):
                side = self.of(step).side(step.node)
                if side.guard_ns == deadline:  # Else it was given another one meanwhile.
                    side.guard_ns = 0
            case _:
                pass
        for effect in step.effects:
            self._on_effect(step, effect)

    def _on_effect(self, step: Step, effect: Any) -> None:
        match effect:
            case fx.GuardOrder(deadline_ns):  # Asked first: there is one for each heartbeat.
                self.of(step).side(step.node).guard_ns = deadline_ns
            case fx.Store(record):
                self._pending[step.node, step.actor, record.counter] = record
            case fx.RegisterStore():
                self._pending[step.node, step.actor, effect.counter] = effect
                if step.process != "witness" and not self.simulated:
                    self.of(step).advisory = True  # Each node keeps its own.
            case fx.Tell(_, ev.Announce(about)):
                self.of(step).side(step.node).about = about
            case fx.Tell(_, ev.AskCas() as asked):
                self.of(step).side(step.node).asked[asked.request] = asked
            case fx.PlaneOrder("unmount", (_, _, True)):
                self.of(step).side(step.node).plane = "dead"
            case fx.PlaneOrder("unmount" | "mount_lead" | "mount_follow"):
                self.of(step).side(step.node).plane = "off"
            case fx.Send(_, PlaneIs(role=role)):
                side = self.of(step).side(step.node)
                if side.plane != "dead":
                    side.plane = role
                if role == "off":  # Ordered it was before; what was let in is answered until then.
                    side.inherited = False
            case fx.PlaneOrder("gate", arguments):
                self.of(step).side(step.node).gate = (arguments[3], arguments[1])
            case _:
                pass

    def _durable(self, node: str, process: str, what: Any) -> None:
        if isinstance(what, fx.RegisterStore):
            own = process != "witness"
            self.installed = self.installed if own else what.module
            self._installed(node, self.module(what.module), what.register, own=own)
        else:
            self._recorded(node, self.module(process), what)

    def _installed(self, node: str, facts: ModuleFacts, register: Register, *, own: bool) -> None:
        if own:
            return  # Two copies of it may differ.
        for side in facts.sides.values():
            for asked in side.asked.values():
                if asked.forced and asked.register.term == register.term:
                    facts.forced.add(register.ver)
        if facts.anew:
            facts.history.clear()
            facts.forced.clear()
        facts.replaced = None if facts.anew else facts.register
        facts.register, facts.anew = register, False
        facts.history.setdefault(register.term, register)

    def _recorded(self, node: str, facts: ModuleFacts, record: NodeRecord) -> None:
        side = facts.side(node)
        granted = side.record is None or record.term > side.record.term
        if granted and record.was in {"prim", "alone"}:
            facts.grants[record.term] = (node, record.inc)
        side.before, side.record = side.record, record
        if record.term:
            side.rotted = None

    def _on_seen(self, step: Step, event: seen.Seen) -> None:
        node = step.node
        match event:
            case seen.Wrote() | seen.Told():  # Asked first: most are of these.
                self._on_write(self.of(step), node, event)
            case seen.RecordDurable(module, record):
                self._recorded(node, self.module(module), record)
            case seen.RecordGone(module):
                side = self.module(module).side(node)
                if side.rotted is None or (side.record and side.record.term):
                    side.rotted = side.record
                side.before, side.record = side.record, None
            case seen.RegisterGone(module):
                facts = self.module(module)
                facts.anew, facts.lives = True, facts.lives + 1
            case seen.RegisterDurable(module, register, own):
                self._installed(node, self.module(module), register, own=own)
            case seen.AppRuns(module, runs):
                self.module(module).side(node).runs = runs
            case seen.VipIs(module, up):
                self.module(module).side(node).vip = up
            case seen.PowerLost(holds, boot):
                for facts in self.modules.values():
                    side = facts.side(node)
                    side.memory = dict(zip(holds[::2], holds[1::2], strict=True))
                    side.guard_ns, side.boot_id = 0, f"boot-{boot}"
                    side.plane = side.plane and "off"
                    side.asked.clear()
            case seen.Begun():
                self._begun(step, event)
            case _:
                self._on_write(self.of(step), node, event)

    def _begun(self, step: Step, event: seen.Begun) -> None:
        if event.process == "witness":
            return
        side = self.of(step).side(step.node)
        side.inherited = not event.process.endswith(".replica")
        if not side.inherited:
            # What a killed one mounted stays, and fails whatever is done with it, until the next
            # one is ordered something; after a boot nothing is mounted.
            same = event.boot_id == side.plane_boot and side.plane in {"lead", "follow", "dead"}
            side.plane, side.plane_boot = "dead" if same else "", event.boot_id
        else:
            side.incarnation, side.boot_id = event.incarnation, event.boot_id
            side.asked.clear()
            side.about, side.guard_ns = Announcement(), 0

    @staticmethod
    def _on_write(facts: ModuleFacts, node: str, event: seen.Seen) -> None:
        match event:
            case seen.Told(write, extent):
                facts.told[extent] = max(facts.told.get(extent, 0), write)
            case seen.Wrote(extent, write):
                memory = facts.side(node).memory
                if write:
                    memory[extent] = write
                else:
                    memory.pop(extent, None)
            case seen.Kept(extent, write):
                kept = facts.side(node).kept
                kept[extent] = max(write, kept.get(extent, 0))
            case seen.Accepts(writes):
                for extent in [e for e, write in facts.told.items() if write in set(writes)]:
                    del facts.told[extent]
            case _:
                pass
