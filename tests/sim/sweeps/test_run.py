"""The seam to the simulator: pure, told by options that are checked."""

from dataclasses import replace
from typing import Any

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.sim.running import Moment
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.run import build_id, failovers, replay_seed, run_seed


@pytest.mark.parametrize("options", ["mirror", "farm"])
def test_the_same_seed_gives_the_same_result(options: str) -> None:
    one, other = (replace(run_seed(options, 4), wall_seconds=0.0) for _ in range(2))
    assert one == other
    assert (one.outcome, one.build) == ("ok", build_id())
    assert one.faults
    assert one.states
    assert one.simulated_ns > 0


def test_a_violation_keeps_what_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    for seed in range(60):
        result, moments = replay_seed("mirror", seed)
        if result.failed:
            break
    assert (result.outcome, result.invariant) == ("violation", result.message.split(":")[0])
    assert result.signature.startswith("n1 ")
    assert result.faults
    assert moments[-1].kind == "violation"


def test_a_failover_is_from_the_end_of_one_leader_to_another_one() -> None:
    moments = [
        Moment(10, "n1", "state", "leading"),
        Moment(20, "n1", "state", "down"),
        Moment(50, "n2", "state", "leading"),
        Moment(60, "n2", "state", "stopping"),
        Moment(90, "n2", "state", "leading"),
    ]
    assert failovers(moments) == (30,)


def test_each_module_has_a_leader_of_its_own() -> None:
    moments = [
        Moment(10, "n1", "state", "leading"),
        Moment(20, "n2/app2", "state", "leading"),
        Moment(30, "n1", "state", "down"),
        Moment(35, "n1/app2", "state", "down"),
        Moment(40, "n2/app2", "state", "stopping"),
        Moment(60, "n2/app2", "state", "leading"),
        Moment(90, "n2", "state", "leading"),
    ]
    assert failovers(moments) == (60,)


def test_a_primary_that_loses_power_is_down_until_another_one_leads() -> None:
    result, moments = replay_seed("mirror", 0)
    states = [moment for moment in moments if moment.kind == "state"]
    last = [moment for moment in states if moment.text in ("down", "leading")][-2:]
    assert [(moment.node, moment.text) for moment in last] == [("n1", "down"), ("n2", "leading")]
    assert result.failover_ns[-1] == last[1].time_ns - last[0].time_ns
    assert "n1 down" in result.signature


def test_every_module_of_a_node_without_power_is_down() -> None:
    _, moments = replay_seed("mirror,modules=2", 0)
    down = {(m.time_ns, m.node) for m in moments if m.text == "down"}
    at_once = {time for time, node in down if node == "n1"} & {
        time for time, node in down if node == "n1/app2"
    }
    assert at_once


def test_a_farm_node_without_a_process_is_down() -> None:
    result, moments = replay_seed("farm", 4)
    assert "down" in {moment.text for moment in moments if moment.kind == "state"}
    assert "down" not in result.signature  # All are up at the end.


def test_two_assertions_are_two_classes_of_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their nodes are: both are of the invariant `assert`."""
    honest = Mirror.handle

    def handle(core: Mirror, event: Any, now: int) -> list[Any]:
        if isinstance(event, ev.PeerHeard):
            if others:
                raise AssertionError("of something else")
            raise AssertionError("of something")
        return honest(core, event, now)

    monkeypatch.setattr(Mirror, "handle", handle)
    others = list[SeedResult]()
    first, again = run_seed("mirror", 0), run_seed("mirror", 0)
    others.append(first)
    other = run_seed("mirror", 0)
    assert first.invariant == other.invariant == "assert"
    assert first.signature == again.signature
    assert first.signature.partition(": n1 ")[2] == other.signature.partition(": n1 ")[2] != ""
    assert first.signature != other.signature
