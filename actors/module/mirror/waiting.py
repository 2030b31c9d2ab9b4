"""Whether to ask for the primary role, and what a node without it waits for.

Promotion is only by the arbiter, only from the in-sync set, into a new term (R8).
"""

import msgspec

from mirrorfarm.actors.events import VipProbe
from mirrorfarm.actors.module.mirror import alike, comparison, divergence, split
from mirrorfarm.actors.module.mirror.describe import forgetful, half_copied
from mirrorfarm.actors.module.mirror.following import give_up
from mirrorfarm.actors.module.mirror.missing import explain_arbiter, explain_what_is_held
from mirrorfarm.actors.module.mirror.orders import (
    ask_read,
    ask_swap,
    become,
    branch,
    explain,
    fact,
    new_generation,
    next_run,
    remember,
    store,
    tell,
)
from mirrorfarm.actors.module.mirror.phases import LEADERS, Phase, Session
from mirrorfarm.actors.module.mirror.preference import leaves_it_to_peer, peer_could_lead
from mirrorfarm.actors.module.mirror.state import Leading, State, Target
from mirrorfarm.limits import GENERATION_HISTORY_MAX, SECOND_NS
from mirrorfarm.transport.messages import Register

READ_AGAIN_NS = SECOND_NS
PROBE_AGAIN_NS = 5 * SECOND_NS


def poll(s: State, now: int) -> None:
    """Look at what is known; wait with a reason, or ask."""
    if s.phase in LEADERS and s.leading.lost and not s.reason:
        explain_what_is_held(s)
    if s.steps or s.step:
        return
    if s.phase is Phase.WAITING:
        _consider(s, now)
        if s.phase is Phase.WAITING and not s.reason:
            explain_arbiter(s)  # What it said before decides nothing any more.
    elif s.phase is Phase.ASKING:
        explain_arbiter(s)
    elif s.phase is Phase.FOLLOWING and (s.peer.silent or s.peer.left or _peer_gave_up(s)):
        if s.arbiter.distrust:
            give_up(s, now)  # As one that waits, it asks again once a second, and says why.
        elif s.self_in_isr and s.record.cons and (s.module.failover or s.peer.left):
            _ask_when_free(s, now)


def _peer_gave_up(s: State) -> bool:
    return s.peer.about.role in {"STOP", "WAIT"} and s.peer.about.phase != "leaving"


def _consider(s: State, now: int) -> None:
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    if s.failed:
        explain(
            s,
            f"the data of this node cannot be trusted: {s.failed}",
            "the disk is repaired and the module is started again",
            f"mirrorfarm -H {n} stopstart -m {m}",
        )
        return
    about = s.peer.about
    leads = not s.peer.silent and about.role in {"PRIM", "ALONE"}
    if leads and (about.term >= s.record.term or about.refuses):
        _wait_for_offer(s)
        return
    a = s.arbiter
    due = now - a.read_ns > READ_AGAIN_NS
    if (not a.known and (due or not a.refused)) or (due and not a.reading):
        ask_read(s, now)
    if not a.known:
        explain_arbiter(s)
        return
    if a.distrust:
        _explain_distrust(s, leads=leads)
        if s.force == "primforce":
            _trust_anew(s, now)
        return
    if a.register is None or s.force == "primforce":
        _first_or_forced(s, now)
        return
    if split.waits(s, now):
        return
    _from_register(s, a.register, now, p)


def _explain_distrust(s: State, *, leads: bool) -> None:
    """Say why the arbiter is not used; `leads`: the peer is primary, in a term of the past."""
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    decides = "an administrator decides which node has the newest data and forces it"
    order = f"mirrorfarm -H {n} primforce -m {m}"
    if leads:
        decides = f"an administrator discards this node's data, or forces it if {p} has older ones"
        discard = f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} second fullsync -m {m}"
        order = f"{discard}   (or: {order})"
    explain(
        s,
        f"{s.arbiter.distrust}; it is not used, because it could name the wrong node",
        decides,
        order,
    )


def _trust_anew(s: State, now: int) -> None:
    """An administrator overrides what this node remembers of the arbiter (R14, R15)."""
    fact(s, now, f"by primforce the arbiter is used again, although {s.arbiter.distrust}", "C")
    store(s, "", wit_instance="", ver_seen=0)
    s.arbiter.distrust, s.arbiter.register, s.arbiter.known = "", None, False
    explain(s, "")
    ask_read(s, now)


