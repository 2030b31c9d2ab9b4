"""Arbiters without a third machine: addresses to ping, or nothing at all. Advisory only.

Both nodes keep a copy of the register. A change goes to the peer's copy first; when the peer
does not answer, what leaves it behind (going on alone, promotion) is granted on evidence: at
least half of the addresses answer a ping; no addresses (kind `none`): always. What relies on
the peer (taking it in, handing over) waits for its copy. A ping says yes to both nodes, so two
holders are possible (classes A1 and A0 of docs/protocols/mirror.md): `advisory` says so.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import xxhash

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.rules import answers, judge
from mirrorfarm.actors.effects import ANY_EFFECT, Later, Log, PingProbe, RegisterStore, Send, Tell
from mirrorfarm.limits import CLOCK_RATE_ERROR_DIVISOR, MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.messages import (
    Register,
    RegisterAnswer,
    RegisterCas,
    RegisterNews,
    RegisterRead,
)

RETRY_NS_MAX = 250 * MILLISECOND_NS
SILENCE_NS_MIN = SECOND_NS
STORE_AGAIN_NS = SECOND_NS


@dataclass(slots=True)
class _Question:
    """What the mirror asked: a swap with its register, else a read, or a renewal of a term."""

    request: int
    first_ns: int
    last_ns: int
    cas: RegisterCas | None = None
    term: int = 0
    replied: bool = False  # The peer answered.
    outcome: str = ""  # The peer's objection.
    left_ns: int = 0
    reason: str = ""


@dataclass(slots=True)
class PingArbiter:
    """The actor `arbiter` of a module whose arbiter is `ping` or `none`."""

    node: str
    peer: str
    cluster: str
    module: Module
    register: Register | None = None
    counter: int = 0
    storing: Register | None = None
    ack_to: Address | None = None  # Who hears when `storing` is durable.
    begun: bool = False  # Before, the own copy is not known: the peer asks again.
    failure: str = ""  # Why `storing` could not be stored; it is tried again.
    failed_ns: int = 0  # When that was; 0: it is being tried again.
    question: _Question | None = None  # Read or swap.
    renewal: _Question | None = None
    lease_until_ns: int = 0
    probes: int = 0
    probe_ns: int = 0  # When the probe under way was sent; 0: none is.
    evidence_ns: int = 0  # Sending of the last probe that enough addresses answered.
    heard_ns: int = 0
    peer_ns: int = 0  # When its peer said something last.
    silent: bool = False
    out: list[ANY_EFFECT] = field(default_factory=list)

    def handle(self, event: Any, now: int) -> list[ANY_EFFECT]:
        """Apply one event; return what to do about it, in order."""
        self.out = []
        match event:
            case ev.RegisterLoaded(_, _, register, counter):
                self.register, self.counter = register, counter
            case ev.Started():
                self.begun = True
                self.heard_ns = now
                self._tick(now)
            case ev.ArbiterTick():
                self._tick(now)
            case ev.AskRead() | ev.AskCas() | ev.AskRenew():
                self._asked(event, now)
            case ev.PingAnswered(request, answered) if request == self.probes:
                self._pinged(len(answered), now)
            case ev.Received(source, message) if source.node == self.peer and self.begun:
                self._received(source, message, now)
            case ev.RegisterStored(counter) if counter == self.counter:
                self._stored(now)
            case ev.StoreFailed(counter, _, text) if counter == self.counter:
                self._store_failed(text, now)
            case _:
                pass
        self._settle(now)
        return self.out

    @property
    def retry_ns(self) -> int:
        """After how long the peer is asked again; half of the patience with it."""
        return min(self.module.timing.heartbeat_ns, RETRY_NS_MAX)

    @property
    def silence_ns(self) -> int:
        """After how long without a word somebody is taken to be away."""
        return max(self.module.timing.lease_ns // 2, SILENCE_NS_MIN)

    # --- the mirror asks -------------------------------------------------------------------

    def _asked(self, event: ev.AskRead | ev.AskCas | ev.AskRenew, now: int) -> None:
        match event:
            case ev.AskRead(request):
                self.question = _Question(request, now, now)
                self._ask_peer(self.question)
            case ev.AskCas(request, expected_ver, register, forced):
                wanted = self._named(register, now)
                cas = RegisterCas(request, expected_ver, wanted, forced)
                self.question = _Question(request, now, now, cas)
                self._ask_peer(self.question)
            case ev.AskRenew(request, term):
                self.renewal = _Question(request, now, now, term=term)
                self._ask_peer(self.renewal)
        self._probe(now)

    def _named(self, register: Register, now: int) -> Register:
        """Return the register with an instance; a new one gets its own."""
        if register.instance or self.register is not None:
            return register
        text = f"{self.cluster} {self.module.name} {self.node} {register.gen} {now}"
        instance = f"{xxhash.xxh3_128_intdigest(text.encode()):032x}"
        return msgspec.structs.replace(register, instance=instance)

    def _ask_peer(self, question: _Question) -> None:
        cas = question.cas
        if cas is None:
            self._send(RegisterRead(question.request))
            return
        verdict = judge(self.register, self.node, cas)
        if verdict.outcome == "ok" and verdict.register is not None and not self.storing:
            self._send(RegisterNews(verdict.register))

    def _send(self, message: RegisterRead | RegisterNews | RegisterAnswer) -> None:
        self.out.append(Send(Address(self.peer, self.module.name, "arbiter"), message))

    # --- time and evidence -----------------------------------------------------------------

    def _tick(self, now: int) -> None:
        for question in (self.question, self.renewal):
            if question and now - question.last_ns >= self.retry_ns:
                question.last_ns = now
                self._ask_peer(question)
        silence_ns = self.silence_ns
        if self.failed_ns and self.storing and now - self.failed_ns >= STORE_AGAIN_NS:
            self.failed_ns = 0  # Until it is known what became of it.
            self._store(self.storing, self.ack_to)
        waits = self.question or self.renewal
        if waits or now - self.evidence_ns >= silence_ns // 2:
            self._probe(now)
        if now - self.heard_ns >= silence_ns and not self.silent:
            self.silent = True
            reason = "too few of the ping addresses answer, and the peer does not"
            self.out.append(Tell(MODULE_ACTOR, ev.ArbiterSilent(self.heard_ns, reason)))
        self.out.append(Later(now + self.retry_ns // 2, ev.ArbiterTick()))

    def _probe(self, now: int) -> None:
        """Look for evidence, unless a probe is under way."""
        addresses = self.module.arbiter.addresses
        if not addresses:
            self.evidence_ns = now
            self._heard(now)
        elif not self.probe_ns:
            self.probes += 1
            self.probe_ns = now
            self.out.append(PingProbe(self.probes, addresses, self.retry_ns))

    def _pinged(self, count: int, now: int) -> None:
        sent_ns, self.probe_ns = self.probe_ns, 0
        if 2 * count >= len(self.module.arbiter.addresses):
            self.evidence_ns = sent_ns
            self._heard(now)

    def _heard(self, now: int) -> None:
        self.heard_ns = now
        if self.silent and not self.failure:
            self.silent = False
            self.out.append(Tell(MODULE_ACTOR, ev.ArbiterHeard()))

    # --- the peer's copy -------------------------------------------------------------------

    def _received(self, source: Address, message: Any, now: int) -> None:
        self._heard(now)
        self.peer_ns = now
        if self.storing:
            return  # It will ask again.
        match message:
            case RegisterRead(request):
                outcome = "ok" if self.register else "unset"
                self._send(RegisterAnswer(request, outcome, self.register))
            case RegisterNews(register):
                self._on_news(source, register, now)
            case RegisterAnswer():
                self._on_answer(message)
            case _:
                pass

    def _on_news(self, source: Address, news: Register, now: int) -> None:
        """The peer wants, or has made, this change: follow unless ours goes before it."""
        own = self.register
        left_ns = self.lease_until_ns - now
        if own == news:
            self._send(RegisterAnswer(0, "ok", own))
        elif own is not None and news.instance != own.instance:
            self._send(RegisterAnswer(0, "refused", own, 0, "the registers began differently"))
        elif own is not None and _hidden(own, news):
            self._store(_above(own, news), source)
        elif own is not None and not _newer(news, own):
            self._send(RegisterAnswer(0, "conflict", own))
        elif own and own.holder == self.node != news.holder and left_ns > 0:
            self._send(RegisterAnswer(0, "held", own, left_ns))
        elif self.node < self.peer and self._proposes(news):
            self._send(RegisterAnswer(0, "conflict", own))
        else:
            self._store(news, source)

    def _proposes(self, news: Register) -> bool:
        """Return whether our own question wants a change that is at least as new."""
        cas = self.question.cas if self.question else None
        return cas is not None and cas.expected_ver + 1 >= news.ver

    def _on_answer(self, answer: RegisterAnswer) -> None:
        known, own = answer.register, self.register
        for question in (self.question, self.renewal):
            if question and question.cas is None and question.request == answer.request:
                question.replied = True
        question = self.question
        if question and question.cas and not answer.request:
            question.replied = answer.outcome == "ok" and _grants(known, question.cas)
            if question.replied:
                return  # Adopted with the grant.
            question.outcome = "conflict" if answer.outcome == "ok" else answer.outcome
            question.left_ns, question.reason = answer.lease_left_ns, answer.reason
        if known is None or (own is not None and known.instance != own.instance):
            return
        if own is None or _newer(known, own):
            self._store(known, None)
        elif _hidden(own, known):
            self._store(_above(own, known), None)
        elif _hidden(known, own):
            self._send(RegisterNews(own))  # The peer then puts its own above ours.

    # --- the own copy ----------------------------------------------------------------------

    def _store(self, register: Register, ack_to: Address | None) -> None:
        self.counter += 1
        self.storing, self.ack_to = register, ack_to
        name, lease_ns = self.module.name, self.module.timing.lease_ns
        self.out.append(RegisterStore(self.cluster, name, register, self.counter, lease_ns))

    def _stored(self, now: int) -> None:
        if self.storing is None:
            return
        before, self.register, self.storing = self.register, self.storing, None
        if self.failure:
            self.failure = ""
            self.out.append(Log("E", "the register is stored"))
            self._heard(now)
        if self.register.holder != self.node:
            self.lease_until_ns = 0
        elif before is None or before.term != self.register.term:
            self.lease_until_ns = self._lease_end(now)
        if self.ack_to is not None:
            self.out.append(Send(self.ack_to, RegisterAnswer(0, "ok", self.register)))
            self.ack_to = None

    def _store_failed(self, text: str, now: int) -> None:
        """Nobody knows whether the change is on the disk: as if silent (R3), until it surely is."""
        if not self.failure:
            self.out.append(Log("C", f"the register cannot be stored: {text}; it is tried again"))
        self.failure, self.failed_ns = f"the register cannot be stored: {text}", now
        if not self.silent:
            self.silent = True
            self.out.append(Tell(MODULE_ACTOR, ev.ArbiterSilent(self.heard_ns, self.failure)))

    def _lease_end(self, now: int) -> int:
        lease_ns = self.module.timing.lease_ns
        return now + lease_ns + lease_ns // CLOCK_RATE_ERROR_DIVISOR

    # --- answering the mirror --------------------------------------------------------------

    def _settle(self, now: int) -> None:
        """Answer what can be answered now."""
        question, renewal = self.question, self.renewal
        if self.storing:
            if renewal and self.failure:
                self._settle_renewal(renewal, now)
            return
        if question and question.cas:
            self._settle_swap(question, question.cas, now)
        elif question and (question.replied or self._patience_over(question, now)):
            self.question = None
            self._tell(question, "ok" if self.register else "unset")
        if renewal and self.storing is None:
            self._settle_renewal(renewal, now)

    def _settle_swap(self, question: _Question, cas: RegisterCas, now: int) -> None:
        if self.register is not None and answers(self.register, cas):
            self.question = None
            self._tell(question, "ok")
            return
        verdict = judge(self.register, self.node, cas)
        if verdict.outcome != "ok" or verdict.register is None:
            self.question = None
            self._tell(question, verdict.outcome, verdict.reason)
        elif question.replied or (
            self._may_alone(verdict.register) and self._evident(question, now)
        ):
            self._store(verdict.register, None)
        elif question.outcome:
            self.question = None
            self._tell(question, question.outcome, question.reason, question.left_ns)
        elif self._peer_is_gone(question, now):
            # It may have stored the change: the present register is put above that, in conflict.
            register = self.register or verdict.register
            self._store(msgspec.structs.replace(register, ver=verdict.register.ver + 1), None)

    def _peer_is_gone(self, question: _Question, now: int) -> bool:
        """Return whether what relies on the peer is waited for in vain."""
        alone = now - max(self.peer_ns, question.first_ns) >= self.silence_ns
        fresh = now - self.evidence_ns <= self.module.timing.lease_ns
        return alone and fresh and self.register is not None

    def _settle_renewal(self, renewal: _Question, now: int) -> None:
        register = self.register
        if register is None:
            outcome = "unset"
        elif (register.holder, register.term) != (self.node, renewal.term):
            outcome = "conflict"
        elif renewal.replied or now - self.evidence_ns <= self.module.timing.lease_ns // 2:
            outcome = "ok"
            self.lease_until_ns = self._lease_end(now)
            if not renewal.replied:  # The lease counts from what it rests on.
                renewal.first_ns = min(renewal.first_ns, self.evidence_ns)
        else:
            return
        self.renewal = None
        self._tell(renewal, outcome)

    def _may_alone(self, wanted: Register) -> bool:
        """Return whether a change leaves the peer behind rather than relying on it."""
        isr = self.register.isr if self.register else (self.node,)
        grows = any(name not in isr for name in wanted.isr if name != self.node)
        return wanted.holder == self.node and not grows

    def _evident(self, question: _Question, now: int) -> bool:
        """Return whether the peer had its time to object, and the network is there."""
        fresh = now - self.evidence_ns <= self.module.timing.lease_ns
        asked = self.evidence_ns >= question.first_ns and not question.outcome
        return fresh and asked and self._patience_over(question, now)

    def _patience_over(self, question: _Question, now: int) -> bool:
        return now - question.first_ns >= 2 * self.retry_ns

    def _tell(self, question: _Question, outcome: str, reason: str = "", left_ns: int = 0) -> None:
        known = ev.RegisterKnown(
            question.request, outcome, self.register, question.first_ns, left_ns, reason
        )
        self.out.append(Tell(MODULE_ACTOR, known))


def _newer(one: Register, other: Register) -> bool:
    """Return whether `one` follows `other`: a change that was based on less is not adopted."""
    return one.ver > other.ver and one.term >= other.term


def _hidden(one: Register, other: Register) -> bool:
    """Return whether `one` has the higher term, but after a split not the higher version."""
    return one.term > other.term and one.ver <= other.ver


def _above(one: Register, other: Register) -> Register:
    """Return `one` with a version above that of `other`."""
    return msgspec.structs.replace(one, ver=other.ver + 1)


def _grants(register: Register | None, cas: RegisterCas) -> bool:
    return register is not None and answers(register, cas)
