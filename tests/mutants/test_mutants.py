"""Every patch still breaks what it says, and a mutant that cannot be missed is not missed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.mutants import run
from tests.mutants.hunt import WORLDS, hunt
from tests.mutants.patches import Mutant, PatchInvalid, apply, copy_sources, load, load_all
from tests.mutants.run import Limits, main
from tests.mutants.table import Row, update

CANARY = "alone_without_witness"
MUTANTS = load_all()
PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
QUICK = Limits(workers=1, seconds=20.0, seeds=60)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("sources")
    copy_sources(copy)
    return copy


def test_every_patch_still_applies(sources: Path) -> None:
    for mutant in MUTANTS:
        text = mutant.path.read_text()
        names = {line[6:] for line in text.splitlines() if line.startswith("+++ b/")}
        before = {name: (sources / name).read_text() for name in names}
        apply(mutant, sources)
        for name, text in before.items():
            compile((sources / name).read_text(), name, "exec")
            (sources / name).write_text(text)


def test_every_rule_of_the_mirror_and_of_the_farm_is_broken_by_some_mutant() -> None:
    rules = {mutant.rule for mutant in MUTANTS}
    assert {f"R{number}" for number in range(1, 16)} <= rules
    assert {f"F{number}" for number in (1, 2, 3, 4, 5, 7, 8)} <= rules


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_patch_says_what_it_breaks_and_where_it_is_hunted(mutant: Mutant) -> None:
    assert mutant.what.endswith(".")
    assert all(world in WORLDS for world in mutant.world.split(", "))
    assert not mutant.shown_by or mutant.shown_by in {other.name for other in MUTANTS}


def test_the_canary_is_red() -> None:
    (canary,) = load_all((CANARY,))
    result = run.hunt(canary, QUICK)
    assert result.killed_by == "S6", result


@pytest.mark.parametrize("world", WORLDS)
def test_without_a_mutant_nothing_is_found(world: str) -> None:
    assert [hunt(world, seed) for seed in range(6)] == [None] * 6


def test_a_patch_that_does_not_apply_any_more_is_a_failure_that_says_so(
    sources: Path, tmp_path: Path
) -> None:
    stale = tmp_path / "stale.patch"
    (canary,) = load_all((CANARY,))
    stale.write_text(canary.path.read_text().replace("     if s.lead", "     if s.led"))
    with pytest.raises(PatchInvalid, match="does not apply any more: adapt it to the sources"):
        apply(load(stale), sources)


def test_a_patch_without_a_heading_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nameless.patch"
    path.write_text("Rule: R1\n\n--- a/x.py\n+++ b/x.py\n")
    with pytest.raises(PatchInvalid, match="lacks Caught by, World"):
        load(path)


def test_a_patch_that_says_why_it_survives_names_the_mutant_that_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "covered.patch"
    heading = "Rule: R1\nCaught by: S1\nWorld: torn\nSurvives: The disk is a second fence.\n"
    path.write_text(f"{heading}\nThe first fence is gone.\n\n--- a/x.py\n+++ b/x.py\n")
    with pytest.raises(PatchInvalid, match="Shown by names the proof"):
        load(path)


def test_the_command_fails_when_a_mutant_survives() -> None:
    words = ["--only", CANARY, "--seeds", "0", "--workers", "1"]  # Too few to find anything.
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 1
    assert "SURVIVES" in shown.output
    assert "0 of 1 mutants are killed" in shown.output


def test_the_page_has_a_row_for_each_mutant_that_there_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == [mutant.name for mutant in MUTANTS], "make mutants writes docs/mutants.md"


def test_a_run_replaces_its_own_rows_of_the_page_and_drops_those_of_no_mutant(
    tmp_path: Path,
) -> None:
    page = tmp_path / "mutants.md"
    first, second = MUTANTS[:2]
    page.write_text("| `gone` | R1 | Nothing. | S1 | 1 | 1.0 |\n")
    update(page, MUTANTS, {first.name: Row("S3", 3, 0.5), second.name: Row("", 2_000, 60)})
    update(page, MUTANTS, {second.name: Row("S6", 7, 1.25)})
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert [row.split(" | ")[3:] for row in rows] == [["S3", "3", "0.5 |"], ["S6", "7", "1.2 |"]]
    assert page.read_text().endswith(
        f"\n2 of {len(MUTANTS)} are noticed; by another rule covered: 0.\n"
    )
