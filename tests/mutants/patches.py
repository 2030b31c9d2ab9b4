"""Mutants: broken variants of the sources, each a small patch with a few lines of heading."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
# What a copy needs to run the simulator.
COPIED = ("actors", "transport", "netfilter", "modules", "mirrorfarm")
HEADINGS = ("Rule", "Caught by", "World")


class PatchInvalid(Exception):
    """A patch has no proper heading, or does not apply to the sources any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch: which rule it breaks, and which invariants should notice."""

    name: str
    path: Path
    rule: str
    caught_by: tuple[str, ...]
    world: str  # In which of `hunt.WORLDS` it is hunted; several: by turns.
    what: str
    survives: str = ""  # Which rule covers the broken one, if nothing notices it,
    shown_by: str = ""  # and the mutant that breaks both: that one is noticed.


def load(path: Path) -> Mutant:
    """Read the heading of a patch: `Rule`, `Caught by`, `World`, then what it breaks.

    `Survives` says which other rule covers the broken one, if one does; `Shown by` names the
    mutant that breaks both.
    """
    heading, separator, _ = path.read_text(encoding="utf-8").partition("\n--- a/")
    if not separator:
        raise PatchInvalid(f"{path}: no line begins with `--- a/`: write a unified diff")
    found = dict(re.findall(r"^([A-Z][a-z ]+): (.+)$", heading, re.MULTILINE))
    missing = [key for key in HEADINGS if key not in found]
    if missing:
        raise PatchInvalid(f"{path}: the heading lacks {', '.join(missing)}")
    if ("Survives" in found) != ("Shown by" in found):
        raise PatchInvalid(f"{path}: Survives says why, Shown by names the proof: give both")
    last = "Shown by" if "Shown by" in found else "World"
    what = " ".join(heading.rsplit(f"{last}: {found[last]}", 1)[-1].split())
    names = tuple(found["Caught by"].split(", "))
    proof = (found.get("Survives", ""), found.get("Shown by", ""))
    return Mutant(path.stem, path, found["Rule"], names, found["World"], what, *proof)


def load_all(only: tuple[str, ...] = ()) -> list[Mutant]:
    """Return the mutants, all or those whose names contain one of these words."""
    mutants = [load(path) for path in sorted(FOLDER.glob("*.patch"))]
    return [m for m in mutants if not only or any(word in m.name for word in only)]


def copy_sources(target: Path) -> None:
    """Copy what the simulator needs, links as links."""
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, symlinks=True)
    shutil.copytree(
        FOLDER, target / "tests" / "mutants", ignore=shutil.ignore_patterns("*.patch", "test_*")
    )


def apply(mutant: Mutant, target: Path) -> None:
    """Break the copy in `target`. Lines may have moved, but every line of context must be there.

    Raises PatchInvalid when the sources have become too different.
    """
    command = ["patch", "--batch", "--forward", "--fuzz=0", "--strip=1", "--no-backup-if-mismatch"]
    with mutant.path.open() as text:
        done = subprocess.run(
            command, cwd=target, stdin=text, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise PatchInvalid(
            f"{mutant.path} does not apply any more: adapt it to the sources, "
            f"so that {mutant.rule} is broken as before\n{done.stdout}{done.stderr}"
        )
