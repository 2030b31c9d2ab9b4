"""Stories of a module that asks a witness over a network that loses messages."""

from typing import Any

import msgspec

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.client import RENEWALS_MAX, WitnessClient
from mirrorfarm.actors.arbiter.memory import MemoryArbiter
from mirrorfarm.actors.effects import Later, Send, Tell
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES, Module
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import (
    Register,
    RegisterAnswer,
    RegisterCas,
    RegisterRead,
    RegisterRenew,
)

MODULE = Module("db", 1, ("a", "b"), timing=PROFILES["fast"])
LEASE = MODULE.timing.lease_ns
WITNESS = Address("w", "db", "register")
FIRST = Register(1, 1, "a", ("a",), "f00d", "")
RETRY = 50 * MILLISECOND_NS


class Story:
    """The client of node `a`, its timer, and a witness that can be cut off."""

    def __init__(self) -> None:
        self.client = WitnessClient("a", "w", MODULE)
        self.arbiter = MemoryArbiter()
        self.now = SECOND_NS
        self.tick_ns = 0
        self.ticks = 0
        self.cut = False
        self.sent: list[Any] = []
        self.told: list[ev.Event] = []
        self.feed(ev.Started())

    def feed(self, event: ev.Event) -> None:
        for effect in self.client.handle(event, self.now):
            match effect:
                case Send(to, message):
                    assert to == WITNESS
                    self.sent.append(message)
                    self.deliver(message)
                case Tell("module", told):
                    self.told.append(told)
                case Later(at_ns, ev.ArbiterTick()):
                    assert at_ns > self.now
                    self.tick_ns = at_ns
                case _:
                    raise AssertionError(effect)

    def deliver(self, message: Any) -> None:
        if not self.cut:
            for answer in self.arbiter.ask(Address("a", "db", "arbiter"), message, self.now):
                self.feed(ev.Received(WITNESS, answer.message))

    def run(self, duration_ns: int) -> None:
        end = self.now + duration_ns
        while self.tick_ns <= end:
            self.now = self.tick_ns
            self.ticks += 1
            self.feed(ev.ArbiterTick())
        self.now = end

    def answer(self, answer: RegisterAnswer, source: Address = WITNESS) -> list[ev.Event]:
        before = len(self.told)
        self.feed(ev.Received(source, answer))
        return self.told[before:]

    @property
    def known(self) -> list[ev.RegisterKnown]:
        return [event for event in self.told if isinstance(event, ev.RegisterKnown)]


def test_a_read_is_answered() -> None:
    story = Story()
    story.feed(ev.AskRead(1))
    assert story.known == [ev.RegisterKnown(1, "unset", None, story.now)]


def test_a_swap_is_repeated_unchanged_until_it_is_answered() -> None:
    story = Story()
    story.cut = True
    first_ns = story.now
    story.feed(ev.AskCas(1, 0, FIRST))
    story.run(10 * RETRY)
    swaps = [message for message in story.sent if isinstance(message, RegisterCas)]
    assert 5 <= len(swaps) <= 11
    assert set(swaps) == {RegisterCas(1, 0, FIRST, False, LEASE)}
    assert story.known == []
    story.cut = False
    story.run(2 * RETRY)
    (known,) = story.known
    assert (known.request, known.outcome, known.sent_ns) == (1, "ok", first_ns)
    count = len(story.sent)
    story.run(2 * RETRY)
    assert len(story.sent) == count


def test_a_lost_yes_is_said_again() -> None:
    story = Story()
    story.feed(ev.AskCas(1, 0, FIRST))
    story.told.clear()
    fresh = WitnessClient("a", "w", MODULE)
    story.client = fresh
    story.feed(ev.AskCas(1, 0, FIRST))
    assert [known.outcome for known in story.known] == ["ok"]


def test_the_mirror_hears_of_silence_once_and_of_its_end() -> None:
    story = Story()
    story.cut = True
    story.feed(ev.AskRead(1))
    story.run(SECOND_NS - RETRY)
    assert story.told == []
    story.run(5 * SECOND_NS)
    (silent,) = story.told
    assert isinstance(silent, ev.ArbiterSilent)
    assert silent.since_ns == SECOND_NS
    story.cut = False
    story.run(SECOND_NS)
    assert [type(event) for event in story.told[1:]] == [ev.ArbiterHeard, ev.RegisterKnown]


def test_silence_is_noticed_even_when_nobody_asks() -> None:
    story = Story()
    story.run(10 * SECOND_NS)
    assert story.told == []
    story.cut = True
    story.run(2 * SECOND_NS)
    assert isinstance(story.told[0], ev.ArbiterSilent)


