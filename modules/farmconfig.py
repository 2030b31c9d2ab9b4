"""What `<service mode="farm">` says, and which elements a module of each mode may have."""

import ipaddress

import msgspec

from mirrorfarm.limits import FARM_NODES_MAX, VIRTUAL_ADDRESSES_MAX
from mirrorfarm.modules.addresses import addresses_of_machines, disguised, unnamed_link
from mirrorfarm.modules.farmclocks import farm_timing
from mirrorfarm.modules.faults import Faults
from mirrorfarm.modules.schema import Checked
from mirrorfarm.modules.settings import (
    Cluster,
    Farm,
    FarmAddress,
    FarmGroup,
    FarmRule,
    FarmTiming,
)
from mirrorfarm.netfilter.delivery import Delivery, parse_virtual_mac
from mirrorfarm.netfilter.rules import Rule, rule, rules_of

_ONLY = {
    "heart": "mirror",
    "rfs": "mirror",
    "arbiter": "mirror",
    "farm": "farm",
}


def check_mode(service: Checked, faults: Faults) -> None:
    """Note every element that a module of this mode cannot have."""
    mode = service["mode"]
    for tag, wanted in _ONLY.items():
        element = service.first(tag)
        if element is not None and mode != wanted:
            faults.add(element.line, f"service/{tag}", f'is for mode="{wanted}", not for {mode}')
    vip = service.first("vip")
    if vip is None:
        return
    if mode == "light":
        faults.add(vip.line, "service/vip", "a light module has no virtual address")
    for interface in _interfaces(vip):
        for tag, wanted in (("virtual_interface", "farm"), ("real_interface", "mirror")):
            element = interface.first(tag)
            if element is not None and mode not in (wanted, "light"):
                reason = f'is for mode="{wanted}"; a {mode} has {_other(tag)}'
                faults.add(element.line, tag, reason)
    balancing = vip.first("loadbalancing_list")
    if balancing is not None and mode == "mirror":
        faults.add(balancing.line, "vip/loadbalancing_list", "only a farm balances")
    if vip["scriptcontrol"] and mode == "mirror":
        faults.add(vip.line, "vip.scriptcontrol", "only the traffic of a farm can be opened")


def _other(tag: str) -> str:
    return "real_interface" if tag == "virtual_interface" else "virtual_interface"


def build_farm(service: Checked, nodes: tuple[str, ...], cluster: Cluster, faults: Faults) -> Farm:
    """Return what only a farm has."""
    farm, vip = service.first("farm"), service.first("vip")
    if farm is None:
        reason = 'a farm needs <farm><lan name="…"/></farm>, name of a lan of cluster.xml'
        faults.add(service.line, "service/farm", reason)
        return Farm()
    if len(nodes) > FARM_NODES_MAX:
        reason = f"{len(nodes)} nodes; a farm has 1 to {FARM_NODES_MAX}"
        faults.add(service.line, "service.nodes", reason)
    addresses = _addresses(vip, cluster, faults)
    groups, rules = _balancing(vip, nodes, addresses, faults)
    delivery, mac = _delivery(vip, rules, faults)
    return Farm(
        networks=_networks(farm, nodes, cluster, faults),
        timing=_timing(farm, len(nodes)),
        addresses=addresses,
        groups=groups,
        rules=rules,
        filter=farm["filter"],
        delivery=delivery,
        mac=mac,
        seed=farm["seed"],
        script_control=bool(vip is not None and vip["scriptcontrol"]),
        drain_ns=farm["drain"],
    )


def _timing(farm: Checked, nodes: int) -> FarmTiming:
    timing = farm_timing(nodes, farm["pulse"], farm["slost_count"])
    return msgspec.structs.replace(timing, slow_start_ns=farm["slow_start"])


def _networks(
    farm: Checked, nodes: tuple[str, ...], cluster: Cluster, faults: Faults
) -> tuple[str, ...]:
    names: dict[str, None] = {}
    known = {network.name: network for network in cluster.networks}
    for lan in farm.all("lan"):
        name = str(lan["name"])
        if name in names:
            faults.add(lan.line, "lan.name", f"{name} already carries heartbeats")
        names[name] = None
        if name not in known:
            reason = f"{name} is not a lan of cluster.xml, which has: {', '.join(known)}"
            faults.add(lan.line, "lan.name", reason)
            continue
        there = [node.name for node in known[name].nodes]
        for node in nodes:
            if node not in there and node in cluster.nodes:
                faults.add(lan.line, "lan.name", f"node {node} is not on the lan {name}")
    return tuple(names)


def _interfaces(vip: Checked) -> list[Checked]:
    return [one for listed in vip.all("interface_list") for one in listed.all("interface")]


def _addresses(vip: Checked | None, cluster: Cluster, faults: Faults) -> tuple[FarmAddress, ...]:
    found: dict[str, FarmAddress] = {}
    taken = addresses_of_machines(cluster)
    for interface in _interfaces(vip) if vip is not None else []:
        for virtual in interface.all("virtual_interface"):
            for element in virtual.all("virtual_addr"):
                addr = str(element["addr"])
                if addr in found:
                    faults.add(element.line, "virtual_addr.addr", f"{addr} is here twice")
                if addr in taken:
                    reason = f"{addr} is the address of {taken[addr]}; a virtual one is all nodes'"
                    faults.add(element.line, "virtual_addr.addr", reason)
                if ipaddress.ip_address(addr).is_loopback:
                    reason = f"{addr} cannot be reached by clients"
                    faults.add(element.line, "virtual_addr.addr", reason)
                if reason := disguised(addr) or unnamed_link(addr, str(interface["name"])):
                    faults.add(element.line, "virtual_addr.addr", reason)
                found[addr] = FarmAddress(addr, str(interface["name"]))
    if vip is not None and not found:
        reason = "has no virtual_interface with a virtual_addr; add one or remove vip"
        faults.add(vip.line, "vip", reason)
    if vip is not None and len(found) > VIRTUAL_ADDRESSES_MAX:
        reason = f"{len(found)} addresses; a farm has at most {VIRTUAL_ADDRESSES_MAX}"
        faults.add(vip.line, "vip", f"{reason}: divide them among modules")
    return tuple(found.values())


