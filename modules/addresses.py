"""The addresses of a mirror: those that move between its nodes, and those that it pings."""

import ipaddress

from mirrorfarm.modules.faults import Faults
from mirrorfarm.modules.schema import Checked
from mirrorfarm.modules.settings import Cluster, Module, VirtualAddress
from mirrorfarm.modules.userschema import ADDRESSES_MAX

_IPV4_BITS = 32  # Nobody has a subnet of IPv6 as large as that.
_POINT_TO_POINT = 31  # Bits from which on a subnet has no address that is all machines' (RFC 3021).


def build_vips(vip: Checked | None, cluster: Cluster, faults: Faults) -> tuple[VirtualAddress, ...]:
    """Return what `<vip>` says; an address is one of nobody else's."""
    vips: dict[str, VirtualAddress] = {}
    taken = addresses_of_machines(cluster)
    for interface, element in _virtual_addresses(vip):
        addr, prefix = str(element["addr"]), int(element["netmask"])
        if addr in vips:
            faults.add(element.line, "virtual_addr.addr", f"{addr} is here twice")
        if addr in taken:
            reason = f"{addr} is the address of {taken[addr]}; a virtual one moves between nodes"
            faults.add(element.line, "virtual_addr.addr", reason)
        if ipaddress.ip_address(addr).is_loopback:
            faults.add(element.line, "virtual_addr.addr", f"{addr} cannot be reached by clients")
        if reason := disguised(addr) or unnamed_link(addr, interface):
            faults.add(element.line, "virtual_addr.addr", reason)
        if prefix > ipaddress.ip_address(addr).max_prefixlen:
            faults.add(
                element.line, "virtual_addr.netmask", f"{prefix} bits is too long for {addr}"
            )
        elif ":" in addr and 0 < prefix <= _IPV4_BITS:
            reason = f"{prefix} bits, as of a mask of IPv4, are no subnet of {addr}; write 64"
            faults.add(element.line, "virtual_addr.netmask", reason)
        elif reason := _of_all(addr, prefix):
            faults.add(element.line, "virtual_addr.addr", reason)
        vips[addr] = VirtualAddress(
            addr=addr,
            prefix=prefix,
            interface=interface,
            where=element["where"],
            check=element["check"],
        )
    if vip is not None and not vips:
        faults.add(vip.line, "vip", "has no virtual_addr; add one or remove vip")
    if vip is not None and len(vips) > ADDRESSES_MAX:
        faults.add(vip.line, "vip", f"{len(vips)} addresses, more than {ADDRESSES_MAX}")
    return tuple(vips.values())


def _of_all(addr: str, prefix: int) -> str:
    """Return why no single machine of a subnet has an address of IPv4; empty: one may have it."""
    if ":" in addr or not 0 < prefix < _POINT_TO_POINT:
        return ""
    subnet = ipaddress.IPv4Network(f"{addr}/{prefix}", strict=False)
    names = {
        str(subnet.network_address): "name",
        str(subnet.broadcast_address): "broadcast address",
    }
    if addr not in names:
        return ""
    return (
        f"{addr} is the {names[addr]} of its subnet {subnet}; choose one between, or mend netmask"
    )


def disguised(addr: str) -> str:
    """Return why an address of IPv6 is none to be written down here; empty: it may be."""
    plain = getattr(ipaddress.ip_address(addr), "ipv4_mapped", None)
    return f"{addr} is an address of IPv4, written as one of IPv6; write {plain}" if plain else ""


def of_one_link(addr: str) -> str:
    """Return that an address of IPv6 is of a link that it does not tell; empty: it is of none."""
    if ":" not in addr or not ipaddress.ip_address(addr).is_link_local:
        return ""
    return f"{addr} is valid on one link only, and says not on which"


def unnamed_link(addr: str, interface: str) -> str:
    """As `of_one_link`, of a virtual address; each interface has the subnet of such ones."""
    reason = "" if interface else of_one_link(addr)
    return f'{reason}; name it: <interface name="…">' if reason else ""


def check_pinged(element: Checked | None, module: Module, cluster: Cluster, faults: Faults) -> None:
    """Note each pinged address that answers whatever becomes of the network.

    Who has it would always win: the other node would never take over, or both would lead.
    """
    own = {vip.addr: "a virtual address of this module" for vip in module.vips}
    for network in cluster.networks:
        for node in network.nodes:
            if node.name in module.nodes:
                own |= dict.fromkeys((node.addr, node.laddr), f"an address of node {node.name}")
    for addr in module.arbiter.addresses if element is not None else ():
        what = "the own machine" if ipaddress.ip_address(addr).is_loopback else own.get(addr)
        reason = f"{addr} is {what}, which reaches itself whatever fails" if what else ""
        if reason := reason or disguised(addr) or of_one_link(addr):
            cure = "name an address of a third machine, such as the gateway"
            assert element is not None
            faults.add(element.line, "arbiter.addr", f"{reason}; {cure}")


def addresses_of_machines(cluster: Cluster) -> dict[str, str]:
    """Return the addresses of all nodes and witnesses, with the name of each machine."""
    taken = {
        addr: node.name
        for network in cluster.networks
        for node in network.nodes
        for addr in (node.addr, node.laddr)
    }
    return taken | {witness.addr: witness.name for witness in cluster.witnesses}


def _virtual_addresses(vip: Checked | None) -> list[tuple[str, Checked]]:
    """Return each `<virtual_addr>` with the name of its interface."""
    return [
        (str(interface["name"]), address)
        for listed in (vip.all("interface_list") if vip is not None else [])
        for interface in listed.all("interface")
        for real in interface.all("real_interface")
        for address in real.all("virtual_addr")
    ]
