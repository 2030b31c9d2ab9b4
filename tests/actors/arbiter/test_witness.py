"""Stories of the witness: who may change a register, leases, disks that fail, restarts."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.memory import MemoryArbiter
from mirrorfarm.actors.arbiter.witness import LEASE_NS_MAX, WAITING_MAX, WitnessCore
from mirrorfarm.actors.effects import ANY_EFFECT, Log, RegisterStore, Send
from mirrorfarm.limits import MODULES_MAX, SECOND_NS
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import (
    Register,
    RegisterAnswer,
    RegisterCas,
    RegisterRead,
    RegisterRenew,
)

LEASE = 2 * SECOND_NS
A = Address("a", "db", "arbiter")
B = Address("b", "db", "arbiter")
FIRST = Register(1, 1, "a", ("a",), "f00d", "")
ANY_REQUEST = RegisterRead | RegisterCas | RegisterRenew


class Story:
    """A memory arbiter, with short words for what the two nodes ask."""

    def __init__(self) -> None:
        self.arbiter = MemoryArbiter("c1")
        self.now = SECOND_NS
        self.request = 0

    def ask(self, source: Address, message: ANY_REQUEST) -> RegisterAnswer:
        (sent,) = self.arbiter.ask(source, message, self.now)
        assert sent.to == source
        assert isinstance(sent.message, RegisterAnswer)
        assert sent.message.request == message.request
        return sent.message

    def swap(
        self, source: Address, ver: int, register: Register, *, forced: bool = False
    ) -> RegisterAnswer:
        self.request += 1
        return self.ask(source, RegisterCas(self.request, ver, register, forced, LEASE))

    def renew(self, source: Address, term: int, lease_ns: int = LEASE) -> RegisterAnswer:
        self.request += 1
        return self.ask(source, RegisterRenew(self.request, term, lease_ns))

    @property
    def register(self) -> Register:
        answer = self.ask(A, RegisterRead(999))
        assert answer.register is not None
        return answer.register

    def change(self, source: Address, *, forced: bool = False, **fields: Any) -> str:
        """Ask for the present register with these fields changed; return the outcome."""
        present = self.register
        wanted = msgspec.structs.replace(present, **fields)
        answer = self.swap(source, present.ver, wanted, forced=forced)
        if answer.outcome == "ok":
            assert self.register.ver == present.ver + 1
        else:
            assert self.register == present
        return answer.outcome

    def pass_lease(self) -> None:
        self.now += LEASE + LEASE // 1_000


def created() -> Story:
    story = Story()
    assert story.swap(A, 0, FIRST).outcome == "ok"
    return story


def paired() -> Story:
    """`a` holds term 1 with `b` in the set, lease just renewed."""
    story = created()
    assert story.change(A, isr=("a", "b")) == "ok"
    assert story.renew(A, 1).outcome == "ok"
    return story


def test_a_register_never_written_is_unset_and_asking_leaves_no_trace() -> None:
    story = Story()
    assert story.ask(A, RegisterRead(1)).outcome == "unset"
    assert story.renew(A, 1).outcome == "unset"
    assert story.swap(A, 3, FIRST).outcome == "unset"
    assert story.arbiter.core.entries == {}


def test_creation_names_the_instance_and_happens_once() -> None:
    story = created()
    assert (story.register.term, story.register.ver, story.register.holder) == (1, 1, "a")
    assert len(story.register.instance) == 32
    answer = story.swap(B, 0, msgspec.structs.replace(FIRST, holder="b", isr=("b",)))
    assert answer.outcome == "conflict"
    assert answer.register == story.register


@pytest.mark.parametrize("source", [A, B])
def test_only_its_holder_creates_a_register_alone(source: Address) -> None:
    wanted = Register(1, 1, "a", ("a", "b") if source == A else ("a",), "f00d", "")
    assert Story().swap(source, 0, wanted).outcome == "refused"


def test_an_older_request_still_under_way_can_no_longer_win() -> None:
    story = paired()
    old = story.register
    assert story.change(A) == "ok"  # Changes nothing, but takes a version (R4).
    alone = msgspec.structs.replace(old, isr=("a",))
    assert story.swap(A, old.ver, alone).outcome == "conflict"
    assert story.register.isr == ("a", "b")


def test_a_secondary_takes_over_only_after_the_lease() -> None:
    story = paired()
    story.now += LEASE
    present = story.register
    promotion = msgspec.structs.replace(present, term=2, holder="b")
    answer = story.swap(B, present.ver, promotion)
    assert (answer.outcome, answer.lease_left_ns) == ("held", LEASE // 1_000)
    story.now += answer.lease_left_ns
    assert story.change(B, term=2, holder="b") == "ok"
    assert story.renew(A, 1).outcome == "conflict"


def test_a_promotion_starts_the_lease_of_the_new_holder() -> None:
    story = paired()
    story.pass_lease()
    assert story.change(B, term=2, holder="b") == "ok"
    assert story.change(A, term=3, holder="a") == "held"
    story.pass_lease()
    assert story.change(A, term=3, holder="a") == "ok"


def test_a_creation_starts_a_lease_that_outlives_growth() -> None:
    story = created()
    assert story.change(A, isr=("a", "b")) == "ok"
    assert story.change(B, term=2, holder="b") == "held"


def test_a_node_outside_the_set_changes_nothing() -> None:
    story = created()
    story.pass_lease()
    assert story.change(B, term=2, holder="b") == "refused"
    assert story.change(B, term=2, holder="b", isr=("a", "b")) == "refused"
    assert story.change(B, isr=("a", "b")) == "refused"
    assert story.change(B, gen="beef") == "refused"


def test_the_holder_shrinks_grows_and_renames_the_generation_in_its_term() -> None:
    story = paired()
    assert story.change(A, isr=("a",), gen="beef") == "ok"
    assert story.change(A, isr=("a", "b")) == "ok"
    assert story.change(A, holder="b") == "refused"
    assert story.change(A, term=3) == "refused"
    assert story.change(A, instance="other") == "refused"


def test_a_promotion_keeps_or_shrinks_the_set() -> None:
    story = paired()
    story.pass_lease()
    assert story.change(B, term=2, holder="b", isr=("a",)) == "refused"
    assert story.change(B, term=2, holder="b", isr=("b", "x")) == "refused"
    assert story.change(B, term=2, holder="b", isr=("b",)) == "ok"


def test_the_holder_hands_over_in_the_middle_of_its_lease() -> None:
    story = paired()
    assert story.change(A, term=2, holder="b") == "ok"
    assert story.change(A, term=3, holder="a") == "held"
    assert story.renew(B, 2).outcome == "ok"


def test_a_holder_that_takes_a_new_term_does_not_shorten_its_lease() -> None:
    story = paired()
    assert story.renew(A, 1, 3 * LEASE).outcome == "ok"
    assert story.change(A, term=2) == "ok"
    story.now += 2 * LEASE
    assert story.change(B, term=3, holder="b") == "held"


def test_the_holder_that_restarted_takes_a_new_term_at_once() -> None:
    story = paired()
    assert story.change(A, term=2) == "ok"


def test_a_member_may_say_that_it_is_not_in_sync_but_not_that_the_other_is_not() -> None:
    story = paired()
    assert story.change(B, isr=("b",)) == "refused"
    assert story.change(B, isr=("a",)) == "ok"


def test_the_last_copy_cannot_leave() -> None:
    story = created()
    assert story.change(A, isr=()) == "refused"


def test_an_administrator_forces_a_node_outside_the_set_but_not_against_a_lease() -> None:
    story = created()
    assert story.change(B, term=2, holder="b", isr=("b",), forced=True) == "held"
    story.pass_lease()
    assert story.change(B, term=2, holder="b", isr=("a", "b"), forced=True) == "refused"
    assert story.change(B, term=1, holder="b", isr=("b",), forced=True) == "refused"
    assert story.change(B, term=5, holder="b", isr=("b",), forced=True) == "ok"


@pytest.mark.parametrize(
    "bad",
    [
        {"term": 0},
        {"term": 2**63},
        {"holder": "../x"},
        {"isr": ("b", "a")},
        {"isr": ("a", "a")},
        {"isr": ("a", "b", "c")},
        {"gen": "x" * 5_000},
        {"instance": "\n"},
    ],
)
def test_a_malformed_register_is_refused(bad: dict[str, Any]) -> None:
    story = Story()
    assert story.swap(A, 0, msgspec.structs.replace(FIRST, **bad)).outcome == "refused"
    assert paired().change(A, **bad) == "refused"


@pytest.mark.parametrize("lease_ns", [0, -1, LEASE_NS_MAX + 1, 2**63 - 1])
def test_a_lease_out_of_range_is_refused(lease_ns: int) -> None:
    story = paired()
    assert story.renew(A, 1, lease_ns).outcome == "refused"


def test_the_same_request_is_answered_alike_even_after_a_restart() -> None:
    story = paired()
    present = story.register
    wanted = msgspec.structs.replace(present, isr=("a",))
    cas = RegisterCas(77, present.ver, wanted, False, LEASE)
    first = story.ask(A, cas)
    assert (first.outcome, story.ask(A, cas)) == ("ok", first)
    story.arbiter.restart(story.now)
    assert story.ask(A, cas) == first
    assert story.renew(A, 1).outcome == "ok"
    assert story.ask(A, cas) == first
    assert story.ask(B, cas).outcome == "conflict"
    assert story.change(A) == "ok"
    assert story.ask(A, cas).outcome == "conflict"


def test_after_a_restart_every_holder_is_thought_to_have_just_renewed() -> None:
    story = paired()
    assert story.renew(A, 1, 3 * LEASE).outcome == "ok"
    story.now += 30 * LEASE
    story.arbiter.restart(story.now)
    story.now += 2 * LEASE
    assert story.change(B, term=2, holder="b") == "held"
    assert story.renew(A, 1).outcome == "ok"
    story.now += 2 * LEASE
    assert story.change(B, term=2, holder="b") == "ok"


def test_a_shorter_renewal_does_not_hide_a_longer_lease_from_the_disk() -> None:
    story = paired()
    assert story.renew(A, 1, 10 * LEASE).outcome == "ok"
    assert story.renew(A, 1, LEASE).outcome == "ok"
    assert story.change(A) == "ok"
    story.arbiter.restart(story.now)
    story.now += 9 * LEASE
    assert story.change(B, term=2, holder="b") == "held"


def test_modules_have_registers_of_their_own_up_to_a_bound() -> None:
    story = Story()
    for number in range(MODULES_MAX):
        source = Address("a", f"m{number}", "arbiter")
        assert story.swap(source, 0, FIRST).outcome == "ok"
    answer = story.swap(Address("a", "more", "arbiter"), 0, FIRST)
    assert answer.outcome == "refused"
    assert "at most" in answer.reason


# --- the disk ------------------------------------------------------------------------------


def received(source: Address, message: ANY_REQUEST) -> ev.Received:
    return ev.Received(source, message)


def sent(effects: list[ANY_EFFECT]) -> list[RegisterAnswer]:
    answers = [effect.message for effect in effects if isinstance(effect, Send)]
    assert all(isinstance(answer, RegisterAnswer) for answer in answers)
    return [answer for answer in answers if isinstance(answer, RegisterAnswer)]


def test_nothing_is_said_of_a_register_until_its_change_is_durable() -> None:
    core = WitnessCore()
    create = RegisterCas(1, 0, FIRST, False, LEASE)
    (store,) = core.handle(received(A, create), 0)
    assert isinstance(store, RegisterStore)
    for _ in range(3):
        assert core.handle(received(A, create), 1) == []
        assert core.handle(received(B, RegisterRead(5)), 1) == []
    log, *_ = effects = core.handle(ev.RegisterStored(store.counter), 2)
    assert isinstance(log, Log)
    assert [(answer.request, answer.outcome) for answer in sent(effects)] == [(1, "ok"), (5, "ok")]
    assert core.handle(ev.RegisterStored(store.counter), 2) == []


def test_requests_that_wait_for_the_disk_are_bounded() -> None:
    core = WitnessCore()
    core.handle(received(A, RegisterCas(1, 0, FIRST)), 0)
    for number in range(100):
        core.handle(received(B, RegisterRead(number)), 1)
    assert len(sent(core.handle(ev.RegisterStored(1), 2))) == 1 + WAITING_MAX


def test_a_disk_that_fails_leaves_the_change_open_and_refuses_the_rest() -> None:
    core = WitnessCore()
    create = RegisterCas(1, 0, FIRST)
    core.handle(received(A, create), 0)
    core.handle(received(B, RegisterRead(5)), 0)
    effects = core.handle(ev.StoreFailed(1, 28, "No space left on device"), 1)
    assert [(answer.request, answer.outcome) for answer in sent(effects)] == [(5, "refused")]
    assert "No space" in sent(effects)[0].reason
    # It may be found after a restart: neither yes nor no would be true.
    assert core.handle(received(A, create), 2) == []
    for later in (RegisterRead(6), RegisterRenew(7, 1, LEASE), RegisterCas(8, 1, FIRST)):
        assert sent(core.handle(received(A, later), 2))[0].outcome == "refused"


# --- any order of requests -----------------------------------------------------------------

NODES = st.sampled_from(["a", "b"])


class AnyOrder(RuleBasedStateMachine):
    """Two nodes ask at random, answers are lost, the witness restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.arbiter = MemoryArbiter("c1")
        self.now = SECOND_NS
        self.number = 0
        self.history: list[Register] = []
        self.last: tuple[Address, RegisterCas] | None = None
        self.leases: dict[str, tuple[int, int]] = {}  # node: term, end by its own clock

    def ask(self, node: str, message: ANY_REQUEST) -> RegisterAnswer:
        (sent_,) = self.arbiter.ask(Address(node, "db", "arbiter"), message, self.now)
        assert isinstance(sent_.message, RegisterAnswer)
        self.note(sent_.message.register)
        return sent_.message

    def note(self, register: Register | None) -> None:
        before = self.history[-1] if self.history else None
        if register is None:
            assert before is None
            return
        if register == before:
            return
        self.history.append(register)
        if before is None:
            assert register.ver == 1
            return
        assert register.ver == before.ver + 1  # S9
        assert register.instance == before.instance
        assert register.term >= before.term
        if register.holder != before.holder:
            assert register.term == before.term + 1
            assert register.holder in before.isr  # S5
        if register.term != before.term:
            assert set(register.isr) <= set(before.isr)

    def swap(self, node: str, wanted: Register, ver: int) -> RegisterAnswer:
        self.number += 1
        cas = RegisterCas(self.number, ver, wanted, False, LEASE)
        self.last = (Address(node, "db", "arbiter"), cas)
        before = self.history[-1] if self.history else None
        answer = self.ask(node, cas)
        if answer.outcome == "ok" and before is not None:
            if before.holder not in {wanted.holder, node}:
                _, end = self.leases.get(before.holder, (0, 0))
                assert end <= self.now, "promoted while the other's lease ran"  # X1
            if wanted.holder != before.holder:
                self.leases.pop(before.holder, None)
        return answer

    @rule(node=NODES)
    def create(self, node: str) -> None:
        self.swap(node, Register(1, 1, node, (node,), "f00d", ""), 0)

    @rule(
        node=NODES,
        holder=NODES,
        isr=st.sampled_from([("a",), ("b",), ("a", "b")]),
        step=st.integers(0, 2),
        behind=st.sampled_from([0, 0, 0, 1]),
    )
    def change(self, node: str, holder: str, isr: tuple[str, ...], step: int, behind: int) -> None:
        if self.history:
            now = self.history[-1]
            wanted = msgspec.structs.replace(now, term=now.term + step, holder=holder, isr=isr)
            self.swap(node, wanted, now.ver - behind)

    @rule()
    def grow(self) -> None:
        if self.history:
            now = self.history[-1]
            self.swap(now.holder, msgspec.structs.replace(now, isr=("a", "b")), now.ver)

    @rule(node=NODES)
    def promote(self, node: str) -> None:
        if self.history:
            now = self.history[-1]
            wanted = msgspec.structs.replace(now, term=now.term + 1, holder=node)
            self.swap(node, wanted, now.ver)

    @rule(node=NODES, lease=st.sampled_from([LEASE // 2, LEASE, 3 * LEASE]))
    def renew(self, node: str, lease: int) -> None:
        if self.history:
            self.number += 1
            term = self.history[-1].term
            if self.ask(node, RegisterRenew(self.number, term, lease)).outcome == "ok":
                assert self.history[-1].holder == node  # S2
                _, end = self.leases.get(node, (0, 0))
                self.leases[node] = term, max(end, self.now + lease)

    @rule()
    def repeat(self) -> None:
        if self.last:
            source, cas = self.last
            length = len(self.history)
            answer = self.ask(source.node, cas)
            if answer.outcome == "ok" and len(self.history) == length:
                assert answer.register is not None
                assert answer.register.ver == cas.expected_ver + 1

    @rule(share=st.integers(1, 12))
    def time_passes(self, share: int) -> None:
        self.now += LEASE * share // 10

    @rule()
    def restart(self) -> None:
        self.arbiter.restart(self.now)

    @invariant()
    def never_two_leases(self) -> None:
        running = [node for node, (_, end) in self.leases.items() if end > self.now]
        assert len(running) <= 1


AnyOrder.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase
