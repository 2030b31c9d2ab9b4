"""The witness: keeps, for each module of a cluster, the register that says who may write.

At most one lease of a register runs at a time, and its holder changes only when none runs, or
by the holder's own hand (S5, S9 and X1 rest on it; tests/actors/arbiter checks them). A change
is answered only when it is durable. After a start every lease counts as just renewed.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import xxhash

from mirrorfarm.actors import events as ev
from mirrorfarm.actors import sites
from mirrorfarm.actors.arbiter.rules import answers, judge
from mirrorfarm.actors.effects import ANY_EFFECT, Log, RegisterStore, Send
from mirrorfarm.limits import CLOCK_RATE_ERROR_DIVISOR, MODULES_MAX, SECOND_NS
from mirrorfarm.transport.messages import (
    Register,
    RegisterAnswer,
    RegisterCas,
    RegisterRead,
    RegisterRenew,
)

LEASE_NS_MAX = 600 * SECOND_NS
WAITING_MAX = 8  # Requests that wait for the disk, per module; others are repeated anyway.


class RegisterRecord(msgspec.Struct, frozen=True, array_like=True):
    """What an arbiter's disk holds of one module."""

    cluster: str
    module: str
    register: Register
    lease_ns: int  # The longest lease that may run when this is read back.
    asker: str  # Node whose request made the register so,
    request: int  # and the number of that request: its repetition is answered alike.


@dataclass(slots=True)
class _Pending:
    """A change that is on its way to the disk."""

    counter: int
    asked: ev.Received
    register: Register
    lease_ns: int  # As stored.
    asker: str
    request: int
    new_lease_ns: int  # Lease that runs from the moment it is durable; 0: as before.


@dataclass(slots=True)
class _Entry:
    """One module."""

    register: Register | None = None
    stored_lease_ns: int = 0
    asker: str = ""
    request: int = 0
    lease_ns: int = 0  # Last one asked for.
    lease_until_ns: int = 0
    pending: _Pending | None = None
    waiting: list[ev.Received] = field(default_factory=list)
    failure: str = ""


