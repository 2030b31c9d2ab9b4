"""Which cores the process of a module runs, by the module's mode."""

from dataclasses import dataclass

import msgspec
import xxhash

from mirrorfarm.actors.arbiter.client import WitnessClient
from mirrorfarm.actors.checker.core import Checker
from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.farm_filter.state import Settings as FilterSettings
from mirrorfarm.actors.guard.core import Guard
from mirrorfarm.actors.heartbeat.core import Heartbeat
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.farm.state import Settings as FarmSettings
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.state import Settings as MirrorSettings
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.scripts.core import Scripts
from mirrorfarm.actors.shell import Core
from mirrorfarm.actors.vip.core import Vip
from mirrorfarm.modules.settings import Module
from mirrorfarm.netfilter.filter import Choice
from mirrorfarm.transport.address import MODULE_ACTOR


@dataclass(frozen=True, slots=True)
class Here:
    """Where the cores run, and what was found there."""

    cluster: str
    node: str
    module: Module
    incarnation: int
    os_boot: str
    record: NodeRecord | None
    seed: int  # 64 secret random bits, for the identities of data generations.
    fault: str = ""  # Why the record that was found is not used.
    start: bool = False  # Whatever the record says: in a simulation, nobody has to order it.

    @property
    def starts(self) -> bool:
        """Whether the module begins to run when its process starts."""
        record = self.record or NodeRecord()
        return self.start or starts_by_itself(self.module, record, self.os_boot)


def starts_by_itself(module: Module, record: NodeRecord, boot: str) -> bool:
    """Return whether a module begins to run when its process starts.

    Within the boot in which it was told what is wanted of it, it goes on as told.
    """
    told = record.wanted_boot or record.os_boot
    if module.boot == "on" and told != boot:
        return True
    return record.wanted and (told in {"", boot} or module.boot == "auto")


def cores(here: Here, chosen: Choice | None, mac: bytes = b"") -> dict[str, Core]:
    """Return the cores by the name of their actor, in the order in which they are started.

    The state machine comes last: it orders the others about. `chosen`: the filter of a farm;
    `mac`: to which other nodes relay this one's packets, with `vmac_directed`.
    """
    module = here.module
    common: dict[str, Core] = {"scripts": Scripts(module), "checker": Checker(module)}
    if module.mode == "mirror":
        return _mirror(here, common)
    settings = FarmSettings(
        here.cluster,
        here.node,
        module,
        here.incarnation,
        here.os_boot,
        chosen.kind if chosen else "",
        here.starts,
        chosen.reason if chosen else "",
    )
    machine = FarmModule.build(settings, here.record, here.fault)
    if chosen is None:
        return common | {MODULE_ACTOR: machine}
    return common | {
        "vip": Vip(module.farm.virtual_addresses),
        "farm_filter": FarmFilter.build(_filter(here, chosen, mac)),
        MODULE_ACTOR: machine,
    }


def _mirror(here: Here, common: dict[str, Core]) -> dict[str, Core]:
    module, node = here.module, here.node
    peer = next(name for name in module.nodes if name != node)
    settings = MirrorSettings(
        here.cluster,
        node,
        peer,
        module,
        here.incarnation,
        here.os_boot,
        here.seed,
        start=here.starts,
    )
    arbiter: Core
    if module.arbiter.kind == "witness":
        arbiter = WitnessClient(node, module.arbiter.name, module)
    else:
        from mirrorfarm.actors.arbiter.ping import PingArbiter  # noqa: PLC0415 - rarely needed

        arbiter = PingArbiter(node, peer, here.cluster, module)
    beat = Heartbeat(node, peer, module.name, module.heartbeats, module.timing.detection_ns)
    return {
        "heartbeat": beat,
        "arbiter": arbiter,
        **common,
        "vip": Vip(module.vips),
        "guard": Guard(),
        MODULE_ACTOR: Mirror.build(settings, here.record, here.fault),
    }


def _filter(here: Here, chosen: Choice, mac: bytes) -> FilterSettings:
    farm = here.module.farm
    return FilterSettings(
        here.node,
        here.module.name,
        here.module.nodes,
        farm.networks,
        here.incarnation,
        chosen.kind,
        farm.seed,
        rules_digest(here.module),
        farm.group_names,
        tuple(group.power_of(here.node) for group in farm.groups),
        farm.timing,
        mac,
    )


def rules_digest(module: Module) -> str:
    """Return what all nodes of a farm must have equal, in short: else they would share wrongly.

    The filter's kind and the seed are told apart from it, so that a difference can be named.
    """
    farm = module.farm
    same = (
        module.nodes,
        farm.groups,
        farm.rules,
        tuple(one.addr for one in farm.addresses),
        farm.delivery,
        farm.mac.upper(),
        farm.timing,
    )
    return f"{xxhash.xxh3_64_intdigest(msgspec.json.encode(same)):016x}"
