"""What both nodes of a mirror must be configured with alike, lest data be taken for others."""

import hashlib
from functools import lru_cache

from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.modules.settings import Module


def directories(module: Module) -> str:
    """Return a digest of the replicated directories in their order, or of there being none."""
    return _digest(tuple(one.dir for one in module.replication.directories))


@lru_cache(maxsize=256)
def _digest(paths: tuple[str, ...]) -> str:
    """Return the digest: a cache, not a state."""
    return hashlib.blake2b("\0".join(paths).encode(), digest_size=8).hexdigest()


def difference(s: State, told: str) -> str:
    """Return what the peer has otherwise, by the digest that it told; empty: nothing is known."""
    if told in {"", directories(s.module)}:
        return ""
    return f"{s.settings.peer} replicates other directories than {s.settings.node}"
