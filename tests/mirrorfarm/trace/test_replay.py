"""What was recorded is done again, step by step; a core that does otherwise is found."""

from typing import Any

import pytest

from mirrorfarm.actors import sites
from mirrorfarm.actors.effects import Log
from mirrorfarm.actors.heartbeat.core import Heartbeat
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.trace.decoder import Checkpoint, Note
from mirrorfarm.trace.files import sources
from mirrorfarm.trace.replay import Difference, Replay
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import Gap, Item, read_items
from tests.mirrorfarm.trace.recorded import record_simulations


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder = record_simulations(tmp_path_factory.mktemp("trace"))
    (source,) = sources([folder])
    return list(read_items(source))


def replayed(items: list[Item]) -> tuple[Replay, list[Difference]]:
    replay = Replay()
    return replay, list(replay.run(items))


def test_every_effect_of_a_simulated_cluster_comes_again(simulated: list[Item]) -> None:
    replay, differences = replayed(simulated)
    assert not differences
    assert replay.counts["skipped"] == 0
    assert replay.counts["steps"] > 5_000
    assert replay.counts["records"] == sum(
        1 + len(one.effects) for one in simulated if isinstance(one, Step)
    )


def test_a_core_that_does_something_else_is_found_at_its_first_step(
    simulated: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Heartbeat.handle

    def handle(core: Heartbeat, event: Any, now: int) -> list[Any]:
        return honest(core, event, now + (core._number == 5))

    monkeypatch.setattr(Heartbeat, "handle", handle)
    _, differences = replayed(simulated)
    first = differences[0]
    assert first.what == "effects"
    assert first.step.actor.startswith("Heartbeat")
    assert first.recorded[first.place] != first.replayed[first.place]


def test_an_effect_too_few_is_a_difference(simulated: list[Item]) -> None:
    steps = [one for one in simulated if isinstance(one, Step) and len(one.effects) > 2]
    effects, steps[7].effects = steps[7].effects, steps[7].effects[:-1]
    _, differences = replayed(simulated)
    steps[7].effects = effects
    assert [(one.step, one.place) for one in differences[:1]] == [(steps[7], len(effects) - 1)]


def test_a_state_that_is_not_that_of_a_later_checkpoint_is_a_difference(
    simulated: list[Item],
) -> None:
    birth = next(one for one in simulated if isinstance(one, Checkpoint) and one.kind == "Mirror")
    state = {**birth.state, "state": {**birth.state["state"], "reason": "another"}}
    step = next(one for one in simulated if isinstance(one, Step) and one.actor == birth.actor)
    _, differences = replayed([birth, step, Checkpoint(birth.actor, "Mirror", state, birth=False)])
    assert [one.what for one in differences] == ["state"]
    assert differences[0].recorded[0].startswith("state.")
    assert differences[0].recorded != differences[0].replayed


def test_after_a_gap_each_core_rests_until_its_next_checkpoint(simulated: list[Item]) -> None:
    birth = next(one for one in simulated if isinstance(one, Checkpoint) and one.kind == "Mirror")
    own = [one for one in simulated if isinstance(one, Step) and one.actor == birth.actor]
    replay, differences = replayed([birth, *own[:5], Gap(3), *own[8:10], birth, *own[:5]])
    assert not differences
    assert (replay.counts["skipped"], replay.counts["gaps"]) == (2, 1)


def test_a_core_that_breaks_again_did_what_was_recorded(
    simulated: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    birth = next(one for one in simulated if isinstance(one, Checkpoint) and one.kind == "Mirror")
    step = next(one for one in simulated if isinstance(one, Step) and one.actor == birth.actor)
    broken = Step("n1", step.actor, step.now_ns, step.event, [])

    def handle(core: Mirror, event: Any, now: int) -> list[Any]:
        raise AssertionError("it breaks")

    monkeypatch.setattr(Mirror, "handle", handle)
    replay, differences = replayed([birth, broken, Note("broke", (birth.actor, "it breaks"))])
    assert (differences, replay.counts["broke"]) == ([], 1)
    _, differences = replayed([birth, broken])
    assert [one.what for one in differences] == ["the core broke"]
    _, differences = replayed([birth, broken, step])
    assert [one.what for one in differences] == ["the core broke"]


def test_events_and_states_of_other_builds_are_left_out_and_counted(
    simulated: list[Item],
) -> None:
    birth = next(one for one in simulated if isinstance(one, Checkpoint) and one.kind == "Mirror")
    strange = Step("n1", birth.actor, 1, ["OfTomorrow", 1], [])
    replay, differences = replayed([birth, strange, strange])
    assert (replay.counts["skipped"], differences) == (2, [])
    other = Checkpoint(birth.actor, "CoreOfTomorrow", {}, birth=True)
    replay, differences = replayed([other, Step("n1", birth.actor, 1, Log("E", "x"), [])])
    assert (replay.counts["skipped"], differences) == (1, [])


SITE = "heartbeat.skip_pulse"


@pytest.fixture
def asking(simulated: list[Item], monkeypatch: pytest.MonkeyPatch) -> tuple[Checkpoint, Step]:
    """Have heartbeats ask only whether a trick is played; the state of one, and a step of it."""
    birth = next(
        one for one in simulated if isinstance(one, Checkpoint) and one.kind == "Heartbeat"
    )
    step = next(one for one in simulated if isinstance(one, Step) and one.actor == birth.actor)

    def handle(core: Heartbeat, event: Any, now: int) -> list[Any]:
        return [Log("I", str(sites.trick(SITE))) for _ in range(3)]

    monkeypatch.setattr(Heartbeat, "handle", handle)
    return birth, step


def test_a_trick_that_was_played_is_played_again_and_nonsense_is_none(
    asking: tuple[Checkpoint, Step],
) -> None:
    birth, step = asking
    told = [[SITE, False], [SITE, True]]
    did = Step("n1", birth.actor, 1, step.event, [Log("I", x) for x in ("False", "True", "False")])
    usual = Step("n1", birth.actor, 1, step.event, [Log("I", "False")] * 3)
    _, differences = replayed([birth, Note("tricks", (birth.actor, told)), did, usual])
    assert differences == []
    for nonsense in (7, [7], [[SITE]], None):
        _, differences = replayed([birth, Note("tricks", (birth.actor, nonsense)), usual])
        assert differences == []


def test_a_trick_is_played_to_no_other_core_and_to_no_step_behind_a_gap(
    asking: tuple[Checkpoint, Step],
) -> None:
    birth, step = asking
    usual = Step("n1", birth.actor, 1, step.event, [Log("I", "False")] * 3)
    own, others = (Note("tricks", (name, [[SITE, True]])) for name in (birth.actor, "other"))
    assert replayed([birth, others, usual])[1] == [], "as with --actor"
    assert replayed([birth, own, Gap(1), birth, usual])[1] == []
    assert replayed([own, usual, birth, usual])[1] == [], "its step was not replayed"
