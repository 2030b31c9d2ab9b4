"""What a mirror says of itself: its role, its announcement, its state for `state` and `why`."""

from typing import Any

import msgspec

from mirrorfarm.actors.arbiter.advisory import advisory
from mirrorfarm.actors.module import procedure
from mirrorfarm.actors.module.mirror import alike, divergence
from mirrorfarm.actors.module.mirror.missing import keeps_out
from mirrorfarm.actors.module.mirror.phases import FOLLOWERS, LEADERS, Phase, Session
from mirrorfarm.actors.module.mirror.state import Basis, State
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.transport.messages import Announcement

AWAITED = procedure.AWAITED | {
    "plane": (
        "its replicator has not said yet that nothing of it is left mounted",
        "the replicator runs and answers",
    ),
}
ENDING = (Phase.RESETTING, Phase.LEAVING, Phase.DEMOTING, Phase.STOPPING)
ARBITER_CLASS = {"witness": "A3", "ping": "A1", "none": "A0"}


def role_of(s: State) -> str:
    """Return STOP, WAIT, ALONE, PRIM or SECOND."""
    if s.phase in LEADERS:
        return "PRIM" if s.peer_in_isr else "ALONE"
    if s.phase in FOLLOWERS:
        return "SECOND"
    return "STOP" if s.phase in (Phase.STOPPED, Phase.RESETTING) else "WAIT"


def frozen(s: State) -> bool:
    """Return whether acknowledgements are held back although the role is taken."""
    if s.plane.wish.gate != "frozen" or not s.has_plane or s.phase not in LEADERS:
        return False
    return s.peer_in_isr or s.lone or s.plane.held


def status_of(s: State) -> str:
    """Return NotReady, Transient or Ready."""
    if s.phase is Phase.LEADING:
        if s.leading.lease_closed:
            return "NotReady"
        return "Transient" if frozen(s) or s.split else "Ready"
    if s.phase is Phase.FOLLOWING:
        return "Ready"
    if s.phase is Phase.STOPPED:
        return "NotReady"
    if s.phase in (Phase.WAITING, Phase.ASKING):
        return "Transient" if s.reason == "" else "NotReady"
    return "Transient"


def forgetful(s: State) -> bool:
    """Return whether this copy may lack what it confirmed from memory before a crash (R12)."""
    return s.os_crashed and s.record.from_memory


def half_copied(s: State) -> bool:
    """Return whether a copy to this node began and did not end, be it the first one ever."""
    return not s.record.cons and (bool(s.record.gen_cur) or s.record.was == "second")


def announcement_basis(s: State) -> Basis:
    """Return what an announcement would be made of."""
    register = s.arbiter.register
    return Basis(
        s.record,
        s.phase,
        role_of(s),
        status_of(s),
        register.ver if register else 0,
        s.os_crashed,
        s.failed,
        s.leading.full_wanted,
        divergence.announced(s) if s.split else "",
        divergence.changes(s) if s.split else -1,
        divergence.refusal(s) if s.phase in LEADERS and not s.peer.silent else "",
    )


def announcement(s: State) -> Announcement:
    """Return what every heartbeat says of this node."""
    r = s.record
    return Announcement(
        role=role_of(s),
        status=status_of(s),
        phase=s.phase.value,
        term=r.term,
        sid=r.sid,
        ver=s.arbiter.register.ver if s.arbiter.register else 0,
        cons=r.cons,
        was=r.was,
        gen_cur=r.gen_cur,
        gen_base=r.gen_base,
        gen_hist=r.gen_hist,
        incarnation=s.settings.incarnation,
        os_crashed=s.os_crashed,
        forgetful=forgetful(s),
        starting=s.phase not in (Phase.STOPPED, Phase.RESETTING, Phase.STOPPING),
        failed=bool(s.failed),
        full_wanted=s.leading.full_wanted,
        lone=r.lone,
        partial=r.partial,
        given_up=r.given_up[0] if r.given_up else "",
        lease_ns=s.lease.lease_ns,
        directories=alike.directories(s.module),
        split=divergence.announced(s),
        changes=divergence.changes(s) if s.split else -1,
        refuses=divergence.refusal(s) if s.phase in LEADERS and not s.peer.silent else "",
    )


