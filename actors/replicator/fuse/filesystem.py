"""One replicated directory as a mounted file system: mount it, unmount it, abort it.

The file system is mounted over the directory that it serves; the data below is reached by a
descriptor opened before. This process must never use a path below its own mount.
"""

import os
import threading
from collections.abc import Callable
from typing import Final

from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.fuse import mount, protocol
from mirrorfarm.actors.replicator.fuse.attributes import Attributes
from mirrorfarm.actors.replicator.fuse.files import Files
from mirrorfarm.actors.replicator.fuse.listing import Listing
from mirrorfarm.actors.replicator.fuse.names import Names
from mirrorfarm.actors.replicator.fuse.nodes import DESCRIPTORS_MAX
from mirrorfarm.actors.replicator.fuse.protocol import Reply, Request
from mirrorfarm.actors.replicator.fuse.server import Server
from mirrorfarm.actors.replicator.fuse.volume import Volume
from mirrorfarm.actors.replicator.journal import Journal
from mirrorfarm.descriptors import descriptor_limit, raise_descriptor_limit
from mirrorfarm.errors import SystemUnsuitable

_WANTED: Final = (
    protocol.ASYNC_READ
    | protocol.BIG_WRITES
    | protocol.DONT_MASK
    | protocol.DO_READDIRPLUS
    | protocol.READDIRPLUS_AUTO
    | protocol.ASYNC_DIO
    | protocol.PARALLEL_DIROPS
    | protocol.POSIX_ACL
    | protocol.MAX_PAGES
    | protocol.CACHE_SYMLINKS
    | protocol.HANDLE_KILLPRIV_V2
    | protocol.SETXATTR_EXT
    | protocol.INIT_EXT
)
_READY_SECONDS: Final = 5.0
_END_SECONDS: Final = 2.0


def _ignore(_: str) -> None:
    """Report to nobody."""


