"""The change map on disk: written at a clean end, gone as soon as it is read.

A crash can therefore never bring an old map back: what is not there is copied in full.
"""

import contextlib
import os
from pathlib import Path

from mirrorfarm.actors.replicator.changes import ChangeMap, dump, load
from mirrorfarm.errors import RecordInvalid

Roots = tuple[tuple[int, int], ...]


def save(path: Path, changes: ChangeMap, base: str, roots: Roots) -> None:
    """Make a map durable that is complete since generation `base`."""
    replace(path, dump(changes, base, roots))


def replace(path: Path, data: bytes) -> None:
    """Make a file durable that holds this, or what it held before; nobody else may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    _flush_names(path)


def take(path: Path, base: str, roots: Roots) -> ChangeMap | None:
    """Read the map and delete it; None if there is none, or it is not one since `base`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    path.unlink()
    _flush_names(path)
    with contextlib.suppress(RecordInvalid):
        changes, since, disks = load(data)
        if base and since == base and disks == roots:
            return changes
    return None


def _flush_names(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