def explanation(s: State) -> tuple[str, str, str]:
    """Return why the node is where it is, what would change that, and the command for it."""
    if s.phase in LEADERS and s.arbiter.distrust and not s.reason:
        n, m = s.settings.node, s.module.name
        perhaps = f"; it may have counted {s.settings.peer} in before" if s.arbiter.unclear else ""
        return (
            f"{s.arbiter.distrust}: it is not asked to count {s.settings.peer} in, or out{perhaps}",
            f"an administrator stops {n} and forces it, if its data are the newest",
            f"mirrorfarm -H {n} stop -m {m}; mirrorfarm -H {n} primforce -m {m}",
        )
    if s.phase in ENDING and s.step.partition(" ")[0] in AWAITED:
        return _awaited(s)
    if s.step in {"gate", "plane asked"} and _misses_replicator(s) and not s.reason:
        command = f"mirrorfarm -H {s.settings.node} log -m {s.module.name}"
        return "its replicator does not serve the directories yet", "it runs and answers", command
    if s.phase is Phase.LEADING and s.unset and not s.reason:
        return (
            f"clients may not reach it: {', '.join(s.unset)}",
            "the address or its interface is mended: it is tried again and again",
            f"mirrorfarm -H {s.settings.node} state -v -m {s.module.name}",
        )
    if s.phase is Phase.LEADING and s.unstarted and not s.reason:
        return (
            f"the application may not run: script {s.unstarted}",
            "the script is mended and run again",
            f"mirrorfarm -H {s.settings.node} restart -m {s.module.name}",
        )
    if s.phase is Phase.LEADING and not s.reason and not s.peer.silent:
        if why := divergence.refusal(s):
            n, m = s.settings.peer, s.module.name
            reason = f"{n} is not resynchronised: {why}"
            return reason, f"it says what to do: mirrorfarm -H {n} why -m {m}", ""
    if s.phase is Phase.LEADING and not s.reason and (why := keeps_out(s)):
        command = f"mirrorfarm -H {s.settings.node} state -v -m {s.module.name}"
        return why, "the arbiter counts it in", command
    if s.phase is Phase.WAITING and s.force in {"prim", "primforce"} and not s.reason:
        return _listening(s)
    return s.reason, s.would_change, s.command


def _misses_replicator(s: State) -> bool:
    """Return whether the replicator is away, or does not answer although asked again."""
    asked_in_vain = s.plane.unanswered > 0 or not s.plane.start
    return s.has_plane and not s.plane.settled and asked_in_vain


def _awaited(s: State) -> tuple[str, str, str]:
    """Return what the end of a role, or of a process before, waits for."""
    reason, would_change = AWAITED[s.step.partition(" ")[0]]
    before = f"{s.reason}; " if s.reason else ""
    command = f"mirrorfarm -H {s.settings.node} log -m {s.module.name}"
    return f"{before}{reason}", would_change, command


def _listening(s: State) -> tuple[str, str, str]:
    """Return why an order to lead waits although nothing forbids it.

    The peer may lead unheard, or the order is not durable yet.
    """
    p, names = s.settings.peer, ", ".join(s.peer.unheard)
    if not names:
        text = f"{s.force} was ordered: that is written down before the arbiter is asked"
        return (text, "this node's disk has it", "") if s.stores else ("", "", "")
    longest_ns = max(h.timeout_ns for h in s.module.heartbeats if h.name in s.peer.unheard)
    return (
        f"{s.force} was ordered, but {p} may be primary: this process has just begun, and has not "
        f"listened long enough for heartbeats yet (network {names})",
        f"{p} is heard, or this process has listened for {longest_ns // MILLISECOND_NS} ms",
        f"mirrorfarm -H {s.settings.node} state -v -m {s.module.name}",
    )


