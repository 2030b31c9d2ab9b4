"""What a copy is about to replace, set aside first: the writes that only this node has (S15).

A folder per decision: `<index>/<path>` for what is kept of each replicated directory, and
`manifest.jsonl` with one line for each thing. Files up to `WHOLE_BYTES_MAX` are kept whole, and
those that go; of larger ones the zones that are overwritten, at their place in a sparse file. What
is kept once is never written again, nor is what the session itself made kept. Everything kept is
durable before the disk below is changed.
"""

import base64
import contextlib
import errno
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.operations import (
    COLLAPSE_RANGE,
    INSERT_RANGE,
    SET_SIZE,
    Fallocate,
    RemoveXattr,
    SetAttr,
    SetXattr,
    Write,
)
from mirrorfarm.limits import ZONE_BYTES

WHOLE_BYTES_MAX: Final = 16 * 1_048_576
MANIFEST: Final = "manifest.jsonl"
_TWINS_MAX: Final = 1_000
_PATH_BYTES_MAX: Final = 2_048  # What is kept at a path of its own: the folder's is in front,
_DEPTH_MAX: Final = 100  # and each level of it is made.
_UNFLUSHED_ZONES_MAX: Final = 256  # A flush of more might take too long for who waits meanwhile.
_DELETED: Final = b" (deleted)"

Key = tuple[int, int]  # Directory, inode number on this disk.
Replacing = Write | Fallocate | SetAttr | SetXattr | RemoveXattr  # Of what is at an inode.