def _wait_for_offer(s: State) -> None:
    why = s.peer.about.refuses
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    if other := alike.difference(s, s.peer.about.directories):
        explain(
            s,
            f"{p} is primary, but {other}",
            "the replicated directories are made the same on both nodes, in the same order",
            f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} module config {m}",
        )
    elif why:
        explain(
            s,
            f"{p} is primary, but {why}",
            "an administrator discards this node's data, which are kept until then",
            f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} second fullsync -m {m}",
        )
    else:
        explain(s, "")


def _first_or_forced(s: State, now: int) -> None:
    n, m = s.settings.node, s.module.name
    if s.force in {"prim", "primforce"}:
        _force(s, now)
        return
    explain(
        s,
        "neither node is known to have the current data (first start)",
        "an administrator names the node with the good data",
        f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} prim -m {m}",
    )


def _force(s: State, now: int) -> None:
    """An administrator decided that this node's data are the current ones (R14)."""
    a, register = s.arbiter, s.arbiter.register
    explain(s, "")
    if a.swapping or now < max(s.promise_until_ns, a.retry_ns):
        return
    if s.peer.unheard:
        return  # It may lead, and would have the order refused. `describe.explanation` says so.
    node = s.settings.node
    term = max(s.record.term, s.peer.about.term) + 1  # Terms never go back, on either node.
    if register is not None:
        term = max(register.term + 1, term)
    if not divergence.written_down(s, s.force, term):
        return
    if register is None:
        purpose = "create"
        wanted = Register(term, 1, node, (node,), s.record.gen_cur or new_generation(s), "")
    else:
        purpose = "promote"
        gen = s.record.gen_cur or register.gen  # That of the data that count from now on.
        wanted = Register(term, register.ver + 1, node, (node,), gen, register.instance)
    ask_swap(s, purpose, wanted, forced=register is not None)
    a.forced, a.forced_by = True, s.force
    become(s, Phase.ASKING, now, "")


def _from_register(s: State, register: Register, now: int, p: str) -> None:
    n, m = s.settings.node, s.module.name
    if not s.self_in_isr:
        _outside(s, register, now)
        return
    if not s.record.cons:
        if s.force == "prim" and not half_copied(s):
            _force(s, now)
            return
        theirs_too = not s.peer.silent and not s.peer.about.cons
        _explain_data(s, alone=p not in register.isr or theirs_too)
        return
    if forgetful(s):
        about = s.peer.about
        theirs_too = not s.peer.silent and (about.forgetful or not about.cons)
        _explain_memory(s, only=p not in register.isr or theirs_too)
        return
    if s.force == "second":
        explain(s, f"started as secondary, and {p} is not primary", f"{p} becomes primary")
        return
    if not s.module.failover and register.holder != n and s.force != "prim":
        explain(
            s,
            f"failover is off, and {register.holder} was the last primary",
            f"{register.holder} returns",
            f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} prim -m {m}",
        )
        return
    if leaves_it_to_peer(s, register, now):
        return
    if _addresses_free(s, now):
        explain(s, "")
        _ask_when_free(s, now)


def _explain_data(s: State, *, alone: bool) -> None:
    """Say that the data here cannot be trusted; `alone`: the peer's are not current either."""
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    half = half_copied(s)
    why = (
        "a resynchronisation of this node did not end: its files may be half copied"
        if half
        else "this node has no record of its data: its state directory is new or was deleted"
    )
    if alone:
        verb = "primforce" if half else "prim"
        explain(
            s,
            f"{why}; the data of {p} are not current either",
            "an administrator names the node with the good data",
            f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} {verb} -m {m}",
        )
        return
    change = f"{p} becomes primary and resynchronises this node"
    explain(s, why, change, f"mirrorfarm -H {p} start -m {m}")


def _explain_memory(s: State, *, only: bool) -> None:
    """Say that this copy may lack what it confirmed (R12); `only`: no other one counts."""
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    reason = "this node crashed while it acknowledged from memory: it may lack the last writes"
    if only:
        change = "an administrator accepts the loss of these writes: no other data count"
        explain(
            s, reason, change, f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} primforce -m {m}"
        )
    else:
        explain(s, reason, f"{p} becomes primary", f"mirrorfarm -H {p} start -m {m}")


def _outside(s: State, register: Register, now: int) -> None:
    """The register does not count this node in: only an administrator makes it primary."""
    n, p, m = s.settings.node, s.settings.peer, s.module.name
    if s.force == "prim" and peer_could_lead(s):
        explain(
            s,
            f"{p} has newer data than this node and is starting with them",
            f"{p} becomes primary and resynchronises this node",
            f"mirrorfarm -H {p} stop -m {m}   (only to give up its newer writes)",
        )
        return
    if s.force == "prim":
        _force(s, now)
        return
    verb = "primforce" if half_copied(s) else "prim"  # Another order would be refused.
    explain(
        s,
        f"the data of this node may not be up to date: the newest are on "
        f"{', '.join(register.isr)} (term {register.term})",
        f"{p} becomes primary and resynchronises this node",
        f"mirrorfarm -H {p} start -m {m}   (or, giving up its newer writes: "
        f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} {verb} -m {m})",
    )


