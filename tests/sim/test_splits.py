"""Two nodes that both went on: nothing is lost silently, and one of them goes on (S15, row 29)."""

import json

import pytest

from mirrorfarm.actors.module.mirror import divergence, following, orders
from mirrorfarm.actors.module.mirror import split as split_core
from mirrorfarm.actors.module.mirror.describe import state_json
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.settings import DIVERGENCE_POLICIES, PROFILES
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.storage import Latency
from mirrorfarm.sim.sweep import first_start, play
from mirrorfarm.sim.world import GATEWAY, World
from mirrorfarm.transport.messages import Register

FAST = PROFILES["fast"]


def pair(arbiter: str = "none", policy: str = "keep-primary") -> World:
    """Return a cluster in which n1 is PRIM and n2 SECOND."""
    world = World(1, FAST, arbiter=arbiter, divergence=policy)
    world.start("n1")
    world.start("n2")
    world.run(100)
    world.command("n1", "prim")
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 5_000)
    world.command("n2", "start")
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    world.run(100)
    return world


def split(world: World) -> World:
    """Cut the nodes apart until each has writes of its own, then mend the cable."""
    world.set_link("n1", "n2", up=False)
    world.run(2_000)
    assert {world.role("n1"), world.role("n2")} == {"ALONE Ready"}
    while not all(len(own(world, name)) > 2 for name in ("n1", "n2")):
        world.write()
        world.run(20)
    world.set_link("n1", "n2", up=True)
    return world


def own(world: World, name: str) -> set[int]:
    """Return what only this node has."""
    other = "n2" if name == "n1" else "n1"
    return world.nodes[name].disk.data - world.nodes[other].disk.data


def settled(world: World, prim: str) -> bool:
    second = "n2" if prim == "n1" else "n1"
    wanted = {prim: "PRIM Ready", second: "SECOND Ready"}
    return world.run_until(lambda: {n: world.role(n) for n in wanted} == wanted, 8_000)


@pytest.mark.parametrize(("policy", "kept"), [("keep-primary", "n1"), ("keep-newer", "n2")])
def test_after_a_split_the_policy_names_who_goes_on_and_the_others_writes_are_set_aside(
    policy: str, kept: str
) -> None:
    world = split(pair(policy=policy))
    lost = "n2" if kept == "n1" else "n1"
    theirs = own(world, lost)
    assert settled(world, kept)
    disk = world.nodes[lost].disk
    assert theirs <= disk.kept
    assert disk.data == world.nodes[kept].disk.data
    for name in (kept, lost):
        record = world.nodes[name].record
        assert record is not None
        assert any(text.startswith("split: ") for text in record.forced), "it is written down"


@pytest.mark.parametrize("both_stop", [False, True])
def test_a_decision_is_durable_before_the_arbiter_is_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, both_stop: bool
) -> None:
    world, asked, honest = pair(), list[str](), orders.ask_swap

    def ask(s: State, purpose: str, register: Register, **more: bool) -> None:
        record = world.nodes[s.settings.node].record
        assert record is not None
        whose = f"split: data of {s.settings.node} kept by keep-primary"
        assert record.forced[0] == f"{whose} ordered, for term {register.term}"
        asked.append(purpose)
        honest(s, purpose, register, **more)

    monkeypatch.setattr(split_core, "ask_swap", ask)
    split(world)
    for name in ("n1", "n2") if both_stop else ():
        world.kill(name)
        world.start(name, again=True)
    assert settled(world, "n1")
    assert asked[0] == ("promote" if both_stop else "settle")
    record = world.nodes["n1"].record
    assert record is not None
    assert not any("ordered" in line for line in record.forced), "it is done"


def test_who_goes_on_does_not_stop_its_application() -> None:
    world = split(pair())
    before = len([line for line in world.story if "n1" in line and "start_prim" in line])
    assert settled(world, "n1")
    assert len([line for line in world.story if "n1" in line and "start_prim" in line]) == before
    assert world.nodes["n1"].application


def test_no_write_is_acknowledged_by_two_primaries_that_see_each_other() -> None:
    world = split(pair())
    assert world.run_until(lambda: all(_split(world, name) for name in ("n1", "n2")), 1_000)
    number = world.write()
    assert number not in world.monitors.acked
    assert settled(world, "n1")


def _split(world: World, name: str) -> str:
    return str(world.nodes[name].cores["module"].state.split)


