"""When nobody serves at the end, every living node says why."""

from pathlib import Path

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.fork.changes import parse as changes
from mirrorfarm.sim.fork.measure import Result
from mirrorfarm.sim.fork.recording import Recording, read
from mirrorfarm.sim.fork.runs import Variant, play
from mirrorfarm.sim.fork.unserved import Says

FARM = Path(__file__).parents[3] / "examples/traces/farm"


def run(recording: Recording, seconds: int, **given: list[str]) -> Result:
    nodes = recording.module.nodes
    done = tuple(changes(given, nodes, recording.witness))
    return play(recording, Variant("", changes=done), 1, seconds * SECOND_NS, keep_faults=False)


def test_a_node_whose_data_may_be_old_says_so(before: Recording) -> None:
    """n2 was cut off, so n1 put it out of the in-sync set; then n1 lost its power."""
    cut = [f"any n2->{to} 6s" for to in ("n1", "w")] + ["any n1->n2 6s"]
    result = run(before, 14, drop=cut, crash=["n1 +5s"])
    assert result.at_end == "nobody"
    (says,) = result.unserved
    assert (says.node, says.state, says.status) == ("n2", "WAIT", "NotReady")
    assert "the newest are on n1" in says.reason
    assert "n1" in says.would_change
    assert str(says) == f"n2 is WAIT NotReady: {says.reason}"


def test_who_serves_needs_no_reason_and_who_is_off_has_none(before: Recording) -> None:
    assert run(before, 5, crash=["n2"]).unserved == ()
    off = run(before, 5, crash=["n1", "n2"])
    assert (off.at_end, off.unserved) == ("nobody", ())


def test_a_node_that_stands_still_is_told() -> None:
    farm = read([FARM], "service")
    result = run(farm, 3, pause=["n1 9s +1s", "n2 9s +1s"], crash=["n3"])
    assert result.at_end == "nobody"
    assert [str(one) for one in result.unserved] == [
        f"{name} is UP Ready: its processes do not run" for name in ("n1", "n2")
    ]


def test_without_a_reason_the_phase_is_told() -> None:
    assert str(Says("n2", "WAIT", "Transient", "asking", "", "", "")) == (
        "n2 is WAIT Transient (asking)"
    )
