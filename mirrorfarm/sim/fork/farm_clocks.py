"""The filter of a farm goes on with other clocks, as if all its nodes had always had them.

Every node is resettled at the same moment, so what the nodes rely on of each other still holds: a
lease that was over stays over, and what was counted of others' leases is counted anew.
"""

from collections import deque
from dataclasses import replace

from mirrorfarm.actors.farm_filter import table
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.farm_filter.state import State
from mirrorfarm.modules.settings import FarmTiming


def resettle(core: FarmFilter, timing: FarmTiming, now: int) -> None:
    """Have a core go on with these clocks; `now` by its own boot clock, in nanoseconds.

    Without `wake_ns` it looks at once what is due: its timer has to be set to `now`.
    """
    s = core.state
    old = s.settings
    if timing == old.timing:
        return
    s.settings = replace(old, timing=timing)
    s.stalls.pulse_ns = timing.pulse_ns
    if timing.pulse_ns < old.timing.pulse_ns:
        _rejuvenate(s, old.timing.pulse_ns, now)
    s.proposal = None  # It knows how long the old leases run; the coordinator makes another one.
    if s.mute_ns > now:
        s.mute_ns += s.settings.wait_ns - old.wait_ns
    if s.pulse_ns:
        s.pulse_ns = min(s.pulse_ns, s.beaten_ns + timing.pulse_ns)
    if s.lease_ns > now:  # Else it is over, and others may have acted upon that.
        s.lease_ns = table.lease_of(s, now)
    if s.wake_ns > now:  # Else it is frozen, and shall notice that.
        s.wake_ns = s.due_ns = 0


def _rejuvenate(s: State, pulse_ns: int, now: int) -> None:
    """Keep the age of what was said and heard, in pulses: a shorter one was not kept to before.

    Else every node would be silent, and every lease over, before it can beat for the first time.
    """

    def younger(at_ns: int) -> int:
        return at_ns and now - (now - at_ns) * s.t.pulse_ns // pulse_ns

    s.wished_ns, s.beaten_ns = younger(s.wished_ns), younger(s.beaten_ns)
    s.told_ns = younger(s.told_ns)
    s.returned_ns, s.spread_ns = younger(s.returned_ns), younger(s.spread_ns)
    s.sent = deque(
        ((number, younger(at_ns), younger(all_ns)) for number, at_ns, all_ns in s.sent),
        s.sent.maxlen,
    )
    for peer in s.peers.values():
        peer.heard_ns, peer.echoed_ns = younger(peer.heard_ns), younger(peer.echoed_ns)
        peer.busy_ns, peer.apart_ns = younger(peer.busy_ns), younger(peer.apart_ns)
        peer.excluded_ns = younger(peer.excluded_ns)
        peer.tolerated_ns = younger(peer.tolerated_ns)
        peer.networks = {name: younger(at_ns) for name, at_ns in peer.networks.items()}
