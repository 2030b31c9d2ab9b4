"""Where everything is on a node: one root, moved by one environment variable.

`MIRRORFARM_ROOT` (default `/`) lets many nodes live on one machine.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "MIRRORFARM_ROOT"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files and folders of one node."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Paths":
        """Return the paths below `MIRRORFARM_ROOT`."""
        return cls(Path(os.environ.get(VARIABLE) or "/").absolute())

    def environment(self) -> dict[str, str]:
        """Return what a process inherits that works in another folder than this one."""
        return {**os.environ, VARIABLE: str(self.root)}

    @property
    def etc(self) -> Path:
        """Configuration and keys, written by commands."""
        return self.root / "etc/mirrorfarm"

    @property
    def lib(self) -> Path:
        """Durable state."""
        return self.root / "var/lib/mirrorfarm"

    @property
    def run(self) -> Path:
        """Sockets, locks and process ids; gone after a boot."""
        return self.root / "run/mirrorfarm"

    @property
    def log(self) -> Path:
        """Module logs, script logs, traces."""
        return self.root / "var/log/mirrorfarm"

    @property
    def cluster_xml(self) -> Path:
        """The cluster's configuration, the same on every node."""
        return self.etc / "cluster.xml"

    @property
    def keys(self) -> Path:
        """Secret and public keys (0700)."""
        return self.etc / "keys"

    @property
    def modules(self) -> Path:
        """Installed modules, one folder each, with conf/ and bin/."""
        return self.etc / "modules"

    @property
    def bus_socket(self) -> Path:
        """The agent's ipc socket."""
        return self.run / "bus.sock"

    def module_etc(self, module: str) -> Path:
        """Return the installed files of a module."""
        return self.modules / module

    def module_lib(self, module: str) -> Path:
        """Return the durable state of a module: record.0, record.1, change map."""
        return self.lib / "modules" / module

    def module_log(self, module: str) -> Path:
        """Return the logs of a module: log.jsonl, scripts/, trace/."""
        return self.log / "modules" / module

    def witness_lib(self) -> Path:
        """Return the registers of a witness."""
        return self.lib / "witness"