def test_the_one_that_changed_more_is_kept() -> None:
    world = pair(policy="keep-more-changes")
    world.set_link("n1", "n2", up=False)
    world.run(2_000)
    world.nodes["n1"].hands.app.runs, runs = False, world.nodes["n1"].application
    for _ in range(5):
        world.write()
        world.run(20)
    world.nodes["n1"].hands.app.runs = runs
    while not own(world, "n1"):
        world.write()
        world.run(20)
    more = "n2" if len(own(world, "n2")) > len(own(world, "n1")) else "n1"
    world.set_link("n1", "n2", up=True)
    assert settled(world, more)


def test_with_manual_both_wait_and_say_so_until_an_administrator_names_one() -> None:
    world = split(pair(policy="manual"))
    assert world.run_until(lambda: {world.role("n1"), world.role("n2")} == {"WAIT NotReady"}, 3_000)
    for name in ("n1", "n2"):
        assert world.reason(name).startswith("SPLIT: ")
        told = json.loads(state_json(world.nodes[name].cores["module"].state, world.now))
        assert "prim -m app" in told["command"]
    theirs = own(world, "n1")
    world.command("n2", "prim")
    assert settled(world, "n2")
    assert theirs <= world.nodes["n1"].disk.kept


def test_with_manual_a_node_that_comes_back_keeps_its_data_until_they_are_given_up() -> None:
    world = pair(policy="manual")
    world.set_link("n1", "n2", up=False)
    world.run(2_000)
    while not all(own(world, name) for name in ("n1", "n2")):
        world.write()
        world.run(20)
    world.kill("n1")
    world.set_link("n1", "n2", up=True)
    world.start("n1", again=True)
    assert world.run_until(lambda: "SPLIT" in world.reason("n1"), 5_000)
    theirs = own(world, "n1")
    world.run(2_000)
    assert theirs == own(world, "n1")
    world.command("n1", "second", "fullsync")
    assert settled(world, "n2")
    assert theirs <= world.nodes["n1"].disk.kept


def test_what_was_decided_is_not_decided_otherwise_after_a_restart() -> None:
    """By its policy alone the loser would be kept now: the winner's term is the higher one."""
    world = split(pair())
    assert world.run_until(lambda: _kept(world, "n1"), 3_000, every=1)
    world.set_link("n1", "n2", up=False)  # At once: n2 has nothing of it yet.
    world.kill("n1")
    world.kill("n2")
    world.set_link("n1", "n2", up=True)
    world.start("n2", again=True)
    world.run(160)  # It knows its register first.
    world.start("n1", again=True)
    assert settled(world, "n1")


def test_a_node_that_is_half_copied_is_no_side_of_the_split_any_more() -> None:
    """n1 returns to n2, which dies before the copy ends: by its policy n1 would go on, torn."""
    world = split(pair())
    world.kill("n1")
    node = world.nodes["n1"]
    node.latency = node.flushes = Latency(40 * MILLISECOND_NS)
    world.start("n1", again=True)
    assert world.run_until(lambda: _torn(world, "n1"), 5_000, every=1)
    world.run(20)
    world.kill("n2")
    world.kill("n1")
    node.mend_disk()
    world.start("n1", again=True)
    world.start("n2", again=True)
    assert settled(world, "n2")


def _torn(world: World, name: str) -> bool:
    record = world.nodes[name].record
    return record is not None and not record.cons


def _kept(world: World, name: str) -> bool:
    record = world.nodes[name].record
    texts = record.forced if record else ()
    return any(text.startswith(f"split: data of {name} kept") for text in texts)


def test_a_primary_that_meets_nobodys_answer_goes_on_when_the_other_is_gone_again() -> None:
    world = split(pair())
    assert world.run_until(lambda: _split(world, "n2") == "frozen", 1_000)
    world.kill("n1")
    number = world.write()
    assert world.run_until(lambda: number in world.monitors.acked, 3_000)


def test_a_pinged_gateway_lets_only_the_side_that_reaches_it_go_on() -> None:
    world = pair("ping")
    world.set_link("n1", GATEWAY, up=False)
    world.set_link("n1", "n2", up=False)
    world.run(4_000)
    assert world.role("n2") == "ALONE Ready"
    assert not world.nodes["n1"].application
    world.isolate("n1", up=True)
    assert settled(world, "n2")
    assert not world.nodes["n1"].disk.kept


