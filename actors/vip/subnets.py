"""Find the interface and the prefix length of a virtual address, from what the node has."""

import ipaddress
from dataclasses import dataclass

from mirrorfarm.modules.settings import VirtualAddress
from mirrorfarm.netfilter.neighbours import IPAddress


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    mac: bytes  # Six bytes; empty if it has none.


@dataclass(frozen=True, slots=True)
class Configured:
    """An address that an interface has."""

    index: int
    address: IPAddress
    prefix: int

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """Its subnet."""
        return ipaddress.ip_network(f"{self.address}/{self.prefix}", strict=False)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a virtual address goes."""

    address: IPAddress
    prefix: int
    link: Link
    main: bool  # one_side: may be the source address of the node's own connections.


def locate(
    vip: VirtualAddress,
    links: tuple[Link, ...],
    configured: tuple[Configured, ...],
    virtual: tuple[str, ...] = (),
) -> Target | str:
    """Return where `vip` goes, or the fault in words.

    The interface is the one named, else the one with the longest subnet that contains the
    address. Addresses in `virtual` are themselves virtual and say nothing about subnets.
    """
    address = ipaddress.ip_address(vip.addr)
    not_counted = {vip.addr, *virtual}
    subnets = [
        entry
        for entry in configured
        if str(entry.address) not in not_counted
        and entry.address.version == address.version
        and address in entry.network
    ]
    by_index = {link.index: link for link in links}
    if vip.interface:
        named = [link for link in links if link.name == vip.interface]
        if not named:
            return f"{vip.addr}: there is no interface {vip.interface}; `ip link` lists them"
        link = named[0]
        own = [entry.prefix for entry in subnets if entry.index == link.index]
        prefix = vip.prefix or max(own, default=address.max_prefixlen)
        return Target(address, prefix, link, vip.where == "one_side")
    subnets = [entry for entry in subnets if entry.index in by_index]
    if not subnets:
        return (
            f"{vip.addr}: no interface has an address in its subnet; configure one, "
            "or name the interface in userconfig.xml (<interface name=…>)"
        )
    best = max(subnets, key=lambda entry: (entry.prefix, -entry.index))
    prefix = vip.prefix or best.prefix
    return Target(address, prefix, by_index[best.index], vip.where == "one_side")
