"""`mirrorfarm trace merge`: the steps of several nodes in one order that respects causality."""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import click

from mirrorfarm.actors.effects import Later, Send
from mirrorfarm.cli.show import as_json, clean
from mirrorfarm.cli.trace_show import Faults
from mirrorfarm.trace.clocks import NodeClock
from mirrorfarm.trace.export.format import Subject
from mirrorfarm.trace.export.jsonl import Jsonl
from mirrorfarm.trace.facts import Facts
from mirrorfarm.trace.finding import step_id
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.text import Row
from mirrorfarm.trace.words import clock_time, day

BOOT_CHARACTERS: Final = 8  # Of a boot's id: `journalctl --list-boots` begins with the same.


def merge_traces(
    paths: Iterable[Path],
    *,
    clocks_only: bool = False,
    vectors: bool = False,
    json_wanted: bool = False,
) -> int:
    """Print merged traces; return the exit code."""
    faults = Faults()
    merged = Merge(paths, faults, vectors=vectors)
    if clocks_only and json_wanted:
        click.echo(as_json([clock_values(clock) for clock in merged.clocks]))
    else:
        tell_clocks(merged.clocks, err=not clocks_only)
    if clocks_only:
        return faults.exit_code
    if json_wanted:
        _print_json(merged)
    else:
        for placed in merged.steps():
            for line in lines(placed):
                click.echo(line)
    tell_holes(merged.gaps, merged.unordered)
    return faults.exit_code


def clock_values(clock: NodeClock) -> dict[str, object]:
    """Return what is known of a clock, for JSON."""
    return {name: getattr(clock, name) for name in clock.__struct_fields__}


def tell_clocks(clocks: list[NodeClock], *, err: bool) -> None:
    """Say how the clocks of the nodes differ, unless there is only one that is right.

    A machine that was booted meanwhile has a clock for each boot: these are told apart.
    """
    boots = Counter(clock.node for clock in clocks)
    if len(clocks) > 1 or clocks[0].ahead_ns or not err:
        for clock in clocks:
            told = str(clock)
            if boots[clock.node] > 1:
                boot = clock.boot[:BOOT_CHARACTERS]
                told = f"{clock.node} (boot {boot}){told.removeprefix(clock.node)}"
            click.echo(clean(told), err=err)


def tell_holes(gaps: int, unordered: int) -> None:
    """Say what the order could not be made of."""
    if gaps:
        click.echo(f"at {gaps} places steps are missing: a file was lost or damaged", err=True)
    if unordered:
        click.echo(
            f"{unordered} messages came before they were sent, as these traces have it: "
            "they are shown where they came",
            err=True,
        )


def _print_json(merged: Merge) -> None:
    with _output() as output:
        facts, format_ = Facts(), Jsonl(Subject(merged, "", 0), output.write)
        for placed in merged.steps():
            format_.add(placed, facts.of(placed.step))
        output.flush()


def _output() -> contextlib.AbstractContextManager[BinaryIO]:
    """Return the standard output; if that is closed, what takes everything and keeps nothing."""
    if sys.stdout is None:
        return Path(os.devnull).open("wb")
    return contextlib.nullcontext(sys.stdout.buffer)


def lines(placed: Placed) -> Iterator[str]:
    """Return a step as a person reads it: its event, then its effects."""
    step = placed.step
    moment = f"{day(placed.at_ns)} {clock_time(placed.at_ns, 6)}"
    what = (placed.at_ns, step.now_ns, step.node, step.process, step.actor, step.number)
    where = f"{step_id(step)} {step.actor}"
    yield clean(f"{moment} {where} {Row(*what, 'input', step.event).text()}")
    sent = iter(step.sent)
    for effect in step.effects:
        number = next(sent, None) if isinstance(effect, Send) else None
        kind = "timer" if isinstance(effect, Later) else "effect"
        yield clean(f"{moment} {where} {Row(*what, kind, effect, number).text()}")
