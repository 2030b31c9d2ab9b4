"""A run that is told: the story of what it violates."""

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.sim import running
from mirrorfarm.sim.monitors.watch import STEPS_KEPT
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.sim.shrinking.seeds import shrink_plan
from mirrorfarm.sim.sweeps.run import replay_seed

SEEDS = 60


def story(seed: int, keeps: int) -> list[str]:
    violation = running.play(plan_of("mirror", seed), keeps=keeps).violation
    return violation.story if violation is not None else []


def test_a_violated_seed_is_played_again_for_its_whole_story(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    for seed in range(SEEDS):
        whole = story(seed, STEPS_KEPT)
        if whole != story(seed, running.FEW_STEPS):
            break  # Runs that hold keep little, for speed.
    else:
        pytest.fail("no story is longer than what such runs keep")
    outcome = running.run(seed, "mirror")
    assert outcome.outcome != "ok"
    assert outcome.story == whole


def test_an_assertion_of_a_core_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = leading.gate_of

    def wrong(s: State) -> str:
        if s.leading.lost:
            raise AssertionError("a gate for a lost peer")
        return honest(s)

    monkeypatch.setattr(leading, "gate_of", wrong)
    for seed in range(SEEDS):
        outcome = running.run(seed, "mirror")
        if outcome.outcome != "ok":
            break
    assert outcome.outcome == "assert: a gate for a lost peer"
    assert "wrong: raise AssertionError" in outcome.story[-1]
    assert outcome.story[-2].startswith("actors/module/mirror/")
    assert (len(outcome.digest), outcome.steps > 0) == (16, True)
    result, moments = replay_seed("mirror", seed)
    assert (result.outcome, result.invariant) == ("violation", "assert")
    place, _, states = result.signature.rpartition(": ")
    assert "wrong: raise AssertionError" in place
    assert states.startswith("n1 ")
    assert moments[-1].text == outcome.outcome
    shrunk = shrink_plan(plan_of("mirror", seed), 0.5)
    assert shrunk.outcome.invariant == "assert"


def test_an_assertion_without_words_tells_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(s: State) -> str:
        raise AssertionError

    monkeypatch.setattr(leading, "gate_of", wrong)
    outcome = running.run(0, "mirror").outcome
    assert outcome.startswith("assert: ")
    assert outcome.endswith(" wrong")
