"""The module's side of the witness: ask, repeat until answered, notice silence.

Silence is never taken for yes (R3): the same request with the same number goes out again and
again, and only its own answer ends it. Requests that the mirror gave up may still have
happened; their late answers are dropped.
"""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.actors import events as ev
from mirrorfarm.actors import sites
from mirrorfarm.actors.arbiter.rules import answers
from mirrorfarm.actors.effects import ANY_EFFECT, Later, Send, Tell
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.messages import (
    RegisterAnswer,
    RegisterCas,
    RegisterRead,
    RegisterRenew,
)

RETRY_NS_MAX = 250 * MILLISECOND_NS
SILENCE_NS_MIN = SECOND_NS
RENEWALS_MAX = 4  # Under way at once: a long way to the witness must not starve all of them.


@dataclass(slots=True)
class _Request:
    """A request without an answer."""

    message: RegisterRead | RegisterCas | RegisterRenew
    first_ns: int  # When it was sent first,
    last_ns: int  # and last.


@dataclass(slots=True)
class WitnessClient:
    """The actor `arbiter` of a module whose arbiter is a witness."""

    node: str
    witness: str
    module: Module
    question: _Request | None = None  # A read or a swap; at most one.
    renewals: list[_Request] = field(default_factory=list)  # Oldest first.
    probes: int = 0  # Own reads, numbered below zero, which only find out who answers.
    sent_ns: int = 0  # Last sending of anything.
    unanswered_ns: int = 0  # First sending since the last answer; 0: none.
    silent: bool = False
    wake_ns: int = 0  # When the next timer is due; 0: none.
    out: list[ANY_EFFECT] = field(default_factory=list)

    def handle(self, event: Any, now: int) -> list[ANY_EFFECT]:
        """Apply one event; return what to do about it, in order."""
        self.out = []
        match event:
            case ev.ArbiterTick():
                if now >= self.wake_ns:
                    self.wake_ns = 0
                    self._tick(now)
            case ev.Received(source, RegisterAnswer() as answer) if source.node == self.witness:
                if not sites.trick("arbiter.forget_answer"):  # As if it had got lost.
                    self._answered(answer)
            case ev.AskRead(request):
                self._ask(RegisterRead(request), now)
            case ev.AskCas(request, expected_ver, register, forced):
                lease_ns = self.module.timing.lease_ns
                self._ask(RegisterCas(request, expected_ver, register, forced, lease_ns), now)
            case ev.AskRenew(request, term, lease_ns):
                self._renew(RegisterRenew(request, term, lease_ns), now)
            case ev.Started():
                self._probe(now)
            case _:
                pass
        self._wake(now)
        return self.out

    @property
    def retry_ns(self) -> int:
        """After how long an unanswered request is sent again."""
        return min(self.module.timing.heartbeat_ns, RETRY_NS_MAX)

    @property
    def silence_ns(self) -> int:
        """After how long without an answer the mirror is told: two renewals, or a second."""
        return max(self.module.timing.lease_ns // 2, SILENCE_NS_MIN)

    @property
    def probe_ns(self) -> int:
        """After how long without a question one is asked only to find out who answers.

        Longer than a renewal's period (a quarter of the lease): a primary that renews needs none.
        """
        return self.silence_ns * 3 // 4

    def _ask(self, message: RegisterRead | RegisterCas, now: int) -> None:
        """Send a question; the one before, if still unanswered, is given up."""
        self.question = _Request(message, now, now)
        self._send(message, now)

    def _renew(self, message: RegisterRenew, now: int) -> None:
        del self.renewals[: -RENEWALS_MAX + 1]
        self.renewals.append(_Request(message, now, now))
        self._send(message, now)

    def _probe(self, now: int) -> None:
        self.probes += 1
        self._send(RegisterRead(-self.probes), now)

    def _send(self, message: RegisterRead | RegisterCas | RegisterRenew, now: int) -> None:
        self.out.append(Send(Address(self.witness, self.module.name, "register"), message))
        self.sent_ns = now
        self.unanswered_ns = self.unanswered_ns or now

    def _wake(self, now: int) -> None:
        """Have a timer at the next time that anything can be due; a later one is not needed."""
        due = self.sent_ns + self.probe_ns
        if self.question is not None or self.renewals:
            retry_ns = self.retry_ns
            if self.question is not None:
                due = min(due, self.question.last_ns + retry_ns)
            if self.renewals:
                due = min(due, self.renewals[-1].last_ns + retry_ns)
        if self.unanswered_ns and not self.silent:
            due = min(due, self.unanswered_ns + self.silence_ns)
        due = max(due, now + 1)
        if not self.wake_ns or due < self.wake_ns:
            self.wake_ns = due
            self.out.append(Later(due, ev.ArbiterTick()))

    def _tick(self, now: int) -> None:
        # A lease counts from the first sending: when it would be over, who stopped meanwhile
        # must not hold up the peer by it.
        lease_ns = self.module.timing.lease_ns
        self.renewals = [one for one in self.renewals if now - one.first_ns < lease_ns]
        # Of the renewals only the newest is repeated: an older one would give less.
        for request in (self.question, *self.renewals[-1:]):
            if request and now - request.last_ns >= self.retry_ns:
                request.last_ns = now
                self._send(request.message, now)
        if now - self.sent_ns >= self.probe_ns:
            self._probe(now)
        quiet_ns = now - self.unanswered_ns if self.unanswered_ns else 0
        if quiet_ns >= self.silence_ns and not self.silent:
            self.silent = True
            reason = f"the witness {self.witness} does not answer"
            self.out.append(Tell(MODULE_ACTOR, ev.ArbiterSilent(self.unanswered_ns, reason)))

    def _answered(self, answer: RegisterAnswer) -> None:
        self.unanswered_ns = 0
        if self.silent:
            self.silent = False
            self.out.append(Tell(MODULE_ACTOR, ev.ArbiterHeard()))
        question = self.question
        if question and question.message.request == answer.request:
            if _fits(question.message, answer):
                self.question = None
                swap = isinstance(question.message, RegisterCas)
                self._tell(answer, question.first_ns if swap else question.last_ns)
            return
        for index, renewal in enumerate(self.renewals):
            if renewal.message.request == answer.request and _fits(renewal.message, answer):
                del self.renewals[: index + 1]
                # From the first sending, since nobody knows which of them is answered.
                self._tell(answer, renewal.first_ns)
                return

    def _tell(self, answer: RegisterAnswer, sent_ns: int) -> None:
        known = ev.RegisterKnown(
            answer.request,
            answer.outcome,
            answer.register,
            sent_ns,
            answer.lease_left_ns,
            answer.reason,
        )
        self.out.append(Tell(MODULE_ACTOR, known))


def _fits(message: RegisterRead | RegisterCas | RegisterRenew, answer: RegisterAnswer) -> bool:
    """Return whether a yes is one to this request: numbers begin anew with each process."""
    if answer.outcome != "ok":
        return True
    register = answer.register
    if register is None:
        return False
    match message:
        case RegisterCas():
            return answers(register, message)
        case RegisterRenew(_, term):
            return register.term == term
        case RegisterRead():
            return True
