"""The explorer sees every order of events within its bound, and a broken rule at once."""

import json
from collections import deque
from typing import Any

import pytest
from click.testing import CliRunner

from mirrorfarm.actors.module.mirror import following, leading
from mirrorfarm.actors.module.mirror.phases import Phase, Session
from mirrorfarm.sim.explore.__main__ import main
from mirrorfarm.sim.explore.moves import ADVANCE, chosen, moves, words
from mirrorfarm.sim.explore.search import Broken, Moment, explore, joining, name_of, pair
from mirrorfarm.sim.explore.state import World
from mirrorfarm.sim.explore.step import Step
from mirrorfarm.transport.address import MODULE_ACTOR

ENOUGH = 20_000
LONG = 100.0


def test_every_state_of_a_calm_pair_with_one_write_is_sound() -> None:
    result = explore(pair(0, 1), ENOUGH, LONG)
    assert result.complete, result
    assert result.violation == ""
    assert result.states > 2_000, "the write reaches the other node in many orders"


def test_what_follows_one_disturbance_is_sound_as_far_as_it_is_walked() -> None:
    result = explore(pair(1, 1), 4_000, LONG)
    assert result.violation == ""


def test_states_that_differ_in_absolute_times_and_running_numbers_are_one() -> None:
    world, seen = pair(0, 0), set()
    for _ in range(300):
        name = name_of(world)
        if name in seen:
            return
        seen.add(name)
        world = Step(world).take(next(moves(world)))
    pytest.fail("a pair in which nothing happens never comes back to where it was")


def test_a_move_leaves_the_state_it_begins_with_as_it_was() -> None:
    world = joining(1, 1)
    before = name_of(world)
    for move in moves(world):
        Step(world).take(move)
    for node in world.nodes.values():
        node.part = None  # Looked at anew.
    world.witness.part = None
    assert name_of(world) == before


# --- what is left out changes nothing --------------------------------------------------------


def plainly(first: World) -> tuple[set[bytes], str]:
    """Walk every state, each made from scratch and told apart by all that counts of it.

    Return the names of the states at which a moment begins, and the first violation.
    """
    begun, seen, left = {name_of(first)}, {name_of(first)}, deque([first])
    while left:
        world = left.popleft()
        for move in moves(world):
            try:
                after = Step(world).take(move)
            except AssertionError as error:
                return begun, str(error)
            name = name_of(after)
            if move == ADVANCE:
                begun.add(name)
            if name not in seen:
                seen.add(name)
                left.append(after)
    return begun, ""


def remembering(first: World) -> tuple[set[bytes], str]:
    """Walk as the explorer does; return the same."""
    begun, left = {name_of(first)}, deque([first])
    while left:
        try:
            for end, _ in Moment(left.popleft()).ends():
                after = Step(end).take(ADVANCE)
                if name_of(after) not in begun:
                    begun.add(name_of(after))
                    left.append(after)
        except Broken as broken:
            return begun, broken.text
    return begun, ""


def disturbed(what: str) -> World:
    """Return a pair to which this happened just now."""
    world = pair(1, 0)
    return next(Step(world).take(move) for move in chosen(world) if words(world, move) == what)


@pytest.mark.parametrize(
    "what",
    ["n2 stands still for 500 ms, and so does its clock", "the link n1 - w1 is cut for 500 ms"],
)
def test_what_is_remembered_leads_to_the_states_that_all_orders_lead_to(what: str) -> None:
    plain, remembered = plainly(disturbed(what)), remembering(disturbed(what))
    assert plain == remembered
    assert len(plain[0]) > 20


# --- rules broken on purpose -----------------------------------------------------------------


def test_an_application_told_without_the_arbiters_leave_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = leading.gate_of
    monkeypatch.setattr(leading, "gate_of", lambda s: "self" if s.leading.lost else honest(s))
    result = explore(pair(1, 1), ENOUGH, LONG)
    assert result.violation.startswith("S6: n1 told write 1, which n2 lacks")
    assert any("n1 writes" in line for line in result.story), "the story tells how it came"


def test_a_peer_counted_in_before_it_has_the_data_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(s: Any, message: Any) -> None:
        del message
        s.leading.session = Session.SYNCED

    monkeypatch.setattr(leading, "on_session_up", at_once)
    result = explore(joining(0, 1), ENOUGH, LONG)
    assert result.violation.startswith("S7: n2 is in the set")
    assert plainly(joining(0, 1))[1] == result.violation


def test_a_copy_that_begins_before_its_session_is_durable_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = following._begin

    def at_once(s: Any, offer: Any, now: int) -> None:
        honest(s, offer, now)
        s.target.step = "preparing"

    monkeypatch.setattr(following, "_begin", at_once)
    result = explore(joining(0, 1), ENOUGH, LONG)
    assert result.violation.startswith("S12: n2 wrote in 1.1 before its record said so")
    assert plainly(joining(0, 1))[1] == result.violation


# --- the command -----------------------------------------------------------------------------


def test_the_command_says_how_far_it_came() -> None:
    shown = CliRunner().invoke(main, ["--bound", "1", "--states", "50"])
    assert shown.exit_code == 2
    assert "bound 1 disturbances, 1 writes: not all were seen" in shown.output


def test_the_command_answers_programs() -> None:
    shown = CliRunner().invoke(main, ["--writes", "0", "--json"])
    assert shown.exit_code == 0
    answer = json.loads(shown.output)
    assert answer["complete"] is True
    assert answer["violation"] == ""


def test_one_kind_of_disturbance_can_be_walked_alone_and_to_the_end() -> None:
    shown = CliRunner().invoke(main, ["--bound", "1", "--writes", "0", "--kind", "lose", "--json"])
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.output)
    assert answer["complete"] is True
    assert answer["states"] > 1_000
    assert answer["moments"] < answer["states"]


def test_walks_go_far_beyond_the_bound() -> None:
    shown = CliRunner().invoke(main, ["--bound", "3", "--writes", "9", "--walks", "2", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["transitions"] == 2_000


def test_the_first_state_is_a_primary_with_its_secondary() -> None:
    world = pair(0, 0)
    phases = [node.cores[MODULE_ACTOR].state.phase for node in world.nodes.values()]
    assert phases == [Phase.LEADING, Phase.FOLLOWING]


@pytest.mark.parametrize("option", ["bound", "writes", "walks", "seconds"])
def test_less_than_nothing_is_not_taken_for_all_there_is(option: str) -> None:
    shown = CliRunner().invoke(main, [f"--{option}", "-1", "--kind", "lose", "--states", "50"])
    assert f"'--{option}'" in shown.output
    assert "states in" not in shown.output


def test_a_time_that_is_no_number_is_refused() -> None:
    shown = CliRunner().invoke(main, ["--seconds", "nan", "--states", "50"])
    assert "--seconds nan" in shown.output
    assert "states in" not in shown.output
