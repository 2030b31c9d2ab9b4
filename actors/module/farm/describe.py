"""What a farm module says of itself: its state for `state` and `why`."""

from typing import Any

import msgspec

from mirrorfarm.actors.events import FarmNode, FarmPicture
from mirrorfarm.actors.module.farm.phases import SERVING, Phase
from mirrorfarm.actors.module.farm.procedure import drain_left_ns
from mirrorfarm.actors.module.farm.state import State
from mirrorfarm.actors.module.procedure import AWAITED
from mirrorfarm.limits import BUCKETS, FARM_NODES_MAX

ENDING = (Phase.RESETTING, Phase.FALLING, Phase.STOPPING)


def role_of(s: State) -> str:
    """Return STOP, WAIT or UP."""
    if s.phase is Phase.STOPPED or s.phase is Phase.RESETTING:
        return "STOP"
    return "UP" if s.phase in SERVING else "WAIT"


def status_of(s: State) -> str:
    """Return NotReady, Transient or Ready."""
    if s.phase is Phase.STOPPED:
        return "NotReady"
    if s.phase is Phase.UP:
        return "Ready"
    return "NotReady" if s.phase is Phase.WAITING and s.reason else "Transient"


def explanation(s: State) -> tuple[str, str, str]:
    """Return why the node is where it is, what would change that, and the command for it."""
    node, name = s.settings.node, s.module.name
    word = s.step.partition(" ")[0]
    if s.phase in ENDING and word in AWAITED:
        return (*AWAITED[word], f"mirrorfarm -H {node} log -m {name}")
    if s.phase is Phase.STOPPED and s.failed:
        return f"{s.reason}: {s.failed}", s.would_change, s.command
    if s.phase is not Phase.UP or s.reason:
        return s.reason, s.would_change, s.command
    if s.unstarted:
        return (
            f"the application may not run: script {s.unstarted}",
            "the script is mended and run again",
            f"mirrorfarm -H {node} restart -m {name}",
        )
    picture = s.picture
    if not s.is_farm or picture is None:
        return "", "", ""
    if s.cables_out:
        return (
            f"no client is answered here: no cable at {', '.join(s.cables_out)}",
            "the cable is in, and the other end is up",
            "",
        )
    if s.drain_ordered:
        return (
            f"drains by order: {picture.connections} connections live, no new ones",
            "it is told to take clients again",
            f"mirrorfarm -H {node} farm resume {node} -m {name}",
        )
    if s.wish == "away" or (s.wish == "drain" and s.module.farm.script_control):
        return "the module's scripts have not opened the traffic", "they open it", ""
    if not picture.open:
        return f"no client is answered here: {picture.reason}", picture.would_change, ""
    own = _own(s, picture)
    if own is not None and not any(own.powers):
        return (
            "no client is answered here: its power is 0",
            "it gets power",
            f"mirrorfarm farm power {node} 1 -m {name}",
        )
    if s.strangers:
        return (
            "; ".join(stranger_words(claim) for claim in s.strangers)
            + ": clients that learn its MAC are not answered by the farm",
            "the address is taken off that machine",
            f"mirrorfarm farm check -m {name}",
        )
    return "", "", ""


def stranger_words(claim: str) -> str:
    """Return `address=mac` as it is told."""
    address, _, mac = claim.partition("=")
    return f"a stranger owns the address {address}: {mac}, no node of this farm"


def _own(s: State, picture: FarmPicture) -> FarmNode | None:
    return next((n for n in picture.nodes if n.name == s.settings.node), None)


