"""Failures of a mirror, told as stories on the simulated cluster."""

import json

import msgspec
import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.describe import state_json
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES, Timing
from mirrorfarm.sim.meddling import Meddling
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import World
from mirrorfarm.transport.messages import Register

FAST = PROFILES["fast"]


def pair(seed: int = 1, timing: Timing = FAST) -> World:
    """Return a cluster in which n1 is PRIM and n2 SECOND."""
    world = World(seed, timing)
    world.start("n1")
    world.start("n2")
    world.run(100)
    world.command("n1", "prim")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.command("n2", "start")
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    world.run(100)
    assert world.role("n1") == "PRIM Ready"
    return world


def write(world: World, count: int = 5) -> list[int]:
    """Let the application write; return what it was told is done."""
    numbers = []
    for _ in range(count):
        numbers.append(world.write())
        world.run(10)
    return [n for n in numbers if n in world.monitors.acked]


def test_neither_node_starts_before_an_administrator_named_the_good_data() -> None:
    world = World(1, FAST)
    for name in ("n1", "n2"):
        world.start(name)
        world.run(50)
        world.command(name, "start")
    world.run(3_000)
    for name in ("n1", "n2"):
        assert world.role(name) == "WAIT NotReady"
        assert "first start" in world.nodes[name].cores["module"].state.reason


def test_second_takes_over_when_its_prim_loses_power_and_nothing_acknowledged_is_lost() -> None:
    world = pair()
    done = write(world)
    died = world.now
    world.kill("n1")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert (world.now - died) / 1e9 < 0.6
    assert set(done) <= world.nodes["n2"].disk.data
    assert len(write(world)) == 5


def test_prim_goes_on_alone_when_its_second_dies_and_the_set_shrinks_first() -> None:
    world = pair()
    world.kill("n2")
    number = world.write()
    assert number not in world.monitors.acked
    assert world.run_until(lambda: number in world.monitors.acked, 3_000)
    register = world.monitors.register
    assert register is not None
    assert register.isr == ("n1",)
    assert world.nodes["n1"].record.was == "alone"  # type: ignore[union-attr]


def test_without_the_arbiter_a_prim_that_lost_its_second_holds_its_writes() -> None:
    world = pair()
    world.set_link("n1", WITNESS, up=False)
    world.kill("n2")
    number = world.write()
    world.run(5_000)
    assert number not in world.monitors.acked
    assert not world.role("n1").endswith("Ready") or world.role("n1") == "WAIT NotReady"


def test_loss_of_the_witness_alone_changes_nothing() -> None:
    world = pair()
    world.witness_up = False
    for _ in range(20):
        assert len(write(world, 2)) == 2
        world.run(200)
    assert world.role("n1") == "PRIM Ready"
    assert world.role("n2") == "SECOND Ready"


def test_a_cut_between_the_nodes_leaves_exactly_one_of_them_in_service() -> None:
    world = pair()
    world.set_link("n1", "n2", up=False)
    world.run(3_000)
    roles = sorted([world.role("n1"), world.role("n2")])
    assert roles == ["ALONE Ready", "WAIT NotReady"]
    world.set_link("n1", "n2", up=True)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)


def test_an_isolated_prim_stops_its_application_before_the_second_starts_it() -> None:
    world = pair()
    write(world)
    world.isolate("n1")  # Monitor X1 sees two applications.
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert not world.nodes["n1"].application


def test_the_failed_node_returns_and_is_resynchronised_while_the_application_runs() -> None:
    world = pair()
    write(world)
    world.kill("n1")
    world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    write(world)
    world.start("n1", again=True)
    assert world.run_until(lambda: world.role("n1") == "SECOND Ready", 5_000)
    world.run(50)
    assert world.nodes["n1"].disk.data == world.nodes["n2"].disk.data


def test_a_second_that_was_stopped_cleanly_gets_only_what_changed() -> None:
    world = pair()
    world.command("n2", "stop")
    world.run_until(lambda: world.role("n2").startswith("STOP"), 5_000)
    write(world)
    world.command("n2", "start")
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    assert any("of n2 begins: map" in line for line in world.story)


