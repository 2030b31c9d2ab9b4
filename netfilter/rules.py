"""Load-balancing rules: which traffic is balanced, and by what of the client.

The first rule that matches decides. Every filter follows this file: `farm.bpf.c` does the same
with the rules of each address laid out by `rules_of`, and tests/live/test_bpf.py compares them.
"""

import ipaddress
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import NamedTuple, assert_never

from xxhash import xxh64_intdigest

from mirrorfarm.limits import GROUPS_MAX, RULES_PER_ADDRESS_MAX
from mirrorfarm.netfilter.packet import ARP, TCP, UDP, Kind, Packet
from mirrorfarm.netfilter.share import bucket_of

ANY_ADDRESS = b""
ANY_PORT = 0

_PROTOCOLS = {"tcp": TCP, "udp": UDP, "arp": ARP}


class Filter(IntEnum):
    """What of a client decides; the numbers are those of the program in the kernel."""

    ON_ADDR = 0  # Its address: the same node for all it does.
    ON_PORT = 1  # Address and source port: its connections are spread.
    ON_IPID = 2  # Address and IP identification: the datagrams of one source are spread.


class State(IntEnum):
    """A bucket at one node; the numbers are those of the program in the kernel."""

    FOREIGN = 0
    HARD = 1  # Owned, and nobody else has connections in it.
    SOFT = 2  # Owned, while a former owner still has connections.


class Known(Enum):
    """What this node's kernel knows of the connection that a TCP segment belongs to."""

    NOTHING = "nothing"
    LISTENER = "listener"  # Only that somebody listens at its port.
    COOKIE = "cookie"  # A listener, and the segment returns a valid SYN cookie.
    CONNECTION = "connection"
    REOPENED = "reopened"  # One that is over, and its client's next one is at another node.


class Verdict(Enum):
    """A placement that is no bucket."""

    REFUSED = "refused"  # No node takes it.
    EVERYONE = "everyone"  # All nodes take it.


class Placement(NamedTuple):
    """The bucket of a packet: the node that owns it takes the packet."""

    group: int
    bucket: int


class Rule(NamedTuple):
    """Traffic to be balanced. `group` is the position of its group in the configuration."""

    protocol: int  # TCP, UDP, or ARP: the questions after the virtual address.
    filter: Filter = Filter.ON_ADDR
    port: int = ANY_PORT  # Destination port.
    virtual_address: bytes = ANY_ADDRESS
    group: int = 0


Rules = tuple[Rule, ...]


def rule(
    protocol: str, by: str, port: str = "*", virtual_address: str = "*", group: int = 0
) -> Rule:
    """Return a rule from the words of userconfig.xml; raise ValueError that names a wrong one."""
    if protocol not in _PROTOCOLS:
        raise ValueError(f"proto: {protocol!r} is none of tcp, udp, arp")
    if by not in {one.name.lower() for one in Filter}:
        raise ValueError(f"filter: {by!r} is none of on_addr, on_port, on_ipid")
    number, found = _PROTOCOLS[protocol], Filter[by.upper()]
    if found is Filter.ON_IPID and number != UDP:
        raise ValueError("filter: on_ipid is for udp only: it would tear a connection apart")
    if number == ARP and (found is not Filter.ON_ADDR or port != "*"):
        raise ValueError("filter: a rule for arp has filter on_addr and no port")
    if port != "*" and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"port: {port!r} is neither 1 to 65535 nor *")
    if not 0 <= group < GROUPS_MAX:
        raise ValueError(f"group: there are at most {GROUPS_MAX} groups")
    address = ANY_ADDRESS
    if virtual_address != "*":
        address = ipaddress.ip_address(virtual_address).packed
    return Rule(number, found, ANY_PORT if port == "*" else int(port), address, group)


def rules_of(address: bytes, rules: Rules) -> Rules:
    """Return the rules that apply to a virtual address, in order, those for ARP left out.

    Raises ValueError if there are more than a filter has room for.
    """
    found = tuple(
        rule
        for rule in rules
        if rule.virtual_address in (ANY_ADDRESS, address) and rule.protocol != ARP
    )
    if len(found) > RULES_PER_ADDRESS_MAX:
        raise ValueError(f"more than {RULES_PER_ADDRESS_MAX} rules apply to one virtual address")
    return found


def key(packet: Packet, rule: Rule) -> bytes:
    """Return what of the client is hashed: its address, and its port or IP identification."""
    if packet.kind in (Kind.SYN, Kind.STREAM, Kind.UDP):
        if rule.filter is Filter.ON_PORT:
            return packet.source + packet.source_port.to_bytes(2, "big")
        if rule.filter is Filter.ON_IPID and packet.version == 4:
            return packet.source + packet.identification.to_bytes(2, "big")
    return packet.source


def xxhash_bucket(key: bytes, seed: int) -> int:
    """Return the bucket of what is hashed, as `bpf` and `nfqueue` place it."""
    return bucket_of(xxh64_intdigest(key, seed))


def bucket(
    packet: Packet,
    rules: Rules,
    seed: int,
    place: Callable[[bytes, int], int] = xxhash_bucket,
) -> Placement | Verdict:
    """Return which bucket a packet to a virtual address falls into, or that none decides.

    Pings, and fragments of them, follow the first rule of the address; other fragments the
    first one of their protocol: all by the client's address alone, for they have no port.
    """
    match packet.kind:
        case Kind.ICMP_ERROR | Kind.NEIGHBOUR:
            return Verdict.EVERYONE
        case Kind.MALFORMED | Kind.OTHER:
            return Verdict.REFUSED
        case Kind.ARP | Kind.SYN | Kind.STREAM | Kind.UDP | Kind.ECHO | Kind.FRAGMENT:
            found = first_rule(packet, rules)
        case _:
            assert_never(packet.kind)
    if found is None:  # Without a rule for it every node answers ARP, all with the same.
        return Verdict.EVERYONE if packet.kind is Kind.ARP else Verdict.REFUSED
    return Placement(found.group, place(key(packet, found), seed))


def accepts(packet: Packet, state: State, known: Known) -> bool:
    """Tell whether a node takes a packet whose bucket is in `state` here.

    In a bucket that is owned alone the kernel decides about unknown connections, by a reset.
    Elsewhere a segment may belong to another node: without a connection here it is ignored.
    """
    if packet.kind is not Kind.STREAM or state is State.HARD:
        return state is not State.FOREIGN
    if state is State.SOFT and known is Known.COOKIE:
        return True
    return known is Known.CONNECTION


def first_rule(packet: Packet, rules: Rules) -> Rule | None:
    """Return the first rule that applies to a packet."""
    icmp = packet.kind is Kind.ECHO or (packet.kind is Kind.FRAGMENT and packet.is_icmp)
    for candidate in rules:
        if candidate.virtual_address not in (ANY_ADDRESS, packet.destination):
            continue
        if icmp:
            if candidate.protocol != ARP:
                return candidate
        elif candidate.protocol == packet.protocol:
            portless = packet.kind in (Kind.FRAGMENT, Kind.ARP)
            if portless or candidate.port in (ANY_PORT, packet.destination_port):
                return candidate
    return None
