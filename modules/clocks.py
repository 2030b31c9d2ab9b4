"""The clocks of a module: heartbeats, detection, lease; and the relations between them.

`T_L > D > 3 heartbeats`: the secondary suspects before a lease is over, and three lost packets
are not yet a dead node. The guard must still have time to act inside the lease.
"""

from typing import Final

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.faults import Faults
from mirrorfarm.modules.schema import Checked
from mirrorfarm.modules.settings import PROFILES, Cluster, HeartbeatNetwork, Module, Timing

GUARD_MARGIN_NS_MIN: Final = 10 * MILLISECOND_NS  # To remove addresses and kill processes.
GUARD_MARGIN_DIVISOR: Final = 16  # The guard acts this share of the lease before its end.
GATE_MARGIN_DIVISOR: Final = 8  # The gate closes this share of the lease before its end.
FLOW: Final = "flow"  # The reserved ident: this network also carries the replication.


def build_timing(service: Checked, faults: Faults) -> Timing:
    """Return the profile with what `<heart>` overrides.

    `timeout` is the reference product's word for the detection time. A lease that is not given
    follows an overridden detection time: a quarter longer.
    """
    profile = PROFILES[service["profile"]]
    heart = service.first("heart")
    if heart is None:
        reason = 'a mirror needs <heart><heartbeat name="…"/></heart>, name of a lan of cluster.xml'
        faults.add(service.line, "service/heart", reason)
        return profile
    own_detection_ns = heart["detection"] or heart["timeout"]
    detection_ns = own_detection_ns or profile.detection_ns
    followed_ns = detection_ns + detection_ns // 4 if own_detection_ns else profile.lease_ns
    timing = Timing(
        heartbeat_ns=heart["pulse"] or profile.heartbeat_ns,
        detection_ns=detection_ns,
        lease_ns=heart["lease"] or followed_ns,
        replication_timeout_ns=heart["replication_timeout"] or profile.replication_timeout_ns,
    )
    for key, reason in timing_faults(timing):
        faults.add(heart.line, key, reason)
    return timing


def timing_faults(timing: Timing) -> list[tuple[str, str]]:
    """Return what no module may have, as key and reason."""
    faults: list[tuple[str, str]] = []
    detection, lease = timing.detection_ns, timing.lease_ns
    if lease <= detection:
        reason = f"{_ms(lease)} is not longer than the detection time of {_ms(detection)}"
        faults.append(("heart.lease", f"{reason}: it would end before a silence is noticed"))
    if lease // GUARD_MARGIN_DIVISOR < GUARD_MARGIN_NS_MIN:
        least = _ms(GUARD_MARGIN_NS_MIN * GUARD_MARGIN_DIVISOR)
        reason = f"{_ms(lease)} is shorter than {least}"
        faults.append(("heart.lease", f"{reason}: the guard could not fence inside the lease"))
    return faults + _pulse_faults(timing, timing.heartbeat_ns)


def own_pulse_faults(timing: Timing, heartbeat: HeartbeatNetwork) -> list[tuple[str, str]]:
    """Return what no network may have that has a pulse of its own, as key and reason.

    It may be the only one left: a pulse of another one does not make its own good.
    """
    if heartbeat.pulse_ns == timing.heartbeat_ns:
        return []
    faults = _pulse_faults(timing, heartbeat.pulse_ns)
    return [("heartbeat.pulse", f"{key} of {reason}") for key, reason in faults]


def _pulse_faults(timing: Timing, pulse: int) -> list[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    detection, lease = timing.detection_ns, timing.lease_ns
    if detection <= 3 * pulse:
        reason = f"{_ms(detection)} is not longer than 3 pulses of {_ms(pulse)}"
        faults.append(("heart.detection", f"{reason}: a few lost packets would be a dead node"))
    if lease - lease // GATE_MARGIN_DIVISOR <= 3 * pulse:
        reason = f"{_ms(lease)} less an eighth is not longer than 3 pulses of {_ms(pulse)}"
        faults.append(("heart.lease", f"{reason}: a few lost packets would hold every write"))
    if timing.replication_timeout_ns < pulse:
        reason = f"{_ms(timing.replication_timeout_ns)} is shorter than a pulse of {_ms(pulse)}"
        faults.append(("heart.replication_timeout", reason))
    return faults


def build_heartbeats(
    service: Checked, timing: Timing, nodes: tuple[str, ...], cluster: Cluster, faults: Faults
) -> tuple[HeartbeatNetwork, ...]:
    """Return the networks that carry heartbeats, each with its own clocks."""
    heart = service.first("heart")
    if heart is None:
        return ()
    timeout_ns = heart["timeout"] or timing.detection_ns
    heartbeats: dict[str, HeartbeatNetwork] = {}
    idents: list[str] = []
    for element in heart.all("heartbeat"):
        name = str(element["name"])
        ident = str(element["ident"] or name)
        if name in heartbeats:
            faults.add(element.line, "heartbeat.name", f"{name} already carries heartbeats")
        if ident in idents:
            faults.add(element.line, "heartbeat.ident", f"{ident} is used twice")
        idents.append(ident)
        heartbeats[name] = HeartbeatNetwork(
            name=name,
            ident=ident,
            pulse_ns=element["pulse"] or timing.heartbeat_ns,
            timeout_ns=element["timeout"] or timeout_ns,
            flow=ident == FLOW,
        )
        _check_network(element, nodes, cluster, faults)
        _check_pulse(heartbeats[name], element.line, faults)
        for key, reason in own_pulse_faults(timing, heartbeats[name]):
            faults.add(element.line, key, reason)
    if FLOW in idents and service.first("rfs") is None:
        faults.add(heart.line, "heartbeat.ident", "flow needs an <rfs> to carry")
    return tuple(heartbeats.values())


def timeouts_aside(module: Module) -> list[str]:
    """Return what is said of networks with a timeout that is not the time to detect the peer."""
    detection_ns = module.timing.detection_ns
    return [
        f"heartbeat {network.ident}: its timeout of {_ms(network.timeout_ns)} says only when this "
        f"network counts as lost, and how long prim listens to it first: the peer counts as lost "
        f"after heart.detection, {_ms(detection_ns)}"
        for network in module.heartbeats
        if network.timeout_ns != detection_ns
    ]


def _check_network(
    element: Checked, nodes: tuple[str, ...], cluster: Cluster, faults: Faults
) -> None:
    name = element["name"]
    network = next((known for known in cluster.networks if known.name == name), None)
    if network is None:
        known = ", ".join(network.name for network in cluster.networks)
        reason = f"{name} is not a lan of cluster.xml, which has: {known}"
        faults.add(element.line, "heartbeat.name", reason)
        return
    there = [node.name for node in network.nodes]
    for node in nodes:
        if node not in there and node in cluster.nodes:
            faults.add(element.line, "heartbeat.name", f"node {node} is not on the lan {name}")


def _check_pulse(heartbeat: HeartbeatNetwork, line: int, faults: Faults) -> None:
    if heartbeat.timeout_ns <= 3 * heartbeat.pulse_ns:
        reason = (
            f"{_ms(heartbeat.timeout_ns)} is not longer than 3 pulses of {_ms(heartbeat.pulse_ns)}"
        )
        faults.add(line, "heartbeat.timeout", f"{reason}: lost packets would be a dead network")


def _ms(duration_ns: int) -> str:
    return f"{duration_ns // MILLISECOND_NS} ms"
