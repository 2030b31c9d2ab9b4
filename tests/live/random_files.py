"""Random operations on files, the same for one seed, and what two trees differ in."""

import contextlib
import hashlib
import mmap
import os
import random
import shutil
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.operations import RENAME_EXCHANGE, RENAME_NOREPLACE

FOLDERS = ("a", "b", "c")
NAMES = ("f0", "f1", "f2", "f3", "f4", "f5")
OPEN_MAX = 6
KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT = 1, 3, 8, 16, 32
_NOBODY = 0xFFFFFFFF


def acl(group: int, rights: int) -> bytes:
    """An access control list with one more group."""
    return struct.pack(
        "<I" + "HHI" * 5,
        *(2, 1, 7, _NOBODY, 4, 5, _NOBODY, 8, rights, group, 16, 7, _NOBODY, 32, 4, _NOBODY),
    )


class RandomFiles:
    """Changes one tree; `done` tells what it did."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.root = Path()
        self.done: list[str] = []
        self.open: list[int] = []
        self.maps: list[tuple[int, mmap.mmap]] = []  # With the file, to ask how long it is.
        self._ways: list[tuple[int, Callable[[], str]]] = [
            (14, self._write),
            (6, self._append),
            (4, self._replace),
            (10, self._rename),
            (5, self._exchange),
            (6, self._link),
            (8, self._unlink),
            (3, self._symlink),
            (2, self._special),
            (5, self._mkdir),
            (3, self._rmdir),
            (3, self._rename_folder),
            (2, self._exchange_folders),
            (1, self._remove_folder),
            (5, self._truncate),
            (3, self._chmod),
            (3, self._chown),
            (3, self._times),
            (4, self._xattr),
            (2, self._acl),
            (3, self._fallocate),
            (6, self._open),
            (8, self._write_open),
            (3, self._map),
            (4, self._close),
            (2, self._as_a_user),
        ]

    def some(self, count: int) -> None:
        """Do some."""
        weights = [weight for weight, _ in self._ways]
        for _ in range(count):
            _, way = self.dice.choices(self._ways, weights)[0]
            try:
                self.done.append(f"{way.__name__[1:]} {way()}")
            except (OSError, ValueError) as fault:
                self.done.append(f"{way.__name__[1:]} {fault}")

    def close(self) -> None:
        """Close all that is open."""
        for opened in self.open:
            with contextlib.suppress(OSError):
                os.close(opened)
        for file, one in self.maps:
            self._unmap(file, one)
        self.open, self.maps = [], []

    @staticmethod
    def _unmap(file: int, one: mmap.mmap) -> None:
        with contextlib.suppress(OSError, ValueError):
            one.close()
        with contextlib.suppress(OSError):
            os.close(file)

    # --- places ----------------------------------------------------------------------------

    def _folder(self) -> str:
        depth = self.dice.choice((0, 1, 1, 2, 2, 3))
        return "/".join(self.dice.choice(FOLDERS) for _ in range(depth))

    def _place(self) -> str:
        return os.path.join(self._folder(), self.dice.choice(NAMES))

    def _any(self) -> str:
        if self.dice.random() < 0.3:
            return self._folder() or "a"
        return self._place()

    def _bytes(self) -> bytes:
        size = self.dice.choice((0, 1, 10, 100, 4_096, 10_000, 65_536, 70_000, 200_000))
        return self.dice.randbytes(min(size, 997)) * (size // 997 + 1)

    def _at(self, place: str) -> Path:
        return self.root / place

    # --- content ---------------------------------------------------------------------------

    def _write(self) -> str:
        place, data = self._place(), self._bytes()
        offset = self.dice.choice((0, 0, 5, 65_530, 300_000))
        fd = os.open(self._at(place), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            os.pwrite(fd, data, offset)
            if self.dice.random() < 0.3:
                os.fsync(fd)
        finally:
            os.close(fd)
        return f"{place} {offset} {len(data)}"

    def _append(self) -> str:
        place, data = self._place(), self._bytes()
        fd = os.open(self._at(place), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        return f"{place} {len(data)}"

    def _replace(self) -> str:
        place, data = self._place(), self._bytes()
        new = self._at(place + ".new")
        new.write_bytes(data)
        new.rename(self._at(place))
        return f"{place} {len(data)}"

    def _truncate(self) -> str:
        place, size = self._place(), self.dice.choice((0, 1, 100, 65_536, 66_000, 150_000))
        os.truncate(self._at(place), size)
        return f"{place} {size}"

    def _fallocate(self) -> str:
        place = self._place()
        mode = self.dice.choice((0, KEEP_SIZE, PUNCH, ZERO, ZERO | KEEP_SIZE, COLLAPSE, INSERT))
        block = 4_096 if mode in (COLLAPSE, INSERT) else 1
        offset = self.dice.choice((0, 1, 5, 16)) * (block if block > 1 else 4_000)
        length = self.dice.choice((1, 2, 17)) * (block if block > 1 else 4_000)
        fd = os.open(self._at(place), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            libc.fallocate(fd, mode, offset, length)
        finally:
            os.close(fd)
        return f"{place} {mode} {offset} {length}"

    def _open(self) -> str:
        place = self._place()
        fd = os.open(self._at(place), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return f"{place} is special"
        if len(self.open) >= OPEN_MAX:
            os.close(self.open.pop(0))
        self.open.append(fd)
        return f"{place} inode {os.fstat(fd).st_ino}"

    def _write_open(self) -> str:
        if not self.open:
            return "none"
        fd, offset = self.dice.choice(self.open), self.dice.choice((0, 7, 65_536, 131_070))
        data = self._bytes()
        match self.dice.randrange(5):
            case 0:
                os.ftruncate(fd, offset)
            case 1:
                os.fchmod(fd, self.dice.choice((0o600, 0o640, 0o4755)))
            case _:
                os.pwrite(fd, data, offset)
        if self.dice.random() < 0.3:
            os.fsync(fd)
        return f"inode {os.fstat(fd).st_ino} {offset} {len(data)}"

    def _map(self) -> str:
        if self.maps and self.dice.random() < 0.7:
            file, one = self.dice.choice(self.maps)
            if os.fstat(file).st_size < len(one):
                return "beyond the end"  # The process would die.
            offset = self.dice.randrange(len(one) - 5)
            one[offset : offset + 5] = b"mmap!"
            if self.dice.random() < 0.3:
                one.flush()
            return f"write {offset}"
        if not self.open:
            return "none"
        fd = self.dice.choice(self.open)
        os.ftruncate(fd, max(os.fstat(fd).st_size, 8_192))
        if len(self.maps) >= OPEN_MAX:
            self._unmap(*self.maps.pop(0))
        self.maps.append((os.dup(fd), mmap.mmap(fd, 4_096)))
        return "new"

    def _close(self) -> str:
        if self.open:
            os.close(self.open.pop(self.dice.randrange(len(self.open))))
        return ""

    # --- names -----------------------------------------------------------------------------

    def _rename(self) -> str:
        old, new = self._place(), self._place()
        self._move(old, new, self.dice.choice((0, 0, 0, RENAME_NOREPLACE)))
        return f"{old} {new}"

    def _exchange(self) -> str:
        old, new = self._any(), self._any()
        self._move(old, new, RENAME_EXCHANGE)
        return f"{old} {new}"

    def _move(self, old: str, new: str, flags: int) -> None:
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            libc.rename(folder, os.fsencode(old), folder, os.fsencode(new), flags)
        finally:
            os.close(folder)

    def _link(self) -> str:
        old, new = self._place(), self._place()
        os.link(self._at(old), self._at(new), follow_symlinks=False)
        return f"{old} {new}"

    def _unlink(self) -> str:
        place = self._place()
        self._at(place).unlink()
        return place

    def _symlink(self) -> str:
        place, target = self._place(), self.dice.choice(("f0", "../f1", "nowhere"))
        self._at(place).symlink_to(target)
        return f"{place} {target}"

    def _special(self) -> str:
        place = self._place()
        if self.dice.random() < 0.5:
            os.mkfifo(self._at(place), 0o640)
        else:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(os.fspath(self._at(place)))
        return place

    def _mkdir(self) -> str:
        place = self._folder() or "a"
        self._at(place).mkdir(mode=self.dice.choice((0o755, 0o2775, 0o700)))
        return place

    def _rmdir(self) -> str:
        place = self._folder() or "a"
        self._at(place).rmdir()
        return place

    def _rename_folder(self) -> str:
        old, new = self._folder() or "a", self._folder() or "b"
        self._move(old, new, 0)
        return f"{old} {new}"

    def _exchange_folders(self) -> str:
        old, new = self._folder() or "a", self._folder() or "b"
        self._move(old, new, RENAME_EXCHANGE)
        return f"{old} {new}"

    def _remove_folder(self) -> str:
        place = self._folder() or "a"
        if self._at(place).is_dir():  # `rmtree` opens it first, and would wait at a pipe.
            shutil.rmtree(self._at(place))
        return place

    # --- attributes ------------------------------------------------------------------------

    def _chmod(self) -> str:
        place, mode = self._any(), self.dice.choice((0o600, 0o644, 0o755, 0o6755, 0o2775, 0o1777))
        os.chmod(self._at(place), mode, follow_symlinks=True)
        return f"{place} {mode:o}"

    def _chown(self) -> str:
        place, uid, gid = self._any(), self.dice.choice((-1, 0, 33)), self.dice.choice((-1, 0, 34))
        os.chown(self._at(place), uid, gid, follow_symlinks=False)
        return f"{place} {uid} {gid}"

    def _times(self) -> str:
        place, time = self._any(), self.dice.randrange(2_000_000_000) * 1_000_000_007
        os.utime(self._at(place), ns=(time, time), follow_symlinks=False)
        return f"{place} {time}"

    def _xattr(self) -> str:
        place, name = self._any(), self.dice.choice(("user.one", "trusted.two", "security.three"))
        if self.dice.random() < 0.3:
            os.removexattr(self._at(place), name)
            return f"{place} -{name}"
        value = self.dice.randbytes(self.dice.choice((0, 1, 50, 900)))
        os.setxattr(self._at(place), name, value)
        return f"{place} {name} {len(value)}"

    def _acl(self) -> str:
        place = self._any()
        name = "system.posix_acl_" + self.dice.choice(("access", "default"))
        if self.dice.random() < 0.4:
            os.removexattr(self._at(place), name)
            return f"{place} -{name}"
        value = acl(self.dice.choice((5, 6)), self.dice.choice((4, 6)))
        os.setxattr(self._at(place), name, value)
        return f"{place} {name}"

    def _as_a_user(self) -> str:
        place, data = self._place(), self._bytes()
        self._at(place).parent.chmod(0o777)
        if self._at(place).exists():
            os.chmod(self._at(place), self.dice.choice((0o6777, 0o2777)))
        libc.act_as(33, 33)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(self._at(place), flags, 0o666)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)
        finally:
            libc.act_as(0, 0)
        return f"{place} {len(data)}"


def tree(root: Path, *, times: bool) -> dict[str, tuple[Any, ...]]:
    """Everything that must be equal on both nodes; names of one inode are told by the first."""
    found: dict[str, tuple[Any, ...]] = {}
    firsts: dict[int, str] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([".", *folders, *files] if folder == str(root) else folders + files):
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = _described(path, root, firsts, times)
    return found


def _described(path: str, root: Path, firsts: dict[int, str], times: bool) -> tuple[Any, ...]:
    status = os.lstat(path)
    content: str | tuple[int, ...] = ""
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    attributes = (
        ()
        if stat.S_ISLNK(status.st_mode)
        else tuple(
            (name, os.getxattr(path, name, follow_symlinks=False).hex()[:40])
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        )
    )
    own = (oct(status.st_mode), status.st_uid, status.st_gid)
    if stat.S_ISDIR(status.st_mode):
        return (*own, attributes)
    first = firsts.setdefault(status.st_ino, os.path.relpath(path, root))
    links = (status.st_nlink, first)
    return (*own, *links, status.st_size, status.st_mtime_ns * times, content, attributes)


def differences(here: Path, there: Path, *, times: bool = True) -> list[str]:
    """What differs, in words."""
    ours, theirs = tree(here, times=times), tree(there, times=times)
    return [
        f"{name}:\n   {ours.get(name)}\n   {theirs.get(name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
