"""Decide which of N nodes answers which client: members, views, and when a bucket opens.

Never two acceptors. Claim: if A has bucket b open at time t, and B opens it at t, then A and B
have not heard each other: B handled nothing of A that says `busy` (in a view, or promised to
one) since t - lease, and A acted on none of the heartbeats by which B announced, for
`announce_ns` before t, that it goes on without A. Two such nodes are in two partitions, and
each serves the clients that reach it. Why it holds, with clocks whose rates differ by 10^-3:

1. B opens b only in a view V that every member of V has promised. Whoever promises closes
   first what V does not give it, and promises no number below any more. So if A is a member
   of V, A has b closed, unless it has gone on to a newer view W. If B is a member of W, it
   promised W, which voided V for it. If it is not, the case is the next one, roles exchanged.
2. If A is not a member of V, then B waits (`views.quiet_at`) until A's last busy heartbeat is
   older than `Settings.wait_ns`, a lease on the slowest clock. A may answer only until its
   lease is over: `lease_ns` after the sending of its newest heartbeat that has been echoed, by
   every member of its view that it hears (`table.lease_of`). B can have echoed none after the
   one it heard last. So if A hears B as a member, A's lease is over: the filter drops by
   itself, also when A's processes are frozen.
3. If A does hear B, but not as a member: B is busy, excludes A and says so, `announce_ns` long
   before it opens. A gives way at once if B's view is the stronger one, else after
   `tolerate_ns`, which is less (`hearing.mind_strangers`); and the urgent answer that A sends
   makes B give way if it hears A. That A has promised a view with B makes B no member: B may
   have promised another one, and never hear of A's.
   A node that begins anew announces for as long as a lease and that patience: A may be frozen,
   or its agent hang, and hear of it only at the end of its lease.
   What B's agent keeps is not announced: B has its agent hand back what it says, and announces
   anew when that comes late (`hearing.returned`). Who hears no member at all, as when its agent
   hangs, has a lease only from what its agent hands back: the others may have taken over.
4. Who gave way, or found its lease over, closes everything, forgets its view and has to be
   taken in again (`table.lapse`). A new process begins like that; it says nothing before its
   predecessor's lease is over, because the filter may be in the kernel still.

Monitored by `mirrorfarm.sim.farm_monitors` on thousands of random runs; docs/protocols/farm.md
tells the protocol. Times are nanoseconds of the boot clock; no two clocks are compared.
"""

from dataclasses import dataclass
from typing import Any

from mirrorfarm.actors.effects import ANY_EFFECT, Later, Log, RenewLease, Tell
from mirrorfarm.actors.events import (
    Event,
    FarmPower,
    FarmWish,
    FilterFailed,
    HardwareIs,
    Received,
    SocketsCounted,
    Started,
)
from mirrorfarm.actors.farm_filter import hearing, table, views
from mirrorfarm.actors.farm_filter.admission import held_until_ns, next_step_ns, note_apart
from mirrorfarm.actors.farm_filter.describe import picture
from mirrorfarm.actors.farm_filter.state import (
    ACTOR,
    Settings,
    State,
    new_state,
)
from mirrorfarm.limits import POWER_MAX, Nanoseconds
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import MODULE_ACTOR, Address


class FarmDue(Event, frozen=True):
    """Timer: something may be due."""


