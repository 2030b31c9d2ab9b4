"""What many runs came by, added up; what no run came by, named. A pure core."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.actors import sites
from mirrorfarm.sim.coverage.machines import FILTER, MACHINES, MIRROR, Machine
from mirrorfarm.sim.coverage.properties import FARM_SOMETIMES, MIRROR_SOMETIMES, SCENARIO_ONLY

# So many seeds must have shown everything that is to happen sometimes.
SEEDS_ENOUGH: Final = 5_000


@dataclass(slots=True)
class Coverage:
    """Counts of many runs."""

    cells: Counter[str] = field(default_factory=Counter)  # `mirror leading Tick`.
    fault_states: Counter[str] = field(default_factory=Counter)  # `crash leading`.
    sometimes: Counter[str] = field(default_factory=Counter)
    tricks: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        cells: Mapping[str, int],
        fault_states: Mapping[str, int],
        sometimes: Mapping[str, int],
        tricks: Mapping[str, int],
    ) -> None:
        """Take the counts of one run."""
        self.cells.update(cells)
        self.fault_states.update(fault_states)
        self.sometimes.update(sometimes)
        self.tricks.update(tricks)

    def machines(self) -> list[Machine]:
        """Return the state machines that ran at all."""
        seen = {cell.partition(" ")[0] for cell in self.cells}
        return [machine for name, machine in MACHINES.items() if name in seen]

    def count(self, machine: Machine, state: str, event: str) -> int:
        """Return how often a cell was hit."""
        return self.cells[f"{machine.name} {state} {event}"]

    def events(self, machine: Machine) -> list[str]:
        """Return the rows of a machine's table: what it can be given, and what else it was."""
        given = {
            " ".join(words[2:])
            for words in map(str.split, self.cells)
            if len(words) > 2 and words[0] == machine.name
        }
        return [*machine.events, *sorted(given.difference(machine.events))]

    def never(self, machine: Machine) -> list[tuple[str, str]]:
        """Return the cells (state, event) that could have been hit, and were not."""
        return [
            (state, event)
            for event in machine.events
            if event not in machine.unplayed
            for state in machine.states
            if not self.count(machine, state, event) and not machine.impossible(state, event)
        ]

    def impossible(self, machine: Machine) -> int:
        """Return how many cells of a machine cannot be hit, of those that a run could."""
        return sum(
            bool(machine.impossible(state, event))
            for event in machine.events
            if event not in machine.unplayed
            for state in machine.states
        )

    def expected(self) -> tuple[str, ...]:
        """Return what must happen sometimes with the state machines that ran."""
        ran = self.machines()
        return (
            *(MIRROR_SOMETIMES if MIRROR in ran else ()),
            *(FARM_SOMETIMES if FILTER in ran else ()),
        )

    def missed(self) -> list[str]:
        """Return what should happen sometimes and never did; sites at which no trick was played."""
        wanted = [name for name in self.expected() if name not in SCENARIO_ONLY]
        missed = [name for name in wanted if not self.sometimes[name]]
        if MIRROR in self.machines():
            missed += [f"trick {name}" for name in sites.NAMES if not self.tricks[name]]
        return missed

    def as_object(self) -> dict[str, Any]:
        """Return it as plain values, for `--json`."""
        return {
            "machines": {
                machine.name: {
                    "cells": {
                        event: {
                            state: count
                            for state in machine.states
                            if (count := self.count(machine, state, event))
                        }
                        for event in self.events(machine)
                    },
                    "hit": self.hit(machine),
                    "impossible": self.impossible(machine),
                    "unplayed": sorted(machine.unplayed),
                    "never": [f"{state} {event}" for state, event in self.never(machine)],
                }
                for machine in self.machines()
            },
            "fault_states": dict(sorted(self.fault_states.items())),
            "sometimes": {name: self.sometimes[name] for name in self.expected()},
            "tricks": dict(sorted(self.tricks.items())),
            "missed": self.missed(),
        }

    def hit(self, machine: Machine) -> int:
        """Return how many of the declared cells of a machine were hit."""
        return sum(
            bool(self.count(machine, state, event))
            for event in machine.events
            for state in machine.states
        )

    def words(self) -> list[str]:
        """Return a line for each state machine."""
        return [
            f"{machine.name}: {self.hit(machine):,} cells hit, {len(self.never(machine)):,} never, "
            f"{self.impossible(machine):,} impossible"
            for machine in self.machines()
        ]

    def fault_table(self) -> tuple[list[str], dict[str, Counter[str]]]:
        """Return all states, and by kind of fault how often it came in which of them."""
        found: dict[str, Counter[str]] = {}
        for pair, count in self.fault_states.items():
            kind, _, state = pair.partition(" ")
            found.setdefault(kind, Counter())[state] += count
        seen = {state for states in found.values() for state in states}
        order = [*MIRROR.states, *FILTER.states]
        known = [state for state in order if state in seen]
        return [*known, *sorted(seen.difference(known))], dict(sorted(found.items()))
