"""Which disk each replicated directory was on when it was last mounted over, on disk.

While its disk is not mounted, the directory beneath is there, and empty: it would pass for the
data. One that is mounted where none was may lack what was written there before, or all. What is
remembered is the mount point alone: another disk may take the place of one that broke. Where
nothing is remembered (a new node, or an administrator who removed the file since the data were
moved), what is found is believed. Directories that are not replicated for a while are not
forgotten: their disk may be why.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import Final

import msgspec

from mirrorfarm.actors.replicator.fuse import mount
from mirrorfarm.actors.replicator.mapfile import replace
from mirrorfarm.actors.replicator.mounts import Identity, clear_leftovers, require_paths
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.modules.settings import Replication
from mirrorfarm.oserrors import told

_VERSION: Final = 1
_ROOT: Final = b"/"
_DAMAGED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Remembered(msgspec.Struct, frozen=True):
    """The file; `disks`: the mount point of the disk that each directory was on."""

    version: int
    disks: dict[str, str]


class Whereabouts:
    """The file, and where the directories were found."""

    def __init__(
        self, beside: Path, replication: Replication, report: Callable[[str], None]
    ) -> None:
        """`beside`: a file in its folder. `report` gets what is wrong with it."""
        self._path = beside.with_name("disks")
        self._directories = replication.directories
        self._report = report
        self._whole: tuple[Identity, ...] = ()  # The directories, once nothing was missing there.

    @contextlib.contextmanager
    def required(self) -> Iterator[None]:
        """See that the directories are where they were, and what must be there (`<tocheck>`) too.

        SystemUnsuitable tells what is missing. In the block they are mounted over; what was found
        is remembered if that succeeds. What is dead on the directories is unmounted before.
        """
        clear_leftovers(one.dir for one in self._directories)
        for one in self._directories:
            if mount.covered(os.path.realpath(os.fsencode(one.dir))):
                reason = f"{one.dir} was mounted over while it was replicated"
                why = "what is there now is not what was replicated"
                raise SystemUnsuitable(f"{reason} ({why}); unmount it: umount {quote(one.dir)}")
        remembered = self._read()
        found = {one.dir: disk_of(one.dir) for one in self._directories}
        for directory, disk in found.items():
            if disk != (before := remembered.get(directory, disk)):
                raise SystemUnsuitable(self._moved(directory, before, disk))
            for point in mounted_inside(directory):
                what = f"{point} is another file system inside of {directory}"
                self._report(f"{what}: nothing in it can be reached, or is replicated")
        self._whole = require_paths(self._directories, self._whole)
        yield
        if (known := remembered | found) != remembered:
            self._keep(known)

    def _moved(self, directory: str, before: str, disk: str) -> str:
        """Return what is to be done about a directory that is on another disk than before."""
        if not f"{disk}/".startswith(before.rstrip("/") + "/"):
            reason = f"{before} must be mounted before {directory} is replicated"
            why = "its data were on that disk, and what is there now may be empty"
            return f"{reason} ({why}); if they were moved to another disk, remove {self._path}"
        reason = f"{directory} is on the disk of {disk} now, and was on that of {before}"
        why = "what is there may be empty, or older"
        cure = f"if its data were moved there, remove {self._path}"
        return f"{reason} ({why}); {cure}; if not, do so before an order `second fullsync`"

    def _read(self) -> dict[str, str]:
        """Return what is remembered. OSError: the disk does not give it."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Remembered)
        except FileNotFoundError:
            return {}
        except _DAMAGED as fault:  # Also of a wrong type.
            self._report(f"{self._path} is damaged, and made anew: {fault}")
            return {}
        return kept.disks if kept.version == _VERSION else {}

    def _keep(self, found: dict[str, str]) -> None:
        try:
            replace(self._path, msgspec.json.encode(_Remembered(_VERSION, found)))
        except OSError as fault:  # Nobody is to wait for it: the next mount tries again.
            self._report(f"which disks the data are on cannot be remembered: {told(fault)}")


def disk_of(directory: str) -> str:
    """Return the mount point of the file system that a directory is on, or would be.

    A mount of what is on the same file system as its mount point is none of a disk.
    """
    points = {mounted.point for mounted in mount.mounts()}
    place = os.path.realpath(os.fsencode(directory))
    while place != _ROOT:
        above = os.path.dirname(place)
        # One that is listed may be hidden by what was mounted above it later.
        if place in points and os.stat(place).st_dev != os.stat(above).st_dev:
            break
        place = above
    return place.decode(errors="backslashreplace")


def mounted_inside(directory: str) -> list[str]:
    """Return the mount points of other file systems below a directory.

    None of them is asked: it may be of another machine, and not answer.
    """
    real = os.path.realpath(os.fsencode(directory)) + b"/"
    found: list[str] = []
    own = (0, b"")
    for one in mount.mounts():
        if real.startswith(one.point.rstrip(b"/") + b"/"):
            own = (one.device, one.kind)
            found = []  # It hides what was mounted before.
        elif one.point.startswith(real) and (one.device, one.kind) != own:
            found.append(one.point.decode(errors="backslashreplace"))
    return found
