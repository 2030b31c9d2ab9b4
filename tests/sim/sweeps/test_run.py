"""The seam to the simulator: pure, told by options that are checked."""

from dataclasses import replace

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.sim import farm_sweep, sweep
from mirrorfarm.sim.sweeps import played
from mirrorfarm.sim.sweeps.result import Moment
from mirrorfarm.sim.sweeps.run import build_id, parse_options, replay_seed, run_seed


@pytest.mark.parametrize("options", ["mirror,steps=8", "farm,steps=5", "swarm"])
def test_the_same_seed_gives_the_same_result(options: str) -> None:
    one, other = (replace(run_seed(options, 4), wall_seconds=0.0) for _ in range(2))
    assert one == other
    assert (one.outcome, one.build) == ("ok", build_id())
    assert one.faults
    assert one.states
    assert one.simulated_ns > 0


def test_what_is_counted_is_what_the_tests_play() -> None:
    run = played.mirror(3, {})
    run.finish(run)
    assert run.world.story == sweep.play(3).story
    run = played.farm(4, {"lossy": False})
    run.finish(run)
    assert run.world.story == farm_sweep.play(4, lossy=False).story


def test_a_violation_keeps_what_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    for seed in range(60):
        result, moments = replay_seed("mirror", seed)
        if result.failed:
            break
    assert (result.outcome, result.invariant) == ("violation", result.message.split(":")[0])
    assert result.signature.startswith("mirror: n1 ")
    assert result.faults
    assert moments[-1].kind == "violation"


def test_every_unknown_setting_is_told_with_those_that_exist() -> None:
    with pytest.raises(UsageInvalid) as caught:
        parse_options("mirror,stepz=3,arbiter=coin")
    first, second = str(caught.value).splitlines()
    assert "'stepz' is no setting of mirror; known: steps, profile" in first
    assert "arbiter must be one of witness, ping, none, not 'coin'" in second
    with pytest.raises(UsageInvalid, match="begin with farm, mirror, swarm"):
        parse_options("flock")


def test_settings_reach_the_run() -> None:
    assert parse_options("farm,nodes=4,lossy=no") == ("farm", {"nodes": 4, "lossy": False})
    assert "4 nodes" in run_seed("farm,nodes=4,steps=1,lossy=no", 1).signature


def test_a_failover_is_from_the_end_of_one_leader_to_another_one() -> None:
    moments = [
        Moment(10, "n1", "state", "leading"),
        Moment(20, "n1", "state", "down"),
        Moment(50, "n2", "state", "leading"),
        Moment(60, "n2", "state", "stopping"),
        Moment(90, "n2", "state", "leading"),
    ]
    assert played.failovers(moments) == (30,)
