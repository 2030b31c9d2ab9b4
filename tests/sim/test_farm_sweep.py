"""Random faults on farms from seeds: no invariant breaks, and broken rules are caught."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from mirrorfarm.actors.farm_filter import hearing, table, views
from mirrorfarm.actors.farm_filter.state import Peer, Settings, State
from mirrorfarm.sim import farm_sweep
from mirrorfarm.sim.farm_sweep import main, play
from mirrorfarm.sim.monitors import Violation

SEEDS = int(os.environ.get("MIRRORFARM_FARM_SEEDS", "20"))


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_no_client_is_answered_twice_whatever_fails(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            play(seed, lossy=bool(seed % 2))
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")


def test_sixteen_nodes_hold_too() -> None:
    play(3, steps=4, lossy=False, nodes=16)


def test_the_same_seed_tells_the_same_story() -> None:
    assert play(7).story == play(7).story


def test_the_command_tells_what_it_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["11", "2"]) == 0
    assert capsys.readouterr().out == "2 seeds, 0 failed\n"


def test_a_core_that_is_wrong_is_told_and_the_seeds_after_it_are_played(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asserts(seed: int, *, lossy: bool) -> None:
        if seed == 11:
            raise AssertionError("a bucket has two owners")
        assert lossy == bool(seed % 2)

    monkeypatch.setattr(farm_sweep, "play", asserts)
    assert main(["11", "2"]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("seed 11: assert: a bucket has two owners")
    assert last == "2 seeds, 1 failed"


@pytest.mark.parametrize("words", [[], ["1"], ["1", "-2"], ["x", "2"], ["1", "2", "3"]])
def test_what_is_no_range_of_seeds_is_answered_with_how_to_write_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "FIRST and COUNT" in capsys.readouterr().err


# --- rules broken on purpose: a monitor has to see it ----------------------------------------


def at_once(_: Any) -> bool:
    """F2 broken: a bucket opens before its old owner said that it closed it."""
    return True


def for_ever(s: State, now: int) -> int:
    """F8 broken: the filter of a frozen node goes on."""
    return now + 60_000_000_000 if s.view else 0


def nobody(s: State) -> list[int]:
    """F5 broken: HARD although others still have connections."""
    return [0] * s.groups


def deaf(s: State, peer: Peer, beat: Any, now: int) -> None:
    """F7 broken: nobody gives way to a stranger."""
    del s, peer, beat, now


def no_wait(self: Settings) -> int:
    """F2 broken: a lease is not waited for."""
    del self
    return 0


MUTANTS: list[tuple[Any, str, Callable[..., Any], str]] = [
    (views, "is_agreed", at_once, "F1|F2|F5"),
    (table, "lease_of", for_ever, "F1|F2|F8"),
    (table, "drained_by_others", nobody, "F1|F2|F5"),
    (hearing, "_mind_claim", deaf, "F1|F2"),
    (Settings, "wait_ns", property(no_wait), "F1|F2|F5"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("place", "name", "broken", "monitor"), MUTANTS)
def test_a_broken_rule_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    broken: Callable[..., Any],
    monitor: str,
) -> None:
    monkeypatch.setattr(place, name, broken)
    with pytest.raises(Violation, match=monitor):
        play_all()


def play_all() -> None:
    for seed in range(0, 200, 2):
        play(seed, lossy=False)
