"""Who may be in the next view, with which weights, and who proposes it.

The coordinator is the first node, in the order of the configuration, of those that this node
hears and that hear it; a node that is in a view goes before those that are not, because it
knows who owns what. Only the coordinator proposes, and only its proposals are agreed to.
"""

from collections.abc import Sequence

from mirrorfarm.actors.farm_filter.hearing import NUMBER_STEP_MAX, ears_of
from mirrorfarm.actors.farm_filter.state import Peer, State, View
from mirrorfarm.limits import BUCKETS, POWER_MAX

SECOND_DEPARTURE = 2


def coordinator(s: State) -> str:
    """Return the node whose proposals this node agrees to; perhaps itself."""
    first = ""
    for name in s.settings.nodes:
        if _takes_part(s, name):
            if _is_in_view(s, name):
                return name
            first = first or name
    return first


def _takes_part(s: State, name: str) -> bool:
    if name == s.settings.node:
        return s.wish != "away"
    peer = s.peers[name]
    return bool(peer.mutual_ns) and peer.beat is not None and peer.beat.wish != "away"


def _is_in_view(s: State, name: str) -> bool:
    if name == s.settings.node:
        return s.view is not None
    beat = s.peers[name].beat
    if beat is None or beat.view:
        return beat is not None
    # Before its heartbeat says so: it committed this view, or was in the one before.
    view = s.view
    committed = view is not None and (view.coordinator == name or beat.floor < view.number)
    return committed and name in s.present


def wanted_members(s: State, before: tuple[str, ...], now: int) -> tuple[str, ...]:
    """Return who should be in the next view: nodes that all hear each other.

    `before`: those of the present view that did not give up.
    """
    node = s.settings.node
    chosen = 1 << s.settings.index(node)
    by_all = ears_of(s, node)  # Who is heard by all that are chosen.
    peers = s.peers.values()
    members = [peer for peer in peers if peer.name in before]
    others = [peer for peer in peers if peer.name not in before]
    for peer in members + others:
        member = peer.name in before
        if not _takes_part(s, peer.name) or (not member and refusal(s, peer, now)):
            continue
        together = by_all >> peer.index & 1 and not chosen & ~peer.ears
        if together or (member and is_doubtful(s, peer, now)):
            chosen |= 1 << peer.index
            by_all &= peer.ears
    return tuple([name for index, name in enumerate(s.settings.nodes) if chosen >> index & 1])


