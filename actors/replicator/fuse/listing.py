"""Handlers that list directories, straight from the disk's own order and positions."""

import ctypes
import errno
import os
from collections.abc import Callable, Mapping
from typing import Final

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.files import flush_both
from mirrorfarm.actors.replicator.fuse.nodes import Node
from mirrorfarm.actors.replicator.fuse.protocol import Reply, Request
from mirrorfarm.actors.replicator.fuse.volume import Handle, Volume

_BUFFER_BYTES: Final = 32_768
_DOTS: Final = (b".", b"..")
_ENTRY_BYTES: Final = 128  # Before the name: `fuse_entry_out`; zeros: not looked up.
_NO_ENTRY: Final = bytes(_ENTRY_BYTES)

Entry = tuple[int, int, int, bytes]  # Inode, position after it, kind, name.


class Listing:
    """Handlers bound to one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._nodes = volume.nodes
        cached = protocol.OPEN_CACHE_DIR | protocol.OPEN_KEEP_CACHE
        self._opened = 0 if volume.read_only else cached

    def handlers(self) -> Mapping[int, Callable[[Request], Reply]]:
        """Give the operations served here."""
        return {
            protocol.OPENDIR: self.opendir,
            protocol.READDIR: self.readdir,
            protocol.READDIRPLUS: self.readdirplus,
            protocol.RELEASEDIR: self.releasedir,
            protocol.FSYNCDIR: self.fsyncdir,
        }

    def opendir(self, request: Request) -> Reply:
        """Open a directory."""
        with self._volume.watching_disk(request.node), self._nodes.use(request.node) as node:
            fd = os.open(node.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            number = self._volume.add_handle(Handle(fd, node))
        return protocol.OPENED.pack(number, self._opened, 0)

    def releasedir(self, request: Request) -> Reply:
        """Close a directory."""
        self._volume.remove_handle(protocol.LONG.unpack_from(request.buffer, 40)[0])
        return None

    def readdir(self, request: Request) -> Reply:
        """List names."""
        return self._list(request, self._plain)

    def readdirplus(self, request: Request) -> Reply:
        """List names with their attributes: each one counts as a lookup."""
        return self._list(request, self._with_attributes)

    def fsyncdir(self, request: Request) -> Reply:
        """Make the names of a directory durable on both disks."""
        number, flags = protocol.FSYNC_IN.unpack_from(request.buffer, 40)
        handle = self._volume.handle(number)
        return flush_both(self._volume, handle, bool(flags & protocol.FSYNC_DATA_ONLY))

    def _list(self, request: Request, pack: Callable[[Node, Entry, int], bytes]) -> Reply:
        number, offset, size = protocol.READ_IN.unpack_from(request.buffer, 40)
        handle = self._volume.handle(number)
        parts: list[bytes] = []
        left = size
        watching = self._volume.watching_disk(handle.node.number)
        with watching, handle.lock, self._nodes.use(handle.node.number) as node:
            entries = self._entries(handle, offset)
            for place, entry in enumerate(entries):
                part = pack(node, entry, left)
                if not part:
                    handle.pending = (offset, entries[place:])
                    break
                left -= len(part)
                offset = entry[1]
                parts.append(part)
            else:
                handle.pending = (offset, [])
        return b"".join(parts)

    def _entries(self, handle: Handle, offset: int) -> list[Entry]:
        at, entries = handle.pending
        if at == offset and entries:
            return entries
        os.lseek(handle.fd, offset, os.SEEK_SET)
        buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
        filled = libc.directory_entries(handle.fd, buffer, _BUFFER_BYTES)
        raw = buffer.raw[:filled]
        entries = []
        start = 0
        while start < filled:
            inode, after, length, kind = protocol.LINUX_DIRENT.unpack_from(raw, start)
            name_start = start + protocol.LINUX_DIRENT.size
            name = raw[name_start : raw.index(0, name_start)]
            entries.append((inode, after, kind, name))
            start += length
        return entries

    def _plain(self, _: Node, entry: Entry, left: int) -> bytes:
        """Give one entry; nothing if it does not fit."""
        inode, after, kind, name = entry
        padded = (protocol.DIRENT.size + len(name) + 7) & ~7
        if padded > left:
            return b""
        return (protocol.DIRENT.pack(inode, after, len(name), kind) + name).ljust(padded, b"\0")

    def _with_attributes(self, parent: Node, entry: Entry, left: int) -> bytes:
        name = entry[3]
        if ((protocol.DIRENT.size + len(name) + 7) & ~7) + _ENTRY_BYTES > left:
            return b""
        head = _NO_ENTRY
        if name not in _DOTS:
            try:
                status = self._volume.status(parent, name)
                head = self._volume.entry(parent, name, status)[1]
            except OSError as fault:
                if fault.errno not in (errno.ENOENT, errno.EXDEV):
                    raise
        return head + self._plain(parent, entry, left)
