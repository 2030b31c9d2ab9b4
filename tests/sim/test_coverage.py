"""What a sweep came by is counted, and what it never came by is named."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.sim.coverage import Coverage, TakenStep, is_possible, kind_of, report, watching
from mirrorfarm.sim.covered import main
from mirrorfarm.sim.sweep import play
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command


def step(event: object, *effects: object) -> TakenStep:
    return TakenStep("n1", "module", 1, event, effects)


def test_a_cell_is_the_phase_before_a_step_and_what_it_was_given() -> None:
    coverage = Coverage()
    coverage.see(step(ev.Started()), Phase.RESETTING)
    coverage.see(step(ev.ApplicationGone(1)), Phase.RESETTING)
    coverage.see(step(ev.VipIsDown(2)), Phase.STOPPED)
    assert set(coverage.cells) == {
        ("stopped", "Started"),
        ("resetting", "ApplicationGone"),
        ("resetting", "VipIsDown"),
    }


def test_what_was_never_tried_is_named() -> None:
    coverage = Coverage()
    assert ("leading", "PeerSilent") in coverage.never()
    coverage.see(step(ev.PeerSilent(1)), Phase.LEADING)
    assert ("leading", "PeerSilent") not in coverage.never()
    assert "the peer was silent on every network" not in coverage.missed()
    assert "the arbiter was silent (R3)" in coverage.missed()


def test_what_cannot_be_is_no_gap_and_a_fault_when_it_is() -> None:
    coverage = Coverage()
    assert not is_possible("leading", "Started")
    assert ("leading", "ApplicationGone") not in coverage.never()
    coverage.see(step(ev.ApplicationGone(1)), Phase.LEADING)
    assert coverage.impossible_but_hit() == [("leading", "ApplicationGone")]


def test_a_command_is_known_by_its_verb() -> None:
    order = ev.Received(Address("n1", "cli", "cli"), Command("r1", "swap", "test", ()))
    assert kind_of(order) == "Command swap"


def test_a_sweep_is_watched_and_told_in_tables() -> None:
    coverage, honest = Coverage(), Mirror.handle
    with watching(coverage):
        for seed in range(12):
            coverage.begin()
            play(seed)
    assert Mirror.handle is honest
    assert coverage.steps > 10_000
    assert not coverage.impossible_but_hit()
    assert [states for _, states in coverage.growth] == sorted(s for _, s in coverage.growth)
    assert coverage.sometimes["a secondary took over (R8)"]
    text = report(coverage)
    assert "a compare-and-swap conflicted (R4)" in text
    assert "never (-)" in text


def test_the_command_fails_when_something_never_happened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["1", "1"]) == 1
    assert "never: a target refused a session (R7)" in capsys.readouterr().out
