"""A seed that violates an invariant tells the whole story, though runs that hold keep little."""

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.sim import running
from mirrorfarm.sim.monitors.watch import STEPS_KEPT
from mirrorfarm.sim.plans import plan_of

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
            break
    else:
        pytest.fail("no story is longer than what such runs keep")
    outcome = running.run(seed, "mirror")
    assert outcome.outcome != "ok"
    assert outcome.story == whole
