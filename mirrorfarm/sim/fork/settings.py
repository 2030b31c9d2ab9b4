"""Settings that a what-if changes: their names, as in userconfig.xml, and what follows."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from mirrorfarm.actors.arbiter.client import WitnessClient
from mirrorfarm.actors.arbiter.ping import PingArbiter
from mirrorfarm.actors.checker.core import Checker
from mirrorfarm.actors.effects import Later
from mirrorfarm.actors.heartbeat.core import ACTOR as HEARTBEAT
from mirrorfarm.actors.heartbeat.core import Heartbeat, WatchDue
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.scripts.core import Scripts
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.modules.clocks import timing_faults
from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.acts.kinds import duration_ns, duration_text

OF_MODULE: Final = {
    "heart.pulse": "heartbeat_ns",
    "heart.detection": "detection_ns",
    "heart.lease": "lease_ns",
    "heart.replication_timeout": "replication_timeout_ns",
}
SAME: Final = {
    "heart.timeout": "heart.detection",
    "heartbeat.timeout": "heart.detection",
    "heartbeat.silence": "heart.detection",
    "heartbeat.pulse": "heart.pulse",
}
OF_NODE: Final = ("fsync", "start_prim", "stop_prim", "start_both", "stop_both")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one variant changes: durations in nanoseconds, by their names."""

    module: dict[str, int] = field(default_factory=dict)
    nodes: dict[tuple[str, str], int] = field(default_factory=dict)  # Node and name.

    def __str__(self) -> str:
        own = [f"{name}={duration_text(value)}" for name, value in self.module.items()]
        own += [f"{n}.{name}={duration_text(value)}" for (n, name), value in self.nodes.items()]
        return " ".join(own)

    def plain(self) -> dict[str, int]:
        """Return them for JSON, in nanoseconds."""
        own = {f"{node}.{name}": value for (node, name), value in self.nodes.items()}
        return self.module | own


def parse(words: tuple[str, ...], nodes: tuple[str, ...]) -> list[Settings]:
    """Return one variant for each combination of the values that `KEY=VALUE,VALUE` lists.

    `nodes` are the machines that may have settings of their own. Raise UsageInvalid.
    """
    variants = [Settings()]
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageInvalid(f"--set {shown(word)}: write KEY=VALUE, as in heart.detection=0.3s")
        node, _, name = key.strip().rpartition(".")
        whose = (node, name.removesuffix("_ms"))
        of_node = node in nodes
        known = [*OF_MODULE, *SAME, *(f"{one}.{own}" for one in nodes for own in OF_NODE)]
        plain = SAME.get(key.strip(), key.strip())
        if plain not in OF_MODULE and not (of_node and whose[1] in OF_NODE):
            raise UsageInvalid(f"--set {shown(key)}: not known; {suggestion(key, known)}")
        values = [_value(word, one, milliseconds=name.endswith("_ms")) for one in text.split(",")]
        variants = [
            Settings(one.module, one.nodes | {whose: value})
            if of_node
            else Settings(one.module | {plain: value}, one.nodes)
            for one in variants
            for value in values
        ]
    return variants


def _value(word: str, text: str, *, milliseconds: bool) -> int:
    try:
        return duration_ns(f"{text.strip()}ms" if milliseconds else text.strip())
    except ValueError as error:
        raise UsageInvalid(f"--set {shown(word)}: {error}") from None


def changed(module: Module, settings: Settings) -> Module:
    """Return a module with these clocks. Raise UsageInvalid where it could not be configured so.

    As in userconfig.xml, a lease that is not given follows the detection time, and a network that
    had the module's clocks keeps having them.
    """
    given = settings.module
    if not given:
        return module
    if module.mode != "mirror":
        raise UsageInvalid(
            f"--set {settings}: {module.name} is a farm, which has other clocks; of a farm the "
            f"times of nodes can be set, as in {module.nodes[0]}.start_both=5s"
        )
    old = module.timing
    fields = {OF_MODULE[name]: value for name, value in given.items()}
    if "detection_ns" in fields and "lease_ns" not in fields:
        fields["lease_ns"] = fields["detection_ns"] + fields["detection_ns"] // 4
    timing = msgspec.structs.replace(old, **fields)
    faults = timing_faults(timing)
    if faults:
        told = "; ".join(f"{key}: {reason}" for key, reason in faults)
        raise UsageInvalid(f"--set {settings}: no module may have that: {told}")
    networks = []
    for network in module.heartbeats:
        pulse, timeout = network.pulse_ns, network.timeout_ns
        pulse = timing.heartbeat_ns if pulse == old.heartbeat_ns else pulse
        timeout = timing.detection_ns if timeout == old.detection_ns else timeout
        networks.append(msgspec.structs.replace(network, pulse_ns=pulse, timeout_ns=timeout))
    return msgspec.structs.replace(module, timing=timing, heartbeats=tuple(networks))


def resettle(core: Any, module: Module) -> None:
    """Have a core go on with other settings, as if it had been built with them."""
    match core:
        case Heartbeat():
            core.networks, core.detection_ns = module.heartbeats, module.timing.detection_ns
            for network in module.heartbeats:
                core._hearings[network.name].settings = network
            core._stalls.pulse_ns = core._pulse_min_ns()
        case Mirror():
            core.state.settings = replace(core.state.settings, module=module)
            core.state.lease.lease_ns = module.timing.lease_ns
        case WitnessClient() | PingArbiter():
            core.module = module
        case Scripts() | Checker():
            core.settings = module
        case _:
            pass  # It knows no clocks of the module.


def retimed(actor: str, timer: Later, core: Any, now: int) -> Later:
    """Return a timer as the core would have set it with its present settings."""
    if actor == HEARTBEAT and isinstance(timer.event, WatchDue):
        made: Later = core._watch_at(now)
        return made
    return timer
