"""Settings that a what-if changes: their names, as in userconfig.xml, and what follows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from mirrorfarm.actors.arbiter.client import WitnessClient
from mirrorfarm.actors.arbiter.ping import PingArbiter
from mirrorfarm.actors.checker.core import Checker
from mirrorfarm.actors.effects import Later
from mirrorfarm.actors.farm_filter.core import FarmDue
from mirrorfarm.actors.heartbeat.core import ACTOR as HEARTBEAT
from mirrorfarm.actors.heartbeat.core import Heartbeat, WatchDue
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.scripts.core import Scripts
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.modules import kinds
from mirrorfarm.modules.clocks import own_pulse_faults, timing_faults
from mirrorfarm.modules.farmclocks import farm_timing_faults, pulse_of, with_pulse
from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.acts.kinds import duration_ns, duration_text
from mirrorfarm.transport.messages import Announcement

OF_MODULE: Final = {
    "heart.pulse": "heartbeat_ns",
    "heart.detection": "detection_ns",
    "heart.lease": "lease_ns",
    "heart.replication_timeout": "replication_timeout_ns",
}
OF_FARM: Final = ("farm.pulse", "farm.slost_count", "farm.silence")
COUNT_MAX: Final = 1_000  # More than any may be: the bounds of each are told with their reason.
COUNTS: Final = ("farm.slost_count",)  # Numbers; all others are durations.
SAME: Final = {
    "heart.timeout": "heart.detection",
    "heartbeat.timeout": "heart.detection",
    "heartbeat.silence": "heart.detection",
    "heartbeat.pulse": "heart.pulse",
}
OF_NODE: Final = ("fsync", "start_prim", "stop_prim", "start_both", "stop_both")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one variant changes: durations in nanoseconds, and counts, by their names."""

    module: dict[str, int] = field(default_factory=dict)
    nodes: dict[tuple[str, str], int] = field(default_factory=dict)  # Node and name.

    def __str__(self) -> str:
        own = [f"{name}={_text(name, value)}" for name, value in self.module.items()]
        own += [f"{n}.{name}={duration_text(value)}" for (n, name), value in self.nodes.items()]
        return " ".join(own)

    def plain(self) -> dict[str, int]:
        """Return them for JSON, durations in nanoseconds."""
        own = {f"{node}.{name}": value for (node, name), value in self.nodes.items()}
        return self.module | own


def parse(words: tuple[str, ...], nodes: tuple[str, ...], witness: str = "") -> list[Settings]:
    """Return one variant for each combination of the values that `KEY=VALUE,VALUE` lists.

    `nodes` and the witness, if there is one, may have settings of their own. Raise UsageInvalid.
    """
    variants = [Settings()]
    of_machines = [f"{one}.{own}" for one in nodes for own in OF_NODE]
    of_machines += [f"{witness}.fsync"] if witness else []  # It runs no scripts.
    given: set[str] = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageInvalid(f"--set {shown(word)}: write KEY=VALUE, as in heart.detection=0.3s")
        node, _, name = key.strip().rpartition(".")
        whose = (node, name.removesuffix("_ms"))
        of_node = ".".join(whose) in of_machines
        of_module = (*OF_MODULE, *OF_FARM)
        known = [*of_module, *SAME, *of_machines]
        plain = ".".join(whose) if of_node else SAME.get(key.strip(), key.strip())
        if plain not in of_module and not of_node:
            raise UsageInvalid(f"--set {shown(key)}: not known; {suggestion(key, known)}")
        if plain in given:
            raise UsageInvalid(
                f"--set {shown(word)}: {plain} is set already; "
                f"write all of its values once: {plain}=VALUE,VALUE"
            )
        given.add(plain)
        unit = "ms" if of_node and name.endswith("_ms") else ""
        values = [_value(word, plain, one.strip() + unit) for one in text.split(",")]
        variants = [
            Settings(one.module, one.nodes | {whose: value})
            if of_node
            else Settings(one.module | {plain: value}, one.nodes)
            for one in variants
            for value in values
        ]
    return variants


def _text(name: str, value: int) -> str:
    return str(value) if name in COUNTS else duration_text(value)


def _value(word: str, name: str, text: str) -> int:
    try:
        if name in COUNTS:
            return int(kinds.whole(0, COUNT_MAX)(text))
        return duration_ns(text)
    except ValueError as error:
        raise UsageInvalid(f"--set {shown(word)}: {error}") from None


def changed(module: Module, settings: Settings) -> Module:
    """Return a module with these clocks. Raise UsageInvalid where it could not be configured so."""
    given = settings.module
    if not given:
        return module
    known = tuple(OF_MODULE) if module.mode == "mirror" else OF_FARM
    foreign = [name for name in given if name not in known]
    if foreign:
        raise UsageInvalid(
            f"--set {settings}: {module.name} is a {module.mode}, which has no {foreign[0]}; its "
            f"clocks are {', '.join(known)}"
        )
    made, faults = (_mirror if module.mode == "mirror" else _farm)(module, given)
    if faults:
        told = "; ".join(f"{key}: {reason}" for key, reason in faults)
        raise UsageInvalid(f"--set {settings}: no module may have that: {told}")
    return made