def _balancing(
    vip: Checked | None,
    nodes: tuple[str, ...],
    addresses: tuple[FarmAddress, ...],
    faults: Faults,
) -> tuple[tuple[FarmGroup, ...], tuple[FarmRule, ...]]:
    """Return the groups and all their rules, in the order of the file: the first match counts."""
    balancing = vip.first("loadbalancing_list") if vip is not None else None
    if balancing is None:
        if vip is not None:
            reason = "without <loadbalancing_list> every packet is refused; add groups with rules"
            faults.add(vip.line, "vip", reason)
        return (FarmGroup("default"),), ()
    groups: dict[str, FarmGroup] = {}
    rules: list[FarmRule] = []
    for number, group in enumerate(balancing.all("group")):
        name = str(group["name"])
        if name in groups:
            faults.add(group.line, "group.name", f"{name} is here twice")
        groups[name] = FarmGroup(name, _powers(group, nodes, faults))
        for element in group.all("rule"):
            rules.append(_rule(element, number, addresses, faults))
    for address in addresses:
        _check_rules(address, rules, balancing.line, faults)
    return tuple(groups.values()), tuple(rules)


def _powers(group: Checked, nodes: tuple[str, ...], faults: Faults) -> tuple[tuple[str, int], ...]:
    cluster = group.first("cluster")
    powers: dict[str, int] = {}
    for host in cluster.all("host") if cluster is not None else []:
        name = str(host["name"])
        if name not in nodes:
            reason = f"{name} is not a node of this module, which has: {', '.join(nodes)}"
            faults.add(host.line, "host.name", reason)
        if name in powers:
            faults.add(host.line, "host.name", f"{name} is here twice")
        powers[name] = host["power"]
    if powers and not any(powers.values()):
        faults.add(group.line, "host.power", "no node of the group has any power: set one above 0")
    return tuple(powers.items())


def _rule(
    element: Checked, group: int, addresses: tuple[FarmAddress, ...], faults: Faults
) -> FarmRule:
    made = FarmRule(
        element["proto"], element["filter"], element["port"], element["virtual_addr"], group
    )
    if made.virtual_addr != "*" and made.virtual_addr not in [one.addr for one in addresses]:
        reason = f"{made.virtual_addr} is no virtual_addr of this module"
        faults.add(element.line, "rule.virtual_addr", reason)
    try:
        rule(made.proto, made.filter, made.port, made.virtual_addr, group)
    except ValueError as error:
        key, _, reason = str(error).partition(": ")
        faults.add(element.line, f"rule.{key}", reason)
    return made


def _check_rules(address: FarmAddress, rules: list[FarmRule], line: int, faults: Faults) -> None:
    if faults.found:
        return  # A rule is wrong by itself.
    packed = ipaddress.ip_address(address.addr).packed
    try:
        found = rules_of(packed, farm_rules(tuple(rules)))
    except ValueError as error:
        faults.add(line, "loadbalancing_list", f"{address.addr}: {error}")
        return
    if not found:
        reason = f"no rule applies to {address.addr}: every packet to it would be refused"
        faults.add(line, "loadbalancing_list", reason)


def farm_rules(rules: tuple[FarmRule, ...]) -> tuple[Rule, ...]:
    """Return the rules as the filters take them."""
    return tuple(
        rule(one.proto, one.filter, one.port, one.virtual_addr, one.group) for one in rules
    )


def _delivery(vip: Checked | None, rules: tuple[FarmRule, ...], faults: Faults) -> tuple[str, str]:
    """Return how packets reach all nodes, the same for all addresses; and the virtual MAC."""
    kinds: dict[str, int] = {}
    mac = ""
    for interface in _interfaces(vip) if vip is not None else []:
        for virtual in interface.all("virtual_interface"):
            kind = str(virtual["type"])
            kinds.setdefault(kind, virtual.line)
            if virtual["addr"]:
                other, mac = mac, str(virtual["addr"])
                try:
                    parse_virtual_mac(Delivery(kind), mac)
                except ValueError as error:
                    faults.add(virtual.line, "virtual_interface.addr", str(error))
                if other and other != mac:
                    reason = f"{other} and {mac} in one module; use one for all addresses"
                    faults.add(virtual.line, "virtual_interface.addr", reason)
    if len(kinds) > 1:
        line = list(kinds.values())[1]
        reason = f"{' and '.join(kinds)} in one module; use one type for all addresses"
        faults.add(line, "virtual_interface.type", reason)
    kind = next(iter(kinds), Delivery.NONE.value)
    if vip is not None and kind != Delivery.DIRECTED and any(r.proto == "arp" for r in rules):
        reason = f"a rule for arp has a meaning with vmac_directed only, not with {kind}"
        faults.add(vip.line, "rule.proto", reason)
    return kind, mac
