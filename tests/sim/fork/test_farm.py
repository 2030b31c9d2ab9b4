"""A recorded farm goes on: what becomes of its clients when a node fails, or is only slow."""

from pathlib import Path

import pytest

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork.changes import parse as changes
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.settings import Settings
from mirrorfarm.sim.fork.whatif import Variant, play

EXAMPLE = Path(__file__).parents[3] / "examples/traces/farm"
NODES = ("n1", "n2", "n3")


@pytest.fixture(name="farm", scope="module")
def fixture_farm() -> Recording:
    """Three nodes, recorded live; later n2 is drained and stopped, n3 cut off, n1 frozen."""
    return read([EXAMPLE], "service")


def run(recording: Recording, seconds: int = 5, *, keep: bool = False, **given: str) -> Result:
    done = tuple(changes({kind: [words] for kind, words in given.items()}, NODES))
    variant = Variant("", changes=done)
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


def test_a_process_that_has_just_begun_goes_on_starting() -> None:
    recording = read([EXAMPLE], "+0.000001s")  # Just after the first step.
    assert any(process.unstarted for process in recording.processes.values())
    assert run(recording, 20, keep=True).at_end == "n1 n2 n3"


def test_a_farm_has_no_clocks_of_a_mirror(farm: Recording) -> None:
    variant = Variant("", Settings({"heart.detection": SECOND_NS}))
    with pytest.raises(UsageInvalid, match=r"web is a farm.*n1[.]start_both=5s"):
        play(farm, variant, 1, SECOND_NS)


def test_a_seed_plays_the_same_again(farm: Recording) -> None:
    assert run(farm, 3, crash="n2") == run(farm, 3, crash="n2")
