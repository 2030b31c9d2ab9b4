"""Attributes and contents of inodes, brought to the target by the copy."""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Final

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.asking import Asker, SessionLost
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import Change, Key
from mirrorfarm.actors.replicator.operations import (
    ANY_OPERATION,
    ROOT,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_SIZE,
    SET_UID,
    RemoveXattr,
    SetAttr,
    SetXattr,
    Write,
)
from mirrorfarm.actors.replicator.questions import Entry, HashItem
from mirrorfarm.limits import ZONE_BYTES

_TRIES: Final = 1_000  # A writer would have to hit the same 50 microseconds as often.
_BATCH_ZONES: Final = 512  # Compared with one question: 32 MiB.
_BATCH_ITEMS: Final = 256
_TELL_NS: Final = 250_000_000
# What was a file may be a pipe by now: that must not wait for a writer.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
_NO_FILE: Final = (errno.ENOENT, errno.ELOOP, errno.ENXIO)  # Gone, a symbolic link, a socket.
_CAPABILITY: Final = b"security.capability"  # A kernel takes it away at a write or a new owner.
_DEFAULT_ACL: Final = b"system.posix_acl_default"  # What is made in its directory inherits it.


class Contents:
    """Sends what differs; counts how far it is."""

    def __init__(self, carrier: Carrier, asker: Asker) -> None:
        self._carrier = carrier
        self._asker = asker
        self.files_done = self.files_total = self.bytes_done = self.bytes_total = 0
        self.bytes_sent = 0
        self.tell: Callable[[], None] = lambda: None
        self._told_ns = 0
        self.settled: set[Key] = set()  # Of several names, all of which are right at the target.
        self._missed: set[Key] = set()  # Not found where it was: it moved, or went.

    def copy(
        self,
        directory: int,
        fd: int,
        files: list[tuple[Entry, Entry | None, Change]],
        created: set[int],
    ) -> None:
        """Bring inodes of one directory: attributes of all, contents of regular files.

        `created` are empty at the target, but for what was written since.
        """
        batch: list[tuple[Entry, HashItem]] = []
        zones = 0
        self._missed.clear()
        inherits = _DEFAULT_ACL in inventory.attributes(f"/proc/self/fd/{fd}/.".encode())
        self.files_total += len(files)
        self.bytes_total += sum(e.size for e, _, _ in files if stat.S_ISREG(e.mode))
        for entry, there, change in files:
            if not self._carrier.knows(directory, entry.inode):
                self._missed.add((directory, entry.inode))
                continue  # Gone or moved meanwhile.
            fresh = entry.inode in created
            size = entry.size
            if not (there is not None and not fresh and _is_like(entry, there)):
                bare = fresh and not entry.extra and not inherits
                known = entry if bare else there if not fresh else None
                size = self.attributes(directory, fd, entry.name, entry.inode, known)
            if stat.S_ISREG(entry.mode):
                if fresh and entry.links == 1:
                    self._send_file(directory, fd, entry)
                else:
                    for item in _items(entry.inode, max(size, entry.size), change):
                        batch.append((entry, item))
                        zones += item.count
                        if zones >= _BATCH_ZONES or len(batch) >= _BATCH_ITEMS:
                            self._compare(directory, fd, batch)
                            batch, zones = [], 0
            self.files_done += 1
            self._progress()
        self._compare(directory, fd, batch)
        for entry, _, change in files:
            key = (directory, entry.inode)
            if key in self._missed or not self._carrier.knows(*key):
                if entry.links > 1:  # It may have lost one of them only.
                    self._carrier.moves.missed(key)
            elif not stat.S_ISDIR(entry.mode) and change.whole:
                if entry.links == 1:
                    self._carrier.moves.copied(key)
                elif key in self.settled:
                    self._carrier.moves.settled(key)

    def _progress(self) -> None:
        self._asker.look()
        now = time.monotonic_ns()
        if now - self._told_ns >= _TELL_NS:
            self._told_ns = now
            self.tell()

    # --- attributes ------------------------------------------------------------------------

    def attributes(
        self, directory: int, fd: int, name: bytes, node: int, there: Entry | None
    ) -> int:
        """Make size, owner, mode, times and extended attributes those of here.

        `there`: the inode as the target has it, if its extended attributes are known. Return the
        size that it has there now: up to it the content may be the target's own.
        """
        size = 0
        key = (directory, node)
        self._asker.room()
        now = inventory.entry(fd, name) if self._carrier.knows(*key) else None
        if now is None:
            self._missed.add(key)
            return size
        names = None
        if there is None or there.extra != now.extra:
            # Of the many links that have none, and are made anew, nothing needs to be asked.
            if not stat.S_ISLNK(now.mode) or _extended(fd, now, all_of_them=True):
                names = self._asker.attributes(directory, node)
        for _ in range(_TRIES):
            self._carrier.watch(key)
            now = inventory.entry(fd, name)
            if now is None or node not in {ROOT, now.inode} or not self._carrier.knows(*key):
                self._missed.add(key)
                break
            ours = _extended(fd, now, all_of_them=names is not None)
            gone = [name for name in names or () if name not in ours]
            orders = [
                *(RemoveXattr(directory, node, name) for name in gone),
                *self._setting(directory, node, now),
                *(SetXattr(directory, node, name, value) for name, value in ours.items()),
            ]
            if self._send(key, lambda change: change.attributes, orders):
                size = now.size
                break
        self._carrier.unwatch(key)
        return size

    @staticmethod
    def _setting(directory: int, node: int, now: Entry) -> list[ANY_OPERATION]:
        valid = SET_MODE | SET_UID | SET_GID
        if stat.S_ISREG(now.mode):
            valid |= SET_SIZE
        if not stat.S_ISDIR(now.mode):
            valid |= SET_MTIME
        return [
            SetAttr(
                directory,
                node,
                valid,
                mode=now.mode,
                uid=now.uid,
                gid=now.gid,
                size=now.size if valid & SET_SIZE else 0,
                mtime_ns=now.mtime_ns,
            )
        ]

    def _send(
        self, key: Key, touched: Callable[[Change], bool], orders: list[ANY_OPERATION]
    ) -> bool:
        source = self._asker.source
        sent = self._carrier.send_unless(key, touched, source, [(o, b"") for o in orders])
        if not sent and self._carrier.source is not source:
            raise SessionLost
        return sent

    # --- contents --------------------------------------------------------------------------

    def _open(self, directory: int, fd: int, entry: Entry) -> int:
        try:
            file = os.open(entry.name, _READ, dir_fd=fd)
            if os.fstat(file).st_ino == entry.inode:
                return file
            os.close(file)
        except OSError as fault:
            if fault.errno not in _NO_FILE:
                raise
        self._missed.add((directory, entry.inode))
        return -1

    def _send_file(self, directory: int, fd: int, entry: Entry) -> None:
        """Send all of a file that the copy created: holes and zeroes are there already."""
        file = self._open(directory, fd, entry)
        if file < 0:
            return
        key = (directory, entry.inode)
        try:
            self._carrier.watch(key)
            zone = 0
            while data := os.pread(file, ZONE_BYTES, zone * ZONE_BYTES):
                following = zone + 1
                if data != inventory.ZEROS[: len(data)]:
                    self._send_zone(key, file, zone, data)
                else:
                    following = inventory.hole_end(file, following * ZONE_BYTES) // ZONE_BYTES
                self.bytes_done += _bytes(following, entry.size) - _bytes(zone, entry.size)
                zone = following
                self._progress()
        finally:
            self._carrier.unwatch(key)
            os.close(file)
        self._end_file(directory, fd, entry)

    def _compare(self, directory: int, fd: int, batch: list[tuple[Entry, HashItem]]) -> None:
        """Ask for the target's digests and send the zones that differ."""
        if not batch:
            return
        found = self._asker.digests(directory, [item for _, item in batch])
        for (entry, item), digests in zip(batch, found, strict=True):
            file = self._open(directory, fd, entry)
            if file < 0:
                continue
            key = (directory, entry.inode)
            sent = False
            try:
                self._carrier.watch(key)
                zones = inventory.Zones(file)
                for zone, digest in enumerate(digests, item.first):
                    data = zones.read(zone)
                    if not data:
                        break
                    if inventory.digest(data) != digest:
                        self._send_zone(key, file, zone, data)
                        zones.look_again()  # It may have begun to watch anew.
                        sent = True
                    self.bytes_done += len(data)
                    self._progress()
            finally:
                self._carrier.unwatch(key)
                os.close(file)
            if sent:
                self._end_file(directory, fd, entry)

    def _send_zone(self, key: Key, file: int, zone: int, data: bytes) -> None:
        """Send one zone, read again as long as modifications overtake it.

        Nothing is sent of an inode that lost a name meanwhile: with another one it is copied
        there, or was.
        """
        self._asker.room()
        source = self._asker.source
        for _ in range(_TRIES):
            operation = Write(key[0], key[1], zone * ZONE_BYTES, len(data))
            if self._carrier.send_unless(
                key, lambda change: _is_hit(change, zone), source, [(operation, data)]
            ):
                self.bytes_sent += len(data)
                return
            if self._carrier.source is not source:
                raise SessionLost
            if not self._carrier.knows(*key):
                self._missed.add(key)
                return
            self._carrier.watch(key)
            data = os.pread(file, ZONE_BYTES, zone * ZONE_BYTES)
            if not data:
                return
        raise SessionLost

    def _end_file(self, directory: int, fd: int, entry: Entry) -> None:
        """Bring what the writes took away from a file at the target."""
        key = (directory, entry.inode)
        for _ in range(_TRIES):
            self._carrier.watch(key)
            now = inventory.entry(fd, entry.name)
            if now is None or now.inode != entry.inode or not self._carrier.knows(*key):
                self._missed.add(key)
                break
            orders: list[ANY_OPERATION] = [
                SetXattr(directory, entry.inode, name, value)
                for name, value in _extended(fd, now, all_of_them=False).items()
            ]
            orders.append(SetAttr(directory, entry.inode, SET_MTIME, mtime_ns=now.mtime_ns))
            if self._send(key, lambda change: change.attributes, orders):
                break
        self._carrier.unwatch(key)


