"""A disk that fails on command, below a directory of a node: run as `fault_disk.py DIR CONTROL`.

The directory is served by the project's own pass-through file system. The control file holds
lines: `write`, `fsync`, `read`, `mkdir` or `lookup`, then `eio` or `erofs` (always; as a file
system that the kernel made read-only), `once` (`eio` the next time alone) or `hold` (the call waits
until the line is gone).
"""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirrorfarm.actors.replicator.fuse import filesystem, protocol
from mirrorfarm.actors.replicator.fuse.files import Files
from mirrorfarm.actors.replicator.fuse.names import Names
from mirrorfarm.actors.replicator.fuse.protocol import Reply, Request
from mirrorfarm.actors.replicator.fuse.server import Server
from mirrorfarm.actors.replicator.fuse.volume import Volume
from mirrorfarm.actors.replicator.journal import LocalJournal

KINDS = {
    protocol.WRITE: "write",
    protocol.FSYNC: "fsync",
    protocol.READ: "read",
    protocol.MKDIR: "mkdir",
    protocol.LOOKUP: "lookup",
}
Handler = Callable[[Request], Reply]


def order(control: Path, text: str) -> None:
    """Say what shall fail from now on, all at once: an empty file would let go who waits."""
    new = control.with_name(f"{control.name}.new")
    new.write_text(text)
    new.replace(control)


class Control:
    """What shall fail now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def fault(self, kind: str) -> str:
        """Return how calls of a kind fail now, or nothing; `once` is used up."""
        with self._lock:
            lines = self._path.read_text().split("\n") if self._path.exists() else []
            for line in lines:
                words = line.split()
                if words[:1] == [kind]:
                    if words[1] == "once":
                        lines.remove(line)
                        order(self._path, "\n".join(lines))
                    return words[1]
        return ""

    def wrapped(self, kind: str, handler: Handler) -> Handler:
        def handle(request: Request) -> Reply:
            while (how := self.fault(kind)) == "hold":
                time.sleep(0.02)
            if how:
                raise OSError(errno.EROFS if how == "erofs" else errno.EIO, "as ordered")
            return handler(request)

        return handle


class FaultServer(Server):
    """Asks the control file before each call."""

    control: Control

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        handlers = dict(self._handlers)
        for operation, kind in KINDS.items():
            handlers[operation] = self.control.wrapped(kind, handlers[operation])
        self._handlers = handlers


class UncachedFiles(Files):
    """Every read and write of a file reaches the disk."""

    def __init__(self, volume: Volume, names: Names) -> None:
        super().__init__(volume, names)
        self._opened = protocol.OPEN_DIRECT_IO


def main() -> None:
    directory, control = sys.argv[1:]
    FaultServer.control = Control(Path(control))
    replaced: Any = filesystem
    replaced.Server, replaced.Files = FaultServer, UncachedFiles
    served = filesystem.FileSystem(
        directory, 0, LocalJournal(), writeback=False, threads=8, devices_allowed=True
    )
    served.mount()
    os.write(1, b"mounted\n")
    threading.Event().wait()


if __name__ == "__main__":
    main()
