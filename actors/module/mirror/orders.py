"""What every part of the mirror uses: facts, moves, durable writes, questions to the arbiter."""

import msgspec
import xxhash

from mirrorfarm.actors.effects import Log, Send, Store
from mirrorfarm.actors.events import AskCas, AskRead, AskRenew
from mirrorfarm.actors.module.answers import explain, fact, tell
from mirrorfarm.actors.module.mirror.phases import LEADERS, MOVES, Phase
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.limits import GENERATION_HISTORY_MAX
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.messages import ANY_MESSAGE, Register

__all__ = (  # Three of them are those of every state machine.
    "ask_read",
    "ask_renew",
    "ask_swap",
    "become",
    "branch",
    "explain",
    "fact",
    "learn",
    "new_generation",
    "next_run",
    "remember",
    "send_peer",
    "send_plane",
    "store",
    "tell",
)


def become(s: State, phase: Phase, now: int, reason: str) -> None:
    """Move to `phase`; the only writer of the phase."""
    assert phase in MOVES[s.phase], f"{s.phase} -> {phase}"
    s.phase = phase
    s.since_ns = now
    s.rests = False
    s.yields_since_ns = 0
    explain(s, reason)
    s.out.append(Log("D", f"phase {phase.value}: {reason}"))


def send_peer(s: State, message: ANY_MESSAGE) -> None:
    """Send to the peer's side of the module."""
    s.out.append(Send(Address(s.settings.peer, s.module.name, MODULE_ACTOR), message))


def send_plane(s: State, message: ANY_MESSAGE) -> None:
    """Send to the replicator of this node."""
    s.out.append(Send(Address(s.settings.node, s.module.name, "replicator"), message))


def next_run(s: State) -> int:
    """Return a fresh number for an order whose result is awaited."""
    s.run += 1
    return s.run


def store(s: State, then: str, **changes: object) -> int:
    """Change the record and make it durable; `then` names what follows when it is."""
    received = s.module.replication.ack_mode == "received"
    if changes.get("was") in {"second", "idle"}:
        # A clean end flushes; a promotion does only when the data plane begins to lead.
        changes["from_memory"] = received and changes["was"] == "second"
    if "wanted" in changes:
        changes["wanted_boot"] = s.settings.os_boot
    s.record = msgspec.structs.replace(
        s.record,
        cluster=s.settings.cluster,
        module=s.module.name,
        node=s.settings.node,
        counter=s.record.counter + 1,
        inc=s.settings.incarnation,
        # The boot in which `was` became true: a crash is noticed however often we start again.
        os_boot=s.settings.os_boot if "was" in changes else s.record.os_boot,
        ack_mode=s.module.replication.ack_mode if "was" in changes else s.record.ack_mode,
        **changes,
    )
    if "was" in changes:
        s.os_crashed = False  # What the crash left is settled: a new role begins.
    s.stores[s.record.counter] = then
    if s.plane.leaves:
        s.plane.records = (*s.plane.records, s.record)
    else:
        s.out.append(Store(s.record))
    return s.record.counter


def new_generation(s: State) -> str:
    """Return a new identity of the data: 32 hex digits, never used before."""
    text = f"{s.settings.node} {s.settings.incarnation} {s.record.term} {s.record.counter}"
    return f"{xxhash.xxh3_128_intdigest(text.encode(), seed=s.settings.seed):032x}"


def branch(s: State) -> dict[str, object]:
    """Return the record's changes for going on alone: a new generation on top of the present."""
    history = (s.record.gen_cur, *s.record.gen_hist)[:GENERATION_HISTORY_MAX]
    return {
        "gen_cur": new_generation(s),
        "gen_base": s.record.gen_cur,
        "gen_hist": tuple(g for g in history if g),
        "lone": True,
    }


def ask_read(s: State, now: int) -> None:
    """Ask for the register, unless a question is under way."""
    a = s.arbiter
    if a.reading or a.swapping:
        return
    a.request += 1
    a.reading, a.read_ns = a.request, now
    tell(s, "arbiter", AskRead(a.request))


def ask_swap(s: State, purpose: str, register: Register, *, forced: bool = False) -> None:
    """Ask to replace the register; the driver repeats the question until it is answered (R3)."""
    a = s.arbiter
    assert not a.swapping, f"{purpose} while {a.purpose} is under way"
    a.request += 1
    a.swapping, a.purpose, a.wanted, a.forced = a.request, purpose, register, False
    expected = a.register.ver if a.register else 0
    tell(s, "arbiter", AskCas(a.request, expected, register, forced))


def ask_renew(s: State, now: int) -> None:
    """Renew the lease, at most once a quarter of it."""
    a = s.arbiter
    if now - a.renewed_ns < s.lease.lease_ns // 4:
        return
    a.request += 1
    a.renewed_ns = now
    tell(s, "arbiter", AskRenew(a.request, s.record.term, s.lease.lease_ns))


def learn(s: State, register: Register | None, request: int) -> bool:
    """Take over what the arbiter said, unless it went back (R15); return whether it is used.

    `request`: what it answers. A question from before something newer was learnt may be answered
    with what was true then.
    """
    a, record = s.arbiter, s.record
    a.known = True
    if register is None:
        if s.phase not in LEADERS:
            a.register = None  # A primary never forgets who may be promoted.
        if record.wit_instance and record.ver_seen:
            a.distrust = (
                "the arbiter knows no register although one existed: it was reset or restored"
            )
        return not a.distrust
    known, newest = a.register, record.ver_seen
    if known is not None and known.instance == register.instance:
        newest = max(newest, known.ver)  # Not every change is written down.
    if _counted_in(s, register):
        pass  # What this node knew of another register was about data that were replaced since.
    elif record.wit_instance and register.instance != record.wit_instance:
        a.distrust = "the arbiter's register is another one than before: it was created anew"
        return False
    elif register.ver < newest:
        if known is not None and request <= a.learnt:
            return register.ver >= record.ver_seen
        a.distrust = (
            f"the arbiter went back from version {newest} to {register.ver}: "
            "it was restored from an old copy"
        )
        return False
    a.distrust = ""
    if request > a.unclear:
        a.unclear = 0
    if known is None or register.ver >= known.ver or register.instance != known.instance:
        if register != known:
            a.learnt = a.request
        a.register = register
    return True


def _counted_in(s: State, register: Register) -> bool:
    """Return whether the primary whose copy ended here made this register, with this node in it."""
    target = s.target
    theirs = (register.holder, register.term) == (s.settings.peer, target.term)
    syncing = s.phase is Phase.SYNCING and target.step == "done"
    return syncing and theirs and register.ver >= target.ver and s.settings.node in register.isr


def remember(s: State) -> dict[str, object]:
    """Return the record's changes that note the last known register."""
    register = s.arbiter.register
    if register is None:
        return {}
    return {
        "isr_seen": register.isr,
        "ver_seen": register.ver,
        "wit_instance": register.instance,
    }
