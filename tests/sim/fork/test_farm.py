"""A recorded farm goes on: what becomes of its clients when a node fails, or is only slow."""

from pathlib import Path

import pytest

from mirrorfarm.actors.farm_filter import table
from mirrorfarm.limits import MILLISECOND_NS as MS
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork.changes import parse as changes
from mirrorfarm.sim.fork.farm import ForkedFarm
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.runs import Variant, play
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.scenario.playing import play as play_scenario
from mirrorfarm.sim.scenario.reading import read as scenario

EXAMPLE = Path(__file__).parents[3] / "examples/traces/farm"
NODES = ("n1", "n2", "n3")


@pytest.fixture(name="farm", scope="module")
def fixture_farm() -> Recording:
    """Three nodes, recorded live; later n2 is drained and stopped, n3 cut off, n1 frozen."""
    return read([EXAMPLE], "service")


def run(
    recording: Recording,
    seconds: int = 5,
    *,
    keep: bool = False,
    sets: dict[str, int] | None = None,
    **given: str,
) -> Result:
    done = tuple(changes({kind: [words] for kind, words in given.items()}, NODES))
    variant = Variant("", Settings(sets or {}), done)
    result = play(recording, variant, 1, seconds * SECOND_NS, keep_faults=keep)
    assert result.violations == []
    return result


def test_undisturbed_all_clients_have_a_node(farm: Recording) -> None:
    result = run(farm)
    assert (result.takeovers, result.without_ns, result.stall_ns) == ([], 0, None)
    assert result.at_end == "n1 n2 n3"


def test_the_others_take_the_clients_of_a_node_that_lost_power(farm: Recording) -> None:
    result = run(farm, crash="n3 +1s")
    assert [(one.node, one.needless) for one in result.takeovers] == [("n3", False)]
    assert result.takeovers[0].took_ns < SECOND_NS
    assert 0 < result.without_ns < result.takeovers[0].took_ns  # A third of the clients.
    assert result.at_end == "n1 n2"


def test_a_node_that_stood_still_is_left_out_needlessly_and_comes_back(farm: Recording) -> None:
    result = run(farm, 8, pause="n3 900ms +1s")
    assert [(one.node, one.needless) for one in result.takeovers] == [("n3", True)]
    assert result.at_end == "n1 n2 n3"


def test_what_was_recorded_comes_again(farm: Recording) -> None:
    told = [(one.kind, one.node) for one in farm.outside]
    assert {("cut", "n3"), ("pause", "n1"), ("command", "n2"), ("cables", "n3")} <= set(told)
    result = run(farm, 20, keep=True)
    gone = [one.node for one in result.takeovers]
    assert "n1" in gone
    assert result.at_end == "n1 n2 n3"


def test_an_order_is_told_once_and_whole_however_often_its_answer_was_asked_for(
    farm: Recording,
) -> None:
    orders = [one for one in farm.told if one.kind == "command"]
    assert [str(one).partition("  ")[2] for one in orders] == [
        "n2 was ordered to drain",
        "n2 was ordered to resume",
        "n3 was ordered to power 2",
        "n3 was ordered to power 1",
        "n2 was ordered to stop",
        "n2 was ordered to start",
        "n2 was ordered to traffic open",
    ]
    asked = [one for one in farm.outside if one.kind == "command"]
    assert len(asked) > len(orders)  # All of it is played.


def test_a_process_that_has_just_begun_goes_on_starting() -> None:
    recording = read([EXAMPLE], "+0.000001s")  # Just after the first step.
    assert any(process.unstarted for process in recording.processes.values())
    assert run(recording, 20, keep=True).at_end == "n1 n2 n3"


@pytest.mark.parametrize(
    ("sets", "needless"),
    [
        ({"farm.silence": 300 * MS}, ["n3"]),
        ({}, ["n3"]),  # 400 ms: what was recorded.
        ({"farm.silence": SECOND_NS}, []),
        ({"farm.pulse": 20 * MS, "farm.slost_count": 3}, ["n3"]),
        ({"farm.pulse": 5 * SECOND_NS}, []),
    ],
)
def test_a_pause_is_waited_for_if_the_silence_is_longer(
    farm: Recording, sets: dict[str, int], needless: list[str]
) -> None:
    result = run(farm, sets=sets, pause="n3 700ms +1s")
    assert [one.node for one in result.takeovers if one.needless] == needless
    assert len(result.takeovers) == len(needless)
    assert result.at_end == "n1 n2 n3"


