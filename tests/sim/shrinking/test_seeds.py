"""Seeds of cores that are broken on purpose become short scenarios that fail the same way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.errors import Refused, UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim import running, swarm
from mirrorfarm.sim.acts.cables import Cut
from mirrorfarm.sim.acts.people import Command as Order
from mirrorfarm.sim.acts.people import WitnessAway, Write
from mirrorfarm.sim.coverage import machines
from mirrorfarm.sim.farm_sweep import FarmSwarm
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.sim.scenario.outcome import Outcome
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.scenario.record import EVENTS_MAX, Event, Scenario
from mirrorfarm.sim.scenario.tape import record
from mirrorfarm.sim.shrinking import seeds as seeds_module
from mirrorfarm.sim.shrinking import shrink as shrink_module
from mirrorfarm.sim.shrinking.seeds import shrink, shrink_plan
from mirrorfarm.sim.shrinking.shrink import Progress, Shrinking
from mirrorfarm.transport import messages as msg

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


def test_what_fails_only_when_all_is_mended_goes_on_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if it does at once: the witness starts again at the very moment of the end."""
    honest, starts = WitnessCore.handle, list[int]()

    def handle(core: WitnessCore, event: ev.Event, now: int) -> list[Any]:
        if isinstance(event, ev.Started):
            starts.append(now)
            if now > starts[0]:
                raise AssertionError("started again")
        return honest(core, event, now)

    monkeypatch.setattr(WitnessCore, "handle", handle)
    away = Event(0, WitnessAway())
    tape = Scenario(events=(away,), end_ns=SECOND_NS, core="n1+w1", converges=True)
    first = play(tape, tells=False)
    assert (first.violation, first.at_ns) == ("assert: started again", SECOND_NS)
    best = Shrinking(tape, first.cause).run()
    assert play(best, tells=False).cause == first.cause


def test_another_assertion_is_another_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, given = Mirror.handle, list[str]()

    def handle(core: Mirror, event: Any, now: int) -> list[Any]:
        if isinstance(event, ev.Started):
            given.clear()
        if isinstance(event, ev.Received) and isinstance(event.message, msg.Command):
            given.append(event.message.verb)
            if given[-1] == "swap":
                raise AssertionError("one")
            if given[-1] == "restart" and "stopstart" not in given:
                raise AssertionError("other")
        return honest(core, event, now)

    monkeypatch.setattr(Mirror, "handle", handle)
    verbs = ("stopstart", "restart", "swap")  # Without the first one the second one fails.
    events = tuple(Event(n * SECOND_NS, Order(verb, "n1")) for n, verb in enumerate(verbs))
    tape = Scenario(events=events, end_ns=3 * SECOND_NS)
    first = play(tape, tells=False)
    best = Shrinking(tape, first.cause).run()
    assert play(best, tells=False).violation == first.violation == "assert: one"
    assert [one.act for one in best.events] == [events[-1].act]


def test_a_seed_in_which_something_cannot_be_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    only = machines.Only(("stopped",), "a test says so")
    monkeypatch.setitem(machines.MIRROR.only, "WriteHeld", only)
    found = next(s for s in range(9) if running.run(s, "mirror").outcome.startswith("matrix"))
    shrunk = shrink_plan(plan_of("mirror", found))
    assert "WriteHeld while leading, which cannot be" in shrunk.outcome.violation
    assert len(shrunk.scenario.events) < shrunk.events_before


def test_a_scenario_that_is_too_long_to_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long life, and no time to shrink it: its seed is the better example."""
    writes = tuple(Event(n * SECOND_NS, Write(1)) for n in range(EVENTS_MAX + 1))
    tape = Scenario(events=writes, end_ns=EVENTS_MAX * SECOND_NS)

    def breaks(scenario: Scenario, **_: bool) -> Outcome:
        return Outcome(scenario, "S1: lost", scenario.end_ns)

    monkeypatch.setattr(seeds_module, "record", lambda plan: (tape, "S1: lost"))
    monkeypatch.setattr(seeds_module, "play", breaks)
    plan = plan_of("mirror-swarm", 1)
    assert f"more than {EVENTS_MAX}" in shrink_plan(plan, 0.0).unreadable
    monkeypatch.setattr(seeds_module, "shrink_plan", lambda plan: shrink_plan(plan, 0.0))
    with pytest.raises(Refused, match=f"more than {EVENTS_MAX}"):
        shrink("mirror-swarm", 1)
    short = shrink_plan(plan, 0.0)
    assert not replace(short, scenario=replace(tape, events=writes[1:])).unreadable