@dataclass(slots=True)
class WitnessCore:
    """The registers of one cluster. `seed` is secret randomness for instances of registers."""

    cluster: str = ""
    seed: int = 0
    entries: dict[str, _Entry] = field(default_factory=dict)
    counter: int = 0
    out: list[ANY_EFFECT] = field(default_factory=list)

    def handle(self, event: Any, now: int) -> list[ANY_EFFECT]:
        """Apply one event; return what to do about it, in order."""
        self.out = []
        match event:
            case ev.RegisterLoaded():
                self._load(event, now)
            case ev.Received():
                self._receive(event, now)
            case ev.RegisterStored(counter):
                self._stored(counter, now)
            case ev.StoreFailed(counter, _, text):
                self._store_failed(counter, text, now)
            case _:
                pass
        return self.out

    def _load(self, event: ev.RegisterLoaded, now: int) -> None:
        """Take over what the disk has; whoever held a lease is thought to hold it still."""
        self.counter = max(self.counter, event.counter)
        entry = _Entry(event.register, event.lease_ns, event.asker, event.request, event.lease_ns)
        entry.lease_until_ns = _end(now, event.lease_ns)
        self.entries[event.module] = entry

    # --- requests --------------------------------------------------------------------------

    def _receive(self, asked: ev.Received, now: int) -> None:
        message = asked.message
        if not isinstance(message, RegisterRead | RegisterCas | RegisterRenew):
            return
        module = asked.source.module
        entry = self.entries.get(module, _Entry())
        if entry.failure:
            self._refuse_after_failure(entry, asked)
        elif entry.pending:
            # Nothing is said of a register of which it is not known whether it changes.
            pending = entry.pending.asked
            known = any(_same(asked, other) for other in (pending, *entry.waiting))
            known = known or sites.trick("witness.read_again")  # The asker repeats it.
            if not known and len(entry.waiting) < WAITING_MAX:
                entry.waiting.append(asked)
        else:
            match message:
                case RegisterRead(request):
                    self._answer(asked, request, "ok" if entry.register else "unset", entry)
                case RegisterRenew():
                    self._renew(entry, asked, message, now)
                case RegisterCas():
                    self._swap(entry, asked, message, now)

    def _renew(self, entry: _Entry, asked: ev.Received, renew: RegisterRenew, now: int) -> None:
        register, lease_ns = entry.register, renew.lease_ns
        if register is None:
            self._answer(asked, renew.request, "unset", entry)
        elif (register.holder, register.term) != (asked.source.node, renew.term):
            reason = f"{register.holder} holds term {register.term}"
            self._answer(asked, renew.request, "conflict", entry, reason)
        elif not 0 < lease_ns <= LEASE_NS_MAX:
            self._answer(asked, renew.request, "refused", entry, "the lease is out of range")
        elif lease_ns > entry.stored_lease_ns:
            # The disk must know of a longer lease before it is granted.
            self._store(entry, asked, register, lease_ns, new_lease_ns=lease_ns)
        else:
            entry.lease_ns = lease_ns
            entry.lease_until_ns = max(entry.lease_until_ns, _end(now, lease_ns))
            self._answer(asked, renew.request, "ok", entry)

    def _swap(self, entry: _Entry, asked: ev.Received, cas: RegisterCas, now: int) -> None:
        sender, register = asked.source.node, entry.register
        if (entry.asker, entry.request) == (sender, cas.request) and register is not None:
            if answers(register, cas):  # Our answer was lost: the same question again.
                self._answer(asked, cas.request, "ok", entry)
                return
        if register is None and len(self.entries) >= MODULES_MAX:
            reason = f"the witness keeps {MODULES_MAX} registers at most"
            self._answer(asked, cas.request, "refused", entry, reason)
            return
        if not 0 <= cas.lease_ns <= LEASE_NS_MAX:
            self._answer(asked, cas.request, "refused", entry, "the lease is out of range")
            return
        verdict = judge(register, sender, cas)
        if verdict.outcome != "ok" or verdict.register is None:
            self._answer(asked, cas.request, verdict.outcome, entry, verdict.reason)
            return
        new_term = register is None or verdict.register.term != register.term
        left_ns = entry.lease_until_ns - now
        if register is not None and new_term and sender != register.holder and left_ns > 0:
            reason = f"the lease of {register.holder} still runs"
            self._answer(asked, cas.request, "held", entry, reason, lease_left_ns=left_ns)
            return
        last_ns = cas.lease_ns or entry.lease_ns
        longest_ns = max(last_ns, entry.lease_ns, min(left_ns, LEASE_NS_MAX))
        wanted = self._named(verdict.register, asked, now)
        new_lease_ns = last_ns if new_term else 0
        self._store(
            entry, asked, wanted, longest_ns, new_lease_ns=new_lease_ns, request=cas.request
        )

    def _named(self, register: Register, asked: ev.Received, now: int) -> Register:
        """Return the register with an instance: a new one gets a name never used before."""
        if register.instance:
            return register
        text = f"{self.cluster} {asked.source} {register.gen} {self.counter} {now}"
        instance = f"{xxhash.xxh3_128_intdigest(text.encode(), seed=self.seed):032x}"
        return msgspec.structs.replace(register, instance=instance)

    # --- storing ---------------------------------------------------------------------------

    def _store(
        self,
        entry: _Entry,
        asked: ev.Received,
        register: Register,
        lease_ns: int,
        *,
        new_lease_ns: int,
        request: int | None = None,
    ) -> None:
        """Order a writing; `request` None: a renewal, which leaves the last asker as it is."""
        self.counter += 1
        asker = asked.source.node
        if request is None:
            asker, request = entry.asker, entry.request
        module = asked.source.module
        self.entries[module] = entry
        entry.pending = _Pending(
            self.counter, asked, register, lease_ns, asker, request, new_lease_ns
        )
        self.out.append(
            RegisterStore(self.cluster, module, register, self.counter, lease_ns, asker, request)
        )

    def _stored(self, counter: int, now: int) -> None:
        module, entry = self._writing(counter)
        if entry is None or entry.pending is None:
            return
        done, entry.pending = entry.pending, None
        before = entry.register
        entry.register, entry.stored_lease_ns = done.register, done.lease_ns
        entry.asker, entry.request = done.asker, done.request
        if done.new_lease_ns:
            entry.lease_ns = done.new_lease_ns
            # In a new term too: the holder's earlier process may still act on the longer one.
            same = before is not None and before.holder == done.register.holder
            until_ns = _end(now, done.new_lease_ns)
            entry.lease_until_ns = max(entry.lease_until_ns, until_ns) if same else until_ns
        if before != done.register:
            self.out.append(Log("E", f"{module}: {_words(done.register)}"))
        message = done.asked.message
        assert isinstance(message, RegisterCas | RegisterRenew)
        self._answer(done.asked, message.request, "ok", entry)
        waiting, entry.waiting = entry.waiting, []
        for asked in waiting:
            self._receive(asked, now)

    def _store_failed(self, counter: int, text: str, now: int) -> None:
        """Keep silent about the change, which may yet be found after a restart; refuse the rest."""
        module, entry = self._writing(counter)
        if entry is None:
            return
        entry.failure = f"the witness could not store the register: {text}"
        self.out.append(Log("C", f"{module}: {entry.failure}; it is refused until a restart"))
        waiting, entry.waiting = entry.waiting, []
        for asked in waiting:
            self._receive(asked, now)

    def _refuse_after_failure(self, entry: _Entry, asked: ev.Received) -> None:
        if entry.pending and _same(asked, entry.pending.asked):
            return
        assert isinstance(asked.message, RegisterRead | RegisterCas | RegisterRenew)
        answer = RegisterAnswer(asked.message.request, "refused", reason=entry.failure)
        self.out.append(Send(asked.source, answer))

    def _writing(self, counter: int) -> tuple[str, _Entry | None]:
        """Return the module whose writing has this counter."""
        for module, entry in self.entries.items():
            if entry.pending and entry.pending.counter == counter:
                return module, entry
        return "", None

    def _answer(
        self,
        asked: ev.Received,
        request: int,
        outcome: str,
        entry: _Entry,
        reason: str = "",
        *,
        lease_left_ns: int = 0,
    ) -> None:
        answer = RegisterAnswer(request, outcome, entry.register, lease_left_ns, reason)
        self.out.append(Send(asked.source, answer))


def _same(one: ev.Received, other: ev.Received) -> bool:
    """Return whether both are sendings of the same request."""
    return (one.source, one.message) == (other.source, other.message)


def _end(now: int, lease_ns: int) -> int:
    """Return until when a lease granted now binds the witness, whose clock may be the faster."""
    return now + lease_ns + lease_ns // CLOCK_RATE_ERROR_DIVISOR


def _words(register: Register) -> str:
    """Return a register as a log line says it."""
    members = ", ".join(register.isr)
    return f"term {register.term}, version {register.ver}: {register.holder} of {{{members}}}"
