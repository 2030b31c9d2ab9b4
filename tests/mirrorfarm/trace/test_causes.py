"""Each step is tied to the one that led to it."""

from pathlib import Path

from mirrorfarm.actors.effects import Later
from mirrorfarm.actors.events import ArbiterTick, Started
from mirrorfarm.trace.causes import LINKS, Causes
from mirrorfarm.trace.facts import Facts, name_of, said
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.step import Placed
from tests.mirrorfarm.trace.test_robust import trace


def linked(folder: Path) -> tuple[Causes, list[Placed]]:
    merge, facts = Merge([folder]), Facts()
    merged, causes = [], Causes([])
    for placed in merge.steps():
        causes.lanes = merge.lanes
        causes.add(placed, facts.of(placed.step))
        merged.append(placed)
    return causes, merged


def test_every_step_has_a_cause_but_those_that_begin(recorded: Path) -> None:
    causes, merged = linked(recorded)
    rootless = {
        name_of(said(placed.step.event))
        for placed in merged
        if LINKS[causes.links[placed.number]] == "none"
    }
    assert rootless == {"Started", "Command"}
    kinds = {LINKS[link] for link in causes.links}
    assert kinds == set(LINKS)


def test_a_cause_comes_before_and_speaks_of_its_effect(recorded: Path) -> None:
    causes, merged = linked(recorded)
    for placed in merged:
        link, cause = LINKS[causes.links[placed.number]], causes.causes[placed.number]
        if link == "none":
            continue
        assert 0 <= cause < placed.number
        led = merged[cause].step
        content = said(placed.step.event)
        if link in {"told", "timer"}:
            assert led.node == placed.step.node
            assert content in [said(effect) for effect in led.effects]
        elif link == "message":
            assert content in [said(effect) for effect in led.effects]
        else:
            assert led.actor == placed.step.actor


def test_a_timer_fires_once(tmp_path: Path) -> None:
    steps = [
        (Started(), [Later(5, ArbiterTick())]),
        (ArbiterTick(), [Later(10, ArbiterTick())]),
        (ArbiterTick(), [Later(15, ArbiterTick())]),
        (ArbiterTick(), []),
    ]
    trace(tmp_path, "n1", *((event, effects, []) for event, effects in steps))
    causes, _ = linked(tmp_path)
    assert list(causes.causes) == [-1, 0, 1, 2]


def test_a_silence_knows_what_the_other_side_did(recorded: Path) -> None:
    causes, merged = linked(recorded)
    of_n2 = [
        absence
        for number, absence in causes.absences.items()
        if merged[number].step.node == "n2" and absence.peer == "n1"
    ]
    assert of_n2
    [absence] = of_n2
    assert absence.traced
    assert absence.unheard == 0
    assert absence.next_ns == 0
    assert merged[absence.last].step.node == "n1"
    assert merged[absence.heard].step.node == "n2"
    before = [one.at_ns for one in merged if one.step.node == "n1"]
    assert absence.last_ns == max(before)