def without_newcomers(s: State, members: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out who comes while a member of the view is lost: the clients of that one wait.

    Who is in no view cannot promise before leases are over that the others know to be; the next
    view takes it in. Where every member stays or comes back they promise at once.
    """
    view, present = s.view, s.present
    if view is None or all(name in members for name in view.members):
        return members
    return tuple([name for name in members if name in present])


def is_sound(s: State, view: View) -> bool:
    """Return whether a view that came from outside has the right shape, and a sensible number."""
    nodes = s.settings.nodes
    if view.number > s.seen + NUMBER_STEP_MAX:
        return False
    if s.settings.node not in view.members or view.coordinator not in view.members:
        return False
    if tuple(name for name in nodes if name in view.members) != view.members:
        return False
    if any(len(weights) != len(view.members) for weights in view.weights):
        return False
    sizes = {len(owners) for owners in view.owners}
    return len(view.owners) == len(view.weights) == s.groups and sizes == {BUCKETS}


def is_bound(s: State, view: View) -> bool:
    """Return whether a member is bound by a promise that nobody keeps any more."""
    for peer in s.peers.values():
        if peer.beat is not None and peer.beat.bid > view.number and peer.name in view.members:
            return True
    return False


def note_apart(s: State, now: int) -> None:
    """Note since when members do not hear each other."""
    present = s.present
    if not present:
        return
    everybody = s.settings.bits(present)
    peers = [s.peers[name] for name in present if name != s.settings.node]
    by_all = ears_of(s, s.settings.node)  # Who is heard by all of them.
    for peer in peers:
        by_all &= peer.ears
    for peer in peers:
        together = by_all >> peer.index & 1 and not everybody & ~peer.ears
        peer.apart_ns = 0 if together else peer.apart_ns or now


def is_doubtful(s: State, peer: Peer, now: int) -> bool:
    """Return whether it is too early to leave out one of two members that do not hear each other.

    When a node dies, the others notice within some heartbeats of each other: who noticed first
    must not be left out for that.
    """
    return peer.apart_ns > 0 and now - peer.apart_ns < 2 * s.t.pulse_ns


def refusal(s: State, peer: Peer, now: int) -> str:
    """Return why a node that takes part is not taken in yet; or ""."""
    left_ns = held_until_ns(s, peer, now) - now
    if left_ns > 0:
        return f"it left {len(peer.departures)} times: taken back in {seconds(left_ns)}"
    if now - peer.mutual_ns < s.t.settle_ns:
        return "it is being taken in"
    return ""


def held_until_ns(s: State, peer: Peer, now: int) -> int:
    """Return until when a node that came and went is held off; not after `now`: it is not.

    It may be heard here all the time, and be left out because another member does not hear it.
    """
    wait_ns = hold_ns(s, peer, now)
    return max(peer.mutual_ns, peer.departures[-1]) + wait_ns if wait_ns else 0


def seconds(span_ns: int) -> str:
    """Return a span in words, rounded up to tenths."""
    tenths = -(-span_ns // 100_000_000)
    return f"{tenths // 10}.{tenths % 10} s"


def hold_ns(s: State, peer: Peer, now: int) -> int:
    """Return how long a node that comes and goes is kept out before it is taken back.

    Nothing for the first return; then it doubles with each departure that is remembered. When
    nobody answers clients there is nothing to protect.
    """
    if s.view is None or len(peer.departures) < SECOND_DEPARTURE:
        return 0
    recent = [at for at in peer.departures if now - at < s.t.hold_window_ns]
    if len(recent) < SECOND_DEPARTURE:
        return 0
    return min(s.t.hold_ns << (len(recent) - SECOND_DEPARTURE), s.t.hold_max_ns)


def wanted_weights(s: State, members: tuple[str, ...], now: int) -> tuple[tuple[int, ...], ...]:
    """Return the weight of each member, by group: its power, less while it starts slowly."""
    full = s.t.slow_start_steps
    steps = [_step(s, name, now) if s.t.slow_start_ns else full for name in members]
    if len(set(steps)) == 1:
        steps = [full] * len(members)  # All alike: nobody has to be spared.
    powers = [_powers(s, name) for name in members]
    rows = zip(*powers, strict=True)  # By group.
    return tuple([tuple([a * b for a, b in zip(row, steps, strict=True)]) for row in rows])


def _powers(s: State, name: str) -> Sequence[int]:
    """Return the power of a member, by group."""
    beat = None if name == s.settings.node else s.peers[name].beat
    assert beat is not None or name == s.settings.node, "a member that was never heard"
    wish, powers = (s.wish, s.powers) if beat is None else (beat.wish, beat.powers)
    if wish != "in":
        return [0] * s.groups
    return [0 if power < 0 else min(power, POWER_MAX) for power in powers]


def _step(s: State, name: str, now: int) -> int:
    """Return the step of the slow start a member is on, from 1."""
    steps = s.t.slow_start_steps
    joined_ns = s.joined_ns if name == s.settings.node else s.peers[name].joined_ns
    age_ns = now - joined_ns if joined_ns else 0
    return min(steps, 1 + age_ns * (steps - 1) // s.t.slow_start_ns)


def joined_at(s: State, name: str, view: View, now: int) -> int:
    """Return since when a peer counts as joined that `view` brings together with this node.

    Who was in no view may lead from the next one on: how far the others are their weights tell.
    Where this node gets its full weight at once nobody is spared.
    """
    t, steps = s.t, s.t.slow_start_steps
    if s.view is not None or not t.slow_start_ns or _step_in(s, view, s.settings.node) == steps:
        return now
    passed = (_step_in(s, view, name) or steps) - 1
    age_ns = -(-passed * t.slow_start_ns // (steps - 1)) if passed else 0
    return now - age_ns or 1


def _step_in(s: State, view: View, name: str) -> int:
    """Return the step of the slow start at which `view` weighs a member; 0: it does not tell."""
    index = view.index(name)
    for row, power in zip(view.weights, _powers(s, name), strict=True):
        if power and row[index]:
            return max(1, min(s.t.slow_start_steps, row[index] // power))
    return 0


def next_step_ns(s: State, now: int) -> int:
    """Return when the next member's share grows; 0: none is on its way."""
    if not s.t.slow_start_ns or s.view is None or s.t.slow_start_steps == 1:
        return 0
    due = []
    for name in s.view.members:
        joined_ns = s.joined_ns if name == s.settings.node else s.peers[name].joined_ns
        step = _step(s, name, now)
        if joined_ns and step < s.t.slow_start_steps:
            span_ns = step * s.t.slow_start_ns
            due.append(joined_ns - (-span_ns // (s.t.slow_start_steps - 1)))
    return min(due, default=0)
