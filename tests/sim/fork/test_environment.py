"""What came from outside comes again: disks that refuse, applications that end by themselves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.fork.changes import parse as changes
from mirrorfarm.sim.fork.farm import ForkedFarm
from mirrorfarm.sim.fork.incidents import Incident
from mirrorfarm.sim.fork.links import Cut
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.resuming import FORK_NS
from mirrorfarm.sim.fork.runs import Variant, play
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.fork.world import Forked
from mirrorfarm.sim.host import Actor
from mirrorfarm.sim.scenario.playing import play as play_scenario
from mirrorfarm.sim.scenario.reading import read as read_scenario

NODES = ("n1", "n2")
FARM = Path(__file__).parents[3] / "examples/traces/farm"
Recorded = Callable[..., Recording]


@pytest.fixture(name="recorded")
def fixture_recorded(tmp_path: Path) -> Recorded:
    """Record what happens to a mirror in service in two seconds; go on just before."""

    def record(*events: str, at: str = "service", networks: int = 1) -> Recording:
        lines = [f"  - {{at: {event}}}" for event in ("0 s, write: 5", *events)]
        mirror = f"mirror: {{profile: fast, networks: {networks}}}"
        text = "\n".join([mirror, "events:", *lines, "end: 3 s", ""])
        play_scenario(read_scenario(text.encode(), "story.yaml"), tells=False, trace=tmp_path)
        return read([tmp_path], at)

    return record


def told(recording: Recording) -> list[str]:
    return [str(one).partition("  ")[2] for one in recording.outside]


def run(recording: Recording) -> Result:
    result = play(recording, Variant(), 1, 4 * SECOND_NS)
    assert result.violations == []
    return result


def test_a_disk_that_fails_takes_the_role_from_its_node_and_that_is_needed(
    recorded: Recorded,
) -> None:
    recording = recorded("1 s, flush_error: n1", "1.1 s, write: 1")
    assert told(recording) == ["the disk of n1 failed (data): input/output error"]
    result = run(recording)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", False)]
    assert result.at_end == "n2"


def test_the_disk_of_a_second_puts_it_out_of_the_in_sync_set(recorded: Recorded) -> None:
    recording = recorded("1 s, disk_error: n2, for: 0.5 s", "1.1 s, write: 1")
    assert [text.partition(":")[0] for text in told(recording)] == ["the disk of n2 failed (data)"]
    world = Forked(recording, 1, Settings(), [])
    world.run_to(FORK_NS + 3 * SECOND_NS)
    register = world.nodes["n1"].machine.state.arbiter.register
    assert register is not None
    assert register.isr == ("n1",)
    assert "cannot be trusted: data: " in world.reason("n2")
    assert run(recording).at_end == "n1"


def test_a_record_that_cannot_be_written_cannot_be_so_again(recorded: Recorded) -> None:
    recording = recorded("1 s, record_fails: n2, count: 5", "1.1 s, power: n1")
    assert told(recording)[0] == "the disk of n2 refused to write its record: no space"
    result = run(recording)
    assert result.at_end == "nobody"
    assert "the durable record: no space (28)" in result.unserved[0].reason


@pytest.mark.parametrize(
    ("killed", "told_of"), [("kill_module", "module"), ("kill_replica", "replicator")]
)
def test_a_process_that_ended_is_back_when_it_was(
    recorded: Recorded, killed: str, told_of: str
) -> None:
    recording = recorded(f"1 s, {killed}: n1")
    (incident,) = recording.outside
    assert f"the {told_of}'s process of n1 ended, and was back after" in str(incident)
    name = "app.replica" if told_of == "replicator" else "app"
    for seed in range(3):
        world = Forked(recording, seed, Settings(), [])
        process = world.nodes["n1"].host.processes[name]
        world.run_to(FORK_NS + incident.at_ns - recording.at_ns + 1)
        assert not process.alive
        world.run_to(FORK_NS + incident.until_ns - recording.at_ns - MILLISECOND_NS)
        assert world.nodes["n1"].host.processes[name] is process
        world.run_to(FORK_NS + incident.until_ns - recording.at_ns + MILLISECOND_NS)
        assert world.nodes["n1"].host.processes[name].alive


def test_a_witness_that_was_started_anew_is_there_again(recorded: Recorded) -> None:
    """Clocks that cannot be compared well let its last answer come behind its next start."""
    recording = recorded("0.5 s, witness_restart: w1", "1 s, stand_still: n2, for: 1 s")
    kinds = [one.kind for one in recording.outside if one.node == "w1"]
    assert kinds == ["witness_ends", "witness_starts"]
    world = Forked(recording, 1, Settings(), [])
    world.run_to(FORK_NS + SECOND_NS)
    assert world.witness_node.host.up


def test_no_node_is_late_at_the_fork_because_clocks_cannot_be_compared(recorded: Recorded) -> None:
    recording = recorded("1 s, stand_still: n2, for: 1 s")
    assert recording.modelled[0].startswith("what links took: the clock of n2 may be ")
    for node in ("n1", "n2"):
        running = recording.processes[node, "app"]
        for _, timer in running.waiting.due():
            late_ns = recording.machines[node].boot_ns - timer.at_ns
            assert late_ns < 10 * MILLISECOND_NS, (node, timer)
    world = Forked(recording, 1, Settings(), [])
    world.run_to(FORK_NS + SECOND_NS // 10)
    assert world.role("n1") == "PRIM Ready"


def test_a_module_that_started_by_itself_does_so_again(recorded: Recorded) -> None:
    recording = recorded("1 s, power: n2, for: 0.5 s")
    assert [(one.kind, one.again) for one in recording.outside] == [
        ("power", False),
        ("start", True),
    ]
    world = Forked(recording, 1, Settings(), [])
    world.run_to(FORK_NS + 4 * SECOND_NS)
    assert (world.role("n1"), world.role("n2")) == ("PRIM Ready", "SECOND Ready")


def test_a_network_of_two_that_is_down_is_cut_and_the_other_one_loses_nothing(
    recorded: Recorded,
) -> None:
    recording = recorded("0.5 s, network_down: second, for: 1.5 s", networks=2)
    assert {text.partition(" for ")[0] for text in told(recording)} == {
        "nothing came from n1 to n2 by network second",
        "nothing came from n2 to n1 by network second",
    }
    world = Forked(recording, 1, Settings(), [])
    network = world.network
    assert {one.loss for one in network.qualities.values()} == {0}
    for seconds, passes in ((0.4, True), (1, False), (2.6, True)):
        world.run_to(FORK_NS + round(seconds * SECOND_NS))
        assert network.passes("n1", "n2", "second") == passes
        assert network.passes("n1", "n2", "default")
        assert not world.environment.is_cut_off("n1")


def test_who_has_one_network_left_is_not_cut_off(before: Recording) -> None:
    network = before.module.heartbeats[0].name
    cuts = [Cut("n1", "n2", before.at_ns, 0, network), Cut("n1", "n2", before.at_ns, 0, "other")]
    for one, is_cut_off in zip(cuts, (True, False), strict=True):
        world = Forked(replace(before, incidents=[], cuts=[one]), 1, Settings(), [])
        assert world.environment.is_cut_off("n1") == is_cut_off


@pytest.mark.parametrize(
    ("order", "needless"),
    [("restart, node: n2", True), ("stop, node: n1", False), ("swap, node: n2", False)],
)
def test_an_order_explains_what_its_own_node_gave_up(
    recorded: Recorded, order: str, needless: bool
) -> None:
    recording = recorded(f"0.5 s, command: {order}")
    pause = tuple(changes({"pause": ["n1 900ms +1.5s"]}, NODES))
    result = play(recording, Variant(changes=pause), 1, 6 * SECOND_NS)
    assert [one.node for one in result.takeovers][-1:] == ["n2"]
    assert result.takeovers[-1].needless == needless


def test_delays_that_overlap_do_not_end_each_other(before: Recording) -> None:
    words = ["n1->n2 1s 3s", "n1->n2 2s 1s +1s", "n1->n2 3s 4s +1.5s", "n2->n1 4s 1s"]
    world = Forked(before, 1, Settings(), changes({"delay": words}, NODES), keep_faults=False)
    found = []
    for seconds in (0.5, 1.2, 1.7, 2.2, 3.2, 5.4, 5.6):
        world.run_to(FORK_NS + round(seconds * SECOND_NS))
        found.append(world.network.lates.get(("n1", "n2"), 0) / SECOND_NS)
    assert found == [1, 2, 3, 3, 3, 3, 0]
    assert world.network.lates == {}


def test_a_delay_goes_on_behind_one_that_is_shorter(before: Recording) -> None:
    words = ["n1->n2 1s 3s", "n1->n2 2s 1s +1s"]
    world = Forked(before, 1, Settings(), changes({"delay": words}, NODES), keep_faults=False)
    for seconds, late in ((1.5, 2), (2.5, 1), (3.5, None)):
        world.run_to(FORK_NS + round(seconds * SECOND_NS))
        assert world.network.lates.get(("n1", "n2")) == (late and late * SECOND_NS)


@pytest.mark.parametrize(
    ("recorded_s", "words", "until_s"),
    [
        (None, ["any n1->n2 3s", "any n1->n2 1s +1s"], 3),
        (None, ["any n1->n2 1s +1s", "any n1->n2 2s", "any n1->n2 3s +1.6s"], 4.6),
        (4, ["any n1->n2 1s +1s"], 4),
        (0, ["any n1->n2 1s +1s"], None),  # It was for good.
    ],
)
def test_no_cut_ends_one_that_lasts_longer(
    before: Recording, recorded_s: int | None, words: list[str], until_s: float | None
) -> None:
    at_ns = before.at_ns
    end_ns = recorded_s and at_ns + recorded_s * SECOND_NS
    cuts = [] if end_ns is None else [Cut("n1", "n2", at_ns, end_ns)]
    recording = replace(before, incidents=[], cuts=cuts)
    world = Forked(recording, 1, Settings(), changes({"drop": words}, NODES))
    for tenths in range(1, 60, 4):
        world.run_to(FORK_NS + tenths * SECOND_NS // 10)
        assert world.network.passes("n1", "n2") == (until_s is not None and tenths > until_s * 10)


def test_a_disk_refuses_as_long_as_it_did(before: Recording) -> None:
    for node in ("n1", "w"):
        failed = ev.StoreFailed(0, 5, "input/output error")
        late_ns, until_ns = before.at_ns + SECOND_NS, before.at_ns + 2 * SECOND_NS
        refusal = Incident(late_ns, "record_fails", node, until_ns=until_ns, event=failed)
        world = Forked(replace(before, incidents=[refusal], cuts=[]), 1, Settings(), [])
        disk = world.nodes["n1"].records if node == "n1" else world.witness_node
        for seconds, refuses in ((0.9, False), (1.1, True), (2.1, False)):
            world.run_to(FORK_NS + round(seconds * SECOND_NS))
            assert (disk.refusal is not None) == refuses


def test_a_witness_that_cannot_write_says_so(before: Recording) -> None:
    failed = ev.StoreFailed(0, 5, "input/output error")
    refusal = Incident(before.at_ns, "record_fails", "w", event=failed)
    power = Incident(before.at_ns, "power", "n1")
    recording = replace(before, incidents=[refusal, power], cuts=[])
    assert run(recording).at_end == "nobody"
    assert run(replace(recording, incidents=[power])).at_end == "n2"


def test_the_application_of_a_farm_ends_by_itself_and_its_checker_sees_it() -> None:
    farm = read([FARM], "service")
    exits = Incident(farm.at_ns + SECOND_NS, "exit", "n2")
    world = ForkedFarm(replace(farm, incidents=[exits], cuts=[]), 1, Settings(), [])
    hands, process = world.nodes["n2"].hands, world.nodes["n2"].process
    assert hands.app.runs
    assert process is not None
    hands.watched, events = (0,), list[object]()

    def record(actor: Actor, now: int, event: object, effects: object) -> None:
        events.append(event)

    process.record = record
    world.run_to(FORK_NS + 2 * SECOND_NS)
    assert not hands.app.runs
    assert [event.entry for event in events if isinstance(event, ev.ProcessGone)] == [0]
    assert world.environment.moved_ns == FORK_NS + SECOND_NS
