"""The page with all mutants: a row each, of which a run of the command replaces its own."""

from pathlib import Path

import msgspec

from tests.mutants.patches import Mutant

HEAD = """# Mutants

Each is a patch in `tests/mutants/` that breaks one rule of the cores on purpose. `make mutants`
hunts each with the simulator or the explorer, in at most 2,000 seeds or 60 s on two cores, and
fails when one is not noticed, unless another rule covers the broken one wholly, and a mutant
that breaks both is noticed. The rows below were written by
`make mutants MUTANTS="--table docs/mutants.md"`: the invariant that noticed, in how many seeds and
seconds of processor time.

| Mutant | Rule | What it breaks | Noticed by | Seeds | CPU s |
| --- | --- | --- | --- | ---: | ---: |
"""


class Row(msgspec.Struct, frozen=True):
    """What the page says of one hunt."""

    noticed_by: str  # Empty: nothing did.
    seeds: int
    seconds: float


def text(mutant: Mutant, row: Row) -> str:
    """Return the line of one mutant."""
    why = f"{mutant.survives} `{mutant.shown_by}` breaks both." if mutant.shown_by else ""
    noticed = row.noticed_by or f"not noticed: {why or 'unexplained'}"
    cells = (f"`{mutant.name}`", mutant.rule, mutant.what, noticed, row.seeds, f"{row.seconds:.1f}")
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def update(path: Path, mutants: list[Mutant], rows: dict[str, Row]) -> None:
    """Write the page anew: rows of these hunts, of others as they were, and how many there are."""
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = {line.split("`")[1]: line for line in before if line.startswith("| `")}
    for mutant in mutants:
        if mutant.name in rows:
            known[mutant.name] = text(mutant, rows[mutant.name])
    lines = [known[mutant.name] for mutant in mutants if mutant.name in known]
    unseen = [line for line in lines if "not noticed: " in line]
    covered = sum("breaks both." in line for line in unseen)
    noticed = f"{len(lines) - len(unseen)} of {len(mutants)} are noticed"
    end = f"\n{noticed}; by another rule covered: {covered}.\n"
    path.write_text(HEAD + "\n".join(lines) + "\n" + end, encoding="utf-8")