class FileSystem:
    """Serves one directory; may be mounted and unmounted again and again, by one thread.

    `read_only`: for a secondary; every modification fails with EROFS and nothing is cached, so
    that readers see what is applied behind. `writeback`: the kernel collects writes (`commit`
    mode). `each`: every write waits for the journal. `descriptors_max` bounds those kept for
    inodes without an open file; so many `directories` share those of the process. Of what
    `exclusions` name the journal hears nothing. `report` gets a line for every fault of ours, from
    any thread.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        directory: int,
        journal: Journal,
        *,
        read_only: bool = False,
        writeback: bool = True,
        each: bool = False,
        threads: int = 2,
        descriptors_max: int = DESCRIPTORS_MAX,
        directories: int = 1,
        devices_allowed: bool = False,
        exclusions: Exclusions | None = None,
        report: Callable[[str], None] = _ignore,
    ) -> None:
        self.path = os.path.realpath(os.fsencode(path))
        self.directory = directory
        self._journal = journal
        self._read_only = read_only
        self._writeback = writeback
        self._each = each
        self._threads = threads
        self._descriptors_max = descriptors_max
        self._directories = directories
        self._devices_allowed = devices_allowed
        self._exclusions = exclusions
        self._report = report
        self._lock = threading.Lock()  # One mount, unmount at a time.
        self._server: Server | None = None
        self._volume: Volume | None = None
        self._connection: mount.Connection | None = None

    @property
    def mounted(self) -> bool:
        """Whether `mount` was called and `unmount` was not."""
        return self._server is not None

    @property
    def faults(self) -> int:
        """How many requests failed by a fault of ours since the mount."""
        return self._server.faults if self._server is not None else 0

    @property
    def backing_fd(self) -> int:
        """O_PATH descriptor of the directory below the mount; only while mounted."""
        assert self._volume is not None, "only while mounted"
        return self._volume.nodes.root.fd

    def mount(self) -> None:
        """Mount and serve; returns when the first request was answered.

        The dead mount of a killed predecessor is detached first. OSError EBUSY: a live one is
        there, or ours. SystemUnsuitable: no /dev/fuse, or too old a kernel.
        """
        with self._lock:
            assert self._server is None, "mounted once"
            mount.clear_leftover(self.path)
            raise_descriptor_limit()
            share = descriptor_limit() // (4 * self._directories)
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            root_fd = os.open(self.path, flags)
            volume = Volume(
                root_fd,
                self.directory,
                self._journal,
                read_only=self._read_only,
                writeback=self._writeback,
                each=self._each,
                about_to_wait=self._about_to_wait,
                descriptors_max=min(self._descriptors_max, share),
                devices_allowed=self._devices_allowed,
                exclusions=self._exclusions,
            )
            try:
                device_fd, self._connection = mount.attach(self.path, self._read_only)
            except BaseException:
                volume.close()
                raise
            self._start(volume, device_fd)

    def _start(self, volume: Volume, device_fd: int) -> None:
        names = Names(volume)
        handlers = {protocol.INIT: self._init, protocol.DESTROY: self._destroy}
        for part in (names, Attributes(volume), Files(volume, names), Listing(volume)):
            handlers.update(part.handlers())
        server = Server(device_fd, handlers, self._journal, self._threads, self._report)
        self._volume, self._server = volume, server
        self._journal.attach(self.directory, volume)
        server.start()
        if not server.ready.wait(_READY_SECONDS):
            self._end(lazy=True)
            raise SystemUnsuitable("the kernel's FUSE does not begin to talk; it needs Linux 5.17")

    def unmount(self, *, lazy: bool = False) -> None:
        """Unmount and end the threads. OSError EBUSY: in use, and `lazy` was not asked for.

        The kernel first writes back what it collected, so the gate must be open, or `abort`
        called before. `lazy`: who still uses it, gets errors from now on.
        """
        with self._lock:
            if self._server is not None:
                self._end(lazy=lazy)

    def leads(self) -> bool:
        """Whether who goes to the path comes here; only while mounted, from any thread."""
        connection = self._connection
        return connection is not None and mount.leads(self.path, connection)

    def end(self) -> None:
        """End the threads and leave a dead mount: whoever uses it gets ENOTCONN from now on."""
        with self._lock:
            if self._server is not None:
                self._end(lazy=True, stays=True)

    def _end(self, *, lazy: bool, stays: bool = False) -> None:
        server, volume = self._server, self._volume
        assert server is not None, "only while mounted"
        assert volume is not None, "only while mounted"
        try:
            if lazy:  # Whoever still uses it gets errors, and keeps nobody waiting here.
                self.abort()
        finally:
            if not stays:
                self._detach(lazy)
        if not server.stop(_END_SECONDS):
            self.abort()
            if not server.stop(_END_SECONDS):
                self._report("file system: threads still wait; their descriptors stay open")
                self._forget()
                return
        server.close()
        volume.close()
        self._forget()

    def _forget(self) -> None:
        """Note that nothing is mounted any more."""
        if self._connection is not None:
            self._connection.close()
        self._server = self._volume = self._connection = None
        self._journal.detach(self.directory)

    def _detach(self, lazy: bool) -> None:
        assert self._connection is not None, "only while mounted"
        try:
            mount.detach(self.path, self._connection, lazy)
        except OSError as fault:
            if not lazy:
                raise
            self._report(f"{os.fsdecode(self.path)} stays, and answers with errors: {fault}")

    def abort(self) -> None:
        """Fail every request at once, those that wait and those to come; the mount stays.

        Waits for nothing and nobody; the journal must be aborted too, so that threads
        which wait at its gate end.
        """
        if (connection := self._connection) is not None:
            connection.abort()

    def _about_to_wait(self) -> None:
        if self._server is not None:
            self._server.about_to_wait()

    def _init(self, request: Request) -> Reply:
        volume = self._volume
        assert volume is not None, "served only while mounted"
        major, minor, _, flags, more = protocol.INIT_IN.unpack_from(request.buffer, 40)
        if major != protocol.MAJOR or minor < protocol.MINOR_MIN:
            raise OSError(71, "protocol too old")  # EPROTO
        wanted = _WANTED | (protocol.WRITEBACK_CACHE if volume.writeback else 0)
        accepted = wanted & flags
        volume.writeback = bool(accepted & protocol.WRITEBACK_CACHE)
        volume.extended_setxattr = bool(accepted & protocol.SETXATTR_EXT)
        more_wanted = protocol.DIRECT_IO_ALLOW_MMAP if volume.read_only else 0
        return protocol.pack_init(minor, accepted, more_wanted & more)

    def _destroy(self, _: Request) -> Reply:
        return None