def state_json(s: State, now: int) -> bytes:
    """Return the state of this side, as docs/protocols/state.md describes it."""
    r, register = s.record, s.arbiter.register
    reason, would_change, command = explanation(s)
    state: dict[str, Any] = {
        "module": s.module.name,
        "node": s.settings.node,
        "mode": "mirror",
        "id": s.module.id,
        "state": role_of(s),
        "status": status_of(s),
        "phase": s.phase.value,
        "now_ns": now,
        "since_ns": s.since_ns,
        "reason": reason,
        "would_change": would_change,
        "command": command,
        "facts": [{"at_ns": at, "text": text} for at, text in s.facts],
        "term": r.term,
        "sid": r.sid,
        "ver": register.ver if register else 0,
        "holder": register.holder if register else "",
        "isr": list(register.isr) if register else [],
        "uptodate": r.cons and s.self_in_isr and s.phase is not Phase.SYNCING,
        "degraded": bool(s.failed),
        "split": s.split,
        "quarantine": r.quarantine,
        "arbiter": _arbiter(s, now),
        "peer": _peer(s),
        "record": _record(s),
        "resources": resources(s),
        "sync": _progress(s),
        "session": s.leading.session.value if s.phase in LEADERS else s.target.step,
        "plan": s.leading.plan if s.leading.session is not Session.NONE else s.target.plan,
        "gate": s.plane.wish.gate if s.phase in LEADERS else "",
        "lease": {"deadline_ns": s.lease.deadline_ns if s.guard_ns else 0},
        "loop": len(s.loop),
        "maxloop": s.module.maxloop,
    }
    return msgspec.json.encode(state)


def resources(s: State) -> dict[str, str]:
    """Return every resource with its value."""
    values = {f"heartbeat.{name}": value for name, value in sorted(s.peer.networks.items())}
    values["state.local"] = f"{role_of(s)} {status_of(s)}"
    peer = s.peer.about
    values["state.remote"] = "UNKNOWN" if s.peer.silent else f"{peer.role} {peer.status}"
    if s.has_plane:
        current = s.record.cons and s.self_in_isr and s.phase is not Phase.SYNCING
        values["rfs.uptodate"] = "up" if current else "down"
        values["rfs.degraded"] = "up" if s.failed else "down"
    values["heart.stopstartloop"] = str(len(s.loop))
    return values | dict(sorted(s.resources.items()))


def _peer(s: State) -> dict[str, Any]:
    peer = s.peer.about
    return {
        "name": s.settings.peer,
        "state": "UNKNOWN" if s.peer.silent else peer.role,
        "status": "" if s.peer.silent else peer.status,
        "heard_ns": s.peer.heard_ns,
        "networks": dict(s.peer.networks),
    }


def _record(s: State) -> dict[str, Any]:
    r = s.record
    return {
        "term": r.term,
        "sid": r.sid,
        "gen_cur": r.gen_cur,
        "gen_base": r.gen_base,
        "cons": r.cons,
        "was": r.was,
        "inc": r.inc,
        "forced": list(r.forced),
    }


def _arbiter(s: State, now: int) -> dict[str, Any]:
    kind = s.module.arbiter.kind
    silent = s.arbiter.silent_since_ns
    return {
        "kind": kind,
        "class": ARBITER_CLASS.get(kind, "A0"),
        "advisory": advisory(kind),
        "reachable": not silent,
        "silent_ns": now - silent if silent else 0,
        "distrust": s.arbiter.distrust,
    }


def _progress(s: State) -> dict[str, int] | None:
    p = s.leading.progress
    if p is None or s.leading.session not in (Session.COPYING, Session.SYNCED, Session.GROWING):
        return None
    return {
        "files_done": p.files_done,
        "files_total": p.files_total,
        "bytes_done": p.bytes_done,
        "bytes_total": p.bytes_total,
        "rate": p.rate,
        "eta_ns": p.eta_ns,
    }
