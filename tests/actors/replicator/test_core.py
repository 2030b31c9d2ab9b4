"""Stories of the replicator's core: what is wished, what is ordered, what is told."""

from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.effects import ANY_EFFECT, PlaneOrder, Send
from mirrorfarm.actors.events import Received, Started
from mirrorfarm.actors.replicator import core
from mirrorfarm.limits import UNDER_WAY, WISHES_MAX
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import (
    CopyComplete,
    PlaneIs,
    PlaneWish,
    SessionBroken,
    SessionUp,
    StorageFailed,
    WriteHeld,
)

MIRROR = Address("one", "ledger", "module")


class Story:
    """One core, and a plane that obeys at once unless told otherwise."""

    def __init__(self) -> None:
        self.core = core.Replicator("one", "ledger")
        self.orders: list[tuple[str, tuple[Any, ...]]] = []
        self.messages: list[Any] = []
        self.obeys = True
        self.number = 0

    def tell(self, event: Any) -> None:
        todo = [event]
        while todo:
            for effect in self.core.handle(todo.pop(0), 0):
                todo += self._perform(effect)

    def _perform(self, effect: ANY_EFFECT) -> list[Any]:
        match effect:
            case Send(to, message):
                assert to == MIRROR
                self.messages.append(message)
            case PlaneOrder(verb, arguments):
                self.orders.append((verb, arguments))
                if self.obeys and verb == "gate":
                    return [core.PlaneGated(arguments[0], arguments[4])]
                if self.obeys and verb in {
                    "mount_lead",
                    "mount_follow",
                    "unmount",
                    "accept_session",
                }:
                    return [core.PlaneDone(arguments[0])]
        return []

    def wish(self, role: str, source: Address = MIRROR, **fields: Any) -> None:
        self.number += 1
        self.tell(Received(source, PlaneWish(self.number, role, **fields)))

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.orders]

    @property
    def answer(self) -> PlaneIs:
        answers = [m for m in self.messages if isinstance(m, PlaneIs)]
        assert answers[-1].number == self.number
        return answers[-1]


def leading(gate: str = "both") -> Story:
    story = Story()
    story.wish("lead", term=3, gate=gate, sid=1, plan="full", peer="two")
    return story


def test_a_new_process_says_so_with_number_zero() -> None:
    story = Story()
    story.tell(Started())
    assert story.messages == [PlaneIs(0, "off", 0, "frozen", 0)]


def test_leading_is_mounting_then_opening_the_session_then_the_gate() -> None:
    story = leading()
    assert story.verbs == ["mount_lead", "open_session", "gate"]
    assert story.orders[1][1] == (3, 1, "full", "two")
    assert story.answer == PlaneIs(1, "lead", 3, "both", 1)


def test_nothing_is_answered_before_it_is_so() -> None:
    story = Story()
    story.obeys = False
    story.wish("lead", term=3, gate="self")
    assert story.messages == []
    story.tell(core.PlaneDone(1))
    assert story.verbs == ["mount_lead", "gate"]
    assert story.messages == []
    story.tell(core.PlaneGated(2, ""))
    assert story.answer.gate == "self"


def test_only_the_mirror_of_the_own_node_is_obeyed() -> None:
    story = Story()
    story.wish("lead", Address("two", "ledger", "module"), term=1)
    story.wish("lead", Address("one", "other", "module"), term=1)
    assert story.orders == []


def test_lower_numbers_are_ignored_and_the_same_one_is_answered_again() -> None:
    story = leading()
    count = len(story.orders)
    story.number = 0
    story.tell(Received(MIRROR, PlaneWish(0, "off")))
    assert len(story.orders) == count
    wish = PlaneWish(1, "lead", term=3, gate="both", sid=1, plan="full", peer="two")
    story.tell(Received(MIRROR, wish))
    assert len(story.orders) == count
    assert [m.number for m in story.messages if isinstance(m, PlaneIs)] == [1, 1]


def test_sessions_begin_anew_for_a_module_whose_record_was_lost() -> None:
    story = leading()
    story.number = WISHES_MAX
    story.wish("follow", term=1, sid=2, peer="two")
    assert story.answer.failure == "session 1.2 is over: (3, 1) was wished before"
    story.number = 2 * WISHES_MAX
    story.wish("follow", term=1, sid=2, peer="two", forgets=True)
    assert (story.answer.role, story.answer.failure) == ("follow", "")
    story.wish("follow", term=1, sid=1, peer="two", forgets=True)
    assert story.answer.failure == "session 1.1 is over: (1, 2) was wished before"


