"""S1 to S9: who may acknowledge, what a primary has, how registers and records may change."""

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.facts import ModuleFacts, Side
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.messages import Register

LEADS = ("PRIM", "ALONE")


def gates(step: Step) -> list[tuple[str, int]]:
    """Return which gates a step opens, and in which terms: from then on writes may be told."""
    return [
        (effect.arguments[3], effect.arguments[1])
        for effect in step.effects
        if effect.__class__ is fx.PlaneOrder
        and effect.verb == "gate"
        and effect.arguments[3] in {"self", "both"}
    ]


def acknowledged(step: Step) -> list[int]:
    """Return the terms in which a step tells writes, or lets them be told."""
    told = [step.event.term] if step.event.__class__ is seen.Told else []
    return [*told, *(term for _, term in gates(step))]


def lacking(facts: ModuleFacts, side: Side) -> list[int]:
    """Return the writes told as done that a side has neither nor a later one in their place."""
    memory = side.memory
    return [write for extent, write in facts.told.items() if memory.get(extent, 0) < write]


def installed(facts: ModuleFacts, step: Step) -> Register | None:
    """Return the register that a step made durable at the witness; None: it did not."""
    event = step.event
    if event.__class__ is seen.RegisterDurable:
        return None if event.own else facts.register
    if event.__class__ is ev.RegisterStored and step.process == "witness":
        return facts.register
    return None


class Succession(Monitor):
    """Base: looks whenever the witness replaces a register, unless an administrator forced it."""

    events = (seen.RegisterDurable, ev.RegisterStored)

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        register, before = installed(facts, step), facts.replaced
        if register is not None and before is not None and register.ver not in facts.forced:
            self.follows(facts, before, register)

    def follows(self, facts: ModuleFacts, before: Register, register: Register) -> None:
        """One register took the place of another one."""
        raise NotImplementedError


class Acker(Monitor):
    """S1. Without observations: by gates that open, not by writes that are told.

    Terms are numbered anew where all who knew of them forgot: those of another register are others.
    """

    id = "S1"
    timeless = True
    statement = "In a term only one node tells its application that writes are done."
    events = (seen.Told, fx.PlaneOrder)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._first: dict[tuple[str, str, int], str] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        if facts.advisory:
            return
        record = facts.side(step.node).record
        register = record.wit_instance if record else ""
        for term in acknowledged(step):
            key = (step.process.removesuffix(".replica"), register, term)
            first = self._first.setdefault(key, step.node)
            if first != step.node:
                self.fail(f"{first} and {step.node} both acknowledged in term {term}")


class AckerHolds(Monitor):
    """S2. Without observations: by gates that open."""

    id = "S2"
    timeless = True
    statement = "Who acknowledges in a term was made its holder by the register before."
    events = (seen.Told, fx.PlaneOrder)

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        for term in () if facts.advisory else acknowledged(step):
            granted = facts.history.get(term)
            if granted is None or granted.holder != step.node:
                self.fail(f"{step.node} acknowledged in term {term} without holding it")


class Everywhere(Monitor):
    """S3. Nothing to check without observations: steps do not say what disks hold."""

    id = "S3"
    statement = "A write is told only when every node that could be promoted has it."
    events = (seen.Told,)

    def on(self, step: Step) -> None:  # noqa: D102
        facts, told = self.facts.of(step), step.event
        members = {step.node}
        if not facts.advisory and facts.register is not None:
            members |= set(facts.register.isr)
            for asked in facts.side(step.node).asked.values():
                members |= set(asked.register.isr)
        for member in sorted(members):
            side = facts.sides.get(member)
            if side is None or side.forgetful:
                continue
            if side.memory.get(told.extent, 0) < told.write:
                self.fail(f"{step.node} told write {told.write}, which {member} lacks")


class NothingLost(Monitor):
    """S4. Nothing to check without observations."""

    id = "S4"
    statement = "Whoever becomes primary has every write that was told as done."
    events = (ev.Announce,)

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        side, register = facts.side(step.node), facts.register
        about = side.about
        if facts.advisory or about.phase != "leading" or register is None:
            return
        if (register.holder, register.term) == (step.node, about.term) and facts.directories:
            lost = lacking(facts, side)
            if lost:
                self.fail(f"{step.node}, primary of term {about.term}, lacks {lost[:5]}")


class FromTheSet(Succession):
    """S5. Complete without observations, given the witness's steps."""

    id = "S5"
    timeless = True
    statement = "A new holder was in the in-sync set, unless an administrator forced it."

    def follows(  # noqa: D102
        self, facts: ModuleFacts, before: Register, register: Register
    ) -> None:
        del facts
        if register.holder != before.holder and register.holder not in before.isr:
            self.fail(f"{register.holder} was promoted from outside {before.isr}")