@dataclass(slots=True)
class FarmFilter:
    """One node of a farm."""

    state: State

    @classmethod
    def build(cls, settings: Settings) -> "FarmFilter":
        """Return a core that has not started; it takes part when it is told to (FarmWish)."""
        return cls(new_state(settings))

    def handle(self, event: Any, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Apply one event at `now`; return what to do about it, in order."""
        s = self.state
        s.out = []
        # Before anything else: this node may have been asleep, and others took over.
        lapsed = self._lapse_late(now)
        if 0 < s.wake_ns < now:
            late_ns = s.stalls.notice(s.wake_ns, now)
            if late_ns:
                hearing.forgive(s, late_ns, now)
        quiet = self._apply(event, now) and not lapsed
        idle = quiet and now < s.due_ns and now < s.pulse_ns and not s.urgent
        if s.pulse_ns and not idle:
            self._poll(now, quiet=quiet)
        return s.out

    def _lapse_late(self, now: int) -> bool:
        """Close everything if this node was asleep for too long; return whether it was."""
        s = self.state
        if s.view is not None and now >= s.lease_ns:
            table.lapse(s, now, "its lease ran out")
            return True
        if s.bid is not None and s.sent and now >= s.sent[-1][1] + s.t.lease_ns:
            table.lapse(s, now, "it did not run for as long as a lease")
            return True
        return False

    def _apply(self, event: Any, now: int) -> bool:
        """Apply one event; return whether it brought nothing new, as most heartbeats do."""
        s = self.state
        match event:
            case Received(source, message, network):
                return self._on_message(source, message, network, now)
            case FarmDue():
                if now < s.wake_ns:
                    return True  # An earlier timer took its place, and the next one is set.
                s.wake_ns = 0
                if now < s.due_ns and s.view is not None:
                    self._wake_at(s.due_ns)  # What it was for was done since, on hearing others.
                    return True
            case FarmWish(wish):
                self._on_wish(wish, now)
            case FarmPower(power, group):
                self._on_power(power, group)
            case SocketsCounted():
                table.counted(s, event)
            case HardwareIs(mac):
                s.mac, s.urgent = mac, True
                table.apply(s)
            case FilterFailed(reason):
                table.lapse(s, now, reason)
                s.failed = reason
            case Started():
                table.apply(s)
                s.out.append(RenewLease(0))
                # What a killed predecessor left in the kernel may not be at hand yet: nothing is
                # said that others could take for its end, until its lease is over by itself.
                s.mute_ns = now + s.settings.wait_ns
                s.pulse_ns = now
                s.wished_ns = now
            case _:
                raise AssertionError(f"unknown event {event!r}")
        return False

    def _on_wish(self, wish: str, now: int) -> None:
        s = self.state
        assert wish in {"away", "in", "drain"}, wish
        if wish == s.wish:
            return
        if s.wish == "away":
            s.wished_ns = now  # Until then this node announced that it does not open.
        s.wish = wish
        s.counting_ns = 0
        s.urgent = True
        if wish == "away":
            table.lapse(s, now, "it leaves the farm")
            s.failed = ""
            s.alone_ns = 0

    def _on_power(self, power: int, group: str) -> None:
        s = self.state
        for index, name in enumerate(s.settings.groups):
            if group in {"", name}:
                s.powers[index] = max(0, min(power, POWER_MAX))
        s.urgent = True
        s.out.append(Log("E", f"power of this node: {' '.join(str(p) for p in s.powers)}"))

    def _on_message(self, source: Address, message: Any, network: str, now: int) -> bool:
        s = self.state
        if source.node == s.settings.node and isinstance(message, msg.FarmBeat):
            hearing.returned(s, message, now)
            return True
        peer = s.peers.get(source.node)
        if peer is None or (source.module, source.actor) != (s.settings.module, ACTOR):
            return True  # Not of this farm.
        match message:
            case msg.FarmBeat():
                return not hearing.hear(s, peer, message, network, now)
            case msg.ViewProposal():
                views.on_proposal(s, peer.name, message, now)
            case msg.ViewAck():
                views.on_ack(s, peer.name, message, now)
            case msg.ViewCommit():
                views.on_commit(s, peer.name, message, now)
            case _:
                pass  # Of a newer peer: nothing that this node could act on.
        return False

    def _poll(self, now: int, *, quiet: bool) -> None:
        """Do what is due; `quiet`: perhaps only the pulse is."""
        s = self.state
        if hearing.silences(s, now):
            table.renew(s, now)  # Who is silent is not asked any more.
        hearing.mind_strangers(s, now)
        note_apart(s, now)
        views.plan(s, now)
        views.ack_again(s, now)
        views.open_when_quiet(s, now)
        table.count_when_due(s, now)
        views.mark_excluded(s, now)
        if now >= s.pulse_ns:
            hearing.pulse(s, now)
            table.renew(s, now)
            hearing.plan_pulse(s, now)
        elif s.urgent:
            hearing.pulse(s, now)
        else:
            hearing.tell_left_out(s, now)
            self._wake(now)
            return
        # What passes with time alone, as that a network is down, need not be told at once.
        if s.urgent or not quiet or now - s.pictured_ns >= s.t.silent_ns:
            self._tell(now)
        s.urgent = False
        self._wake(now)

    def _tell(self, now: int) -> None:
        s = self.state
        s.pictured_ns = now
        news = picture(s, now)
        if news != s.picture:
            s.picture = news
            s.out.append(Tell(MODULE_ACTOR, news))

    def _wake(self, now: int) -> None:
        """Keep exactly one timer: at the next time that anything can be due."""
        s = self.state
        t = s.t
        due = [s.pulse_ns, next_step_ns(s, now), s.mute_ns]
        if now < s.alone_ns and s.hears_few:
            due.append(s.alone_ns)
        due += [peer.heard_ns + t.silent_ns for peer in s.peers.values() if not peer.silent]
        for peer in s.peers.values():
            if peer.tolerated_ns:
                due.append(peer.tolerated_ns + t.tolerate_ns)
            if peer.apart_ns:
                due.append(peer.apart_ns + 2 * t.pulse_ns)
            if peer.mutual_ns and now < peer.mutual_ns + t.settle_ns:
                due.append(peer.mutual_ns + t.settle_ns)
            if peer.mutual_ns and peer.departures:
                due.append(held_until_ns(s, peer, now))
        if hearing.left_out(s, now):
            due.append(s.told_ns + t.retry_ns)
        if s.proposal is not None:
            due += [s.proposal.sent_ns + t.retry_ns, views.commit_at(s, s.proposal)]
        if s.view is not None:
            due += [views.quiet_at(s, s.view), s.lease_ns]
        s.due_ns = min([moment for moment in due if moment > now])
        self._wake_at(s.due_ns)

    def _wake_at(self, at: int) -> None:
        s = self.state
        if s.wake_ns == 0 or at < s.wake_ns:
            s.wake_ns = at
            s.out.append(Later(at, FarmDue()))
