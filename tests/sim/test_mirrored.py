"""Several modules on the same machines: what they share, what each has, and who watches whom."""

from pathlib import Path

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim import running, swarm
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.disks import DiskError, RecordCrash
from mirrorfarm.sim.acts.people import Command, Exits, WitnessReplaced, Write
from mirrorfarm.sim.acts.phases import CrashInPhase
from mirrorfarm.sim.acts.processes import KillModule, PauseModule, Power
from mirrorfarm.sim.checking import check
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.seen import RegisterDurable
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.sim.sweep import one_by_one, play
from mirrorfarm.sim.world import World
from mirrorfarm.trace.export import Options, export
from mirrorfarm.transport.messages import Register
from tests.sim.acts.clusters import pair
from tests.sim.recording.linear import broken_keys, registers


@pytest.fixture(name="world")
def fixture_world() -> World:
    return pair(modules=2)


def roles(world: World, module: str) -> list[str]:
    return [world.modules[module].role(name) for name in ("n1", "n2")]


@pytest.mark.parametrize(("modules", "seeds"), [(2, range(4)), (3, range(4, 6))])
def test_nothing_breaks_whatever_fails(modules: int, seeds: range) -> None:
    for seed in seeds:
        try:
            play(seed, modules=modules, extents=8)
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")


def test_each_is_primary_first_where_the_one_before_is_secondary(world: World) -> None:
    assert roles(world, "app") == ["PRIM Ready", "SECOND Ready"]
    assert roles(world, "app2") == ["SECOND Ready", "PRIM Ready"]


def test_each_takes_over_within_its_bounds_while_the_other_one_goes_on_alone(world: World) -> None:
    one_by_one(world)
    for module in world.modules.values():
        bounds = module.monitors.watch.monitors
        assert bounds["L1"].worst_ns > 0, module.name  # type: ignore[attr-defined]


def test_what_is_done_to_a_module_is_not_done_to_another_one(world: World) -> None:
    first, second = (world.placed("n2", name) for name in ("app", "app2"))
    perform(world, KillModule("n2", module="app2"))
    assert "app2" not in [p.name for p in second.host.processes.values() if p.alive]
    assert first.host.processes["app"].alive
    perform(world, DiskError("n2", SECOND_NS, module="app2"))
    assert (first.disk.error, second.disk.error) == (0, 5)
    perform(world, Exits("n1"))
    perform(world, Exits("n2", module="app2"))
    assert not world.placed("n1").application
    assert not second.application


def test_a_paused_module_does_not_run_and_the_other_one_does(world: World) -> None:
    perform(world, PauseModule("n1", SECOND_NS, module="app2"))
    processes = world.hosts["n1"].processes
    assert [name for name, one in processes.items() if one.paused] == ["app2"]
    processes["app"].die()
    world.run(600)
    assert not processes["app"].paused, "it was started while the other one stood still"
    world.run(600)
    assert not any(one.paused for one in processes.values())


def test_what_happens_to_a_machine_happens_to_all_of_them(world: World) -> None:
    perform(world, Power("n1"))
    assert (roles(world, "app")[0], roles(world, "app2")[0]) == ("down", "down")
    world.run(2_000)
    assert (roles(world, "app")[1], roles(world, "app2")[1]) == ("ALONE Ready", "ALONE Ready")


def test_power_that_fails_at_the_record_of_one_takes_the_others_with_it(world: World) -> None:
    perform(world, RecordCrash("n2", module="app2"))
    perform(world, Command("stop", "n2", module="app2"))
    assert world.run_until(lambda: not world.hosts["n2"].up, 5_000)
    assert not world.hosts["n2"].processes


def test_each_has_its_own_client_and_connections(world: World) -> None:
    perform(world, Write(3))
    perform(world, Write(5, module="app2"))
    world.run(200)
    acked = [module.monitors.acked for module in world.modules.values()]
    assert [len(one) for one in acked] == [3, 5]
    assert not acked[0] & acked[1], "a history of both knows which is whose"
    world.modules["app2"].streams.reset("n1", "n2")
    assert [one.streams.resets for one in world.modules.values()] == [0, 1]


def test_another_witness_knows_none_of_them(world: World) -> None:
    assert set(world.witness_node.registers) == {"app", "app2"}
    perform(world, WitnessReplaced())
    assert [one.monitors.facts.lives for one in world.modules.values()] == [2, 2]


def test_a_phase_is_waited_for_in_the_module_that_is_meant(world: World) -> None:
    act = CrashInPhase("n1", "stopping", "processes", module="app2")
    perform(world, act)
    perform(world, Command("stop", "n1"))
    world.run(500)
    assert world.hosts["n1"].up
    perform(world, Command("stop", "n1", module="app2"))
    assert world.run_until(lambda: not world.hosts["n1"].up, 2_000)


# --- who watches ---------------------------------------------------------------------------


def test_the_monitors_of_a_module_know_its_own_register_alone(world: World) -> None:
    """Both are in term 1, of different holders: mixed up, that is a violation."""
    own = {name: one.monitors.register for name, one in world.modules.items()}
    assert [one.holder for one in own.values() if one is not None] == ["n1", "n2"]
    register = own["app2"]
    assert register is not None
    outside = Register(register.term + 1, register.ver + 1, "n9", ("n9",), "", "")
    with pytest.raises(Violation, match=r"S5: app2: n9 was promoted from outside"):
        world.seen("w1", RegisterDurable("app2", outside, own=False), "app2")
    assert not world.modules["app"].monitors.watch.violations


def test_a_rule_that_one_module_breaks_is_told_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R2 is broken in app2 alone: the gate opens while the peer may be promoted."""
    honest = leading.gate_of

    def gate_of(s: State) -> str:
        broken = s.leading.lost and s.settings.module.name == "app2"
        return "self" if broken else honest(s)

    monkeypatch.setattr(leading, "gate_of", gate_of)
    outcome = running.run(0, "mirror,modules=2")
    assert outcome.outcome.startswith("S6: app2: ")
    assert outcome.story


# --- options, recordings, chance -----------------------------------------------------------


def test_a_recording_of_two_is_right_and_has_the_history_of_both(tmp_path: Path) -> None:
    traces, history = tmp_path / "traces", tmp_path / "history.jepsen"
    options = "mirror,modules=2,extents=8"
    traced = running.run(6, options, traces)
    assert (traced.outcome, traced.digest) == ("ok", running.run(6, options).digest)
    checked = check([traces])
    assert not checked.violations
    assert {"n1/app", "n1/app2", "n2/app2.replica"} <= set(checked.processes)
    export([traces], Options("jepsen", history))
    assert broken_keys(history) == []
    assert {key // 1_000_000 for key in registers(history)} == {0, 1}


def test_swarms_of_several_are_a_kind_of_their_own() -> None:
    plans = [plan_of("modules-swarm,minutes=1", seed) for seed in range(20)]
    counts = {dict(plan.world)["modules"] for plan in plans if isinstance(plan, swarm.Swarm)}
    assert counts == {2, 3}
    for seed in range(3):
        assert "modules" not in swarm.draw(seed).describe()


def test_what_is_drawn_for_the_first_module_is_as_if_it_were_alone(world: World) -> None:
    """Else seeds of single modules would be other runs than they were."""
    assert [world.concern("writes", name) for name in world.modules] == ["writes", "writes app2"]
    alone = World(1, world.timing)
    own, other = alone.placed("n1").draws, world.placed("n1", "app2").draws
    first = Draws(1, "n1").word()
    own.counter = other.counter = 0
    assert (own.word(), other.word() == first) == (first, False)
