"""Whether a process is one that a `proc` entry means."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mirrorfarm.modules.settings import Process

COMMAND_NAME_BYTES_MAX = 15  # The kernel keeps no more of a command's name.


@dataclass(slots=True)
class Matcher:
    """One entry, its expressions compiled; all its conditions must hold."""

    process: Process
    _kept: str = field(init=False)  # Of the command's name.
    _name: re.Pattern[str] | None = field(init=False)
    _line: re.Pattern[str] | None = field(init=False)

    def __post_init__(self) -> None:
        kept = self.process.name.encode()[:COMMAND_NAME_BYTES_MAX]
        self._kept = kept.decode(errors="replace")
        self._name = re.compile(self.process.nameregex) if self.process.nameregex else None
        self._line = re.compile(self.process.argregex) if self.process.argregex else None

    def fits(self, name: str, line: Callable[[], str], unit: Callable[[], str]) -> bool:
        """Compare a process's command name, its command line and its systemd unit.

        The latter two cost a read each, so they are asked for only when they matter.
        """
        entry = self.process
        if entry.service:
            return bool(entry.name) and unit() == entry.name.removesuffix(".service") + ".service"
        if not (entry.name or self._name or self._line):
            return False
        if entry.name and name != self._kept:
            return False
        if self._name and not self._name.search(name):
            return False
        return not self._line or bool(self._line.search(line()))
