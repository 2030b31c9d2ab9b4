"""How many files this process may open: as many as the system lets it, its scripts as before.

Most systems start a process with a soft limit of 1024, which programs that use `select` need, and
a hard limit far above. A module that watches many processes has a descriptor for each of them.
"""

import errno
import os
import resource
from contextlib import suppress
from typing import Final

# The soft limit before it was raised: the processes of the modules inherit it from their agent.
FORMER: Final = "MIRRORFARM_FORMER_NOFILE"
# Refusals that say nothing of what was asked for: there was no means to ask.
SCARCE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_UNBOUNDED: Final = 1 << 20


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.environ.setdefault(FORMER, str(soft))
    if soft != hard:
        with suppress(OSError, ValueError):  # Then it has to do with what it has.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNBOUNDED if soft == resource.RLIM_INFINITY else soft


def former_limits() -> tuple[int, int]:
    """Return the limits, soft and hard, of a process that is none of ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    former = os.environ.get(FORMER, "")
    return (min(int(former), soft) if former.isdecimal() else soft), hard