def test_a_second_that_crashed_with_its_kernel_is_compared_as_a_whole() -> None:
    world = pair()
    world.kill("n2")
    world.run(1_000)
    write(world)
    world.start("n2", again=True)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    last = [line for line in world.story if "of n2 begins" in line][-1]
    assert last.endswith("full")


def test_swap_exchanges_the_roles_without_copying() -> None:
    world = pair()
    write(world)
    world.command("n1", "swap")
    assert world.run_until(lambda: world.role("n2") == "PRIM Ready", 5_000)
    assert world.run_until(lambda: world.role("n1") == "SECOND Ready", 5_000)
    assert any("of n1 begins: none" in line for line in world.story)
    assert world.results[-1][2] == "done"


def test_swap_ordered_on_the_second_works_the_same() -> None:
    world = pair()
    world.command("n2", "swap")
    assert world.run_until(lambda: world.role("n2") == "PRIM Ready", 5_000)
    assert world.run_until(lambda: world.role("n1") == "SECOND Ready", 5_000)


def test_the_second_passes_on_why_its_prim_refuses_a_swap() -> None:
    world = pair()
    world.command("n1", "restart")
    assert world.run_until(lambda: world.role("n1") == "PRIM Transient", 1_000)
    world.command("n2", "swap")
    world.run(1_000)
    [text] = [text for _, node, outcome, text in world.results if outcome == "failed"]
    assert text.startswith("n1 refused: this node is PRIM Transient")


@pytest.mark.parametrize(
    ("message", "way"), [("SwapWanted", ("n2", "n1")), ("SwapRefused", ("n1", "n2"))]
)
def test_a_swap_of_which_a_message_is_lost_fails_within_seconds(
    message: str, way: tuple[str, str]
) -> None:
    world = pair()
    world.meddle(Meddling(message, *way, count=1))
    if message == "SwapRefused":
        world.command("n1", "restart")
        assert world.run_until(lambda: world.role("n1") == "PRIM Transient", 1_000)
    world.command("n2", "swap")
    assert world.run_until(lambda: world.results[-1][2] == "failed", 5_000)
    assert world.results[-1][3] == "n1 is PRIM Ready and does not swap"


def test_swap_is_refused_while_the_peer_is_not_up_to_date() -> None:
    world = pair()
    world.kill("n2")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.command("n1", "swap")
    world.run(100)
    assert world.results[-1][2] == "refused"
    assert "n2 is not SECOND Ready" in world.results[-1][3]


def test_a_planned_stop_hands_the_role_over_at_once() -> None:
    world = pair()
    write(world)
    begun = world.now
    world.command("n1", "stop")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert (world.now - begun) / 1e9 < 0.3  # No wait for a lease.
    assert world.run_until(lambda: world.role("n1").startswith("STOP"), 5_000)


def test_a_stale_node_waits_and_says_where_the_newest_data_are() -> None:
    world = pair()
    world.kill("n2")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    write(world)
    world.kill("n1")
    world.start("n2", again=True)
    world.run(4_000)
    assert world.role("n2") == "WAIT NotReady"
    state = world.nodes["n2"].cores["module"].state
    assert "the newest are on n1" in state.reason
    assert "prim" in state.command


def test_after_a_double_power_loss_the_first_in_sync_node_serves_alone() -> None:
    world = pair()
    done = write(world)
    world.kill("n1")
    world.kill("n2")
    world.run(1_000)
    world.start("n2", again=True)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert set(done) <= world.nodes["n2"].disk.data


def test_a_witness_restored_from_an_old_copy_is_not_used() -> None:
    world = pair()
    world.kill("n2")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    write(world)
    world.kill("n1")
    entry = next(iter(world.witness_node.core.entries.values()))
    assert isinstance(entry.register, Register)
    entry.register = msgspec.structs.replace(entry.register, ver=1)
    world.start("n1", again=True)
    world.run(3_000)
    assert world.role("n1") == "WAIT NotReady"
    assert "restored from an old copy" in world.nodes["n1"].cores["module"].state.reason


def test_a_forced_primary_is_recorded_and_its_peer_is_copied_whole() -> None:
    world = pair()
    world.kill("n2")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    write(world)
    world.kill("n1")
    world.start("n2", again=True)
    world.run(3_000)
    world.monitors.forget()  # An operator's override is outside of S5.
    world.command("n2", "primforce")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert "primforce" in world.nodes["n2"].record.forced[0]  # type: ignore[union-attr]


