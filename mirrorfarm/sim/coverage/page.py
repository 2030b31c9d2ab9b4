"""Writes docs/coverage.md: what some sweeps came by, and what is left to try. A pure core."""

from collections.abc import Sequence
from typing import Final

from mirrorfarm.sim.coverage.counts import Coverage
from mirrorfarm.sim.coverage.machines import Machine
from mirrorfarm.sim.coverage.properties import RULES, SCENARIO_ONLY

INTRODUCTION: Final = """\
# What sweeps come by

Written by `make coverage`; every `mirrorfarm sim sweep` counts the same and shows it in its report
(docs/sweeps.md). A number is how often a state was given an event. `·`: it cannot be; a run in
which it is fails with the invariant `matrix`. `–`: it could be, and never was: a gap. `×`: no run
gives it.

Most pairs that chance rarely hits are of one kind: a state that lasts for milliseconds, and
something that is rare at any time, such as an order or the late news of a session that is over.
Some faults of a sweep wait for a state (docs/simulation.md). `make cells` walks through the pairs
on purpose: a cluster is brought into each state, is given each event at some steps of it, and must
serve afterwards, with all monitors watching; its cases are counted here as well. Besides, the
properties in tests/actors/module/mirror/test_core.py and tests/actors/module/farm/test_core.py give
both state machines events in any order, whatever state they are in.
"""


def page(coverage: Coverage, sweeps: Sequence[str], growth: Sequence[tuple[int, int]]) -> str:
    """Return the page; `growth`: seeds of the first sweep, and distinct states until then."""
    parts = [INTRODUCTION, *(f"* {line}" for line in sweeps), ""]
    for machine, words in zip(coverage.machines(), coverage.words(), strict=True):
        parts += [f"## {words}", "", *_matrix(coverage, machine), "", *_why(machine), ""]
        parts += ["Gaps:", "", *_gaps(coverage, machine), ""]
    parts += ["## What must happen sometimes", "", *_sometimes(coverage), ""]
    parts += ["## Faults by the state in which they came", "", *_faults(coverage), ""]
    parts += ["## Growth", "", "| Seeds | Distinct abstract states |", "| ---: | ---: |"]
    parts += [f"| {seeds:,} | {states:,} |" for seeds, states in growth]
    return "\n".join(parts) + "\n"


def _matrix(coverage: Coverage, machine: Machine) -> list[str]:
    lines = [_row("", machine.states), _row("---", ["---:"] * len(machine.states))]
    for event in coverage.events(machine):
        cells = []
        for state in machine.states:
            count = coverage.count(machine, state, event)
            sign = "·" if machine.impossible(state, event) else "–"
            cells.append(_short(count) if count else "×" if event in machine.unplayed else sign)
        lines.append(_row(event, cells))
    return lines


def _why(machine: Machine) -> list[str]:
    """Return the reasons of what cannot be, and of what no run gives."""
    lines = [
        f"* `{event}` only while {', '.join(only.states)}: {only.why}."
        if len(only.states) <= len(machine.states) // 2
        else f"* `{event}` never while "
        f"{', '.join(s for s in machine.states if s not in only.states)}: {only.why}."
        for event, only in machine.only.items()
    ]
    return [*lines, *(f"* `{event}`: {why}." for event, why in machine.unplayed.items())]


def _gaps(coverage: Coverage, machine: Machine) -> list[str]:
    gaps: dict[str, list[str]] = {}
    for state, event in coverage.never(machine):
        gaps.setdefault(event, []).append(state)
    return [f"* `{event}` while {', '.join(states)}" for event, states in gaps.items()] or ["none"]


def _sometimes(coverage: Coverage) -> list[str]:
    lines = [_row("What", ["Times"]), _row("---", ["---:"])]
    for name in coverage.expected():
        count = coverage.sometimes[name]
        where = ""
        if name in RULES:
            number = int(name.partition(" ")[0].removeprefix("R"))
            only = "; not expected of a sweep" if name in SCENARIO_ONLY else ""
            where = f" (tests/sim/rules/rule_{number:02}.yaml{only})"
        lines.append(_row(f"{name}{where}", [f"{count:,}" if count else "–"]))
    lines += [_row(f"trick {name}", [f"{n:,}"]) for name, n in sorted(coverage.tricks.items())]
    missed = "; ".join(coverage.missed())
    return [*lines, "", f"Never happened: {missed}." if missed else "Nothing was missed."]


def _faults(coverage: Coverage) -> list[str]:
    states, kinds = coverage.fault_table()
    lines = [_row("", states), _row("---", ["---:"] * len(states))]
    for kind, counts in kinds.items():
        lines.append(_row(kind, [_short(counts[state]) or "–" for state in states]))
    return lines


def _row(head: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join((head, *cells))} |"


def _short(count: int) -> str:
    if count >= 10_000:
        return f"{count // 1_000}k"
    return str(count) if count else ""