def test_a_freeze_precedes_the_end_of_a_session_and_a_thaw_follows_it() -> None:
    story = leading()
    story.orders.clear()
    story.wish("lead", term=3, gate="frozen")
    assert story.verbs == ["gate", "close_session"]
    story.orders.clear()
    story.wish("lead", term=3, gate="self", map_base="g", map_new=True)
    assert story.verbs == ["gate"]
    assert story.answer.map_base == "g"


def test_the_session_is_closed_before_the_gate_goes_from_both_to_self() -> None:
    story = leading()
    story.orders.clear()
    story.wish("lead", term=3, gate="self")
    assert story.verbs == ["close_session", "gate"]


def test_a_broken_session_is_told_once_and_only_a_new_sid_replaces_it() -> None:
    story = leading()
    for _ in range(2):
        story.tell(core.PlaneSessionBroken(3, 1, "silent"))
    assert story.messages.count(SessionBroken(3, 1, "silent")) == 1
    story.orders.clear()
    story.wish("lead", term=3, gate="both", sid=1, plan="full", peer="two")
    assert story.orders == []
    assert story.answer.sid == 0
    story.wish("lead", term=3, gate="both", sid=2, plan="map", peer="two")
    assert story.verbs == ["open_session", "gate"]
    assert story.answer.sid == 2


def test_news_of_an_earlier_session_is_not_told() -> None:
    story = leading()
    story.wish("lead", term=3, gate="both", sid=2, plan="map", peer="two")
    story.messages.clear()
    story.tell(core.PlaneSessionUp(3, 1))
    story.tell(core.PlaneSessionBroken(3, 1, "late"))
    assert story.messages == []
    story.tell(core.PlaneSessionUp(3, 2))
    assert story.messages == [SessionUp(3, 2)]


def test_following_is_mounting_then_accepting() -> None:
    story = Story()
    story.wish("follow", term=3, sid=4, quarantine="app-term2")
    assert story.verbs == ["mount_follow", "accept_session"]
    assert story.orders[1][1][1:] == (3, 4, "app-term2")
    assert story.answer == PlaneIs(1, "follow", 3, "frozen", 4)
    story.tell(core.PlaneCopied(3, 4))
    assert CopyComplete(3, 4) in story.messages


@pytest.mark.parametrize(("term", "sid"), [(2, 9), (3, 3)])
def test_what_was_superseded_is_refused_for_good(term: int, sid: int) -> None:
    story = Story()
    story.wish("follow", term=3, sid=4)
    story.wish("off")
    story.orders.clear()
    story.wish("follow", term=term, sid=sid)
    assert story.orders == []
    assert "over" in story.answer.failure


def test_a_second_that_is_promoted_unmounts_before_it_leads() -> None:
    story = Story()
    story.wish("follow", term=3, sid=4)
    story.orders.clear()
    story.wish("lead", term=4)
    assert story.verbs == ["unmount", "mount_lead"]


def test_an_unclean_end_does_not_wait_for_a_clean_one() -> None:
    story = leading()
    story.obeys = False
    story.wish("off", clean=True)
    assert story.verbs[-1] == "unmount"
    for _ in range(2):
        story.wish("off", clean=False)
    assert story.verbs[-2:] == ["unmount", "abort"]


def test_a_mount_that_fails_is_answered_and_tried_again_only_when_wished() -> None:
    story = Story()
    story.obeys = False
    story.wish("lead", term=1)
    story.tell(core.PlaneFault(1, 16, "busy"))
    assert story.answer.failure == "busy"
    assert story.verbs == ["mount_lead"]
    story.wish("lead", term=1)
    assert story.verbs == ["mount_lead", "mount_lead"]


def test_reports_of_earlier_orders_count_for_nothing() -> None:
    story = Story()
    story.obeys = False
    story.wish("lead", term=1, gate="self")
    story.tell(core.PlaneDone(1))
    story.wish("lead", term=1, gate="frozen", map_base="x")
    story.tell(core.PlaneGated(2, ""))
    assert not [m for m in story.messages if isinstance(m, PlaneIs)]
    story.tell(core.PlaneGated(3, "x"))
    assert story.answer.gate == "frozen"


def test_held_writes_and_failed_storage_are_told() -> None:
    story = leading("frozen")
    story.tell(core.PlaneHeld())
    story.tell(core.PlaneStorage("data", 5, "Input/output error"))
    assert WriteHeld(3) in story.messages
    assert StorageFailed(3, "data", 5, "Input/output error") in story.messages