def test_the_same_command_twice_and_on_both_nodes_is_harmless() -> None:
    world = pair()
    for name in ("n1", "n2"):
        world.command(name, "swap")
        world.command(name, "swap")
    world.run(3_000)
    assert sorted([world.role("n1"), world.role("n2")]) == ["PRIM Ready", "SECOND Ready"]


@pytest.mark.parametrize("milliseconds", [200, 250])
def test_a_stall_shorter_than_the_lease_moves_nothing(milliseconds: int) -> None:
    world = pair()
    for _ in range(10):
        world.freeze("n1", milliseconds)
        world.run(1_000)
    assert world.role("n1") == "PRIM Ready"
    register = world.monitors.register
    assert register is not None
    assert register.term == 1


def test_failover_off_never_promotes_by_itself() -> None:
    world = World(3, FAST, failover=False)
    world.start("n1")
    world.start("n2")
    world.run(100)
    world.command("n1", "prim")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.command("n2", "start")
    world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    world.run(100)
    world.kill("n1")
    world.run(5_000)
    assert world.role("n2") == "WAIT NotReady"
    assert "failover is off" in world.nodes["n2"].cores["module"].state.reason


def test_primforce_uses_a_witness_again_that_was_reset() -> None:
    world = pair()
    world.kill("n2")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.kill("n1")
    next(iter(world.witness_node.core.entries.values())).register = None
    world.start("n1", again=True)
    world.run(3_000)
    assert "reset or restored" in world.nodes["n1"].cores["module"].state.reason
    world.monitors.forget()
    world.command("n1", "primforce")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    assert world.nodes["n1"].record.forced  # type: ignore[union-attr]


def restore_witness(world: World, old: Register) -> None:
    """Put an old register into the witness, as a backup would."""
    entry = next(iter(world.witness_node.core.entries.values()))
    entry.register = old


def test_a_second_without_prim_and_arbiter_says_so_and_is_promoted_when_it_answers() -> None:
    world = pair()
    world.witness_up = False
    world.kill("n1")
    world.run(5_000)
    assert world.role("n2") == "WAIT NotReady"
    assert (
        "does not answer: nobody may be promoted" in world.nodes["n2"].cores["module"].state.reason
    )
    world.witness_up = True
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)


def test_a_second_whose_witness_went_back_waits_with_the_reason_and_can_be_forced() -> None:
    world = pair()
    old = world.monitors.register
    assert old is not None
    world.command("n1", "swap")
    assert world.run_until(lambda: world.role("n2") == "PRIM Ready", 5_000)
    world.run(500)
    restore_witness(world, old)
    assert len(write(world)) == 5
    world.kill("n2")
    world.run(3_000)
    assert world.role("n1") == "WAIT NotReady"
    assert "restored from an old copy" in world.nodes["n1"].cores["module"].state.reason
    asked = [line for line in world.story if "phase asking" in line]
    assert len(asked) < 10, "it must not ask in a loop"
    world.monitors.forget()
    world.command("n1", "stop")
    world.run(1_000)
    world.command("n1", "primforce")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    assert len(write(world)) == 5


def test_a_write_that_the_second_never_confirmed_is_not_hidden_in_a_clean_map() -> None:
    world = pair()
    world.witness_up = False
    world.set_link("n1", "n2", up=False)
    lone = world.write()  # On the disk of n1, but the application is never told.
    world.run(2_000)
    world.kill("n2")
    assert world.role("n1") == "WAIT NotReady"
    world.restart_witness()
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    assert lone in world.nodes["n1"].disk.data
    world.set_link("n1", "n2", up=True)
    world.nodes["n2"].host.boot -= 1  # Its kernel did not crash: a change map would be enough.
    world.start("n2", again=True)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    assert lone in world.nodes["n2"].disk.data


def test_a_stop_that_is_overtaken_by_the_guard_still_ends_in_stop() -> None:
    world = pair()
    world.command("n1", "stop")
    world.run(1)
    assert world.nodes["n1"].cores["module"].state.phase is Phase.LEAVING
    world.soon("n1", "module", ev.GuardActed(world.now))
    assert world.run_until(lambda: world.role("n1") == "STOP NotReady", 5_000)
    assert ("n1", "done") in [result[1:3] for result in world.results[1:]]