def test_the_longer_the_silence_the_later_a_crash_is_noticed(farm: Recording) -> None:
    took = []
    for silence_ns in (300 * MS, 400 * MS, 1_000 * MS, 2_500 * MS):
        result = run(farm, sets={"farm.silence": silence_ns}, crash="n3 +1s")
        assert [(one.node, one.needless) for one in result.takeovers] == [("n3", False)]
        took.append(result.takeovers[0].took_ns)
        least_ns = silence_ns - 100 * MS  # It died up to a pulse behind its last heartbeat,
        assert least_ns < took[-1] < silence_ns + 400 * MS  # and others wait for its lease.
    assert took == sorted(took)


def test_who_had_just_fallen_silent_when_the_clocks_change_is_noticed_in_its_time(
    farm: Recording,
) -> None:
    fast = run(farm, sets={"farm.pulse": 20 * MS}, crash="n3").stall_ns
    slow = run(farm, sets={"farm.silence": SECOND_NS}, crash="n3").stall_ns
    assert fast is not None
    assert slow is not None
    assert 50 * MS < fast < 200 * MS < 900 * MS < slow < 1_400 * MS


def test_the_filters_answer_for_as_long_as_the_new_lease_says(farm: Recording) -> None:
    usual, longer = (
        ForkedFarm(farm, 1, Settings(sets), [], keep_faults=False)
        for sets in ({}, {"farm.silence": SECOND_NS})
    )
    for name in NODES:
        before, after = (world.nodes[name].filter.deadline_ns for world in (usual, longer))
        recorded = farm.processes[name, "web"].states["farm_filter"].restored().state
        assert before == recorded.lease_ns > 0
        echoed = table.lease_of(recorded, 0)  # By echoes that it has heard, perhaps since.
        assert before <= echoed < before + 2 * recorded.t.pulse_ns
        assert after == echoed + 600 * MS


def test_faster_and_slower_clocks_disturb_nobody(farm: Recording) -> None:
    for pulse_ns in (20 * MS, 50 * MS, 300 * MS, 5 * SECOND_NS):
        result = run(farm, 3, sets={"farm.pulse": pulse_ns})
        assert (result.takeovers, result.without_ns, result.at_end) == ([], 0, "n1 n2 n3")


def test_a_process_that_starts_again_is_taken_back_with_other_clocks(farm: Recording) -> None:
    world = ForkedFarm(farm, 1, Settings({"farm.silence": SECOND_NS}), [], keep_faults=False)
    world.kill("n3", power=False)
    world.run_to(world.now + 100 * MS)
    world.start("n3", again=True)
    world.run_to(world.now + 3 * SECOND_NS)
    world.wish("n3", "in")  # As its start script orders: it controls the traffic.
    world.run_to(world.now + 3 * SECOND_NS)
    core = world.nodes["n3"].core
    assert core is not None
    assert core.state.t.silent_ns == SECOND_NS
    assert world.settled("n1", "n2", "n3")


def killed(folder: Path, lasts: str, **farm: int) -> Recording:
    """Record a farm one of whose processes is killed, and starts again after a while."""
    fields = ", ".join(f"{key}: {value}" for key, value in {"nodes": 3, **farm}.items())
    text = (
        f"farm: {{whole: yes, {fields}}}\n"
        f"events: [{{at: 2 s, kill_processes: n2, for: {lasts}}}]\nend: 12 s\n"
    )
    play_scenario(scenario(text.encode(), "killed.yaml"), tells=False, trace=folder)
    return read([folder], "service")


def test_a_process_that_soon_started_again_does_so_and_was_missed(tmp_path: Path) -> None:
    recording = killed(tmp_path, "500 ms")
    assert [(one.kind, one.again) for one in recording.outside] == [
        ("process", False),
        ("start", True),
    ]
    result = run(recording, 10, keep=True)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", False)]
    assert result.at_end == "n1 n2 n3"
    paused = run(recording, pause="n3 700ms")
    assert [(one.node, one.needless) for one in paused.takeovers] == [("n3", True)]


def test_a_node_of_a_farm_with_several_groups_starts_again(tmp_path: Path) -> None:
    recording = killed(tmp_path, "3 s", groups=2)
    assert [one.kind for one in recording.outside] == ["power", "start"]
    result = run(recording, 10, keep=True)
    assert [(one.node, one.needless) for one in result.takeovers] == [("n2", False)]
    assert result.at_end == "n1 n2 n3"


def test_a_seed_plays_the_same_again(farm: Recording) -> None:
    assert run(farm, 3, crash="n2") == run(farm, 3, crash="n2")