def test_the_process_ends_only_when_all_is_unmounted() -> None:
    story = leading()
    story.obeys = False
    story.tell(core.PlaneEnd())
    assert story.orders[-1][0] == "unmount"
    assert story.orders[-1][1][1] is False, "a leader that is ended is not cleanly off"
    story.tell(core.PlaneDone(story.orders[-1][1][0]))
    assert story.verbs[-1] == "exit"


def repeat(story: Story, **fields: Any) -> None:
    """Say the last wish again."""
    assert story.core.wish is not None
    story.tell(Received(MIRROR, msgspec.structs.replace(story.core.wish, **fields)))


def test_every_answer_tells_again_what_was_told_once() -> None:
    story = leading("frozen")
    story.tell(core.PlaneHeld())
    story.tell(core.PlaneSessionBroken(3, 1, "it is silent"))
    story.tell(core.PlaneStorage("map", 5, "Input/output error"))
    repeat(story)
    answer = story.answer
    assert (answer.held, answer.broken) == (True, "it is silent")
    assert answer.fault == "map: Input/output error (5)"
    story.wish("lead", term=3, gate="self")
    assert (story.answer.held, story.answer.broken) == (False, "")
    story.tell(core.PlaneHeld())  # It came just before the gate opened.
    repeat(story)
    assert not story.answer.held
    story.wish("off", clean=False)
    assert story.answer.fault == ""


def test_a_copy_that_is_here_is_told_with_every_answer_in_its_session() -> None:
    story = Story()
    story.wish("follow", term=3, sid=4)
    assert not story.answer.copied
    story.tell(core.PlaneCopied(3, 4))
    repeat(story)
    assert story.answer.copied
    story.wish("follow", term=3, sid=5)
    assert not story.answer.copied


def test_a_wish_that_is_worked_on_is_answered_with_no_number_of_a_wish() -> None:
    story = leading()
    story.obeys = False
    story.wish("off")
    assert story.messages[-1].number == 1
    repeat(story)
    assert (story.messages[-1].number, story.messages[-1].role) == (UNDER_WAY, "lead")
    story.tell(core.PlaneDone(story.core.run))
    assert story.answer.role == "off"


def test_a_wish_to_another_start_of_the_process_is_not_taken_over() -> None:
    story = Story()
    story.core.start = 7
    story.wish("lead", term=3, gate="both", start=6)
    story.wish("lead", term=3, gate="both")
    assert story.orders == []
    assert story.messages == 2 * [PlaneIs(0, "off", 0, "frozen", 0, start=7)]
    story.wish("lead", term=3, gate="self", start=7)
    assert story.answer.role == "lead"


def test_a_new_process_leaves_dead_mounts_until_the_application_has_ended() -> None:
    story = Story()
    story.wish("off", clean=False)
    assert story.answer.role == "off"
    assert story.orders == []
    story.wish("off", clean=False, bare=True)
    assert story.orders == [("unmount", (1, False, False))]
    assert story.answer.role == "off"
    story.wish("off", bare=True)
    assert story.verbs == ["unmount"], "once"


def test_an_unclean_end_leaves_dead_mounts_until_the_application_has_ended() -> None:
    story = leading()
    story.orders.clear()
    story.wish("off", clean=False)
    assert [arguments[1:] for _, arguments in story.orders] == [(False, True)]
    story.wish("off", clean=False, bare=True)
    assert [arguments[1:] for _, arguments in story.orders] == [(False, True), (False, False)]


@pytest.mark.parametrize(("clean", "bare"), [(True, False), (False, True)])
def test_an_end_after_that_of_the_application_leaves_nothing(*, clean: bool, bare: bool) -> None:
    story = leading()
    story.orders.clear()
    story.wish("off", clean=clean, bare=bare)
    story.wish("off", clean=clean, bare=True)
    assert story.verbs == ["unmount"]
    assert story.orders[0][1][2] is False


def test_an_unclean_end_that_fails_has_the_mounts_removed_all_the_same() -> None:
    story = leading()
    story.obeys = False
    story.wish("off", clean=False)
    story.tell(core.PlaneFault(story.orders[-1][1][0], 5, "it broke"))
    assert story.answer.failure == "it broke"
    story.wish("off", clean=False, bare=True)
    assert story.orders[-1][0] == "unmount"
    assert story.orders[-1][1][2] is False
