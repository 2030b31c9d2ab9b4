"""Orders, and failures during them, in phases that last for milliseconds."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.describe import explanation
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.cells.mirror import restarts_for_long
from mirrorfarm.sim.witness import WITNESS
from mirrorfarm.sim.world import World
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import StorageFailed
from tests.sim.acts.clusters import farm, pair


def answers(world: World, name: str) -> list[str]:
    """Return what the orders to a node were answered."""
    return [outcome for _, node, outcome, _ in world.results if node == name]


def back_with_order(*order: str) -> World:
    """Return a pair whose second came back to a lone primary, with an order at once."""
    world = pair()
    world.kill("n2")
    world.run(1_000)
    world.write()
    world.run(50)
    world.start("n2", again=True)
    world.command("n2", *order)
    world.run(3_000)
    return world


@pytest.mark.parametrize("verb", ["prim", "primforce"])
def test_who_was_just_started_does_not_take_the_role_from_a_primary_that_it_has_not_heard(
    verb: str,
) -> None:
    world = back_with_order(verb)
    assert (world.role("n1"), world.role("n2")) == ("PRIM Ready", "SECOND Ready")
    assert answers(world, "n2")[-1] == "failed"


def test_an_order_to_lead_that_came_too_late_does_not_count_some_day() -> None:
    world = back_with_order("prim")
    world.set_link("n1", "n2", up=False)
    world.run(1_000)
    number = world.write()
    world.run(100)
    assert number in world.monitors.acked
    world.kill("n1")
    world.run(3_000)
    assert world.role("n2") == "WAIT NotReady"
    assert "may not be up to date" in world.reason("n2")


def test_an_order_to_lead_that_was_answered_as_failed_does_not_count_some_day() -> None:
    world = pair()
    world.kill("n2")
    world.run(1_000)
    world.write()
    world.run(100)
    world.kill("n1")
    world.start("n2", again=True)
    world.run(2_000)
    world.witness_up = False
    world.start("n1", again=True)
    world.run(2_000)
    world.command("n2", "prim")
    world.run(100)
    *_, outcome, text = world.results[-1]
    assert outcome == "failed"
    assert "n1 has newer data" in text
    world.kill("n1")
    world.witness_up = True
    world.run(3_000)
    assert world.role("n2") == "WAIT NotReady"


@pytest.mark.parametrize(
    ("verb", "lost", "granted"),
    [("primforce", (WITNESS, "n2"), True), ("prim", ("n2", WITNESS), False)],
)
@pytest.mark.parametrize("orders", [("stop",), ("forcestop",), ("stop", "start")])
def test_a_force_that_is_taken_back_is_written_down_if_the_arbiter_follows_it_nevertheless(
    verb: str, lost: tuple[str, str], granted: bool, orders: tuple[str, ...]
) -> None:
    world = left_with_old_data()
    world.cut_one_way(*lost)
    world.command("n2", verb)
    world.run(100)
    assert holder(world) == ("n2" if granted else "n1")
    for order in orders:
        world.command("n2", order)
        world.run(100)
    world.set_link("n2", WITNESS, up=True)
    world.run(500)
    assert holder(world) == "n2"
    record = world.nodes["n2"].record
    assert record is not None
    (audit,) = record.forced
    assert audit.startswith(f"{verb} by an administrator on n2, term 2, taken back")
    assert any(audit in text for _, text in world.nodes["n2"].machine.state.facts)


@pytest.mark.parametrize("verb", ["prim", "primforce"])
def test_a_force_is_written_down_although_its_node_dies_before_it_hears_of_the_grant(
    verb: str,
) -> None:
    world = left_with_old_data()
    world.cut_one_way(WITNESS, "n2")
    world.command("n2", verb)
    assert world.run_until(lambda: holder(world) == "n2", 1_000, 1)
    world.kill("n2")
    record = world.nodes["n2"].record
    assert record is not None
    assert record.forced == (f"{verb} by an administrator on n2 ordered, for term 2",)


def left_with_old_data() -> World:
    """Return a mirror of which only n2 is there, whose data may not be up to date."""
    world = pair()
    world.kill("n2")
    world.run(1_000)
    world.kill("n1")
    world.start("n2", again=True)
    world.run(1_000)
    assert "may not be up to date" in world.reason("n2")
    world.monitors.forget()  # An operator's override is outside of S5.
    return world


def holder(world: World) -> str:
    """Return whom the register names."""
    (entry,) = world.witness_node.core.entries.values()
    return entry.register.holder if entry.register else ""


def test_an_order_that_is_refused_does_not_replace_the_start_of_a_new_process() -> None:
    assert back_with_order("swap").role("n2") == "SECOND Ready"
    assert back_with_order("stop").role("n2") == "STOP NotReady"


def test_an_order_that_is_refused_does_not_replace_the_start_of_a_farm_node() -> None:
    world = farm(2, machines=True)
    world.kill("n2")
    world.run(500)
    world.start("n2", again=True)
    world.command("n2", "drain")
    assert world.run_until(lambda: world.settled("n1", "n2"), 10_000)


def leaving(world: World, verb: str) -> None:
    """Have n1 leave its role with a script that hangs."""
    world.nodes["n1"].hands.app.hangs_stop = 1
    world.command("n1", verb)
    assert world.run_until(lambda: phase(world) == "leaving", 1_000, 1)


def phase(world: World) -> str:
    """Return where n1 is."""
    return str(world.nodes["n1"].machine.state.phase.value)


def disk_fails(world: World) -> None:
    """Have the replicator of n1 say that its disk failed."""
    told = StorageFailed(1, "data", 5, "Input/output error")
    world.soon("n1", "module", ev.Received(Address("n1", "app", "replicator"), told))
    world.run(5)


def test_a_swap_after_which_the_role_is_taken_back_failed() -> None:
    world = pair()
    leaving(world, "swap")
    world.kill("n2")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.run(100)
    _, _, outcome, text = world.results[-1]
    assert outcome == "failed"
    log = "mirrorfarm -H '*' log -m app"
    assert text == f"the roles were not exchanged: n1 is ALONE Ready. Next: {log}"


def test_a_swap_that_succeeds_is_done_on_the_node_that_was_asked() -> None:
    for name in ("n1", "n2"):
        world = pair()
        world.command(name, "swap")
        world.run(1_000)
        assert world.role("n2") == "PRIM Ready"
        assert answers(world, name)[-1] == "done"


def test_a_disk_that_fails_during_a_swap_does_not_get_the_role_back() -> None:
    world = pair()
    leaving(world, "swap")
    world.kill("n2")
    disk_fails(world)
    serves = ("PRIM Ready", "ALONE")
    assert not world.run_until(lambda: world.role("n1").startswith(serves), 3_000, 1)
    assert "cannot be trusted" in world.reason("n1")
    assert answers(world, "n1")[-1] == "failed"


@pytest.mark.parametrize("verb", ["swap", "stop"])
def test_a_disk_that_fails_while_scripts_stop_frees_its_users_at_once(verb: str) -> None:
    world = pair()
    leaving(world, verb)
    disk_fails(world)
    wish = world.nodes["n1"].machine.state.plane.wish
    assert (wish.role, wish.clean) == ("off", False)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    role = "STOP NotReady" if verb == "stop" else "WAIT NotReady"
    assert world.run_until(lambda: world.role("n1") == role, 5_000)


def test_a_stop_does_not_wait_for_a_silent_arbiter_when_there_is_nobody_to_hand_over_to() -> None:
    world = pair()
    leaving(world, "stop")
    world.set_link("n1", WITNESS, up=False)
    world.break_stream("n1")  # n2 must be left behind, which nobody answers.
    assert world.run_until(lambda: world.role("n1") == "STOP NotReady", 5_000)
    assert answers(world, "n1")[-1] == "done"


@pytest.mark.parametrize("ends", ["stop", "forcestop", "demoted"])
def test_the_last_scripts_of_a_primary_may_take_longer_than_its_lease(ends: str) -> None:
    world = pair()
    node = world.nodes["n1"]
    node.hands.app.stop_ns = SECOND_NS
    if ends == "demoted":
        world.kill_plane("n1")
    else:
        world.command("n1", ends)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 10_000)
    world.run(10_000)
    assert not [line for line in world.story if "killed by signal" in line or "guard" in line]
    assert not node.hands.guard.deadline_ns


def test_after_a_swap_that_was_taken_back_a_change_map_goes_on() -> None:
    world = pair()
    node = world.nodes["n1"]
    node.hands.app.stop_ns = SECOND_NS
    world.command("n1", "swap")
    world.run(100)
    world.nodes["n2"].host.boot -= 1  # Its kernel does not crash: a change map would be enough.
    world.kill("n2")
    world.run(400)
    world.write()  # While the stop scripts run: alone.
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 20_000)
    assert answers(world, "n1")[-1] == "failed"
    world.write()
    world.run(50)
    world.start("n2", again=True)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 10_000)
    assert node.machine.state.facts[-2][1].endswith("resynchronisation 2 of n2 begins: map")
    world.run(100)
    assert world.nodes["n2"].disk.data == node.disk.data


def test_who_is_not_counted_in_because_of_the_arbiter_says_so_and_so_does_its_primary() -> None:
    world = pair()
    world.kill("n2")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.witness_up = False
    world.start("n2", again=True)
    world.run(8_000)
    assert (world.role("n1"), world.role("n2")) == ("ALONE Ready", "SECOND Transient")
    mine, theirs = (explanation(world.nodes[name].machine.state) for name in ("n1", "n2"))
    assert mine[0] == "n2 is up to date, but the arbiter does not answer: it is not counted in"
    assert theirs[0] == "everything is copied: n1 waits for the arbiter to count this node in"
    world.witness_up = True
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    assert not any(explanation(world.nodes[name].machine.state)[0] for name in ("n1", "n2"))


def test_scripts_of_a_second_that_still_wait_do_not_run_once_it_leads() -> None:
    world = pair()
    restarts_for_long(world)
    assert world.nodes["n2"].machine.state.side_scripts
    world.kill("n1")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    began = world.nodes["n2"].hands.app.number_run
    world.run(3_000)
    assert world.nodes["n2"].application
    assert world.nodes["n2"].hands.app.number_run == began


def test_scripts_of_a_second_that_still_wait_do_not_run_once_it_is_stopped() -> None:
    world = pair()
    restarts_for_long(world)
    assert world.nodes["n2"].machine.state.side_scripts
    world.command("n2", "stop")
    assert world.run_until(lambda: world.role("n2") == "STOP NotReady", 5_000, 1)
    assert not world.nodes["n2"].machine.state.side_run
    world.run(100)
    assert answers(world, "n2")[-1] == "done"


def test_addresses_that_cannot_be_set_are_told_and_set_when_they_can_be() -> None:
    world = pair()
    node = world.nodes["n2"]
    node.hands.vip_fault = "198.18.0.100: no interface has its subnet"
    world.kill("n1")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    world.run(100)
    assert explanation(node.machine.state)[0] == f"clients may not reach it: {node.hands.vip_fault}"
    world.run(25_000)
    assert not node.hands.vip
    assert sum(node.hands.vip_fault in text for _, text in node.machine.state.facts) == 1
    node.hands.vip_fault = ""
    assert world.run_until(lambda: node.hands.vip, 11_000)
    world.run(100)
    assert explanation(node.machine.state)[0] == ""


def test_who_is_alone_sets_an_address_that_another_program_removed() -> None:
    world = pair()
    world.kill("n1")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    node = world.nodes["n2"]
    node.hands.set_vip(up=False)
    gone = ev.ResourceChanged("vip.presence", "down", "stopstart", "(removed)")
    world.soon("n2", "module", gone)
    assert world.run_until(lambda: world.role("n2") == "ALONE Transient", 1_000, 1)
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 5_000)
    assert node.hands.vip