def test_what_a_forced_node_lacks_is_set_aside_before_it_is_overwritten() -> None:
    """With a witness, only an administrator can make two histories (R14)."""
    world = pair("witness")
    world.kill("n2")
    numbers = []
    for _ in range(4):
        numbers.append(world.write())
        world.run(1_000)
    world.kill("n1")
    lost = {n for n in numbers if n in world.monitors.acked}
    assert len(lost) == 4
    world.monitors.forget()  # What the administrator gives up; such an override is outside of S5.
    world.start("n2")
    world.run(500)
    world.command("n2", "primforce")
    assert world.run_until(lambda: world.role("n2") == "ALONE Ready", 8_000)
    world.write()
    world.run(100)
    world.start("n1", again=True)
    assert settled(world, "n2")
    assert lost <= world.nodes["n1"].disk.kept


@pytest.mark.parametrize("policy", DIVERGENCE_POLICIES)
@pytest.mark.parametrize("arbiter", ["none", "ping"])
def test_no_acknowledged_write_vanishes_without_a_register_whatever_fails(
    arbiter: str, policy: str
) -> None:
    for seed in range(5):
        try:
            play(seed, arbiter=arbiter, divergence=policy)
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")


def test_a_copy_that_sets_nothing_aside_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """S15 broken on purpose."""
    monkeypatch.setattr(divergence, "quarantine", lambda *_: "")
    with pytest.raises(Violation, match="S15"):
        settled(split(pair()), "n1")


def test_a_session_that_broke_is_resumed_while_the_arbiter_is_silent() -> None:
    """Row 13: the primary cannot leave its peer behind, but the peer is there."""
    world = pair("witness")
    world.witness_up = False
    world.run(1_500)
    world.break_stream("n1")
    number = world.write()
    assert world.run_until(lambda: number in world.monitors.acked, 3_000)
    assert (world.role("n1"), world.role("n2")) == ("PRIM Ready", "SECOND Ready")
    assert number in world.nodes["n2"].disk.data
    world.restart_witness()
    world.run(2_000)
    assert settled(world, "n1")


def test_what_a_session_sent_is_not_applied_once_the_next_one_was_written_down() -> None:
    """S10: a replicator that hangs finds old frames when it wakes up, after the cut ended."""
    world = World(1, FAST)
    first_start(world)
    world.run(200)
    world.isolate("n2")
    for _ in range(30):
        world.write()
        world.run(20)
    replicator = world.nodes["n2"].host.processes["app.replica"]
    replicator.pause()
    world.isolate("n2", up=True)
    world.run(700)
    replicator.go_on()
    assert settled(world, "n1")


def test_a_second_that_is_taken_in_before_it_heard_a_heartbeat_stays_without_failover() -> None:
    """Else it gave up at once, and its primary, without a stream between them, never noticed."""
    world = World(3, PROFILES["safekit"], failover=False, directories=False)
    first_start(world)
    for _ in range(4):
        world.run(777)
        world.kill("n2", power=False)
        world.run(70_000)
        assert world.role("n1") == "ALONE Ready"
        world.start("n2", again=True)
        world.run(20_000)
        assert (world.role("n1"), world.role("n2")) == ("PRIM Ready", "SECOND Ready")


def test_a_primary_offers_again_to_a_second_that_gave_up() -> None:
    world = World(3, PROFILES["fast"], failover=False, directories=False)
    first_start(world)
    world.run(500)
    following.give_up(world.nodes["n2"].machine.state, world.now)
    assert world.run_until(lambda: world.role("n2").startswith("WAIT"), 1_000)
    assert settled(world, "n1")


def test_a_term_is_not_durable_before_the_plane_has_left_the_session_of_the_last_one() -> None:
    """The agent of the second is dead: its module takes over, but cannot tell its replicator."""
    world = pair()
    world.freeze("n1", 700)
    world.run(300)
    world.write()
    agent = world.nodes["n2"].host
    agent.agent = False
    world.run(1_800)  # n1 wakes up and sends what was written: S10 would be violated.
    assert "SECOND" not in world.role("n2")
    record = world.nodes["n2"].record
    assert record is not None
    assert record.term == 1
    agent.agent = True
    assert world.run_until(lambda: world.nodes["n2"].record.term > 1, 5_000)  # type: ignore[union-attr]
