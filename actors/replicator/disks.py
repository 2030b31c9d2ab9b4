"""The file systems of some directories, made durable; what they lose is told once, and not missed.

The kernel tells each open descriptor once of pages that were lost: of those that were lost since it
was opened, and of earlier ones only as long as nobody was told. On a file system that others use,
another module or `sync -f`, somebody is told first. So one descriptor is opened before anything is
written, and kept: not by its path, where something else may be mounted later.
"""

import errno
import os
import threading
from collections.abc import Iterable
from typing import Final

from mirrorfarm.actors.replicator import inventory, libc

# Not the application's fault. EROFS: a file system that met damage takes nothing any more.
_FAILURES: Final = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EROFS)
NO_ATTRIBUTE: Final = (errno.ENODATA,)  # Elsewhere a sector that cannot be read.


def is_failure(fault: OSError, answers: tuple[int, ...] = ()) -> bool:
    """Whether a disk that answers so has failed; `answers`: what a sound one says there, too."""
    return fault.errno in _FAILURES and fault.errno not in answers


class Disks:
    """May be flushed by any thread, and closed while one does."""

    def __init__(self, roots: Iterable[int] = ()) -> None:
        """`roots`: descriptors of directories, also O_PATH."""
        self._fds: list[int] = []
        self._closed = False
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._failures: list[OSError] = []
        try:
            for root in roots:
                self._fds.append(inventory.open_root(root))
        except BaseException:
            self.close()
            raise

    def flush(self) -> None:
        """Make all durable that the disks were given; OSError if one lost something until now.

        What the kernel tells one flush, those that wait for it meanwhile hear as well.
        """
        known = len(self._failures)
        with self._flushing:
            for fd in self._fds:  # All of them: what one lost is not to be told once more.
                try:
                    self._flush(fd)
                except OSError as fault:
                    self._failures.append(fault)
            if failures := self._failures[known:]:
                first = failures[0]
                raise OSError(first.errno, first.strerror, first.filename)

    def _flush(self, fd: int) -> None:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            own = os.dup(fd)  # It may be closed meanwhile, and the number be another one's.
        try:
            with inventory.placing(own):
                libc.syncfs(own)
        finally:
            os.close(own)

    def close(self) -> None:
        """Close the descriptors, also while a disk hangs."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for fd in self._fds:
                    os.close(fd)
