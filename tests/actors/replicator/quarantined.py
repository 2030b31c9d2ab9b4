"""A directory that a copy changes, and what is set aside of it."""

import json
from pathlib import Path
from typing import Any

from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.operations import ROOT, SET_SIZE, Introduce, SetAttr, Write
from mirrorfarm.actors.replicator.quarantine import MANIFEST, Quarantine

FILE, DIRECTORY = 0o100640, 0o040750


class Copied:
    """A directory that a copy changes, and what is kept of it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.folder = folder / "root", folder / "aside"
        self.root.mkdir()
        self.applier = Applier([bytes(self.root)])
        self.begin()

    def begin(self) -> None:
        self.aside = Quarantine(self.folder)
        self.applier.begin(lenient=True, aside=self.aside)

    def introduce(self, node: int, name: bytes, mode: int = FILE, parent: int = ROOT) -> None:
        self.applier.apply(Introduce(0, node, parent, name, mode))

    def write(self, node: int, data: bytes, offset: int = 0) -> None:
        self.applier.apply(Write(0, node, offset, len(data), 0), data)

    def kept(self, path: str) -> bytes:
        return (self.folder / "0" / path).read_bytes()

    def cut(self, node: int, size: int) -> None:
        self.applier.apply(SetAttr(0, node, SET_SIZE, size=size))

    def manifest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / MANIFEST).read_text().splitlines()]