def _addresses_free(s: State, now: int) -> bool:
    """Return whether nobody else uses the virtual addresses; ask the network if unknown."""
    if not s.module.vips:
        return True
    if s.probing:
        return False
    if s.probed_ns and (not s.conflicts or now - s.probed_ns < PROBE_AGAIN_NS):
        if s.conflicts:
            explain(
                s,
                f"a virtual address is in use by somebody else: {', '.join(s.conflicts)}",
                "the other user of the address goes away",
                f"mirrorfarm -H {s.settings.node} state -v -m {s.module.name}",
            )
        return not s.conflicts
    s.probing = next_run(s)
    tell(s, "vip", VipProbe(s.probing))
    return False


def _ask_when_free(s: State, now: int) -> None:
    """Ask for the primary role as soon as this node's own promise is over."""
    a, register = s.arbiter, s.arbiter.register
    assert register is not None
    if a.swapping or now < max(s.promise_until_ns, a.retry_ns):
        return
    if register.term < s.record.term:  # An old answer, or an arbiter that went back.
        explain(s, f"the arbiter knows of term {register.term} only, not of {s.record.term}")
        return
    wanted = msgspec.structs.replace(
        register, term=register.term + 1, ver=register.ver + 1, holder=s.settings.node
    )
    ask_swap(s, "promote", wanted)
    become(s, Phase.ASKING, now, "")


def note_late_force(s: State, register: Register, now: int) -> None:
    """The register follows a decision that was taken back meanwhile: audit it nevertheless (R14).

    The role is not taken for that; but the peer is out of the set from now on.
    """
    back = ", taken back before its grant was heard"
    store(s, "", forced=divergence.outcome(s, s.arbiter.forced_by, register.term, back))
    s.arbiter.forced = False
    fact(s, now, f"{s.record.forced[0]}: the register names {s.settings.node} nevertheless", "C")


def note_force(s: State, register: Register, now: int) -> None:
    """The register follows an administrator's decision: audit it, on a generation of its own."""
    audited = divergence.outcome(s, s.arbiter.forced_by, register.term)
    changes: dict[str, object] = branch(s)
    if not s.record.gen_cur and register.ver == 1:
        changes = {"gen_cur": register.gen}  # The first of all: nobody else has data.
    elif not s.record.gen_cur:  # Its record is lost: these may not be the data that had that name.
        changes |= {"gen_hist": (register.gen,)}
    if not s.peer.silent and comparison.diverged(s.record, s.peer.about):
        changes["given_up"] = divergence.given_up(s)
    store(s, "", cons=True, was="prim", forced=audited, **changes)
    s.leading.full_given = s.force == "primforce"
    fact(s, now, audited[0], "C")


def granted(s: State, register: Register, now: int, *, exact: bool) -> None:
    """The arbiter named this node in a new term: durable first, then everything else."""
    s.leading = Leading(
        exact=exact,
        traced=exact,
        full_given=s.leading.full_given,
        since_ns=now,
        session=Session.NONE,
    )
    s.target = Target()  # What was followed before is over.
    # Lone writes were made since the peer left exactly if the generation was branched since, and
    # not offered to be shared again.
    since = s.record.lone and register.gen == s.record.gen_base != ""
    alone = since and register.isr == (s.settings.node,)
    s.lone = alone
    s.plane_off = ""
    s.plane.held = False
    s.plane.leaves = s.has_plane and s.plane.wish.role == "follow" and s.plane.wish.sid != 0
    s.force, s.split = "", ""
    s.stopping_for = ""
    s.promises = False
    become(s, Phase.TAKING, now, "")
    fact(s, now, f"the arbiter named {s.settings.node} primary in term {register.term}")
    changes: dict[str, object] = {"was": "alone" if alone else "prim", "promises": False}
    changes |= {**_ancestor(s, register), **remember(s)}
    store(s, "granted", term=register.term, sid=0, **changes)


def _ancestor(s: State, register: Register) -> dict[str, object]:
    """Return the record's change for a member of the set: it has the data of the register."""
    known = (s.record.gen_cur, s.record.gen_base, *s.record.gen_hist)
    if s.arbiter.forced or not register.gen or register.gen in known:
        return {}
    return {"gen_hist": (register.gen, *s.record.gen_hist)[:GENERATION_HISTORY_MAX]}
