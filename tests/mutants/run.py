"""Break every rule on purpose, and see the simulator notice: `make mutants`.

Each mutant is a copy of the sources with one patch. It is killed when a run of the simulator
violates an invariant, within 2,000 seeds or 60 s on two cores. One that survives is an error:
the rule is superfluous, the simulator lacks a fault, or a monitor an invariant. Where another
rule covers the broken one wholly, a mutant that breaks both must be killed (`Shown by`).
"""

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from tests.mutants.hunt import Found
from tests.mutants.patches import Mutant, PatchInvalid, apply, copy_sources, load_all
from tests.mutants.table import Row, update

SEEDS_MAX = 2_000
SECONDS_MAX = 60.0  # On two cores.
CORES = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a mutant is hunted."""

    workers: int = CORES  # Processes.
    seconds: float = SECONDS_MAX
    seeds: int = SEEDS_MAX
    named: bool = False  # Until an invariant of the patch's heading sees it, not just any.


class Result(msgspec.Struct, frozen=True):
    """What became of one mutant."""

    mutant: str
    rule: str
    caught_by: tuple[str, ...]  # The invariants that should notice,
    killed_by: str  # and the one that did; empty: none.
    violation: str
    seed: int
    seeds: int
    seconds: float  # Of processor time.
    error: str = ""  # It could not be hunted.


def hunt(mutant: Mutant, limits: Limits) -> Result:
    """Hunt one mutant in a broken copy of the sources."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        try:
            copy_sources(copy)
            apply(mutant, copy)
            found = _hunt_in(copy, mutant, limits)
        except PatchInvalid as fault:
            return _result(mutant, Found("", 0, 0, 0), error=str(fault))
    if isinstance(found, str):
        return _result(mutant, Found("", 0, 0, 0), error=found)
    return _result(mutant, found)


def _result(mutant: Mutant, found: Found, error: str = "") -> Result:
    by = found.violation.partition(":")[0]
    return Result(
        mutant.name,
        mutant.rule,
        mutant.caught_by,
        by,
        found.violation,
        found.seed,
        found.played,
        round(found.seconds, 2),
        error,
    )


def _hunt_in(copy: Path, mutant: Mutant, limits: Limits) -> Found | str:
    """Return what the workers found, the first that found something; or why one failed."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"}
    workers = limits.workers
    share, budget = -(-limits.seeds // workers), limits.seconds * CORES / workers
    names = ",".join(mutant.caught_by if limits.named else ())
    running = []
    for first in range(workers):
        words = (mutant.world, first, workers, share, budget, names)
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.mutants.hunt", *map(str, words)],
                cwd=copy,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return _collect(running)


def _collect(running: list[subprocess.Popen[str]]) -> Found | str:
    """Wait for each; once one has found something the others need not go on."""
    best: Found | None = None
    played, spent = 0, 0.0
    for process in running:
        if best is not None and best.violation:
            process.send_signal(signal.SIGTERM)
        output, errors = process.communicate()
        if process.returncode == -signal.SIGTERM:
            continue
        if process.returncode:
            return errors[-2_000:]
        found = msgspec.json.decode(output, type=Found)
        played, spent = played + found.played, spent + found.seconds
        if best is None or found.violation:
            best = found
    assert best is not None
    return msgspec.structs.replace(best, played=played, seconds=spent)


def row(result: Result) -> str:
    """Return one line of the table."""
    by = result.killed_by or ("ERROR" if result.error else "SURVIVES")
    if result.killed_by and result.killed_by not in result.caught_by:
        by += f" (not {', '.join(result.caught_by)})"
    return f"{result.mutant:34} {result.rule:6} {by:22} {result.seeds:6} {result.seconds:8.2f}"


@click.command()
@click.option("--only", multiple=True, help="Mutants whose names contain this word.")
@click.option("--named", is_flag=True, help="Only the invariants of the heading count.")
@click.option("--workers", default=CORES, show_default=True, help="Processes.")
@click.option("--seconds", default=SECONDS_MAX, show_default=True, help="On two cores, for each.")
@click.option("--seeds", default=SEEDS_MAX, show_default=True, help="For each.")
@click.option("--json", "as_json", is_flag=True, help="One object per mutant and line.")
@click.option("--table", type=click.Path(path_type=Path), help="The page to bring up to date.")
def main(*, only: tuple[str, ...], as_json: bool, table: Path | None, **limits: Any) -> None:
    """Hunt the mutants.

    The exit code is 1 if one cannot be hunted, or survives and no other mutant shows why.
    """
    mutants = load_all(only)
    if not mutants:
        raise click.UsageError(f"no mutant's name contains {' or '.join(only)}")
    if not as_json:
        click.echo(f"{'mutant':34} {'rule':6} {'killed by':22} {'seeds':>6} {'CPU s':>8}")
    failed, killed = [], 0
    for mutant in mutants:
        result = hunt(mutant, Limits(**limits))
        click.echo(msgspec.json.encode(result).decode() if as_json else row(result))
        if table is not None and not result.error:
            row_of = {mutant.name: Row(result.killed_by, result.seeds, result.seconds)}
            update(table, load_all(), row_of)
        if not result.killed_by and (result.error or not mutant.shown_by):
            failed.append(result)
        killed += bool(result.killed_by)
    if as_json:
        sys.exit(1 if failed else 0)
    for result in failed:
        click.echo(f"\n{result.mutant}: {result.error or 'survives'}")
    click.echo(f"\n{killed} of {len(mutants)} mutants are killed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