class Quarantine:
    """Used by one thread. Every method may raise OSError: then nothing must be replaced."""

    def __init__(self, folder: Path) -> None:
        """Begin, or go on after an interruption; what was kept then is not kept again."""
        self.folder = folder
        self.lives: Callable[[], None] = lambda: None  # Called again and again by what takes long.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fresh: set[Key] = set()  # Made by this session.
        self._told: dict[Key, int] = {}  # With the size before the first change.
        self._whole: set[Key] = set()
        self._zones: dict[Key, set[int]] = {}
        self._places: dict[Key, Path] = {}
        self._manifest = os.open(
            folder / MANIFEST, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._remember()

    def close(self) -> None:
        """End; everything is durable already."""
        os.close(self._manifest)

    # --- what is about to happen -----------------------------------------------------------

    def fresh(self, directory: int, inode: int) -> None:
        """Note that the session made an inode: nothing of it needs to be kept."""
        key = (directory, inode)
        self._fresh.add(key)
        self._whole.discard(key)  # The number of an inode that is gone.
        self._zones.pop(key, None)

    def replaced(self, operation: Replacing, root_fd: int, fd: int) -> None:
        """An operation on an open inode is about to be carried out."""
        match operation:
            case Write():
                self.content(operation.directory, root_fd, fd, operation.offset, operation.length)
            case Fallocate() if operation.mode & (COLLAPSE_RANGE | INSERT_RANGE):
                self.content(operation.directory, root_fd, fd)
            case Fallocate():
                self.content(operation.directory, root_fd, fd, operation.offset, operation.length)
            case SetAttr() if overwrites(operation):
                self.content(operation.directory, root_fd, fd, operation.size)
            case SetAttr() | SetXattr() | RemoveXattr():
                self._tell(operation.directory, root_fd, fd)

    def content(
        self, directory: int, root_fd: int, fd: int, offset: int = 0, length: int | None = None
    ) -> None:
        """Bytes of an open file are about to change; `length` None: to its end, or all moves."""
        status = os.fstat(fd)
        key = (directory, status.st_ino)
        if key in self._fresh or key in self._whole or not stat.S_ISREG(status.st_mode):
            return
        self._tell(directory, root_fd, fd)
        # Where zones are kept the rest follows, however small the copy has made the file since.
        small = status.st_size <= WHOLE_BYTES_MAX and key not in self._zones
        if small or (length is None and offset == 0):
            self._keep_all(key, fd, self._place(key, root_fd, fd))
            return
        size = min(status.st_size, self._told[key])  # What is behind it, the copy has brought.
        end = size if length is None else min(size, offset + length)
        kept = self._zones.get(key, ())
        if zones := [zone for zone in _zones(offset, end) if zone not in kept]:
            self._keep_zones(key, fd, self._place(key, root_fd, fd), zones)

    def name(self, directory: int, root_fd: int, parent_fd: int, name: bytes) -> None:
        """What lies at a name is about to lose it, with everything below, however deep.

        The content of a file goes with the last of its names, which may all be below.
        """
        links: Counter[int] = Counter()
        levels: list[tuple[int, list[bytes]]] = []
        below, names = parent_fd, [name]
        try:
            while True:
                while names:
                    self.lives()
                    with inventory.placing(below):
                        deeper = self._name(directory, root_fd, below, names.pop(), links)
                    if deeper >= 0:
                        levels.append((deeper, []))
                        below, names = deeper, levels[-1][1]
                        with inventory.placing(deeper):
                            names += reversed(inventory.names(deeper))
                if not levels:
                    return
                os.close(levels.pop()[0])
                below, names = levels[-1] if levels else (parent_fd, [])
        finally:
            for level, _ in levels:
                os.close(level)

    def _name(
        self, directory: int, root_fd: int, parent_fd: int, name: bytes, links: Counter[int]
    ) -> int:
        """Keep what lies at a name; of a directory give a descriptor that lists it, else -1."""
        try:
            status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            return -1
        if (directory, status.st_ino) in self._fresh and not stat.S_ISDIR(status.st_mode):
            return -1
        access = os.O_RDONLY if stat.S_ISREG(status.st_mode) else os.O_PATH
        fd = os.open(name, access | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            self._tell(directory, root_fd, fd, removed=True)
            if stat.S_ISREG(status.st_mode):
                links[status.st_ino] += 1
                if links[status.st_ino] == status.st_nlink:
                    self.content(directory, root_fd, fd)
            return inventory.open_root(fd) if stat.S_ISDIR(status.st_mode) else -1
        finally:
            os.close(fd)

    # --- keeping ---------------------------------------------------------------------------

    def _place(self, key: Key, root_fd: int, fd: int) -> Path:
        """Return where what is behind `fd` is kept: its path; a number for want of a short one."""
        if key in self._places:
            return self._places[key]
        path = _path(root_fd, fd)
        if not path or len(path) > _PATH_BYTES_MAX or path.count(b"/") > _DEPTH_MAX:
            path = b"?%d" % key[1]
        place = self.folder / str(key[0]) / os.fsdecode(path)
        twin, number = place, 0
        while _is_taken(twin) or not _can_be_made(twin, self.folder):
            number += 1
            if number > _TWINS_MAX:
                raise FileExistsError(f"{place}: kept too often")
            twin = self.folder / f"{key[0]}.{number}" / place.relative_to(self.folder / str(key[0]))
        twin.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._places[key] = twin
        return twin

    def _keep_all(self, key: Key, fd: int, place: Path) -> None:
        size, kept = self._told[key], self._zones.get(key, ())
        extents = ((start, min(end, size)) for start, end in _data(fd))
        zones = (zone for extent in extents for zone in _zones(*extent) if zone not in kept)
        self._copy(key, fd, place, zones)
        self._write({"inode": key[1], "directory": key[0], "kept": "whole", **self._at(place)})
        self._whole.add(key)

    def _keep_zones(self, key: Key, fd: int, place: Path, zones: list[int]) -> None:
        self._copy(key, fd, place, zones)
        about = {"inode": key[1], "directory": key[0], "kept": "zones", "zones": zones}
        self._write(about | {"zone_bytes": ZONE_BYTES} | self._at(place))
        self._zones.setdefault(key, set()).update(zones)

    def _copy(self, key: Key, fd: int, place: Path, zones: Iterable[int]) -> None:
        size = self._told[key]
        with _made(place) as out:
            if key not in self._zones:
                with inventory.placing(out):
                    os.ftruncate(out, size)
            for number, zone in enumerate(zones, 1):
                self.lives()
                at = zone * ZONE_BYTES
                _put(out, os.pread(fd, min(ZONE_BYTES, size - at), at), at)
                if number % _UNFLUSHED_ZONES_MAX == 0:
                    _flush(out, data_only=True)

    def _at(self, place: Path) -> dict[str, str]:
        return {"place": str(place.relative_to(self.folder))}

    # --- the manifest ----------------------------------------------------------------------

    def _tell(self, directory: int, root_fd: int, fd: int, *, removed: bool = False) -> None:
        """Write down what an inode was before it is touched first, and if it goes."""
        status = os.fstat(fd)
        key = (directory, status.st_ino)
        if (key in self._told or key in self._fresh) and not removed:
            return
        self._told.setdefault(key, status.st_size)
        way = f"/proc/self/fd/{fd}".encode()
        about: dict[str, Any] = {
            "inode": status.st_ino,
            "directory": directory,
            "path": os.fsdecode(_path(root_fd, fd)),
            "mode": status.st_mode,
            "uid": status.st_uid,
            "gid": status.st_gid,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "removed": removed,
        }
        if stat.S_ISLNK(status.st_mode):
            about["target"] = os.fsdecode(os.readlink("", dir_fd=fd))
        extended = inventory.attributes(way, follow=True).items()
        about["xattrs"] = {
            os.fsdecode(name): base64.b64encode(value).decode() for name, value in extended
        }
        self._write(about)

    def _write(self, about: dict[str, Any]) -> None:
        _put(self._manifest, json.dumps(about).encode() + b"\n")
        _flush(self._manifest, data_only=True)

    def _remember(self) -> None:
        """Read what was kept before an interruption; a last line that is torn counts not."""
        with inventory.placing(self._manifest):
            lines = os.pread(self._manifest, os.fstat(self._manifest).st_size, 0)
        if lines and not lines.endswith(b"\n"):
            _put(self._manifest, b"\n")  # Or the next one would be torn, too.
        for line in lines.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                about = json.loads(line)
                key = (int(about["directory"]), int(about["inode"]))
                if about.get("kept") == "whole":
                    self._whole.add(key)
                elif about.get("kept") == "zones":
                    self._zones.setdefault(key, set()).update(about["zones"])
                    self._places[key] = self.folder / about["place"]
                else:
                    self._told.setdefault(key, int(about["size"]))


def overwrites(operation: Replacing) -> bool:
    """Return whether an operation changes the content of a file, not only its attributes."""
    if isinstance(operation, SetAttr):
        return bool(operation.valid & SET_SIZE)
    return isinstance(operation, Write | Fallocate)


def _path(root_fd: int, fd: int) -> bytes:
    """Return the path of an open inode below its root; b"" if it has none, or none so short."""
    root = os.readlink(f"/proc/self/fd/{root_fd}".encode())
    try:
        path = os.readlink(f"/proc/self/fd/{fd}".encode())
    except OSError as fault:
        if fault.errno == errno.ENAMETOOLONG:
            return b""
        raise
    if path.endswith(_DELETED) or not path.startswith(root.rstrip(b"/") + b"/"):
        return b""
    return path[len(root.rstrip(b"/")) + 1 :]


def _is_taken(place: Path) -> bool:
    """Return whether something is kept at a place; OSError if that cannot be known."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _can_be_made(place: Path, folder: Path) -> bool:
    """Return whether no part of the way to `place` is kept as a file."""
    return not any(
        parent.exists() and not parent.is_dir()
        for parent in place.parents
        if parent != folder and folder in parent.parents
    )


@contextlib.contextmanager
def _made(place: Path) -> Any:
    """Open what is kept for writing; durable when the block ends."""
    out = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield out
        _flush(out)
    finally:
        os.close(out)
    parent = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _flush(parent)
    finally:
        os.close(parent)


def _flush(fd: int, *, data_only: bool = False) -> None:
    with inventory.placing(fd):
        (os.fdatasync if data_only else os.fsync)(fd)


def _zones(start: int, end: int) -> range:
    """Return the zones that have a part between two places."""
    last = (end + ZONE_BYTES - 1) // ZONE_BYTES
    return range(start // ZONE_BYTES, last if start < end else 0)


def _put(out: int, data: bytes, at: int | None = None) -> None:
    """Write all of it: a disk that is nearly full takes a part, and refuses only the next."""
    done = 0
    with inventory.placing(out):
        while done < len(data):
            rest = data[done:]
            done += os.write(out, rest) if at is None else os.pwrite(out, rest, at + done)


def _data(fd: int) -> Iterator[tuple[int, int]]:
    """Give the extents of a file that are not holes."""
    at, size = 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as fault:
            if fault.errno != errno.ENXIO:
                raise
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at