def require_scripts(
    module: Module, settings: Settings, missing: Mapping[str, Collection[str]]
) -> None:
    """Raise UsageInvalid if a script is to take a time that a node lacks, by `missing`."""
    for node, name in settings.nodes:
        lacks = missing.get(node, ())
        if name in lacks:
            have = [one for one in OF_NODE if one not in lacks]
            raise UsageInvalid(
                f"--set {settings}: {module.name} is a {module.mode}, which has no {name} on "
                f"{node}; what may be set of that node is {', '.join(have)}"
            )


def _mirror(module: Module, given: dict[str, int]) -> tuple[Module, list[tuple[str, str]]]:
    """Return the module, and what it may not have.

    As in userconfig.xml, a lease that is not given follows the detection time, and a network that
    had the module's clocks keeps having them.
    """
    old = module.timing
    fields = {OF_MODULE[name]: value for name, value in given.items()}
    if "detection_ns" in fields and "lease_ns" not in fields:
        fields["lease_ns"] = fields["detection_ns"] + fields["detection_ns"] // 4
    timing = msgspec.structs.replace(old, **fields)
    networks = []
    for network in module.heartbeats:
        pulse, timeout = network.pulse_ns, network.timeout_ns
        pulse = timing.heartbeat_ns if pulse == old.heartbeat_ns else pulse
        timeout = timing.detection_ns if timeout == old.detection_ns else timeout
        networks.append(msgspec.structs.replace(network, pulse_ns=pulse, timeout_ns=timeout))
    made = msgspec.structs.replace(module, timing=timing, heartbeats=tuple(networks))
    faults = [fault for network in networks for fault in own_pulse_faults(timing, network)]
    return made, timing_faults(timing) + faults


def _farm(module: Module, given: dict[str, int]) -> tuple[Module, list[tuple[str, str]]]:
    """Return the module, and what it may not have. All other clocks follow, as in userconfig.xml.

    There a silence is a number of pulses.
    """
    old, faults = module.farm.timing, []
    pulse_ns, count = pulse_of(old, len(module.nodes))
    pulse_ns, count = given.get("farm.pulse", pulse_ns), given.get("farm.slost_count", count)
    silent_ns = given.get("farm.silence")
    if silent_ns is not None and "farm.slost_count" in given:
        faults.append(("farm.silence", "farm.slost_count says the same: give one of them"))
    elif silent_ns is not None and pulse_ns:
        count, rest_ns = divmod(silent_ns, pulse_ns)
        if rest_ns:
            told = f"{duration_text(silent_ns)} is not a number of pulses"
            reason = f"{told} of {duration_text(pulse_ns)}: set farm.pulse, too"
            faults.append(("farm.silence", reason))
    faults += farm_timing_faults(pulse_ns, count)
    farm = msgspec.structs.replace(module.farm, timing=with_pulse(old, pulse_ns, count))
    return msgspec.structs.replace(module, farm=farm), faults


def _with_lease(about: Announcement, module: Module) -> Announcement:
    return msgspec.structs.replace(about, lease_ns=module.timing.lease_ns)


def resettle(core: Any, module: Module) -> None:
    """Have a core go on with other settings, as if it had been built with them.

    The filter of a farm has a file of its own: `farm_clocks`.
    """
    match core:
        case Heartbeat():
            core.networks, core.detection_ns = module.heartbeats, module.timing.detection_ns
            for network in module.heartbeats:
                core._hearings[network.name].settings = network
            core._stalls.pulse_ns = core._pulse_min_ns()
            core.about = core.about and _with_lease(core.about, module)
            core._heard_about = _with_lease(core._heard_about, module)
        case Mirror():
            core.state.settings = replace(core.state.settings, module=module)
            core.state.rests = False
            lease = core.state.lease
            lease.lease_ns, lease.span_ns = module.timing.lease_ns, 0
            s = core.state
            s.peer.about = _with_lease(s.peer.about, module)
            s.announced = s.announced and _with_lease(s.announced, module)
        case WitnessClient() | PingArbiter():
            core.module = module
        case FarmModule():
            core.state.settings = replace(core.state.settings, module=module)
        case Scripts() | Checker():
            core.settings = module
        case _:
            pass  # It knows no clocks of the module.


def retimed(actor: str, timer: Later, core: Any, now: int) -> Later:
    """Return a timer as the core would have set it with its present settings."""
    if actor == HEARTBEAT and isinstance(timer.event, WatchDue):
        made: Later = core._watch_at(now)
        return made
    if isinstance(timer.event, FarmDue) and not core.state.wake_ns:
        return Later(now, timer.event)  # Resettled: it looks at once what is due.
    return timer