def state_json(s: State, now: int) -> bytes:
    """Return the state of this node, as docs/protocols/state.md describes it."""
    reason, would_change, command = explanation(s)
    r = s.record
    state: dict[str, Any] = {
        "module": s.module.name,
        "node": s.settings.node,
        "mode": s.module.mode,
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
        # What only a mirror has; the keys are there, so that every reader finds them.
        "term": 0,
        "sid": 0,
        "ver": 0,
        "holder": "",
        "isr": [],
        "uptodate": True,
        "degraded": bool(s.failed),
        "split": "",
        "quarantine": "",
        "arbiter": {
            "kind": "none",
            "class": "",
            "advisory": "",
            "reachable": True,
            "silent_ns": 0,
            "distrust": "",
        },
        "peer": {"name": "", "state": "", "status": "", "heard_ns": 0, "networks": {}},
        "record": {"inc": r.inc, "wanted": r.wanted},
        "resources": resources(s),
        "sync": None,
        "session": "",
        "plan": "",
        "gate": "",
        "lease": {"deadline_ns": 0},
        "loop": len(s.loop),
        "maxloop": s.module.maxloop,
        "farm": farm(s, now),
    }
    return msgspec.json.encode(state)


def resources(s: State) -> dict[str, str]:
    """Return every resource with its value."""
    values = {"state.local": f"{role_of(s)} {status_of(s)}"}
    values["heart.stopstartloop"] = str(len(s.loop))
    picture = s.picture
    if s.is_farm:
        values["farm.filter"] = f"{s.settings.filter_mode}: {s.settings.filter_why}"
    if s.is_farm and picture is not None:
        for node in picture.nodes:
            values[f"farm.{node.name}"] = "up" if node.member else "down"
        own = _own(s, picture)
        for number, group in enumerate(s.module.farm.group_names):
            buckets = own.buckets[number] if own is not None and picture.open else 0
            values[f"lbgroup.{group}_{number}"] = f"{100 * buckets // BUCKETS}%"
    return values | dict(sorted(s.resources.items()))


def farm(s: State, now: int) -> dict[str, Any] | None:
    """Return the details that only a farm has; None: this is a light module."""
    picture = s.picture
    if not s.is_farm:
        return None
    groups = list(s.module.farm.group_names)
    details: dict[str, Any] = {
        "mode": s.settings.filter_mode,
        "why": s.settings.filter_why,
        "names": list(s.module.nodes),
        "traffic": {
            "new_per_s": s.new_per_s,
            "connections": s.live,
            "packets": s.counters,
        },
        "groups": groups,
        "wish": s.wish,
        "draining": {
            "ordered": s.drain_ordered,
            "connections": picture.connections if picture else 0,
            "buckets": picture.draining if picture else 0,
            "left_ns": drain_left_ns(s, now) if s.phase is Phase.DRAINING else 0,
        },
    }
    if picture is None:
        return details | {"view": 0, "open": False, "members": [], "nodes": []}
    return details | {
        "view": picture.view,
        "bid": picture.bid,
        "open": picture.open,
        "settled": picture.settled,
        "coordinator": picture.coordinator,
        "reason": picture.reason,
        "members": list(picture.members),
        "owners": {
            group: _letters(owners) for group, owners in zip(groups, picture.owners, strict=False)
        },
        "soft": dict(zip(groups, picture.soft, strict=False)),
        "nodes": [_node(n, groups) for n in picture.nodes],
    }


_LETTERS = b"0123456789abcdef".ljust(256, b"-")
assert FARM_NODES_MAX == 16, "one letter stands for a node"


def _letters(owners: bytes) -> str:
    """Return the owner of each bucket as the letter of its place in `members`; -: nobody."""
    return owners.translate(_LETTERS).decode()


def _node(n: FarmNode, groups: list[str]) -> dict[str, Any]:
    return {
        "name": n.name,
        "member": n.member,
        "reason": n.reason,
        "wish": n.wish,
        "powers": dict(zip(groups, n.powers, strict=False)),
        "weights": dict(zip(groups, n.weights, strict=False)),
        "buckets": dict(zip(groups, n.buckets, strict=False)),
        "share_permille": {
            group: 1000 * buckets // BUCKETS
            for group, buckets in zip(groups, n.buckets, strict=False)
        },
        "draining_buckets": n.draining,
        "networks": dict(n.networks),
    }
