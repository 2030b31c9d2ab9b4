"""What was replicated when the two nodes were last made equal, on disk.

What is added to it since then, by a change of the configuration, is in no change map: the next
session must compare everything.
"""

from pathlib import Path

import msgspec

from mirrorfarm.actors.replicator.mapfile import replace
from mirrorfarm.modules.settings import Replication


class Scope:
    """The file, and what is replicated now."""

    def __init__(self, path: Path, replication: Replication) -> None:
        self.path = path
        named = [
            [one.dir, sorted(one.notreplicated), sorted(one.notreplicated_regexes)]
            for one in replication.directories
        ]
        self._now = msgspec.json.encode(named)

    def is_kept(self) -> bool:
        """Whether the last copy that ended was of what is replicated now."""
        try:
            return self.path.read_bytes() == self._now
        except OSError:
            return False

    def keep(self) -> None:
        """Note that a copy of it has ended. OSError if the disk does not take it."""
        if not self.is_kept():
            replace(self.path, self._now)
