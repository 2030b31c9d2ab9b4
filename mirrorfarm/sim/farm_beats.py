"""How long the heartbeats of a farm are: where they do not pass, nodes do not hear each other."""

from functools import lru_cache

import msgspec

from mirrorfarm.actors.farm_filter.bitmaps import BITMAP_BYTES
from mirrorfarm.limits import POWER_MAX
from mirrorfarm.sim.cluster import FRAME_BYTES
from mirrorfarm.sim.network import Network
from mirrorfarm.transport.messages import FarmBeat

_NUMBER = 1 << 31  # Of a heartbeat or a view: a simulation ends long before.
_RULES = 16  # Characters, as `module_cores.rules_digest` has.


def pass_always(network: Network, source: str, to: str, *, longest: int) -> bool:
    """Return whether heartbeats arrive, also when they tell of connections and are long."""
    bytes_max = network.narrow.get((source, to), longest)
    return bytes_max >= longest and network.passes(source, to)


@lru_cache(maxsize=64)
def bytes_at_most(nodes: int, groups: int) -> int:
    """Return how long the frame of a heartbeat may be: a cache, not a state."""
    everybody = (1 << nodes) - 1
    beat = FarmBeat(
        number=_NUMBER,
        incarnation=_NUMBER,
        wish="drain",
        mode="nfqueue",
        rules="r" * _RULES,
        powers=(POWER_MAX,) * groups,
        heard=(_NUMBER,) * nodes,
        view=_NUMBER,
        view_members=everybody,
        bid=_NUMBER,
        bid_members=everybody,
        floor=_NUMBER,
        draining=(bytes(BITMAP_BYTES),) * groups,
        connections=_NUMBER,
    )
    return FRAME_BYTES + len(msgspec.msgpack.encode(beat))
