"""Decide which of two nodes runs the application, and whose data are current.

The rules R1–R15 and the rows of docs/protocols/mirror.md. At most one node acknowledges writes
in a term (S1), and no acknowledged write is lost (S4): tests/sim monitors both, and S2–S12.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mirrorfarm.actors import events as ev
from mirrorfarm.actors import sites
from mirrorfarm.actors.effects import ANY_EFFECT, Later, Log, Send
from mirrorfarm.actors.module.answers import take_early
from mirrorfarm.actors.module.mirror import (
    commands,
    demotion,
    following,
    holding,
    leading,
    planes,
    procedure,
    promises,
    questions,
    rest,
    split,
    waiting,
    watched,
)
from mirrorfarm.actors.module.mirror.describe import announcement, announcement_basis, state_json
from mirrorfarm.actors.module.mirror.lease import Lease
from mirrorfarm.actors.module.mirror.orders import become, explain, fact, tell
from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, LEADERS, Phase, Session
from mirrorfarm.actors.module.mirror.state import Plane, Settings, State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import WISHES_MAX
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

# What follows when a record is durable, whatever the phase.
STORED: Final = {
    "promise": promises.on_stored,
    "target": following.on_target_stored,
    "copied": following.on_copy_stored,
}


@dataclass(slots=True)
class Mirror:
    """The state machine of one mirror module on one node."""

    state: State

    @classmethod
    def build(cls, settings: Settings, record: NodeRecord | None, fault: str = "") -> "Mirror":
        """Return a core that begins with the record found on disk (None: none was ever written).

        `fault`: why the record found there is not used. The node then trusts none of its data,
        and waits for a primary that copies all of them. There may be writes among them that only
        this node has: what the copy replaces is set aside.
        """
        found = record or NodeRecord(promises=bool(fault))
        if fault:
            aside = f"{settings.module.name}-unknown-{settings.incarnation}"
            found = msgspec.structs.replace(found, quarantine=aside)
        # Wishes of this process outrank its predecessor's.
        first = msg.PlaneWish(settings.incarnation * WISHES_MAX, "off", forgets=record is None)
        lease = Lease(settings.module.timing.lease_ns)
        state = State(settings, found, lease, Plane(first))
        unclean = found.was != "idle" and bool(found.os_boot)
        state.os_crashed = unclean and found.os_boot != settings.os_boot
        state.record_fault = fault
        state.promises = found.promises
        # Numbered apart from its predecessor's, whose requests may still be answered.
        state.arbiter.request = settings.incarnation << 24
        return cls(state)

    def handle(self, event: Any, now: int) -> list[ANY_EFFECT]:
        """Apply one event; return what to do about it, in order."""
        s = self.state
        s.out = []
        if s.rests and rest.goes_on(s, event, now):
            if not s.wake_ns:
                self._wake(now)  # Else it comes in time: what it is set by is not earlier now.
            return s.out
        if s.phase in LEADERS:
            holding.keep_lease(s, now)  # Before anything else: this node may have been asleep.
        self._apply(event, now)
        idle = self._poll(now)
        s.rests = idle and event.__class__ is ev.PeerHeard and rest.begins(s)
        return s.out

    def _apply(self, event: Any, now: int) -> None:
        s = self.state
        match event:
            case ev.Received(source, message, _):
                self._on_message(source, message, now)
            case ev.PeerHeard():
                self._on_heard(event, now)
            case ev.Tick():
                if now >= s.wake_ns:
                    s.wake_ns = 0
            case ev.PeerSilent(silent_ns):
                self._on_silent(silent_ns, now)
            case ev.NetworkSilent(network):
                s.peer.networks[network] = "down"
            case ev.NetworkHeard(network):
                s.peer.networks[network] = "up"
            case ev.RegisterKnown():
                questions.on_known(s, event, now)
            case ev.ArbiterSilent(since_ns, reason):
                s.arbiter.silence = reason
                if not s.arbiter.silent_since_ns:
                    fact(s, now, "the arbiter does not answer", "C")
                s.arbiter.silent_since_ns = since_ns or now
            case ev.ArbiterHeard():
                questions.on_heard(s, now)
            case ev.Stored(counter):
                self._on_stored(counter, now)
            case ev.StoreFailed(counter, error, text):
                then = s.stores.pop(counter, "")
                demotion.storage_failed(s, now, f"the durable record: {text} ({error})")
                if then == "step":
                    procedure.complete(s, now, "idle", counter)  # The old record stays; so be it.
            case ev.Started():
                self._on_started(now)
            case _:
                self._on_result(event, now)

    def _on_result(self, event: Any, now: int) -> None:
        s = self.state
        match event:
            case ev.SequenceEnded(run, failed):
                for name in failed:
                    fact(s, now, f"script {name}", "C")
                if run == s.token and s.step in procedure.STARTS:
                    before = (s.unstarted,) if s.step == "scripts start" and s.unstarted else ()
                    s.unstarted = ", ".join((*before, *failed))
                if run == s.side_run:
                    procedure.side_scripts_ended(s)
                elif failed and s.stopping_for == "swap" and run == s.token:
                    s.steps.appendleft("kill")  # Nothing may run on where it could not be stopped:
                    s.scripts_as = ""  # not what `start_both` began either.
                procedure.complete(s, now, "scripts", run)
            case ev.ApplicationGone(run):
                procedure.complete(s, now, "kill", run)
            case ev.VipIsUp(run, failures):
                procedure.addressed(s, failures, now)
                procedure.complete(s, now, "vip up", run)
            case ev.VipIsDown(run):
                s.unset = ()
                procedure.complete(s, now, "vip down", run)
            case ev.VipProbed(run, conflicts):
                if run == s.probing:
                    s.probing, s.probed_ns, s.conflicts = 0, now, conflicts
                    for conflict in conflicts:
                        fact(s, now, f"virtual address in use: {conflict}", "C")
            case ev.ResourceChanged():
                watched.on_resource(s, event, now)
            case ev.GuardActed(deadline):
                if s.guard_ns == deadline:  # Else it was given another one since, and still has it.
                    s.guard_ns = 0
                demotion.demote(s, now, "its guard acted: the lease was over")
            case ev.Stalled(late_ns):
                s.out.append(Log("I", f"this node did not run for {late_ns // 1_000_000} ms"))
            case _:
                raise AssertionError(f"unknown event {event!r}")

    # --- messages --------------------------------------------------------------------------

    def _on_message(self, source: Address, message: msg.ANY_MESSAGE, now: int) -> None:
        s = self.state
        match message:
            case msg.Command():
                commands.on_command(s, source, message, now)
            case msg.StateQuery(request):
                s.out.append(Send(source, msg.StateAnswer(request, state_json(s, now))))
            case _ if source.module != s.module.name:
                s.out.append(Log("D", f"ignored {type(message).__name__} from {source}"))
            case _ if source.node == s.settings.node:
                planes.on_message(s, message, now)
            case _ if source.node == s.settings.peer:
                self._on_peer_message(message, now)
            case _:
                s.out.append(Log("D", f"ignored {type(message).__name__} from {source}"))

    def _on_peer_message(self, message: msg.ANY_MESSAGE, now: int) -> None:
        s = self.state
        leads = s.phase in LEADERS
        match message:
            case msg.SyncOffer():
                following.on_offer(s, message, now)
            case msg.SyncAccepted() if leads:
                leading.on_accepted(s, message, now)
            case msg.SyncRefused() if leads:
                leading.on_refused(s, message, now)
            case msg.Synced() if leads:
                leading.on_synced(s, message)
            case msg.RegisterNews(register):
                questions.on_news(s, register, now)
            case msg.Leave(term):
                s.peer.left = True
                if leads and term <= s.record.term:
                    leading.lose(s, now, "it leaves")
            case msg.SwapWanted(term, who) if leads and term == s.record.term:
                commands.on_swap_wanted(s, who, now)
            case msg.SwapRefused(term, reason) if term == s.record.term:
                commands.on_swap_refused(s, reason)
            case _:
                pass  # For a role that this node has not, or a kind that it does not take.

    def _on_heard(self, event: ev.PeerHeard, now: int) -> None:
        s = self.state
        peer, beat, about = s.peer, event.beat, event.beat.about
        if peer.silent:
            fact(s, now, f"{s.settings.peer} is heard: {about.role} {about.status}")
        elif (peer.about.role, peer.about.status) != (about.role, about.status):
            s.out.append(Log("E", f"Remote state {about.role} {about.status}"))
        restarted = peer.about.incarnation not in {0, about.incarnation}
        peer.about, peer.heard_ns, peer.silent = about, now, False
        peer.networks.setdefault(event.network, "up")
        if about.starting:
            peer.left = False
        if beat.promised_ns:
            # Never answered itself: two who both lead would go on for ever.
            ours = beat.promised_ns <= now and beat.promised_term <= s.record.term
            if s.phase in LEADERS and ours:
                s.lease.granted(beat.promised_ns, about.lease_ns)
        elif about.role in {"PRIM", "ALONE"} and s.phase is not Phase.ASKING:
            promises.give(s, event.network, beat.sent_ns, now)
        if split.met(s, about):
            split.begin(s, now)
        elif s.phase in LEADERS:
            # By a register that this node does not believe the peer may lead in an equal term.
            least = s.record.term + (0 if s.arbiter.distrust else 1)
            if about.term >= least and about.role in {"PRIM", "ALONE"}:
                s.arbiter.known = False
                demotion.demote(s, now, f"{s.settings.peer} is primary in term {about.term}")
            elif restarted and s.leading.session is not Session.NONE:
                leading.lose(s, now, "it was restarted")

    def _on_silent(self, silent_ns: int, now: int) -> None:
        s = self.state
        if s.peer.silent:
            return
        s.peer.silent = True
        fact(s, now, f"no heartbeat from {s.settings.peer} for {silent_ns // 1_000_000} ms", "C")
        if s.phase in LEADERS:
            leading.lose(s, now, "it is silent on every network")
        else:
            following.suspect(s, now)

    def _on_stored(self, counter: int, now: int) -> None:
        s = self.state
        then = s.stores.pop(counter, "")
        if then and then in s.stores.values():
            return  # Overtaken: what follows is for the newer record, which is not durable yet.
        if then == "granted":
            if s.phase is Phase.TAKING:
                commands.take(s, now)
        elif then == "settled":
            if s.phase in LEADERS:
                split.on_settled(s, now)
        elif then == "lone":
            if s.phase in LEADERS and not s.peer_in_isr:
                s.lone, s.plane.held = True, False
        elif then in STORED:
            STORED[then](s)
        elif then == "step":
            procedure.complete(s, now, "idle", counter)

    # --- start and time --------------------------------------------------------------------

    def _on_started(self, now: int) -> None:
        """A new process: whatever its predecessor left is removed before anything else (R9)."""
        s = self.state
        if s.record_fault:
            fact(s, now, s.record_fault, "C")
            aside = s.record.quarantine
            fact(s, now, f"what a copy replaces here is set aside in quarantine {aside}", "C")
        s.peer.silent = True
        s.started_ns = now
        promises.begin(s, now)
        s.peer.networks = dict.fromkeys((h.name for h in s.module.heartbeats), "init")
        become(s, Phase.RESETTING, now, "this process has just started")
        procedure.begin(s, now, "kill", "vip down", "plane bare", "then reset")

    def _poll(self, now: int) -> bool:
        """Do what is due; again if something was, because that can make more due; whether not."""
        s = self.state
        watched.poll(s, now)
        guard_ns, asked_ns, number = s.guard_ns, s.plane.sent_ns, len(s.out)
        before = (s.phase, s.step, s.leading.session, s.target.step, s.plane.wish)
        self._look(now)
        after = (s.phase, s.step, s.leading.session, s.target.step, s.plane.wish)
        # It makes nothing due that the guard was told a new deadline, as after most heartbeats, or
        # the data plane asked again.
        told = (s.guard_ns != guard_ns) + (s.plane.sent_ns != asked_ns)
        idle = before == after and len(s.out) == number + told
        if not idle and not sites.trick("mirror.no_second_look"):  # The next event has one.
            self._look(now)
        if s.guard_ns and procedure.nothing_serves(s):
            s.guard_ns = 0  # It would end the last scripts.
            tell(s, "guard", ev.GuardDisarm())
        procedure.poll_watch(s)
        procedure.poll_addresses(s, now)
        procedure.poll_side_scripts(s)
        commands.poll_answers(s, now)
        self._announce()
        self._wake(now)
        return idle

    def _look(self, now: int) -> None:
        """Look at everything that can be due, once."""
        s = self.state
        procedure.advance(s, now)
        phase = s.phase
        if phase in LEADERS:
            leading.poll(s, now)
            split.poll(s, now)
        elif phase in FOLLOWERS:
            following.poll(s, now)
        waiting.poll(s, now)
        planes.poll(s, now)

    def _announce(self) -> None:
        s = self.state
        basis = announcement_basis(s)
        if basis == s.announced_basis:
            return
        s.announced_basis = basis
        about = announcement(s)
        before = s.announced
        if about != before:
            s.announced = about
            urgent = before is None or (before.role, before.phase, before.term, before.cons) != (
                about.role,
                about.phase,
                about.term,
                about.cons,
            )
            tell(s, "heartbeat", ev.Announce(about, urgent))

    def _wake(self, now: int) -> None:
        """Keep exactly one timer: at the next time that anything can be due."""
        s = self.state
        if s.phase is Phase.STOPPED and not s.steps and not s.step and s.plane.settled:
            return
        due = now + s.lease.lease_ns // 4
        for at in (s.lease.gate_closes_ns(), s.promise_until_ns, s.arbiter.retry_ns):
            if now < at < due:
                due = at
        if s.wake_ns == 0 or due < s.wake_ns:
            s.wake_ns = due
            s.out.append(Later(due, ev.Tick()))


@procedure.continuation
def reset(s: State, now: int) -> None:
    """Nothing of a predecessor is left."""
    become(s, Phase.STOPPED, now, "")
    s.plane_off = ""
    n, m = s.settings.node, s.module.name
    explain(s, "stopped", "it is started", f"mirrorfarm -H {n} start -m {m}")
    stays = take_early(
        s,
        lambda source, command: commands.on_command(s, source, command, now),
        lambda: commands.poll_answers(s, now),
    )
    if s.settings.start and s.phase is Phase.STOPPED and not stays:
        failed = s.failed
        fact(s, now, "Action start called automatically")
        commands.start(s, now)
        s.failed = failed