def test_a_stop_during_a_demotion_removes_the_addresses_first() -> None:
    world = pair()
    world.soon("n1", "module", ev.GuardActed(world.now))
    world.run(1)
    assert world.nodes["n1"].cores["module"].state.phase is Phase.DEMOTING
    world.command("n1", "stop")
    assert world.run_until(lambda: world.role("n1") == "STOP NotReady", 5_000)
    lines = [line for line in world.story if " n1 < " in line]
    down = [i for i, line in enumerate(lines) if "VipIsDown" in line]
    assert len(down) == 3  # One at the start of the process, two in the demotion.


def test_a_force_that_has_to_wait_for_a_lease_is_written_down_once() -> None:
    world = pair(timing=msgspec.structs.replace(FAST, lease_ns=SECOND_NS))
    world.kill("n1")
    world.kill("n2")
    world.start("n2")
    world.run(400)  # It is certain that n1 is silent; its lease still runs.
    world.nodes["n2"].cores["module"].state.promise_until_ns = 0  # For the witness to say that.
    world.monitors.forget()  # An operator's override is outside of S5.
    world.command("n2", "primforce")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert any("outcome='held'" in line for line in world.story)
    record = world.nodes["n2"].record
    assert record is not None
    assert len(record.forced) == 1
    assert len(record.gen_hist) <= 2


def test_an_unanswered_growth_keeps_the_guard_armed() -> None:
    """The peer is in the set, only its primary does not know yet: X1 rests on the guard."""
    world = pair()
    world.kill("n2")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.start("n2", again=True)
    leading = world.nodes["n1"].cores["module"].state.leading
    while leading.session not in {Session.COPYING, Session.SYNCED, Session.GROWING}:
        world.run(1)
    world.cut_one_way(WITNESS, "n1")
    world.run(10)
    world.set_link("n1", "n2", up=False)
    world.run(350)
    world.freeze("n1", 3_000, only="app")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert not world.nodes["n1"].application


def test_a_prim_whose_witness_lost_its_register_does_not_go_on_alone() -> None:
    world = pair()
    world.witness_node.registers.clear()
    world.restart_witness()
    world.run(500)
    assert len(write(world)) == 5  # The second's promise is enough.
    world.kill("n2")
    number = world.write()
    world.run(3_000)
    assert number not in world.monitors.acked


def test_a_second_shares_the_generation_that_began_while_it_was_copied() -> None:
    world = pair()
    world.kill("n2")
    world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.start("n2", again=True)
    leading = world.nodes["n1"].cores["module"].state.leading
    while leading.session is not Session.OFFERED:
        world.run(1)
    world.write()  # The first one alone: a new generation, younger than the offer's.
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    world.run(50)
    one, other = world.nodes["n1"].record, world.nodes["n2"].record
    assert one is not None
    assert other is not None
    assert one.gen_cur == other.gen_cur


def test_a_stop_ends_also_when_its_record_cannot_be_written() -> None:
    world = pair()
    world.command("n2", "stop")
    world.run(1)
    world.nodes["n2"].records.failures = 1
    assert world.run_until(lambda: world.role("n2") == "STOP NotReady", 5_000)
    assert any("the durable record: no space" in line for line in world.story)


def test_the_death_of_the_replicator_ends_the_term_and_the_second_is_compared_whole() -> None:
    world = pair()
    done = write(world)
    world.kill_plane("n1")
    world.run(1_000)
    assert any("the replicator died" in line for line in world.story)
    assert world.run_until(
        lambda: {world.role("n1"), world.role("n2")} == {"PRIM Ready", "SECOND Ready"}, 5_000
    )
    assert world.monitors.register is not None
    assert world.monitors.register.term == 2
    assert set(done) <= world.nodes["n1"].disk.data & world.nodes["n2"].disk.data
    assert [line for line in world.story if "begins:" in line][-1].endswith("full")


