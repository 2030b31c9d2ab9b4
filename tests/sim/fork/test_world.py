"""A recorded mirror goes on: as it did if nothing is changed, otherwise if something is."""

from pathlib import Path

import pytest

from mirrorfarm.actors.events import Received
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork.changes import parse as changes
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.settings import parse as settings
from mirrorfarm.sim.fork.whatif import Variant, play
from mirrorfarm.sim.fork.world import FORK_NS, Forked
from mirrorfarm.trace.facts import Facts
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


@pytest.mark.parametrize("at", [0.3, 1.1, 4.55, 12, 18.6, 20.9, 27, 35])
def test_it_does_not_matter_where_it_is_forked(troubled: Path, at: float) -> None:
    recording = read([troubled], f"+{at}s")
    result = run(recording, seconds=55 - round(at))
    recorded = [("n2", True), ("n1", False)] if at < 20 else [("n1", False)]
    assert [(one.node, one.needless) for one in result.takeovers] == recorded
    assert result.at_end == "n1"


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


def test_numbers_of_messages_and_heartbeats_go_on(replicated: Recording) -> None:
    world = Forked(replicated, 1, settings((), NODES)[0], [])
    process = world.hosts["n1"].processes["ledger"]
    assert process.sequence == replicated.processes["n1", "ledger"].waiting.sequence
    heard: list[int] = []

    def heard_by(actor: object, now: int, event: object, effects: object) -> None:
        if isinstance(event, Received) and isinstance(event.message, Heartbeat):
            heard.append(event.message.number)

    for one in ("n1", "n2"):
        world.hosts[one].processes["ledger"].record = heard_by
    world.run_to(FORK_NS + SECOND_NS // 2)
    assert min(heard) > 5
    assert len(heard) > 15
