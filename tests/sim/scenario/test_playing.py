"""Scenarios are played: those for users, those that once found something, and faulty hopes."""

from pathlib import Path

import pytest

from mirrorfarm.actors.module.mirror import leading
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.scenario.record import Scenario

ROOT = Path(__file__).parents[3]
FILES = [
    *sorted((ROOT / "examples" / "scenarios").glob("*.yaml")),
    *sorted((ROOT / "tests" / "sim" / "scenarios").glob("*.yaml")),
]


def load(path: Path) -> Scenario:
    return read(path.read_bytes(), path.name)


def test_there_are_scenarios_of_both_sorts() -> None:
    assert len(FILES) >= 20
    assert len({path.parent for path in FILES}) == 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_goes_as_its_file_says_and_is_short(path: Path) -> None:
    outcome = play(load(path))
    assert outcome.as_expected, (outcome.violation, outcome.unmet)
    assert len(path.read_text().splitlines()) < 30


def test_a_broken_rule_breaks_the_scenario_that_found_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: the gate opens to `self` while the peer may still be promoted."""
    scenario = load(ROOT / "tests" / "sim" / "scenarios" / "shrink_and_thaw.yaml")
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    outcome = play(scenario)
    assert outcome.invariant == "S6"
    assert outcome.story
    assert not outcome.as_expected


@pytest.mark.parametrize(
    ("wanted", "unmet"),
    [
        ("{at: 1 s, node: n1, is: down}", "line 3, at 1 s: n1 is PRIM Ready, not down"),
        ("{by: 1 s, node: n1, because: x}", "line 3, by 1 s: the reason of n1 is “”, without “x”"),
        ("{at: 1 s, acknowledged: 4}", "line 3, at 1 s: 3 writes are acknowledged, not 4"),
        ("{at: 1 s, told: abracadabra}", "line 3, at 1 s: the story says nowhere “abracadabra”"),
        ("{at: 1 s, answer: refused}", "line 3, at 1 s: the last order came to done, not refused"),
    ],
)
def test_what_does_not_come_as_expected_is_told(wanted: str, unmet: str) -> None:
    text = f"events: [{{at: 0 s, write: 3}}]\nexpect:\n  - {wanted}\nend: 1 s\n"
    outcome = play(read(text.encode(), "f"))
    assert outcome.unmet == [unmet]
    assert not outcome.as_expected


@pytest.mark.parametrize(
    ("wanted", "unmet"),
    [
        ("{at: 1 s, node: n1, buckets: 5}", "n1 has 512 buckets open, not 5"),
        ("{at: 1 s, settled: n1}", "n1 are not in one view of just these"),
        ("{at: 1 s, node: n1, because: x}", "without “x”"),
    ],
)
def test_so_it_is_of_a_farm(wanted: str, unmet: str) -> None:
    text = f"farm: {{nodes: 2}}\nend: 1 s\nexpect:\n  - {wanted}\n"
    outcome = play(read(text.encode(), "f"))
    assert len(outcome.unmet) == 1
    assert unmet in outcome.unmet[0]


def test_what_is_expected_by_a_time_is_looked_for_after_what_was_expected_before() -> None:
    text = b"""events: [{at: 1 s, power: n1, for: 1 s}]
expect:
  - {by: 2 s, node: n2, is: ALONE Ready}
  - {by: 2.2 s, node: n2, is: SECOND Ready}
end: 3 s
"""
    outcome = play(read(text, "f"))
    (unmet,) = outcome.unmet
    assert unmet.startswith("line 4, by 2200 ms: n2 is ")
    assert unmet.endswith(" Ready, not SECOND Ready")


def test_a_violation_that_is_not_there_is_missed() -> None:
    assert not play(read(b"violates: S3\nend: 1 s", "f")).as_expected


def test_the_story_makes_no_difference() -> None:
    scenario = load(ROOT / "examples" / "scenarios" / "node_returns.yaml")
    one, other = play(scenario), play(scenario, tells=False)
    assert (one.turns, one.at_ns) == (other.turns, other.at_ns)
    assert one.moments
    assert not other.moments


def test_the_story_of_the_end_tells_which_fault_is_tried_and_when_a_node_is_down() -> None:
    scenario = read(b"end: 1 s\nconverges: yes\n", "f")
    one, other = play(scenario), play(scenario, tells=False)
    assert (one.turns, one.at_ns) == (other.turns, other.at_ns)
    told = [(moment.node, moment.text) for moment in one.moments]
    tried = [text for node, text in told if not node]
    assert tried == [
        "everything is mended",
        "one fault alone: the arbiter is away for a while",
        "one fault alone: the secondary loses power",
        "it starts again",
        "one fault alone: the primary loses power",
    ]
    place = told.index(("", tried[2]))
    assert told[place + 1] == ("n2", "down")
    assert one.moments[place + 1].at_ns - one.moments[place].at_ns < 10_000_000
    assert told.index(("n1", "down")) > told.index(("", tried[4]))


def test_an_assertion_of_a_core_is_told_with_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def wrong(s: object) -> str:
        raise AssertionError

    monkeypatch.setattr(leading, "gate_of", wrong)
    outcome = play(read(b"end: 1 s\n", "f"), trace=tmp_path)
    assert outcome.violation.startswith("assert: ")
    assert outcome.violation.endswith(" wrong")
    assert "wrong: raise AssertionError" in outcome.story[-1]
    assert any(tmp_path.rglob("*.mft"))
