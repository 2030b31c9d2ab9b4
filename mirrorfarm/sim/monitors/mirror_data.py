"""S10 to S17, R10: what may be written when, and that both copies end up alike."""

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.replicator.core import PlaneStorage
from mirrorfarm.limits import WISHES_MAX
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.monitors.mirror_safety import LEADS, acknowledged, installed
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.steps import Step
from mirrorfarm.transport.messages import CopyComplete, PlaneWish, SyncOffer, WriteHeld


class NotOfThePast(Monitor):
    """S10. Without observations: by the sessions and terms that the plane is ordered into."""

    id = "S10"
    timeless = True
    statement = "Nothing is written for a term or a session below the durable one."
    events = (seen.Wrote, fx.PlaneOrder)

    def on(self, step: Step) -> None:  # noqa: D102
        record = self.facts.of(step).side(step.node).record
        if record is None:
            return
        wrote = [(step.event.term, step.event.sid)] if step.event.__class__ is seen.Wrote else []
        for effect in step.effects:
            if effect.__class__ is fx.PlaneOrder and effect.verb == "mount_lead":
                wrote.append((effect.arguments[1], 0))
            elif effect.__class__ is fx.PlaneOrder and effect.verb == "accept_session":
                wrote.append((effect.arguments[1], effect.arguments[2]))
        for term, sid in wrote:
            if term < record.term or (sid and (term, sid) < (record.term, record.sid)):
                last = f"{record.term}.{record.sid}"
                self.fail(f"{step.node} wrote in {term}.{sid} after {last} was durable")


class RestartIsNoResumption(Monitor):
    """S11. Without observations: by gates that open.

    What a plane was ordered by the earlier process it does until the new one ends it, and what it
    was wished to be it becomes until it hears of a new wish.
    """

    id = "S11"
    timeless = True
    statement = "A process that was started again never acknowledges in its predecessor's term."
    events = (seen.Told, fx.PlaneOrder, PlaneWish)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._wished: dict[tuple[str, str], int] = {}  # By whom, on a node: which incarnation.

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        side = facts.side(step.node)
        event, key = step.event, (step.node, step.process)
        if event.__class__ is ev.Received and event.message.__class__ is PlaneWish:
            self._wished[key] = event.message.number // WISHES_MAX
        late = self._wished.get(key, side.incarnation) < side.incarnation
        inherited = side.inherited and (event.__class__ is seen.Told or late)
        for term in () if facts.advisory or inherited else acknowledged(step):
            by = facts.grants.get(term)
            now = (step.node, side.incarnation or (by or ("", 0))[1])
            if by != now:
                self.fail(f"{now} acknowledged in term {term}, which was granted to {by}")