def _bytes(zones: int, size: int) -> int:
    """How much of a file its first zones are."""
    return min(zones * ZONE_BYTES, size)


def _extended(fd: int, entry: Entry, *, all_of_them: bool) -> dict[bytes, bytes]:
    """Extended attributes of an entry: all, or those that have to be set again behind others."""
    if not entry.extra:
        return {}
    found = inventory.attributes(f"/proc/self/fd/{fd}/".encode() + entry.name)
    return {name: found[name] for name in found if all_of_them or name == _CAPABILITY}


def _is_like(here: Entry, there: Entry) -> bool:
    """Whether the attributes are equal already; a directory's time is not replicated."""
    if (here.mode, here.uid, here.gid, here.extra) != (
        there.mode,
        there.uid,
        there.gid,
        there.extra,
    ):
        return False
    if stat.S_ISDIR(here.mode):
        return True
    return (here.size, here.mtime_ns) == (there.size, there.mtime_ns)


def _is_hit(change: Change, zone: int) -> bool:
    if change.whole:
        return True
    return zone >> 3 < len(change.zones) and bool(change.zones[zone >> 3] & 1 << (zone & 7))


def _items(node: int, size: int, change: Change) -> list[HashItem]:
    """Zones to compare, in runs of bounded length."""
    count = -(-size // ZONE_BYTES)
    if change.whole:
        return [
            HashItem(node, first, min(_BATCH_ZONES, count - first))
            for first in range(0, count, _BATCH_ZONES)
        ]
    runs: list[HashItem] = []
    for zone in change.marked():
        if zone >= count:
            break
        last = runs[-1] if runs else None
        if last is not None and last.first + last.count == zone and last.count < _BATCH_ZONES:
            runs[-1] = HashItem(node, last.first, last.count + 1)
        else:
            runs.append(HashItem(node, zone, 1))
    return runs
