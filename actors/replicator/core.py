"""What the data plane of a module shall be: the mirror wishes, the plane reports, this decides.

Level-triggered: every event compares the latest wish with what the plane last said it is, and
orders the next step between them. Long orders (mounts) run one at a time; orders to the gate
and to sessions go out at once, in the order *freeze, close, open, gate*, so that a modification
that a broken session did not carry is in the change map before the gate may open to `self`.
Invariant: a session (term, sid) below one that was ever wished is never ordered again (S10),
unless the module's record was lost since, and a session that broke stays broken: only a new sid
replaces it.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from mirrorfarm.actors.effects import ANY_EFFECT, Log, PlaneOrder, Send
from mirrorfarm.actors.events import Event, Received, Started
from mirrorfarm.limits import UNDER_WAY, WISHES_MAX, Nanoseconds
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.messages import (
    CopyComplete,
    PlaneIs,
    PlaneWish,
    SessionBroken,
    SessionUp,
    StorageFailed,
    SyncProgress,
    WriteHeld,
)


class PlaneDone(Event, frozen=True):
    """The long order `run` is finished; `behind`: the peer may lack what was written here.

    `users`: who still used the directories when they were unmounted, in words.
    """

    run: int
    behind: bool = False
    users: str = ""


class PlaneFault(Event, frozen=True):
    """The long order `run` failed; the plane is off, or as off as the kernel lets it be."""

    run: int
    error: int  # errno
    text: str


class PlaneGated(Event, frozen=True):
    """The gate order `run` is in force; the change map is complete since `map_base`."""

    run: int
    map_base: str = ""
    changes: int = -1  # How many things the change map names; -1: there is none.


class PlaneHeld(Event, frozen=True):
    """The first modification since the gate froze waits at it."""


class PlaneSessionUp(Event, frozen=True):
    """The peer's plane answered the source's greeting in this session."""

    term: int
    sid: int


class PlaneSessionBroken(Event, frozen=True):
    """The source gave the session up; what it had not carried is in the change map."""

    term: int
    sid: int
    reason: str


class PlaneCopied(Event, frozen=True):
    """Target: the end of the copy arrived, and everything before it is durable."""

    term: int
    sid: int


class PlaneStorage(Event, frozen=True):
    """The local disk refused something."""

    where: str  # data map mount
    error: int
    text: str


class PlaneProgress(Event, frozen=True):
    """How far the copy is; the plane tells it at most four times a second."""

    term: int
    sid: int
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    rate: int
    eta_ns: int


class PlaneEnd(Event, frozen=True):
    """The process is asked to end."""


@dataclass(slots=True)
class Replicator:
    """The core. `role term gate sid map_base` are what the plane last was, or was ordered."""

    node: str
    module: str
    start: int = 0  # Which start of the process it is.
    wish: PlaneWish | None = None
    number: int = -1
    answered: bool = True
    failure: str = ""
    role: str = "off"
    term: int = 0
    gate: str = "frozen"
    gate_base: tuple[str, bool] = ("", False)  # map_base, map_new given with the last gate order.
    sid: int = 0
    map_base: str = ""
    changes: int = -1  # As reported with the gate.
    behind: bool = False  # The plane that was ended last had unconfirmed modifications.
    users: str = ""  # Who used it then.
    floor: tuple[int, int] = (0, 0)
    broken: tuple[int, int] = (0, 0)
    why_broken: str = ""
    held: bool = False  # Something waits at the frozen gate.
    copied: bool = False  # The session's copy is here.
    fault: str = ""  # What the local disk refused since the directories were mounted.
    run: int = 0
    busy: str = ""  # Verb of the long order under way.
    busy_term: int = 0
    busy_sid: int = 0
    gating: int = 0  # Run of the gate order not yet reported; 0: none.
    aborted: bool = False
    ending: bool = False
    # Dead mounts are left, of a killed predecessor or of an unclean end: they fail whatever is
    # done with them, until the mirror knows that the application has ended.
    leftover: bool = True
    stays: bool = False  # What the long order under way unmounts is left so.

    def handle(self, event: Any, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Apply one event; return orders to the plane and messages to the mirror."""
        del now
        effects: list[ANY_EFFECT] = []
        repeated = False
        match event:
            case Received(source=source, message=PlaneWish() as wish):
                if source == self._mirror:
                    repeated = not self.answered and wish == self.wish
                    effects += self._wished(wish)
            case PlaneDone(run=run, behind=behind, users=users):
                if run == self.run and self.busy:
                    self.behind, self.users = behind, users
                    self._finished()
            case PlaneFault(run=run, text=text):
                if run == self.run and self.busy:
                    effects += self._failed(text)
            case PlaneGated(run=run, map_base=map_base, changes=changes):
                if run == self.gating:
                    self.gating, self.map_base, self.changes = 0, map_base, changes
            case PlaneEnd():
                self.ending = True
            case Started():
                # Number 0: a new process, which knows of no wish; the mirror repeats its own.
                effects.append(self._tell(self._present(0, "")))
            case Received():
                pass
            case _:
                effects += self._news(event)
        effects += self._converge()
        if repeated and not self.answered:  # Or it would be taken for one that hangs.
            effects.append(self._tell(self._present(UNDER_WAY, "")))
        return effects

    # --- what comes in ---------------------------------------------------------------------

    @property
    def _mirror(self) -> Address:
        return Address(self.node, self.module, MODULE_ACTOR)

    def _tell(self, message: Any) -> ANY_EFFECT:
        return Send(self._mirror, message)

    def _wished(self, wish: PlaneWish) -> list[ANY_EFFECT]:
        if wish.start != self.start:  # To an earlier process, or by one that knows of none.
            return [self._tell(self._present(0, ""))]
        if wish.number < self.number or self.ending:
            return []
        if wish.forgets and wish.number // WISHES_MAX > self.number // WISHES_MAX:
            self.floor = (0, 0)  # Nobody else knows of those sessions any more.
        if wish.role != "off" and self._is_past(wish):
            failure = f"session {wish.term}.{wish.sid} is over: {self.floor} was wished before"
            return [self._tell(self._present(wish.number, failure)), Log("C", failure)]
        if wish.number == self.number and wish != self.wish:
            return []  # One number means one wish; the first one counts.
        self.wish, self.number = wish, wish.number
        self.answered, self.failure = False, ""
        if wish.role != "off":
            self.floor = max(self.floor, (wish.term, wish.sid))
        return []

    def _is_past(self, wish: PlaneWish) -> bool:
        term, sid = self.floor
        return wish.term < term or (wish.term == term and 0 < wish.sid < sid)

    def _finished(self) -> None:
        verb, self.busy = self.busy, ""
        self.aborted = False
        if verb == "accept_session":
            self.term, self.sid, self.copied = self.busy_term, self.busy_sid, False
            return
        self.leftover = self.stays
        self.role = {"mount_lead": "lead", "mount_follow": "follow"}.get(verb, "off")
        self.term = self.busy_term
        self._reset()

    def _failed(self, text: str) -> list[ANY_EFFECT]:
        verb, self.busy = self.busy, ""
        self.aborted = False
        self.failure = text
        self.leftover = self.leftover or self.stays
        if verb != "accept_session":
            self.role, self.term = "off", 0
            self._reset()
        return [Log("C", f"data plane: {verb}: {text}")]

    def _reset(self) -> None:
        """A plane just mounted or unmounted: no session, gate frozen, nothing promised."""
        self.gate, self.gate_base, self.gating = "frozen", ("", False), 0
        self.sid, self.map_base, self.changes = 0, "", -1
        self.held = self.copied = False
        self.fault = ""

    def _news(self, event: Any) -> list[ANY_EFFECT]:
        match event:
            case PlaneHeld():
                self.held = self.gate == "frozen"  # Else it came just before the gate opened.
                return [self._tell(WriteHeld(self.term))] if self.role == "lead" else []
            case PlaneSessionUp(term=term, sid=sid):
                return [self._tell(SessionUp(term, sid))] if self._current(term, sid) else []
            case PlaneSessionBroken(term=term, sid=sid, reason=reason):
                if not self._current(term, sid):
                    return []
                self.broken, self.sid, self.why_broken = (term, sid), 0, reason
                return [
                    Log("E", f"session {term}.{sid} broke: {reason}"),
                    self._tell(SessionBroken(term, sid, reason)),
                ]
            case PlaneCopied(term=term, sid=sid):
                if not self._current(term, sid):
                    return []
                self.copied = True
                return [self._tell(CopyComplete(term, sid))]
            case PlaneStorage(where=where, error=error, text=text):
                self.fault = self.fault or f"{where}: {text} ({error})"
                return [
                    Log("C", f"storage failed: {where}: {text}"),
                    self._tell(StorageFailed(self.term, where, error, text)),
                ]
            case PlaneProgress(term=term, sid=sid):
                if not self._current(term, sid):
                    return []
                return [self._tell(SyncProgress(*msgspec.structs.astuple(event)))]
            case _:
                return []

    def _current(self, term: int, sid: int) -> bool:
        return self.role != "off" and (term, sid) == (self.term, self.sid)

    # --- from what is to what is wished ----------------------------------------------------

    def _converge(self) -> list[ANY_EFFECT]:
        wish = self._goal()
        if wish is None:
            return []
        if self.busy:
            return self._hurry(wish)
        if self.failure:
            return self._answer()
        effects: list[ANY_EFFECT] = []
        if self.role != wish.role or self._keeps_leftover(wish):
            effects = self._change_role(wish)
        elif wish.role == "lead":
            effects = self._lead(wish)
        elif wish.role == "follow":
            effects = self._follow(wish)
        if not self.busy and not self.gating:
            effects += self._answer()
        return effects

    def _keeps_leftover(self, wish: PlaneWish) -> bool:
        return wish.role == "off" and wish.bare and self.leftover and not self.ending

    def _goal(self) -> PlaneWish | None:
        if not self.ending:
            return self.wish
        # Ended by the system while leading: as after a crash, nothing may be promised later.
        return PlaneWish(number=self.number, role="off", clean=self.role != "lead")

    def _hurry(self, wish: PlaneWish) -> list[ANY_EFFECT]:
        """An unclean end does not wait for a clean one that is under way."""
        urgent = wish.role == "off" and not wish.clean
        if self.busy != "unmount" or not urgent or self.aborted:
            return []
        self.aborted = True
        return [PlaneOrder("abort")]

    def _change_role(self, wish: PlaneWish) -> list[ANY_EFFECT]:
        if self.role != "off" or wish.role == "off":
            self.aborted = not wish.clean
            stays = wish.role == "off" and not (wish.clean or wish.bare)
            order = self._long("unmount", 0, 0, (wish.clean, stays))
            self.stays = stays
            return [order]
        if wish.role == "lead":
            return [self._long("mount_lead", wish.term, 0, (wish.term, wish.map_base))]
        return [self._long("mount_follow", wish.term, 0, (wish.term,))]

    def _long(self, verb: str, term: int, sid: int, arguments: tuple[Any, ...]) -> ANY_EFFECT:
        self.run += 1
        self.busy, self.busy_term, self.busy_sid, self.stays = verb, term, sid, False
        return PlaneOrder(verb, (self.run, *arguments))

    def _lead(self, wish: PlaneWish) -> list[ANY_EFFECT]:
        effects: list[ANY_EFFECT] = []
        sid = 0 if (wish.term, wish.sid) == self.broken else wish.sid
        new_term = wish.term != self.term
        if wish.gate == "frozen" and (self.gate != "frozen" or new_term):
            effects.append(self._gate(wish, sid))
        if self.sid and (new_term or sid != self.sid):
            effects.append(PlaneOrder("close_session", (self.term, self.sid)))
            self.sid = 0
        self.term = wish.term
        opened = bool(sid and not self.sid)
        if opened:
            order = (wish.term, sid, wish.plan, wish.peer)
            effects.append(PlaneOrder("open_session", order))
            self.sid = sid
        changed = (self.gate, self.gate_base) != (wish.gate, (wish.map_base, wish.map_new))
        if changed or (opened and wish.gate == "both"):  # `both` is reported for one session.
            effects.append(self._gate(wish, sid))
        return effects

    def _gate(self, wish: PlaneWish, sid: int) -> ANY_EFFECT:
        self.run += 1
        self.gating, self.held = self.run, False
        self.gate, self.gate_base = wish.gate, (wish.map_base, wish.map_new)
        return PlaneOrder("gate", (self.run, wish.term, sid, wish.gate, *self.gate_base))

    def _follow(self, wish: PlaneWish) -> list[ANY_EFFECT]:
        if (wish.term, wish.sid) == (self.term, self.sid):
            return []
        order = (wish.term, wish.sid, wish.quarantine)
        return [self._long("accept_session", wish.term, wish.sid, order)]

    def _present(self, number: int, failure: str) -> PlaneIs:
        off, wish = self.role == "off", self.wish
        broke = self.role == "lead" and wish is not None and (wish.term, wish.sid) == self.broken
        return PlaneIs(
            number,
            self.role,
            self.term,
            self.gate,
            self.sid,
            self.map_base,
            failure,
            off and self.behind,
            self.changes,
            self.users if off else "",
            self.start,
            self.held and self.role == "lead",
            self.why_broken if broke else "",
            self.copied and self.role == "follow",
            "" if off else self.fault,
        )

    def _answer(self) -> list[ANY_EFFECT]:
        if self.ending:
            return [PlaneOrder("exit")]
        if self.answered:
            return []
        self.answered = True
        return [self._tell(self._present(self.number, self.failure))]