def test_while_everything_is_answered_it_wakes_for_its_own_questions_alone() -> None:
    story = Story()
    count = len(story.sent)
    story.run(10 * SECOND_NS)
    assert story.ticks == len(story.sent) - count == 13


def test_a_primary_that_renews_in_time_asks_nothing_else() -> None:
    story = Story()
    story.run(SECOND_NS)
    count = len(story.sent)
    for request in range(1, 21):
        story.feed(ev.AskRenew(request, 1, LEASE))
        story.run(SECOND_NS // 2)
    assert {type(message) for message in story.sent[count:]} == {RegisterRenew}


def test_the_answer_of_a_replaced_request_is_dropped() -> None:
    story = Story()
    story.cut = True
    story.feed(ev.AskRead(1))
    story.feed(ev.AskRead(2))
    assert story.answer(RegisterAnswer(1, "unset")) == []
    (known,) = story.answer(RegisterAnswer(2, "unset"))
    assert isinstance(known, ev.RegisterKnown)
    assert (known.request, known.outcome) == (2, "unset")


def test_an_answer_counts_only_from_the_witness_and_only_for_what_was_asked() -> None:
    story = Story()
    story.cut = True
    story.feed(ev.AskCas(1, 0, FIRST))
    granted = msgspec.structs.replace(FIRST, instance="i")
    other = msgspec.structs.replace(granted, holder="b", isr=("b",))
    assert story.answer(RegisterAnswer(1, "ok", granted), Address("b", "db", "register")) == []
    assert story.answer(RegisterAnswer(1, "ok", other)) == []
    assert story.answer(RegisterAnswer(1, "ok")) == []
    assert len(story.answer(RegisterAnswer(1, "ok", granted))) == 1
    assert story.answer(RegisterAnswer(1, "ok", granted)) == []


def test_a_lease_counts_from_the_first_sending_and_for_its_term_only() -> None:
    story = Story()
    story.feed(ev.AskCas(1, 0, FIRST))
    story.told.clear()
    story.cut = True
    first_ns = story.now
    story.feed(ev.AskRenew(2, 1, LEASE))
    story.run(3 * RETRY)
    story.cut = False
    story.run(2 * RETRY)
    (known,) = story.known
    assert (known.request, known.outcome, known.sent_ns) == (2, "ok", first_ns)
    story.cut = True
    story.feed(ev.AskRenew(3, 1, LEASE))
    other = msgspec.structs.replace(FIRST, term=2, instance="i")
    assert story.answer(RegisterAnswer(3, "ok", other)) == []


def test_renewals_run_beside_a_swap_and_are_bounded() -> None:
    story = Story()
    story.cut = True
    story.feed(ev.AskCas(1, 0, FIRST))
    for request in range(2, 20):
        story.feed(ev.AskRenew(request, 1, LEASE))
    assert len(story.client.renewals) == RENEWALS_MAX
    granted = msgspec.structs.replace(FIRST, instance="i")
    assert len(story.answer(RegisterAnswer(18, "ok", granted))) == 1
    # Older renewals say nothing new any more, the younger one may.
    assert story.answer(RegisterAnswer(17, "ok", granted)) == []
    assert len(story.answer(RegisterAnswer(19, "ok", granted))) == 1
    assert len(story.answer(RegisterAnswer(1, "ok", granted))) == 1


def test_a_renewal_is_repeated_only_while_its_answer_would_be_worth_anything() -> None:
    story = Story()
    story.feed(ev.AskCas(1, 0, FIRST, False))
    story.cut = True
    story.feed(ev.AskRenew(2, 1, LEASE))
    story.run(2 * LEASE)  # Of a node that was stopped meanwhile: it asks for no other one.
    story.cut, story.sent = False, []
    story.run(LEASE)
    assert not [message for message in story.sent if isinstance(message, RegisterRenew)]


def test_a_refusal_reaches_the_mirror_with_its_reason() -> None:
    story = Story()
    story.cut = True
    story.feed(ev.AskRenew(1, 1, LEASE))
    (known,) = story.answer(RegisterAnswer(1, "refused", reason="disk full"))
    assert isinstance(known, ev.RegisterKnown)
    assert (known.outcome, known.reason) == ("refused", "disk full")


def test_requests_are_messages_of_the_protocol() -> None:
    story = Story()
    story.cut = True
    story.feed(ev.AskRead(1))
    story.feed(ev.AskRenew(2, 1, LEASE))
    assert story.sent[-2:] == [RegisterRead(1), RegisterRenew(2, 1, LEASE)]
