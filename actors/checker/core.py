"""Whether the application's processes run: watched while their class is, told when that changes.

Invariant: a resource is told `down` only by a count of the present watch, and never before its
processes were seen once or had their time to start; each change is told once.
"""

from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.actors.effects import ANY_EFFECT, Later, Log, Tell, Watch
from mirrorfarm.actors.events import (
    Event,
    ProcessesSeen,
    ProcessGone,
    ResourceChanged,
    WatchClasses,
)
from mirrorfarm.limits import SECOND_NS, Nanoseconds
from mirrorfarm.modules.settings import Module, Process
from mirrorfarm.transport.address import MODULE_ACTOR

GRACE_NS: Final = 2 * SECOND_NS  # For an application to have its processes after its scripts.


class GraceOver(Event, frozen=True):
    """A `proc` entry (by index) had its time to start, in the watch with this number."""

    entry: int
    number: int


@dataclass(slots=True)
class Checked:
    """What is known of one entry that is watched."""

    process: Process
    number: int  # Of the watch in which it began to be watched.
    value: str = "init"  # init up down
    count: int = -1  # -1: not counted yet.
    late: bool = False  # Its time to start is over.


@dataclass(slots=True)
class Checker:
    """The `proc` entries of one module on one node."""

    settings: Module
    number: int = 0  # Of the watch under way.
    entries: dict[int, Checked] = field(default_factory=dict)  # Those watched, by index.

    def handle(self, event: Event, now: Nanoseconds) -> list[ANY_EFFECT]:
        """Apply one event."""
        match event:
            case WatchClasses(classes=classes):
                return self._watch(classes, now)
            case ProcessesSeen() | ProcessGone():
                checked = self.entries.get(event.entry)
                if checked is None or event.number != self.number:
                    return []  # Of processes that an earlier watch was about.
                checked.count = event.count
                return self._judge(checked)
            case GraceOver(entry=entry, number=number):
                checked = self.entries.get(entry)
                if checked is None or number != checked.number:
                    return []
                checked.late = True
                return self._judge(checked)
            case _:
                return []

    def _watch(self, classes: tuple[str, ...], now: Nanoseconds) -> list[ANY_EFFECT]:
        wanted = [
            index
            for index, process in enumerate(self.settings.processes)
            if is_watched(process, classes)
        ]
        if wanted == list(self.entries):
            return []
        self.number += 1
        effects: list[ANY_EFFECT] = []
        for index in list(self.entries):
            if index not in wanted:
                ident = self.entries.pop(index).process.ident
                effects.append(Tell(MODULE_ACTOR, ResourceChanged(f"proc.{ident}", "init")))
        before = self.entries
        self.entries = {}
        timers: list[ANY_EFFECT] = []
        for index in wanted:
            process = self.settings.processes[index]
            self.entries[index] = before.get(index) or Checked(process, self.number)
            if index not in before:
                due = now + grace_ns(self.settings, process)
                timers.append(Later(due, GraceOver(index, self.number)))
        return [*effects, Watch(tuple(wanted), self.number), *timers]

    def _judge(self, checked: Checked) -> list[ANY_EFFECT]:
        if checked.count < 0:
            return []  # The door has not counted yet; it will.
        fault = fault_of(checked.process, checked.count)
        value = "down" if fault else "up"
        if value == checked.value or (fault and checked.value == "init" and not checked.late):
            return []
        checked.value = value
        resource = f"proc.{checked.process.ident}"
        if not fault:
            return [Tell(MODULE_ACTOR, ResourceChanged(resource, "up"))]
        changed = ResourceChanged(resource, "down", _action_for(checked.process), fault)
        return [Tell(MODULE_ACTOR, changed), Log("C", fault)]


def is_watched(process: Process, classes: tuple[str, ...]) -> bool:
    """Return whether a process is watched with these classes; `both` means on either side."""
    if process.process_class == "both":
        return bool({"both", "prim", "second"} & set(classes))
    return process.process_class in classes


def is_prestarted(settings: Module, resource: str) -> bool:
    """Return whether `prestart` brings up what this resource is about."""
    before = (one.ident for one in settings.processes if one.process_class == "pre")
    return resource in {f"proc.{ident}" for ident in before}


def _action_for(process: Process) -> str:
    """Return what is done when it is down: a restart does not run `prestart`."""
    again = process.process_class == "pre" and process.action == "restart"
    return "stopstart" if again else process.action


def grace_ns(settings: Module, process: Process) -> Nanoseconds:
    """Return how long processes may take to appear after their start script."""
    return max(GRACE_NS, settings.errd_poll_ns * max(process.start_after - 1, 0))


def fault_of(process: Process, count: int) -> str:
    """Return what is wrong with `count` processes, in words; empty: nothing."""
    what = f"{'Service' if process.service else 'Process'} {process.ident}"
    # None at most leaves no room for one at least: the process is forbidden.
    if process.atmax != 0 and count < process.atleast:
        few = f": {count} instead of at least {process.atleast}" if count else ""
        return f"{what} not running{few}"
    if 0 <= process.atmax < count:
        return f"{what} running {count} times: at most {process.atmax} allowed"
    return ""
