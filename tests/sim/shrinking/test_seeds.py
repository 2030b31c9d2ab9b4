"""Seeds of cores that are broken on purpose become short scenarios that fail the same way."""

from collections.abc import Callable

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.errors import Refused, UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim import swarm
from mirrorfarm.sim.acts.cables import Cut
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.farm_sweep import FarmSwarm
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.sim.scenario.outcome import Outcome
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.scenario.record import Event, Scenario
from mirrorfarm.sim.scenario.tape import record
from mirrorfarm.sim.shrinking import shrink as shrink_module
from mirrorfarm.sim.shrinking.seeds import shrink, shrink_plan
from mirrorfarm.sim.shrinking.shrink import Progress, Shrinking

SEED = 3


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: the gate opens to `self` while the peer may still be promoted."""
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))


@pytest.mark.usefixtures("broken")
def test_a_seed_becomes_a_short_scenario_that_breaks_the_same_invariant() -> None:
    told: list[Progress] = []
    shrunk = shrink_plan(plan_of("mirror", SEED), tell=told.append)
    _, violation = record(swarm.dense(SEED))
    assert shrunk.outcome.invariant == violation.partition(":")[0] != ""
    assert shrunk.whole
    assert len(shrunk.scenario.events) <= 3 < shrunk.events_before
    assert len(shrunk.text.splitlines()) < 30
    again = play(read(shrunk.text.encode(), "f"))
    assert again.invariant == shrunk.outcome.invariant
    assert "sequenceDiagram" in shrunk.explanation
    assert shrunk.outcome.story[-1] in shrunk.explanation
    assert {one.doing for one in told} >= {"leave out events", "round times"}
    assert read(shrink("mirror", SEED).encode(), "f") == shrunk.scenario


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("end", [KeyboardInterrupt, None])
def test_what_was_found_so_far_is_kept(
    monkeypatch: pytest.MonkeyPatch, end: type[BaseException] | None
) -> None:
    tape, violation = record(swarm.dense(SEED))
    invariant = violation.partition(":")[0]
    left = [5]

    def is_over() -> bool:
        left[0] -= 1
        if end is not None and not left[0]:
            raise end
        return left[0] < 0

    shrinking = Shrinking(tape, invariant, is_over)
    best = shrinking.run()
    assert not shrinking.whole
    assert shrinking.tried <= 5
    assert best != tape
    assert play(best, tells=False).invariant == invariant
    del monkeypatch


def test_a_candidate_that_fails_otherwise_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tape, _ = record(swarm.dense(SEED))
    honest: Callable[..., Outcome] = play

    def other(*arguments: object, **named: object) -> Outcome:
        outcome = honest(*arguments, **named)
        outcome.violation = "S9: something else"
        return outcome

    monkeypatch.setattr(shrink_module, "play", other)
    shrinking = Shrinking(tape, "S3", lambda: shrinking.tried >= 8)
    assert shrinking.run() == tape
    assert (shrinking.tried, shrinking.accepted) == (8, 0)


def test_a_seed_that_breaks_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="breaks no invariant"):
        shrink("mirror", 1)


def test_options_say_what_a_seed_plays() -> None:
    received = plan_of("mirror,ack_mode=received,checked=none", 7)
    assert isinstance(received, swarm.Swarm)
    assert dict(received.world)["ack_mode"] == "received"
    assert dict(received.world)["checked"] == ""
    assert plan_of("mirror-swarm,minutes=5", 7) == swarm.draw(7, 5)
    farm = plan_of("farm-swarm", 7)
    assert isinstance(farm, FarmSwarm)
    assert farm.machines


@pytest.mark.parametrize(
    "options",
    [
        "miror",
        "mirror,netwoks=2",
        "mirror,networks=9",
        "farm,minutes=x",
        "farm,x=1",
        "farm,minutes=5",
        "swarm,minutes=0",
        "mirror-swarm,minutes=",
        "farm-swarm,minutes=601",
        "swarm,minutes=000000999999999999",
        "swarm,minutes=\u0665",
        "swarm,x=1",
        "swarm,minutes=1,minutes=2",
        "mirror,networks=1,networks=1",
    ],
)
def test_options_that_make_no_sense_are_refused_with_a_cure(options: str) -> None:
    with pytest.raises(UsageInvalid, match="--options"):
        plan_of(options, 1)


def test_writes_that_only_shift_the_chance_of_all_else_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    single = [Event(n * SECOND_NS, Write(1)) for n in range(200)]
    tape = Scenario(seed=99, events=(*single, Event(200 * SECOND_NS, Cut(("n1", "n2")))))

    def by_chance(scenario: Scenario, **_: bool) -> Outcome:
        writes = [event for event in scenario.events if isinstance(event.act, Write)]
        fails = scenario == tape or (scenario.seed == SEED and not writes)
        return Outcome(scenario, "S1: lost" if fails else "", scenario.end_ns)

    monkeypatch.setattr(shrink_module, "play", by_chance)
    assert not Shrinking(tape, "S1").run().events