class ShrinkFirst(Monitor):
    """S6. Without observations: a gate for this node alone opens only after the answer."""

    id = "S6"
    timeless = True
    statement = "Before a lone acknowledgement the register, as answered, excludes the peer."
    events = (seen.Told, fx.PlaneOrder)

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        if facts.advisory:
            return
        side = facts.side(step.node)
        alone = any(mode == "self" for mode, _ in gates(step))
        others: list[str] = []
        if step.event.__class__ is seen.Told:
            extent, write = step.event.extent, step.event.write
            for name, other in facts.sides.items():
                lacks = other.memory.get(extent, 0) < write
                if name != step.node and lacks and not other.forgetful:
                    others.append(name)
        known = side.known
        if known is None and (alone or others):
            self.fail(f"{step.node} acknowledges alone and knows no register")
        elif known is not None and alone and known.isr != (step.node,):
            self.fail(f"{step.node} acknowledges alone; the register it knows has {known.isr}")
        elif known is not None and any(name in known.isr for name in others):
            self.fail(f"{step.node} told what {others} lack; it knows of {known.isr}")


class GrowLast(Succession):
    """S7. Without observations: that the record of who enters says that its copy ended."""

    id = "S7"
    timeless = True
    statement = "Who enters the in-sync set has everything, and its record says so."

    def follows(  # noqa: D102
        self, facts: ModuleFacts, before: Register, register: Register
    ) -> None:
        for member in register.isr:
            side = facts.sides.get(member)
            if member in before.isr or side is None or side.forgetful:
                continue
            record = side.rotted or side.record  # It may have rotted since the arbiter was asked.
            if record is None or not record.cons:
                self.fail(f"{member} is in the set, but its record says its copy is torn")
            lost = lacking(facts, side) if facts.directories and self.facts.simulated else []
            if lost:
                self.fail(f"{member} is in the set and lacks {lost[:5]}")


def _starts_mirror(effect: object) -> bool:
    """Return whether an application starts on replicated data: those that become UP have none."""
    match effect:
        case fx.StartScript(name="start_prim"):
            return "UP" not in effect.arguments
    return False


def _bares(effect: object, side: Side) -> bool:
    """Return whether the directories are not covered for a moment at least."""
    match effect:
        case fx.PlaneOrder("unmount" | "mount_lead" | "mount_follow"):
            return side.plane == "off"
    return False


class NeverStale(Monitor):
    """S8. Without observations only the starts of the application are known."""

    id = "S8"
    timeless = True
    statement = "The application runs on no torn or bare data, nor out of the set."
    events = (fx.StartScript, fx.PlaneOrder)

    def on(self, step: Step) -> None:  # noqa: D102
        for effect in step.effects:
            if _starts_mirror(effect):
                facts = self.facts.of(step)
                self._on_start(step, facts, facts.side(step.node))
            elif effect.__class__ is fx.PlaneOrder:
                side = self.facts.of(step).side(step.node)
                if side.runs and _bares(effect, side):  # As below.
                    self.fail(f"{step.node} bares the directories while the application runs")

    def _on_start(self, step: Step, facts: ModuleFacts, side: Side) -> None:
        register, record = facts.register, side.record
        if side.plane not in {"", "lead", "dead"}:  # It would write past what is replicated.
            self.fail(f"{step.node} starts the application before its directories are mounted")
        if record is not None and not record.cons:
            self.fail(f"{step.node} starts the application on inconsistent data")
        if not facts.advisory and register is not None and step.node not in register.isr:
            self.fail(f"{step.node} starts the application and is not in {register.isr}")


class Monotony(Monitor):
    """S9. Complete without observations."""

    id = "S9"
    timeless = True
    statement = "Terms, sessions and incarnations never go back; versions go up by one."
    events = (seen.RegisterDurable, seen.RecordDurable, ev.Stored, ev.RegisterStored)

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        register = installed(facts, step)
        if register is not None:
            before = facts.replaced
            # The same one is written again when its lease becomes longer.
            if before not in (None, register) and register.ver != before.ver + 1:
                self.fail(f"version {before.ver} is followed by {register.ver}")
            return
        side = facts.sides.get(step.node)
        old, new = (side.before, side.record) if side is not None else (None, None)
        if old is None or new is None or old is new:
            return
        if (old.term, old.sid) > (new.term, new.sid):
            self.fail(f"{step.node} went back from {old.term}.{old.sid} to {new.term}.{new.sid}")
        if old.inc > new.inc:
            self.fail(f"{step.node} went back to incarnation {new.inc}")