class Fences(Monitor):
    """S12. Complete without observations."""

    id = "S12"
    timeless = True
    statement = "A copy that has not ended is neither promoted nor served from."
    events = (
        ev.Announce,
        seen.RegisterDurable,
        ev.RegisterStored,
        SyncOffer,
        CopyComplete,
        seen.Wrote,
        seen.Accepts,
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._copies: dict[str, tuple[int, int]] = {}  # The session that copies to a node,
        self._torn: dict[str, tuple[int, int]] = {}  # and the one that has begun to.
        self._whole: dict[str, tuple[int, int]] = {}  # The last one that did to its end.

    def _copy(self, step: Step) -> None:
        """Note what a copy does to a node, whatever its record says."""
        event, node = step.event, step.node
        if event.__class__ is seen.Accepts:
            self._torn.clear()
        elif event.__class__ is seen.Wrote:
            if event.sid and self._copies.get(node) == (event.term, event.sid):
                self._torn[node] = (event.term, event.sid)
        elif event.__class__ is ev.Received:
            message = event.message
            if message.__class__ is SyncOffer and message.plan != "none":
                session = (message.term, message.sid)
                if session > self._whole.get(node, (0, 0)):  # Else the offer came again.
                    self._copies[node] = session
            elif message.__class__ is CopyComplete:
                self._whole[node] = (message.term, message.sid)
                self._copies.pop(node, None)
                self._torn.pop(node, None)

    def on(self, step: Step) -> None:  # noqa: D102
        self._copy(step)
        if step.event.__class__ in (seen.Accepts, seen.Wrote):
            return
        facts = self.facts.of(step)
        register = installed(facts, step)
        if register is not None:
            holder = facts.sides.get(register.holder)
            # Creating a register is an administrator's word for the data of its holder.
            new = facts.replaced is not None and register.term != facts.replaced.term
            new = new and register.ver not in facts.forced
            # What was asked while its record was whole may be granted when that has rotted.
            record = holder and (holder.rotted or holder.record)
            if new and record and not record.cons:
                self.fail(f"{register.holder} is promoted although its copy did not end")
            if new and register.holder in self._torn:
                self.fail(f"{register.holder} is promoted, half copied")
            return
        side = facts.side(step.node)
        serves = side.about.role in LEADS and side.about.status == "Ready"
        if serves and side.record is not None and not side.record.cons:
            self.fail(f"{step.node} leads although its copy did not end")
        if serves and step.node in self._torn:
            self.fail(f"{step.node} leads, half copied")


class Equal(Monitor):
    """S13. Nothing to check without observations."""

    id = "S13"
    statement = "When nothing is under way any more, both copies are equal and complete."
    events = (seen.Settled,)

    def on(self, step: Step) -> None:  # noqa: D102
        if step.event.why:
            return
        facts = self.facts.of(step)
        sides = facts.sides.values()
        for name, side in facts.sides.items():
            lost = [
                write
                for extent, write in facts.told.items()
                if max(side.memory.get(extent, 0), *(s.kept.get(extent, 0) for s in sides)) < write
            ]
            if lost and facts.directories and not facts.advisory:
                self.fail(f"{name} lacks {sorted(lost)[:5]} after the end")
        copies = [side.memory for side in facts.sides.values()]
        if len(copies) == 2 and copies[0] != copies[1]:
            differ = sorted(e for e in copies[0] | copies[1] if not _same(copies, e))
            self.fail(f"the copies differ after the end, in extents {differ[:5]}")


def _same(copies: list[dict[int, int]], extent: int) -> bool:
    return copies[0].get(extent, 0) == copies[1].get(extent, 0)


class Order(Monitor):
    """S14, for writes; names have no order in a simulation. Nothing without observations."""

    id = "S14"
    statement = "In a session an extent of the secondary never goes back to an older write."
    events = (seen.Wrote, seen.PowerLost)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._session: dict[str, tuple[int, int]] = {}
        self._newest: dict[str, dict[int, int]] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        wrote = step.event
        if wrote.__class__ is seen.PowerLost or not wrote.sid:
            self._newest.pop(step.node, None)
            self._session.pop(step.node, None)
            return
        key = (wrote.term, wrote.sid)
        if self._session.get(step.node) != key:
            self._session[step.node], self._newest[step.node] = key, {}
        newest = self._newest[step.node]
        if wrote.write < newest.get(wrote.extent, 0):
            what = f"extent {wrote.extent} back from {newest[wrote.extent]} to {wrote.write}"
            self.fail(f"session {key} put {what} on {step.node}")
        newest[wrote.extent] = wrote.write


class NeverSilent(Monitor):
    """S15. Nothing to check without observations."""

    id = "S15"
    statement = "No write that was told is gone: it is on a disk, overwritten, or set aside."
    events = (seen.Wrote, seen.Settled)

    def on(self, step: Step) -> None:  # noqa: D102
        facts = self.facts.of(step)
        if not facts.advisory:
            return  # There, S4 says more.
        extents = list(facts.told)
        if step.event.__class__ is seen.Wrote:
            extents = [step.event.extent] if step.event.extent in facts.told else []
        for extent in extents:
            write = facts.told[extent]
            sides = facts.sides.values()
            held = [max(s.memory.get(extent, 0), s.kept.get(extent, 0)) for s in sides]
            if max(held, default=0) < write:
                self.fail(f"write {write} was told as done and is nowhere any more")


class LoneByWrite(Monitor):
    """R10, a rule without which S15 sees splits where nothing was written. Complete."""

    id = "R10"
    timeless = True
    statement = "A generation of one node alone begins with a write, not with a promotion."
    events = (seen.Invoked, seen.Told, seen.Failed, WriteHeld, seen.RecordDurable, ev.Stored)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._wrote: set[tuple[str, str]] = set()  # In their present term.
        self._waiting: dict[tuple[str, str], set[int]] = {}  # Writes without an answer.
        self._records: dict[tuple[str, str], NodeRecord] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        key = (step.node, step.process.removesuffix(".replica"))
        waiting = self._waiting.setdefault(key, set())
        if step.event.__class__ in (seen.Told, seen.Failed):
            waiting.discard(step.event.write)
            return
        if step.event.__class__ in (seen.Invoked, ev.Received):
            self._wrote.add(key)
            if step.event.__class__ is seen.Invoked:
                waiting.add(step.event.write)
            return
        new, old = self.facts.of(step).side(step.node).record, self._records.get(key)
        if new is None or new is old:
            return
        self._records[key] = new
        if old is None:
            return
        if new.term > old.term and not waiting:
            self._wrote.discard(key)
        begins = new.lone and new.gen_cur != old.gen_cur
        if begins and key not in self._wrote and new.forced == old.forced:
            self.fail(f"{step.node} begins a generation of its own, and nothing was written there")


class Honest(Monitor):
    """S16. An extent is whole or not at all in a simulation; nothing without observations."""

    id = "S16"
    statement = "An extent holds nothing that was not written to it."
    events = (seen.Invoked, seen.Wrote)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._extent: dict[int, int] = {}

    def on(self, step: Step) -> None:  # noqa: D102
        event = step.event
        if event.__class__ is seen.Invoked:
            self._extent[event.write] = event.extent
            if len(self._extent) > _REMEMBERED:
                del self._extent[next(iter(self._extent))]
        elif event.write:
            meant = self._extent.get(event.write, event.extent)
            if meant != event.extent:
                self.fail(f"{step.node} has write {event.write} in extent {event.extent}")


_REMEMBERED = 4_096


class FailedDisk(Monitor):
    """S17, for the data. Without observations nothing: a gate that opens may be poisoned.

    A record of an older term is that of a node which lost its own: terms may be numbered anew.
    """

    id = "S17"
    statement = "A node whose disk lost data acknowledges nothing more in that term."
    events = (PlaneStorage, seen.Told, seen.RecordDurable)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._failed: dict[tuple[str, str], int] = {}  # The term in which it did.

    def on(self, step: Step) -> None:  # noqa: D102
        key, kind = (step.node, step.process.removesuffix(".replica")), step.event.__class__
        if kind is PlaneStorage:
            _, term = self.facts.of(step).side(step.node).gate
            self._failed[key] = max(term, self._failed.get(key, 0))
        elif kind is seen.RecordDurable:
            if step.event.record.term < self._failed.get(key, 0):
                del self._failed[key]
        elif self._failed.get(key) == step.event.term:
            self.fail(f"{step.node} told write {step.event.write} after its disk failed")
