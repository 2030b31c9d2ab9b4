"""Random faults from seeds: no invariant breaks, and everything comes up again afterwards."""

import os

import pytest

from mirrorfarm.sim import swarm
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import RegisterDurable
from mirrorfarm.sim.sweep import build, first_start, play
from mirrorfarm.transport.messages import Register

SEEDS = int(os.environ.get("MIRRORFARM_SEEDS", "40"))


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_no_acknowledged_write_is_lost_whatever_fails(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            play(seed)
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")


def test_the_default_profile_holds_too() -> None:
    for seed in range(10):
        play(seed, "default")


@pytest.mark.parametrize("options", [{"failover": False}, {"directories": False}])
def test_modules_without_failover_or_without_directories_hold_too(options: dict[str, bool]) -> None:
    for seed in range(1_000, 1_020):
        play(seed, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("arbiter", ["witness", "ping", "none"])
def test_after_the_faults_one_fault_alone_is_met_within_its_bounds_whoever_the_arbiter_is(
    arbiter: str,
) -> None:
    bounds = play(3, arbiter=arbiter).monitors.watch.monitors
    assert all(bounds[name].worst_ns > 0 for name in ("L1", "L2", "L6"))  # type: ignore[attr-defined]


def test_the_same_seed_tells_the_same_story() -> None:
    assert play(7).story == play(7).story


def test_a_primary_that_acknowledges_alone_without_the_arbiter_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule R2 broken on purpose: the gate opens to `self` while the peer may be promoted."""
    from mirrorfarm.actors.module.mirror import leading  # noqa: PLC0415

    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    with pytest.raises(Violation):
        _play_all(60)


def _play_all(seeds: int) -> None:
    for seed in range(seeds):
        play(seed)


def test_a_register_that_promotes_from_outside_the_set_is_caught() -> None:
    world = build(swarm.dense(1))
    first_start(world)
    register = world.monitors.register
    assert register is not None
    outside = Register(register.term + 1, register.ver + 1, "n9", ("n9",), "", "")
    with pytest.raises(Violation, match="S5"):
        world.seen("w1", RegisterDurable("app", outside, own=False), "app")
