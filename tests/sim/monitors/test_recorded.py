"""Monitors of recorded traces: what they see of mirrors and farms, and that honest runs pass."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.guard.core import Guard
from mirrorfarm.limits import BUCKETS, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.farmclocks import with_pulse
from mirrorfarm.modules.settings import PROFILES, FarmTiming
from mirrorfarm.sim import checking, sweep
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.monitors import farm, farm_recorded
from mirrorfarm.sim.monitors.all import RECORDED
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.recording.recorder import Recorder
from mirrorfarm.sim.steps import Step
from mirrorfarm.sim.world import World
from mirrorfarm.trace.clocks import NodeClock
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import FarmBeat, Register

S = SECOND_NS
TIMING = FarmTiming()
START = fx.StartScript(1, "start_prim", (), 1)
ADD = fx.AddressAdd(1)
BOOT = {"n1": 5 * S, "n2": 900 * S}  # What their boot clocks show at time 0.
ALL, NONE = (b"\1" * BUCKETS,), (bytes(BUCKETS),)


def acted(node: str, at: int, event: Any, *effects: Any, actor: str = "x") -> tuple[int, Step]:
    return at, Step(node, "app", actor, at + BOOT[node], event, effects)


def guard(node: str, at: int, until: int) -> tuple[int, Step]:
    deadline = until + BOOT[node] if until else 0
    return acted(node, at, ev.Started(), fx.GuardOrder(deadline), actor="guard")


def broken(watch: Watch, steps: list[tuple[int, Step]]) -> set[str]:
    for at, step in steps:
        watch.step(step, at)
    return {text.partition(":")[0] for text in watch.finish()}


def mirror(*steps: tuple[int, Step], apart_ns: int | None = MILLISECOND_NS) -> set[str]:
    watch = Watch(RECORDED)
    watch.apart_ns = apart_ns
    return broken(watch, list(steps))


def started(node: str, at: int) -> tuple[int, Step]:
    return acted(node, at, ev.RunSequence(1, (), "", "", ""), START)


def test_x1_an_application_starts_while_the_guard_lets_another_go_on() -> None:
    first = [started("n1", 1 * S), guard("n1", 2 * S, 10 * S)]
    assert mirror(*first, started("n2", 9 * S)) == {"X1"}
    assert mirror(*first, started("n2", 9 * S), apart_ns=None) == set(), "no clock, no verdict"
    assert mirror(*first, started("n2", 9 * S), apart_ns=2 * S) == set(), "it may be over"
    assert mirror(*first, started("n2", 11 * S)) == set(), "its guard has ended it"
    gone = acted("n1", 3 * S, ev.ApplicationGone(1))
    assert mirror(*first, gone, started("n2", 4 * S)) == set()
    stopped = acted("n1", 3 * S, ev.ScriptEnded(1, "stop_prim", 0))
    assert mirror(*first, stopped, started("n2", 4 * S)) == set()
    both = [*first, started("n2", 11 * S), guard("n1", 12 * S, 20 * S)]
    assert mirror(*both) == set(), "n2 has no guard yet"
    assert mirror(*both, guard("n2", 13 * S, 30 * S)) == {"X1"}


def test_x2_addresses_are_put_up_while_the_guard_leaves_them_elsewhere() -> None:
    first = [acted("n1", S, ev.VipUp(1), ADD), guard("n1", 2 * S, 10 * S)]
    second = acted("n2", 9 * S, ev.VipUp(1), ADD)
    assert mirror(*first, second) == {"X2"}
    assert mirror(*first, acted("n1", 3 * S, ev.VipIsDown(1)), second) == set()
    assert mirror(*first, acted("n1", 3 * S, ev.GuardActed(1)), second) == set()


def test_x3_a_gate_opens_after_the_deadline_of_the_guard() -> None:
    gate = fx.PlaneOrder("gate", (1, 1, 0, "both", "", False))
    other = {"S1", "S2", "S6", "S11"}  # These know nothing of a register here.
    late = acted("n1", 11 * S, ev.Started(), gate)
    assert mirror(guard("n1", S, 10 * S), late) - other == {"X3"}
    assert mirror(guard("n1", S, 12 * S), late) - other == set()
    again = acted("n1", 10 * S, ev.Started(), actor="guard")
    assert mirror(guard("n1", S, 10 * S), again, late) - other == set(), "another process"


def test_an_arbiter_without_a_register_of_its_own_promises_nothing() -> None:
    gate = fx.PlaneOrder("gate", (1, 1, 0, "self", "", False))
    register = Register(1, 1, "n1", ("n1",), "g", "i")
    own = fx.RegisterStore("c", "app", register, 1, 0, "", 0)
    opens = acted("n1", 2 * S, ev.Started(), gate)
    assert "S2" in mirror(opens)
    assert "S2" not in mirror(acted("n1", S, ev.Started(), own, actor="arbiter"), opens)


# --- farms ---------------------------------------------------------------------------------


def watched(*steps: tuple[int, Step], apart_ns: int = 0) -> set[str]:
    kinds: tuple[type[Monitor], ...] = (*farm_recorded.TIMED, *farm_recorded.UNTIMED)
    return broken(Watch(kinds, farm=farm_recorded.Facts(TIMING, apart_ns=apart_ns)), list(steps))


def heard(node: str, other: str, at: int) -> tuple[int, Step]:
    source = Address(other, "app", "farm_filter")
    beat = FarmBeat(1, 1, "in", "bpf", 7, "", (1,), (0, 0))
    return acted(node, at, ev.Received(source, beat, "lan", 1, 1))


def answers(node: str, at: int, rows: Any = ALL, lease: int = 600) -> tuple[int, Step]:
    deadline = at + BOOT[node] + lease * MILLISECOND_NS
    table = fx.ApplyTable(1, rows)
    return acted(node, at, ev.Started(), table, fx.RenewLease(deadline))


def talking(until: int, begin: int = S) -> list[tuple[int, Step]]:
    times = range(begin, until, 100 * MILLISECOND_NS)
    return [heard(*pair, at) for at in times for pair in (("n1", "n2"), ("n2", "n1"))]


def test_f2_and_f7_two_that_hear_each_other_answer_alike() -> None:
    both = [*talking(3 * S), answers("n1", 3 * S), answers("n2", 3 * S + 1)]
    assert watched(*both) == {"F2", "F7"}
    assert watched(*both, apart_ns=S) == set(), "the lease of n1 may be over by then"
    closed = [*talking(3 * S), answers("n1", 3 * S, NONE), answers("n2", 3 * S + 1)]
    assert watched(*closed) == set()


def test_f2_and_f7_leave_a_partition_and_its_healing_alone() -> None:
    apart = [*talking(2 * S), answers("n1", 3 * S), answers("n2", 3 * S + 1)]
    assert watched(*apart) == set()
    mended = [*talking(2 * S), *talking(5 * S, 4 * S)]
    soon, late = 4_500 * MILLISECOND_NS, 5 * S
    steps = sorted([*mended, answers("n1", soon), answers("n2", soon + 1)], key=lambda one: one[0])
    assert watched(*steps) == set(), "within two heartbeat timeouts"
    assert watched(*mended, answers("n1", late), answers("n2", late + 1)) == {"F2", "F7"}


def test_f8_a_lease_is_longer_than_it_may_be() -> None:
    assert watched(answers("n1", S)) == set()
    assert watched(answers("n1", S, lease=700)) == {"F8"}


def test_f3_members_of_a_view_use_different_tables() -> None:
    picture = ev.FarmPicture(
        *(3, True, True, "", "", 3, "n1", (), (0,), 0, 0), ("n1", "n2"), (b"\0\1" * 512,)
    )
    other = msgspec.structs.replace(picture, owners=(b"\1\0" * 512,))
    tells = [fx.Tell("module", one) for one in (picture, other)]
    mine = acted("n1", S, ev.FarmWish("in"), tells[0])
    assert watched(mine, acted("n2", S, ev.Started(), tells[0])) == set()
    theirs = acted("n2", S, ev.FarmWish("in"), tells[1])
    assert watched(mine, theirs) == {"F3"}
    assert watched(mine, acted("n1", S, ev.Started()), theirs) == set(), "another view 3"


# --- whole traces --------------------------------------------------------------------------


def pair(folder: Path) -> None:
    """n1 stands still for longer than its lease, and n2 takes over."""
    world = World(1, PROFILES["fast"], monitors=(), apart=True)
    recorder = Recorder(world, folder)
    sweep.first_start(world)
    world.run(500)
    world.freeze("n1", 3_000)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    recorder.close()


def test_a_mirror_that_arms_no_guard_is_found_in_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(tmp_path / "honest")
    result = checking.check([tmp_path / "honest"])
    assert (result.violations, result.gaps) == (0, 0)
    assert {"R10", "X1", "X2", "X3", "L7", "L8"} <= set(result.invariants)
    honest = Guard.handle

    def handle(core: Guard, event: Any, now: int) -> list[Any]:
        """Have the guard act a minute late."""
        if isinstance(event, ev.GuardArm):
            event = ev.GuardArm(event.deadline_ns + 60 * S)
        return honest(core, event, now)

    monkeypatch.setattr(Guard, "handle", handle)
    pair(tmp_path / "broken")
    found = {one.invariant for one in checking.check([tmp_path / "broken"]).broken}
    assert found == {"X1", "X2"}


def test_a_farm_is_checked_by_the_clocks_of_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = msgspec.structs.replace(TIMING, scan_ns=300 * MILLISECOND_NS)
    world = FarmWorld(3, 3, timing, monitors=())
    recorder = Recorder(world, tmp_path)
    for name in world.names:
        world.start(name, "in")
    assert world.run_until(lambda: world.settled(*world.names), 5_000)
    world.kill("n3")
    world.run(1_500)
    recorder.close()
    assert checking.timings([tmp_path]) == {"web": timing}
    result = checking.check([tmp_path])
    assert result.violations == 0
    of_a_farm = {"F2", "F3", "F4", "F7", "F8", "L5", "L7", "L8"}
    assert set(result.invariants) == of_a_farm, "none of a mirror's is said to have held"
    short = msgspec.structs.replace(timing, lease_ns=timing.lease_ns // 2)
    monkeypatch.setattr(checking, "timings", lambda paths: {"web": short})
    assert {one.invariant for one in checking.check([tmp_path]).broken} == {"F8"}
    monkeypatch.setattr(checking, "timings", lambda paths: {})
    assert set(checking.check([tmp_path]).invariants) & {"F2", "F7", "F8"} == set()


def test_a_farm_that_got_other_clocks_is_checked_by_those_of_each_start(tmp_path: Path) -> None:
    first = msgspec.structs.replace(TIMING, scan_ns=300 * MILLISECOND_NS)
    second = with_pulse(first, 2 * first.pulse_ns, 6)
    world = FarmWorld(3, 3, first, monitors=())
    recorder = Recorder(world, tmp_path)
    for timing in (first, second):
        world.timing = timing
        for name in world.names:
            world.start(name, "in")
        assert world.run_until(lambda: world.settled(*world.names), 10_000)
        for name in world.names:
            world.kill(name, power=False)
        world.run(5_000)
    recorder.close()
    assert checking.check([tmp_path]).broken == []
    assert list(checking.retimed([tmp_path]).values()) == [second] * 3


def test_clocks_that_no_message_compares_give_no_verdict() -> None:
    reference = NodeClock("n1", "b", "reference", 0, 0, 0, 0.0)
    compared = NodeClock("n2", "b", "messages", 9, 5, 300, 0.0)
    assert checking.apart_ns([reference, compared]) == 600
    believed = NodeClock("n3", "b", "time of day", 0, 0, None, 0.0)
    assert checking.apart_ns([reference, compared, believed]) is None


def test_every_recorded_monitor_of_a_farm_is_one_of_its_invariants() -> None:
    known = {kind.id for kind in farm.FARM}
    assert {kind.id for kind in (*farm_recorded.TIMED, *farm_recorded.UNTIMED)} <= known
