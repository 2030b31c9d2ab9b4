"""Stories of two nodes without a third machine: a link between them, and a gateway to ping."""

import heapq
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.advisory import advisory
from mirrorfarm.actors.arbiter.ping import PingArbiter
from mirrorfarm.actors.effects import Later, Log, PingProbe, RegisterStore, Send, Tell
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES, Arbiter, Module
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Register, RegisterNews

GATEWAYS = ("198.18.0.1", "198.18.0.2")
WHILE = 500 * MILLISECOND_NS
FIRST = Register(1, 1, "a", ("a",), "f00d", "")


class Story:
    """Nodes `a` and `b` with their arbiters, on one clock."""

    def __init__(self, addresses: tuple[str, ...] = GATEWAYS) -> None:
        kind = "ping" if addresses else "none"
        self.module = Module(
            "db", 1, ("a", "b"), timing=PROFILES["fast"], arbiter=Arbiter(kind, "", addresses)
        )
        self.now = SECOND_NS
        self.todo: list[tuple[int, int, str, ev.Event]] = []
        self.order = 0
        self.link = True
        self.gateways = {"a": addresses, "b": addresses}
        self.broken_disk = ""
        self.disk: dict[str, tuple[Register | None, int]] = {"a": (None, 0), "b": (None, 0)}
        self.nodes: dict[str, PingArbiter] = {}
        self.told: dict[str, list[Any]] = {"a": [], "b": []}
        self.request = 0
        for node in ("a", "b"):
            self.start(node)

    def start(self, node: str) -> None:
        peer = "b" if node == "a" else "a"
        self.nodes[node] = PingArbiter(node, peer, "c1", self.module)
        register, counter = self.disk[node]
        self.feed(node, ev.RegisterLoaded("c1", "db", register, counter))
        self.feed(node, ev.Started())

    def stop(self, node: str) -> None:
        del self.nodes[node]

    def feed(self, node: str, event: ev.Event) -> None:
        if node not in self.nodes:
            return
        for effect in self.nodes[node].handle(event, self.now):
            self.perform(node, effect)

    def perform(self, node: str, effect: Any) -> None:
        match effect:
            case Send(to, message):
                if self.link:
                    source = Address(node, "db", "arbiter")
                    self.later(1, to.node, ev.Received(source, message))
            case Tell("module", event):
                self.told[node].append(event)
            case Later(at_ns, event):
                assert at_ns > self.now
                self.later((at_ns - self.now) // MILLISECOND_NS, node, event)
            case PingProbe(request, addresses, timeout_ns):
                answered = tuple(a for a in addresses if a in self.gateways[node])
                wait = 1 if answered == addresses else timeout_ns // MILLISECOND_NS
                self.later(wait, node, ev.PingAnswered(request, answered))
            case RegisterStore():
                if self.broken_disk == node:
                    self.later(2, node, ev.StoreFailed(effect.counter, 5, "Input/output error"))
                else:
                    self.disk[node] = effect.register, effect.counter
                    self.later(2, node, ev.RegisterStored(effect.counter))
            case Log():
                pass
            case _:
                raise AssertionError(effect)

    def later(self, milliseconds: int, node: str, event: ev.Event) -> None:
        self.order += 1
        at_ns = self.now + milliseconds * MILLISECOND_NS
        heapq.heappush(self.todo, (at_ns, self.order, node, event))

    def run(self, duration_ns: int = WHILE) -> None:
        end = self.now + duration_ns
        while self.todo and self.todo[0][0] <= end:
            self.now, _, node, event = heapq.heappop(self.todo)
            self.feed(node, event)
        self.now = end

    # --- the mirrors -----------------------------------------------------------------------

    def outcome(self, node: str, request: int) -> str:
        found = [e for e in self.told[node] if isinstance(e, ev.RegisterKnown)]
        outcomes = [event.outcome for event in found if event.request == request]
        assert len(outcomes) <= 1
        return outcomes[0] if outcomes else ""

    def read(self, node: str) -> str:
        self.request += 1
        self.feed(node, ev.AskRead(self.request))
        self.run()
        return self.outcome(node, self.request)

    def start_change(self, node: str, *, forced: bool = False, **fields: Any) -> int:
        self.request += 1
        register = self.nodes[node].register
        wanted = msgspec.structs.replace(register or FIRST, **fields)
        expected = register.ver if register else 0
        self.feed(node, ev.AskCas(self.request, expected, wanted, forced))
        return self.request

    def change(self, node: str, *, forced: bool = False, **fields: Any) -> str:
        request = self.start_change(node, forced=forced, **fields)
        self.run()
        return self.outcome(node, request)

    def renew(self, node: str, term: int) -> str:
        self.request += 1
        self.feed(node, ev.AskRenew(self.request, term, self.module.timing.lease_ns))
        self.run(100 * MILLISECOND_NS)
        return self.outcome(node, self.request)

    @property
    def registers(self) -> tuple[Register | None, Register | None]:
        return self.disk["a"][0], self.disk["b"][0]


def paired(addresses: tuple[str, ...] = GATEWAYS) -> Story:
    story = Story(addresses)
    assert story.change("a") == "ok"
    assert story.change("a", isr=("a", "b")) == "ok"
    assert story.renew("a", 1) == "ok"
    return story


def test_a_register_is_created_on_both_nodes() -> None:
    story = Story()
    assert story.read("a") == "unset"
    assert story.change("a") == "ok"
    one, other = story.registers
    assert one == other
    assert one is not None
    assert (one.holder, one.ver) == ("a", 1)
    assert len(one.instance) == 32


def test_a_change_between_two_live_nodes_takes_a_round_trip() -> None:
    story = paired()
    request = story.start_change("a", gen="beef")
    story.run(10 * MILLISECOND_NS)
    assert story.outcome("a", request) == "ok"


def test_the_secondary_is_left_behind_on_evidence() -> None:
    story = paired()
    story.stop("b")
    assert story.change("a", isr=("a",)) == "ok"


def test_without_evidence_nobody_is_left_behind_until_it_returns() -> None:
    story = paired()
    story.stop("b")
    story.gateways["a"] = ()
    request = story.start_change("a", isr=("a",))
    story.run(5 * SECOND_NS)
    assert story.outcome("a", request) == ""
    assert isinstance(story.told["a"][-1], ev.ArbiterSilent)
    story.gateways["a"] = GATEWAYS
    story.run()
    assert story.outcome("a", request) == "ok"
    assert any(isinstance(event, ev.ArbiterHeard) for event in story.told["a"])


def test_half_of_the_addresses_is_enough() -> None:
    story = paired()
    story.stop("b")
    story.gateways["a"] = GATEWAYS[:1]
    assert story.change("a", isr=("a",)) == "ok"


def test_a_secondary_is_promoted_when_its_primary_is_gone() -> None:
    story = paired()
    story.stop("a")
    assert story.change("b", term=2, holder="b") == "ok"
    story.start("a")
    assert story.read("a") == "ok"
    assert story.registers[0] == story.registers[1]
    assert story.renew("a", 1) == "conflict"
    assert story.renew("b", 2) == "ok"


def test_an_isolated_secondary_stays_what_it_is() -> None:
    story = paired()
    story.link = False
    story.gateways["b"] = ()
    request = story.start_change("b", term=2, holder="b")
    story.run(5 * SECOND_NS)
    assert story.outcome("b", request) == ""
    assert story.change("a", isr=("a",)) == "ok"
    story.link = True
    story.run()
    assert story.outcome("b", request) in {"conflict", "held"}
    assert story.registers[0] is not None
    assert story.registers[0].holder == "a"


def test_the_peer_is_taken_in_only_when_its_copy_says_so() -> None:
    story = Story()
    assert story.change("a") == "ok"
    story.stop("b")
    request = story.start_change("a", isr=("a", "b"))
    story.run()
    assert story.outcome("a", request) == ""
    story.start("b")
    story.run()
    assert story.outcome("a", request) == "ok"
    assert story.registers[0] == story.registers[1]


def test_the_role_is_handed_over_only_to_a_peer_that_knows() -> None:
    story = paired()
    story.link = False
    request = story.start_change("a", term=2, holder="b")
    story.run()
    assert story.outcome("a", request) == ""
    story.link = True
    story.run()
    assert story.outcome("a", request) == "ok"
    assert story.renew("b", 2) == "ok"


def test_nobody_is_promoted_past_a_holder_that_is_alive() -> None:
    story = paired()
    assert story.renew("a", 1) == "ok"
    assert story.change("b", term=2, holder="b") == "held"


def test_a_renewal_needs_the_peer_or_the_addresses() -> None:
    story = paired()
    story.gateways["a"] = ()
    assert story.renew("a", 1) == "ok"
    story.link = False
    story.run(SECOND_NS)
    assert story.renew("a", 1) == ""
    story.gateways["a"] = GATEWAYS
    assert story.renew("a", 1) == "ok"
    assert story.renew("b", 1) == "conflict"


def test_a_lease_counts_from_the_evidence_it_rests_on() -> None:
    story = paired()
    story.link = False
    story.gateways["a"] = ()
    story.run(50 * MILLISECOND_NS)
    evidence_ns = story.nodes["a"].evidence_ns
    assert evidence_ns < story.now
    assert story.renew("a", 1) == "ok"
    assert story.told["a"][-1].sent_ns == evidence_ns


def test_renewals_go_on_when_one_address_is_slow_and_the_peer_is_gone() -> None:
    story = paired()
    story.stop("b")
    story.gateways["a"] = GATEWAYS[:1]
    for _ in range(20):
        assert story.renew("a", 1) == "ok"
        assert story.now - story.told["a"][-1].sent_ns < story.module.timing.lease_ns


def test_a_ping_says_yes_to_both_and_the_product_says_so() -> None:
    story = paired()
    story.run(SECOND_NS)
    story.link = False
    assert story.change("a", isr=("a",)) == "ok"
    assert story.change("b", term=2, holder="b", isr=("b",)) == "ok"
    assert "can be lost" in advisory("ping")
    assert "can be lost" in advisory("none")
    assert advisory("witness") == ""


def test_after_a_split_the_next_change_reaches_both_again() -> None:
    story = paired()
    story.run(SECOND_NS)
    story.link = False
    assert story.change("a", isr=("a",)) == "ok"
    assert story.change("b", term=2, holder="b", isr=("b",)) == "ok"
    story.link = True
    story.run(SECOND_NS)
    assert story.change("b", gen="beef") in {"ok", "held"}
    assert story.read("a") == "ok"
    assert story.registers[0] == story.registers[1]


@pytest.mark.parametrize("lone", [1, 2, 5])
def test_after_a_split_the_higher_term_prevails_however_many_changes_the_other_made(
    lone: int,
) -> None:
    story = paired()
    story.run(SECOND_NS)
    story.link = False
    for number in range(lone):
        assert story.change("a", isr=("a",), gen=f"{number}") == "ok"
    assert story.change("b", term=2, holder="b", isr=("b",)) == "ok"
    story.link = True
    story.run(SECOND_NS)
    before = story.registers[0]
    assert before is not None
    assert story.read("a") == "ok"
    story.run()
    assert story.read("a") == "ok"
    one, other = story.registers
    assert one is not None
    assert one == other
    assert (one.term, one.holder) == (2, "b")
    assert one.ver > before.ver  # A version never goes back, as the mirror demands.


def test_without_addresses_everything_is_granted_but_the_peers_part() -> None:
    story = paired(())
    story.stop("b")
    assert story.renew("a", 1) == "ok"
    request = story.start_change("a", term=2, holder="b")
    story.run()
    assert story.outcome("a", request) == ""
    assert story.change("a", isr=("a",)) == "ok"
    assert not any(isinstance(event, ev.ArbiterSilent) for event in story.told["a"])


def test_a_disk_that_fails_leaves_its_question_open_until_it_takes_the_register() -> None:
    story = paired()
    story.broken_disk = "a"
    request = story.start_change("a", isr=("a",))
    story.run(3 * SECOND_NS)
    assert story.outcome("a", request) == ""
    silent = [event for event in story.told["a"] if isinstance(event, ev.ArbiterSilent)]
    assert [event.reason for event in silent] == [
        "the register cannot be stored: Input/output error"
    ]
    assert not any(isinstance(event, ev.ArbiterHeard) for event in story.told["a"])
    assert story.renew("a", 1) == "ok"  # That needs no writing.
    story.broken_disk = ""
    story.run(2 * SECOND_NS)
    assert story.outcome("a", request) == "ok"
    assert isinstance(story.told["a"][-2], ev.ArbiterHeard)
    assert story.disk["a"][0] == story.nodes["a"].register


def test_a_copy_that_is_stored_too_late_is_replaced_by_what_the_peer_went_on_with() -> None:
    story = paired()
    story.broken_disk = "b"
    request = story.start_change("a", isr=("a",))
    story.run(3 * SECOND_NS)
    assert story.outcome("a", request) == "ok"  # Alone, by evidence.
    story.broken_disk = ""
    story.run(3 * SECOND_NS)
    assert story.read("b") == "ok"
    assert story.nodes["a"].register == story.nodes["b"].register


def test_what_relies_on_a_peer_that_is_gone_is_given_up_above_what_it_may_have_stored() -> None:
    story = paired()
    story.stop("b")
    before = story.nodes["a"].register
    assert before is not None
    request = story.start_change("a", term=2, holder="b")
    story.run()
    assert story.outcome("a", request) == ""  # It may still come.
    story.run(2 * SECOND_NS)
    assert story.outcome("a", request) == "conflict"
    assert story.nodes["a"].register == msgspec.structs.replace(before, ver=before.ver + 2)


def test_a_register_is_stored_again_only_when_it_is_known_what_became_of_it() -> None:
    story = paired()
    story.broken_disk = "a"
    story.start_change("a", isr=("a",))
    story.run(SECOND_NS // 2)
    arbiter = story.nodes["a"]
    before = arbiter.counter
    stores = 0
    for tenth in range(50):  # Nothing comes back of the next one.
        now = story.now + SECOND_NS + tenth * SECOND_NS // 10
        stores += sum(
            isinstance(effect, RegisterStore) for effect in arbiter.handle(ev.ArbiterTick(), now)
        )
    assert (stores, arbiter.counter) == (1, before + 1)


def test_an_administrator_forces_a_node_when_the_other_is_gone() -> None:
    story = paired()
    assert story.change("a", isr=("a",)) == "ok"
    story.stop("a")
    assert story.change("b", term=2, holder="b", isr=("b",)) == "refused"
    assert story.change("b", forced=True, term=2, holder="b", isr=("b",)) == "ok"


def test_strangers_are_not_heard() -> None:
    story = paired()
    before = story.registers
    poison = msgspec.structs.replace(FIRST, term=9, ver=9, holder="x", isr=("x",))
    news = ev.Received(Address("x", "db", "arbiter"), RegisterNews(poison))
    story.feed("a", news)
    story.run()
    assert story.registers == before


def test_who_asks_before_the_own_copy_is_known_is_answered_when_it_asks_again() -> None:
    story = paired()
    register, counter = story.disk["b"]
    assert register is not None
    node = PingArbiter("b", "a", "c1", story.module)
    newer = msgspec.structs.replace(register, ver=register.ver + 1)
    news = ev.Received(Address("a", "db", "arbiter"), RegisterNews(newer))
    assert node.handle(news, story.now) == [], "else what it stores is forgotten when it is loaded"
    node.handle(ev.RegisterLoaded("c1", "db", register, counter), story.now)
    node.handle(ev.Started(), story.now)
    stores = [e for e in node.handle(news, story.now) if isinstance(e, RegisterStore)]
    assert [store.counter for store in stores] == [counter + 1]
    answers = node.handle(ev.RegisterStored(counter + 1), story.now)
    assert [e.to.node for e in answers if isinstance(e, Send)] == ["a"]


@pytest.mark.parametrize("first", ["a", "b"])
@given(gap=st.integers(0, 12))
def test_of_two_promotions_at_the_same_time_one_is_granted(first: str, gap: int) -> None:
    story = paired()
    story.run(SECOND_NS)  # The lease is over.
    second = "b" if first == "a" else "a"
    one = story.start_change(first, term=2, holder=first)
    story.run(gap * MILLISECOND_NS)
    register = story.nodes[second].register
    assert register is not None
    other = story.start_change(second, term=register.term + 1, holder=second)
    story.run(SECOND_NS)
    assert sorted([story.outcome(first, one), story.outcome(second, other)]).count("ok") == 1
    assert story.registers[0] == story.registers[1]
