"""A recorded mirror goes on: as it did if nothing is changed, otherwise if something is."""

from pathlib import Path

import pytest

from mirrorfarm.actors.events import Received
from mirrorfarm.actors.heartbeat.core import WatchDue
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork.changes import parse as changes
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.resuming import FORK_NS
from mirrorfarm.sim.fork.runs import Variant, play
from mirrorfarm.sim.fork.settings import parse as settings
from mirrorfarm.sim.fork.world import Forked
from mirrorfarm.sim.host import Actor
from mirrorfarm.trace.facts import Facts, name_of, said
from mirrorfarm.trace.finding import step_id
from mirrorfarm.trace.merge import Merge
from mirrorfarm.transport.messages import Heartbeat
from tests.mirrorfarm.trace.little_cluster import LittleCluster

EXAMPLE = Path(__file__).parents[3] / "examples/traces/takeover"
NODES = ("n1", "n2")


@pytest.fixture(name="replicated", scope="module")
def fixture_replicated() -> Recording:
    """A mirror with a data plane, recorded live; later n1 loses its power."""
    return read([EXAMPLE], "service")


def run(
    recording: Recording, *sets: str, seconds: int = 20, keep: bool = True, **given: str
) -> Result:
    done = changes({kind: [words] for kind, words in given.items()}, NODES, "w")
    variant = Variant("", settings(sets, (*NODES, "w"))[0], tuple(done))
    result = play(recording, variant, 1, seconds * SECOND_NS, keep_faults=keep)
    assert result.violations == []
    return result


def served_after(folder: Path, silent_ns: int) -> int:
    """Return how long after a time the other node was in service, in the recording."""
    facts = Facts()
    for placed in Merge([folder]).steps():
        told = [fact.text for fact in facts.of(placed.step)]
        if placed.at_ns > silent_ns and any("ALONE Ready" in text for text in told):
            return placed.at_ns - silent_ns
    raise AssertionError("nobody took over")


def test_unchanged_it_goes_on_as_it_did(replicated: Recording) -> None:
    result = run(replicated)
    (death,) = replicated.incidents
    recorded_ns = served_after(EXAMPLE, death.at_ns)
    assert [one.node for one in result.takeovers] == ["n2"]
    assert not result.takeovers[0].needless
    assert abs(result.takeovers[0].took_ns - recorded_ns) < SECOND_NS // 10
    assert result.at_end == "n2"
    assert result.stall_ns is not None
    assert result.takeovers[0].took_ns // 2 < result.stall_ns < SECOND_NS


def test_clocks_that_are_hours_apart_change_nothing(before: Recording, takeover: Path) -> None:
    result = run(before, seconds=30)
    (death,) = before.incidents
    recorded_ns = served_after(takeover, death.at_ns)
    assert abs(result.takeovers[0].took_ns - recorded_ns) < SECOND_NS // 10


def test_an_eventful_recording_goes_on_as_it_did(troubled: Path) -> None:
    """n1 is cut off, so n2 takes over; n2 is killed, so n1 does; then both are in service."""
    result = run(read([troubled], "+14s"), seconds=40)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", True), ("n1", False)]
    assert result.at_end == "n1"


@pytest.mark.parametrize("at", [0.3, 1.1, 4.55, 12, 18.6, 21.9, 27, 35])
def test_it_does_not_matter_where_it_is_forked(troubled: Path, at: float) -> None:
    recording = read([troubled], f"+{at}s")
    result = run(recording, seconds=55 - round(at))
    recorded = [("n2", True), ("n1", False)] if at < 20 else [("n1", False)]
    assert [(one.node, one.needless) for one in result.takeovers] == recorded
    assert result.at_end == "n1"


def test_the_first_primary_takes_nothing_over() -> None:
    recording = read([EXAMPLE], step_before(EXAMPLE, "n1", "VipIsUp", last=False))
    assert [one.node for one in run(recording, seconds=8).takeovers] == ["n2"]


def test_a_fork_in_the_midst_of_a_takeover_finishes_it(takeover: Path) -> None:
    result = run(read([takeover], "n2 silent"), seconds=10)
    assert [one.node for one in result.takeovers] == ["n2"]
    assert result.takeovers[0].took_ns < SECOND_NS


def test_without_what_came_from_outside_nothing_happens(replicated: Recording) -> None:
    result = run(replicated, keep=False)
    assert (result.takeovers, result.at_end, result.without_ns) == ([], "n1", 0)
    assert result.stall_ns is not None
    assert result.stall_ns < SECOND_NS // 5


def test_a_longer_timeout_makes_a_takeover_slow_and_avoids_a_needless_one(
    replicated: Recording, troubled: Path
) -> None:
    assert run(replicated, "heart.detection=1s").takeovers[0].took_ns > SECOND_NS
    recording = read([troubled], "+14s")
    assert run(recording, "heart.detection=20s", seconds=15).takeovers == []
    assert run(recording, seconds=15).takeovers[0].needless


def test_heartbeats_alone_do_not_decide_who_leads_but_a_cut_off_primary_is_replaced(
    before: Recording,
) -> None:
    assert run(before, keep=False, drop="Heartbeat n1->n2 8s").takeovers == []
    done = tuple(changes({"drop": [f"any n1->{to} 8s" for to in ("n2", "w")]}, NODES, "w"))
    result = play(before, Variant("", changes=done), 1, 20 * SECOND_NS, keep_faults=False)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", True)]


def test_crashes_and_pauses_are_told_from_one_another(replicated: Recording) -> None:
    crashed = run(replicated, keep=False, crash="n1 +1s")
    assert [(one.node, one.needless) for one in crashed.takeovers] == [("n2", False)]
    paused = run(replicated, keep=False, pause="n1 900ms +1s")
    assert [(one.node, one.needless) for one in paused.takeovers] == [("n2", True)]
    assert run(replicated, "heart.detection=3s", keep=False, pause="n1 900ms +1s").takeovers == []
    assert run(replicated, keep=False, crash="n2 +1s").takeovers == []


def test_a_short_pause_is_a_short_time_without_service(before: Recording) -> None:
    result = run(before, keep=False, pause="n1 700ms +1s", seconds=5)
    assert result.takeovers == []
    assert SECOND_NS // 2 < result.without_ns < SECOND_NS


def test_a_slow_disk_and_a_slow_network_hold_writes_up(replicated: Recording) -> None:
    usual, disk = run(replicated, keep=False), run(replicated, "n2.fsync_ms=400", keep=False)
    late = run(replicated, keep=False, delay="n1->n2 150ms 10s")
    assert usual.stall_ns is not None
    assert disk.stall_ns is not None
    assert late.stall_ns is not None
    assert disk.stall_ns > 2 * usual.stall_ns
    assert late.stall_ns > usual.stall_ns + SECOND_NS // 10


def test_the_application_takes_as_long_as_it_is_set(replicated: Recording) -> None:
    slow = run(replicated, "n2.start_prim=3s")
    assert slow.takeovers[0].took_ns > 3 * SECOND_NS


def test_orders_are_given_again(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path)
    cluster.start("n1")
    cluster.run(500)
    cluster.command("n1", "prim")
    cluster.run(1_000)
    cluster.start("n2")
    cluster.run(8_000)
    cluster.command("n1", "swap")
    cluster.run(2_000)
    cluster.close()
    recording = read([tmp_path], "+7s")
    assert run(recording, keep=False).at_end == "n1"
    result = run(recording)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", False)]


def test_a_seed_plays_the_same_again_and_another_one_otherwise(replicated: Recording) -> None:
    first, again, other = (play(replicated, Variant(), seed, SECOND_NS * 5) for seed in (1, 1, 2))
    assert first == again
    assert first.takeovers != other.takeovers


def step_before(folder: Path, node: str, event: str, last: bool = True) -> str:
    """Return the id of a step: a fork at it is just before it."""
    found = [
        step_id(placed.step)
        for placed in Merge([folder]).steps()
        if placed.step.node == node and name_of(said(placed.step.event)) == event
    ]
    return found[-1 if last else 0]


@pytest.mark.parametrize(
    ("node", "event"),
    [
        ("n2", "AskCas"),  # It lies in the arbiter's inbox.
        ("n2", "VipIsUp"),  # Addresses were ordered up,
        ("n2", "PlaneDone"),  # a mount was ordered,
        ("n2", "SequenceEnded"),
        ("n2", "Stored"),  # a record was to be written,
        ("w", "RegisterStored"),  # and a register.
    ],
)
def test_what_is_under_way_is_carried_on(node: str, event: str) -> None:
    recording = read([EXAMPLE], step_before(EXAMPLE, node, event))
    result = run(recording, seconds=3)
    assert [one.node for one in result.takeovers] == ["n2"]
    assert result.takeovers[0].took_ns < SECOND_NS


def heard(world: Forked, seconds: float) -> list[tuple[int, str, object]]:
    """Return who was given what, and when, behind the fork."""
    found: list[tuple[int, str, object]] = []

    def record(actor: Actor, now: int, event: object, effects: object) -> None:
        found.append((world.now - FORK_NS, f"{actor.process.host.name} {actor.name}", event))

    for name in NODES:
        if running := world.hosts[name].processes.get("ledger"):
            running.record = record
    world.run_to(FORK_NS + round(seconds * SECOND_NS))
    return found


def test_a_message_under_way_arrives_as_it_did() -> None:
    recording = read([EXAMPLE], step_before(EXAMPLE, "n2", "RegisterAnswer", last=False))
    (arrival, *_) = recording.arrivals
    found = heard(Forked(recording, 1, settings((), NODES)[0], []), 0.01)
    assert arrival.event in [event for _, _, event in found]


def test_a_shorter_timeout_holds_from_the_fork_on(before: Recording) -> None:
    world = Forked(before, 1, settings(("heart.detection=800ms",), NODES)[0], [])
    found = heard(world, 0.85)
    assert any(who == "n2 heartbeat" and isinstance(event, WatchDue) for _, who, event in found)
    usual = heard(Forked(before, 1, settings((), NODES)[0], []), 0.85)
    assert not any(who == "n2 heartbeat" and isinstance(event, WatchDue) for _, who, event in usual)


def test_a_guard_that_was_armed_fences_though_all_else_stands_still(before: Recording) -> None:
    pause = changes({"pause": ["n1 9s"]}, NODES)
    world = Forked(before, 1, settings((), NODES)[0], pause, keep_faults=False)
    assert world.nodes["n1"].application
    world.run_to(FORK_NS + 4 * SECOND_NS)
    assert not world.nodes["n1"].application


def test_numbers_of_messages_and_heartbeats_go_on(replicated: Recording) -> None:
    world = Forked(replicated, 1, settings((), NODES)[0], [])
    process = world.hosts["n1"].processes["ledger"]
    assert process.sequence == replicated.processes["n1", "ledger"].waiting.sequence
    beats = [
        event.message.number
        for _, _, event in heard(world, 0.5)
        if isinstance(event, Received) and isinstance(event.message, Heartbeat)
    ]
    assert min(beats) > 5
    assert len(beats) > 15
