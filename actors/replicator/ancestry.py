"""Which directories above an inode must be opened before it can be."""

import errno
from collections.abc import Mapping
from typing import Final, Protocol, TypeVar

# Something else is at a place, or nothing. Any other error says nothing about what is there.
GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)

Place = tuple[int, bytes]  # Number of the parent, name.


class Named(Protocol):
    """An inode that is known by its places, and whose descriptor may be closed."""

    names: tuple[Place, ...]
    fd: int  # Below 0: closed.


N = TypeVar("N", bound=Named)


def closed_above(inode: Named, known: Mapping[int, N]) -> list[N]:
    """Return the closed directories above an inode by its first names, topmost first.

    Opened in this order each needs only the one before: they may be as deep as they like.
    """
    above: list[N] = []
    while inode.names and len(above) < len(known):  # Were names a ring, it would end.
        parent = known.get(inode.names[0][0])
        if parent is None or parent.fd >= 0:
            break
        above.append(parent)
        inode = parent
    return above[::-1]