def test_a_failing_disk_of_the_prim_moves_the_service_and_that_node_waits() -> None:
    world = pair()
    world.nodes["n1"].disk.error = 5
    world.write()
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    world.run(2_000)
    assert world.role("n1") == "WAIT NotReady"
    assert "cannot be trusted" in world.nodes["n1"].cores["module"].state.reason


def test_a_restart_during_which_the_disk_fails_starts_nothing_without_directories() -> None:
    world = pair()
    node = world.nodes["n1"]
    node.hands.app.hangs_stop = 1
    world.command("n1", "restart")
    world.run(300)
    node.latency = Latency(0, 1_500 * MILLISECOND_NS)  # Until the directories are unmounted.
    node.disk.error = 5
    world.write()  # S8 would see the restart go on meanwhile.
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)


def test_scripts_that_others_replace_hold_up_no_answer() -> None:
    world = pair()
    world.results.clear()
    world.command("n2", "restart")
    machine = world.nodes["n2"].machine
    assert world.run_until(lambda: machine.state.side_run != 0, 100, every=1)
    world.command("n2", "stop")
    ends = {"done", "failed"}
    assert world.run_until(lambda: sum(r[2] in ends for r in world.results) == 2, 5_000)
    assert world.role("n2") == "STOP NotReady"


def test_prim_on_both_nodes_at_once_takes_the_newer_data_and_both_are_answered() -> None:
    world = pair()
    world.command("n2", "stop")
    world.run_until(lambda: world.role("n2").startswith("STOP"), 5_000)
    assert write(world)
    world.command("n1", "stop")
    world.run_until(lambda: world.role("n1").startswith("STOP"), 5_000)
    # Such as while it looks whether its addresses are free.
    world.nodes["n1"].cores["module"].state.promise_until_ns = world.now + 1_500_000_000
    world.command("n1", "prim")
    world.command("n2", "prim")
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    world.run(200)
    assert world.role("n1") == "PRIM Ready"
    assert not world.nodes["n2"].cores["module"].state.pending


def test_a_primary_whose_start_script_failed_says_so_until_one_succeeds() -> None:
    world = pair()
    core = world.nodes["n1"].cores["module"]
    for failed in (("start_prim: exit 255",), ()):
        core.state.step, core.state.token = "scripts restart-in", 77
        core.handle(ev.SequenceEnded(77, failed), world.now)
        state = json.loads(state_json(core.state, world.now))
        assert state["state"] == "PRIM"
        assert ("exit 255" in state["reason"]) == bool(failed)
        assert ("restart -m app" in state["command"]) == bool(failed)


def test_who_waits_for_the_arbiter_to_hand_its_role_over_says_so() -> None:
    world = pair()
    world.witness_up = False
    world.command("n1", "swap")
    world.run(8_000)
    assert world.role("n1") == "PRIM Transient"
    assert "the arbiter does not answer: it may have named n2 primary" in world.reason("n1")
    world.witness_up = True
    assert world.run_until(lambda: world.role("n2") == "PRIM Ready", 8_000)


def test_who_leaves_the_role_to_its_peer_says_when_only_the_arbiter_is_missing() -> None:
    """Both may be promoted, n1 held the role: n2 leaves it to n1, which cannot ask."""
    world = pair()
    for name in ("n1", "n2"):
        world.kill(name, power=False)
    world.start("n2", again=True)
    world.start("n1", again=True)
    assert world.run_until(lambda: world.nodes["n2"].machine.state.arbiter.known, 1_000, 1)
    world.witness_up = False
    world.run(5_000)
    for name in ("n1", "n2"):
        assert world.role(name) == "WAIT NotReady"
        assert "does not answer" in world.reason(name)
    world.witness_up = True
    assert world.run_until(lambda: "PRIM Ready" in (world.role("n1"), world.role("n2")), 8_000)


def test_who_must_leave_its_peer_behind_says_when_the_arbiter_is_missing_for_that() -> None:
    world = pair()
    world.witness_up = False
    world.nodes["n2"].disk.error = 5
    write(world)
    assert world.run_until(lambda: "must be left behind" in world.reason("n1"), 3_000)
    assert "the arbiter does not answer: writes are held" in world.reason("n1")
    world.nodes["n2"].disk.error = 0
    world.witness_up = True
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    assert not world.reason("n1")
