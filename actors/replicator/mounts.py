"""What is mounted in one role, from the mount to the end; made anew for each.

Whoever watches over an end holds what is ended: it can do nothing to what is mounted later.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from mirrorfarm.actors.replicator import inventory, libc, users
from mirrorfarm.actors.replicator.disks import Disks
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.fuse.mount import clear_leftover
from mirrorfarm.actors.replicator.lookout import Lookout
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.modules.settings import Replicated
from mirrorfarm.oserrors import reason_of

_BUSY_S: Final = 2.5  # How long a clean end waits for those who use the mount.
_USERS_S: Final = 1.0  # Then those are named, and ended if they are the application's.

Identity = tuple[int, int]  # Device and inode of a directory.


class Mounts:
    """The file systems of the replicated directories; all but `abort` is for one thread."""

    def __init__(self, scope: str, report: Callable[[str], None]) -> None:
        """`scope`: the application's control group."""
        self._scope = scope
        self._report = report
        self.systems: list[FileSystem] = []
        self.disks = Disks()  # Those below, from `watch_disks` on, also when all is unmounted.
        self._lookout: Lookout | None = None
        self.aborted = False
        self.users: list[str] = []  # Who used what was ended, in words.

    @property
    def roots(self) -> list[int]:
        """Descriptors of the directories below; only while mounted."""
        return [system.backing_fd for system in self.systems]

    def identities(self) -> tuple[Identity, ...]:
        """What tells the disks below from others; only while mounted."""
        return tuple(_identity(os.stat(f"/proc/self/fd/{root}")) for root in self.roots)

    def watch_disks(self) -> None:
        """From now on hear of what the disks below lose; only while mounted."""
        self.disks.close()
        self.disks = Disks(self.roots)

    def watch_paths(self, lost: Callable[[str], None]) -> None:
        """From now on tell what does not lead to them any more, once; only while mounted."""
        self._lookout = Lookout(self.systems, lost)

    def flush(self) -> tuple[Identity, ...]:
        """Have the kernel write back what it holds; return the identities of the disks below.

        Nothing if it was aborted: then the kernel had to give up what it held, and no disk failed.
        """
        try:
            return tuple(_flush(system) for system in self.systems if system.mounted)
        except OSError:
            if not self.aborted:
                raise
            return ()

    def unmount(self, *, patient: bool, stays: bool = False) -> None:
        """Unmount everything; `patient`: who uses it gets some time, unless it is aborted.

        `stays`: end it, and leave dead mounts.
        """
        self._end_watch()
        for system in self.systems:
            if stays:
                system.end()
            else:
                self._unmount(system, patient=patient and not self.aborted)

    def abort(self) -> None:
        """Fail every request, those that wait and those to come; from any thread."""
        self.aborted = True
        self._end_watch()
        for system in self.systems:
            try:
                system.abort()
            except OSError as fault:
                self._report(f"{os.fsdecode(system.path)}: abort: {fault}")

    def _end_watch(self) -> None:
        if self._lookout is not None:
            self._lookout.close()

    def _unmount(self, system: FileSystem, *, patient: bool) -> None:
        began = time.monotonic()
        named = not patient
        while True:
            waited = time.monotonic() - began
            try:
                system.unmount(lazy=not patient or waited >= _BUSY_S)
            except OSError as fault:
                if not patient or waited >= _BUSY_S:
                    self._report(f"{os.fsdecode(system.path)}: {fault}")
                    return
                if not named and waited >= _USERS_S:
                    named = True
                    self._end_users(system)
                time.sleep(0.05)
            else:
                return

    def _end_users(self, system: FileSystem) -> None:
        """Name who keeps a directory from being unmounted; end what the stop scripts left over."""
        path = os.fsdecode(system.path)
        for user in users.users(system.path, self._scope):
            if user.own:
                users.end(user, self._scope)
            what = "survived the stop scripts and is ended" if user.own else "loses it in a moment"
            text = f"{path} is still in use by process {user}, which {what}"
            self._report(text)
            self.users.append(text)


def clear_leftovers(directories: Iterable[str]) -> None:
    """Unmount what is dead there. OSError EBUSY: something live is mounted."""
    for directory in directories:
        clear_leftover(os.path.realpath(os.fsencode(directory)))


def require_paths(
    directories: Iterable[Replicated], known: tuple[Identity, ...]
) -> tuple[Identity, ...]:
    """See that what must be there before each directory is replicated is there (`<tocheck>`).

    An empty directory whose disk is not mounted would pass for the data. SystemUnsuitable names
    what is missing. `known` are the directories that were found whole before, which are returned:
    of those the application may have removed it since, and no takeover is to fail by that.
    """
    directories = list(directories)
    found = tuple(_identity(os.stat(one.dir)) for one in directories)
    for one in directories if found != known else ():
        for path in one.tocheck:
            try:
                os.lstat(path)
            except OSError as fault:
                reason = f"{path} must be there before {one.dir} is replicated"
                cure = "its disk may have to be mounted"
                raise SystemUnsuitable(f"{reason} ({reason_of(fault)}); {cure}") from None
    return found


def _flush(system: FileSystem) -> Identity:
    """Have the mounted file system write back what it holds.

    A descriptor of it that is kept would keep it busy. What it loses nobody has to tell us: it was
    this process that refused it.
    """
    if not system.leads():
        raise OSError(errno.ENOTCONN, "somebody took it away", os.fsdecode(system.path))
    fd = inventory.open_directory(system.path)
    try:
        with inventory.placing(fd):
            libc.syncfs(fd)
    finally:
        os.close(fd)
    return _identity(os.stat(f"/proc/self/fd/{system.backing_fd}"))


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
