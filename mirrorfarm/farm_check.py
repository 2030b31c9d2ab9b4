"""What the agent of a node does for `mirrorfarm farm check`: orders in, one part of a check.

Imported when the first such order comes. One check at a time; whoever is not its token is refused.
"""

import fcntl
import hashlib
import ipaddress
import re
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mirrorfarm.actors.arbiter.ping_door import ping
from mirrorfarm.actors.vip.addresses import Addresses
from mirrorfarm.actors.vip.cables import without_cable
from mirrorfarm.actors.vip.check import Part, Peer, mac_bytes
from mirrorfarm.actors.vip.subnets import Configured, Target
from mirrorfarm.errors import Refused, SystemUnsuitable
from mirrorfarm.limits import (
    CHECK_SILENT_NS,
    CHECK_SIZE_MAX,
    CHECK_SIZES_MAX,
    FARM_NODES_MAX,
    MILLISECOND_NS,
    SECOND_NS,
    VIRTUAL_ADDRESSES_MAX,
)
from mirrorfarm.modules.install import load_cluster, load_module
from mirrorfarm.modules.settings import Module
from mirrorfarm.netfilter.announce import hardware_address
from mirrorfarm.netfilter.choice import choose
from mirrorfarm.netfilter.delivery import Delivery, parse_virtual_mac, virtual_mac
from mirrorfarm.netfilter.neighbours import mac_text
from mirrorfarm.netfilter.preflight import (
    BUSY,
    TOKEN_BYTES,
    Facts,
    Ping,
    Place,
    Report,
    is_host_mac,
)
from mirrorfarm.paths import Paths
from mirrorfarm.transport.messages import AgentCommand, AgentResult

PREFIX = "farm-check-"
_PING_NS = 500 * MILLISECOND_NS
_GET_MTU = 0x8921  # SIOCGIFMTU
_OF_INTERFACE = ("rp_filter", "drop_unicast_in_l2_multicast", "drop_gratuitous_arp")


class FarmChecks:
    """The checks of this node, one at a time. To be used by one thread at a time."""

    def __init__(self, paths: Paths, node: str) -> None:
        self._paths = paths
        self._node = node
        self._part: Part | None = None
        self._module: Module | None = None

    def perform(self, command: AgentCommand) -> AgentResult:
        """Carry out one order; raises Refused, SystemUnsuitable, or OSError."""
        verbs: dict[str, Callable[[Part, tuple[str, ...]], Report | None]] = {
            "hold": lambda part, _: part.ordered(),
            "ask": self._ask,
            "send": self._send,
            "widen": lambda part, _: part.widen(),
            "send-wide": lambda part, words: part.send_wide(peers(words)),
            "watch": lambda part, words: part.watch("plant" in words),
            "announce": lambda part, _: part.announce(),
            "end": self._end,
        }
        verb = command.verb.removeprefix(PREFIX)
        token, *words = (*command.arguments, "")
        if not re.fullmatch(f"[0-9a-f]{{{2 * TOKEN_BYTES}}}", token):
            raise Refused("a check has a token of 32 hexadecimal digits")
        if verb == "begin":
            facts = self._begin(bytes.fromhex(token), words[0])
            return AgentResult(command.request, "done", "", msgspec.json.encode(facts))
        perform = verbs.get(verb)
        if perform is None:
            raise Refused(f"unknown order {command.verb!r}")
        part = self._part
        if part is None or part.over or part.token.hex() != token:
            raise Refused(f"no such check goes on here; it ends when nobody orders for {_SILENT}")
        part.ordered()
        found = perform(part, tuple(word for word in words if word))
        part.ordered()
        encoded = msgspec.json.encode(found) if found is not None else b""
        return AgentResult(command.request, "done", "", encoded)

    def close(self) -> None:
        """End the check that goes on, if any."""
        if self._part is not None:
            self._part.close()
            self._part = None

    def _begin(self, token: bytes, name: str) -> Facts:
        if self._part is not None and not self._part.over:
            raise Refused(
                f"{BUSY} on {self._node}: wait for its end; one that was interrupted ends by "
                f"itself after {_SILENT}"
            )
        module = load_module(self._paths, name)
        if module.mode != "farm":
            raise Refused(f"{name} is a {module.mode} module, not a farm")
        if self._node not in module.nodes:
            there = ", ".join(module.nodes)
            raise Refused(f"{name} is not for {self._node}: its nodes are {there}")
        facts = facts_of(module, self._node)
        self._part, self._module = Part(token, facts), module
        return facts

    def _ask(self, part: Part, words: tuple[str, ...]) -> Report:
        del words
        part.ask()
        return part.report()

    def _send(self, part: Part, words: tuple[str, ...]) -> Report:
        part.send(peers(words), sizes(words))
        assert self._module is not None
        return Report(pings=self._pings(self._module))

    def _end(self, part: Part, words: tuple[str, ...]) -> Report:
        del words
        found = part.report()
        self.close()
        return found

    def _pings(self, module: Module) -> tuple[Ping, ...]:
        """Measure the way to each node on each network of the heartbeats."""
        found = []
        for network in load_cluster(self._paths).networks:
            if network.name not in module.farm.networks:
                continue
            others = {
                node.addr: module.nodes.index(node.name)
                for node in network.nodes
                if node.name != self._node and node.name in module.nodes
            }
            answered = ping(tuple(others), _PING_NS)
            for address, number in others.items():
                time_ns = -1
                if address in answered:
                    began_ns = time.monotonic_ns()
                    if ping((address,), _PING_NS):
                        time_ns = time.monotonic_ns() - began_ns
                found.append(Ping(network.name, number, time_ns))
        return tuple(found)


_SILENT = f"{CHECK_SILENT_NS // SECOND_NS} s"


def peers(words: tuple[str, ...]) -> tuple[Peer, ...]:
    """Read words such as `peer:0:2:02:00:00:00:00:01`; raises Refused."""
    found = []
    for word in words:
        if not word.startswith("peer:"):
            continue
        _, segment, node, mac = (*word.split(":", 3), "", "", "")[:4]
        known = re.fullmatch("[0-9]{1,2}", segment) and re.fullmatch("[0-9]{1,2}", node)
        if not known or not is_host_mac(mac):
            raise Refused(f"{word!r} names no node of a check")
        if int(segment) >= VIRTUAL_ADDRESSES_MAX or int(node) >= FARM_NODES_MAX:
            raise Refused(f"{word!r} is no node of a farm")
        found.append(Peer(int(segment), int(node), mac_bytes(mac)))
    if len(found) > VIRTUAL_ADDRESSES_MAX * FARM_NODES_MAX:
        raise Refused("more nodes than a farm has")
    return tuple(found)


def sizes(words: tuple[str, ...]) -> tuple[int, ...]:
    """Read words such as `size:1500`; raises Refused."""
    found = [word.removeprefix("size:") for word in words if word.startswith("size:")]
    if len(found) > CHECK_SIZES_MAX or not all(re.fullmatch("[0-9]{2,4}", one) for one in found):
        raise Refused(f"at most {CHECK_SIZES_MAX} sizes of two to four digits")
    return tuple(min(int(one), CHECK_SIZE_MAX) for one in found)


def facts_of(module: Module, node: str) -> Facts:
    """Return what this node knows without the network; raises OSError."""
    farm = module.farm
    delivery = Delivery(farm.delivery)
    configured = parse_virtual_mac(delivery, farm.mac) if farm.mac else b""
    addresses = tuple(ipaddress.ip_address(one.addr) for one in farm.addresses)
    places, faults = places_of(module)
    try:
        kind, why = choose(farm.filter, delivery)
    except SystemUnsuitable as error:
        kind, why = "", str(error)
    same = (farm.addresses, farm.rules, farm.groups, farm.delivery, farm.mac, farm.seed)
    return Facts(
        node=node,
        nodes=module.nodes,
        addresses=tuple(str(address) for address in addresses),
        delivery=farm.delivery,
        virtual_macs=tuple(
            mac_text(mac) if (mac := virtual_mac(delivery, address, configured)) else ""
            for address in addresses
        ),
        rules=hashlib.sha256(msgspec.json.encode(same)).hexdigest()[:16],
        pulse_ns=farm.timing.pulse_ns,
        silent_ns=farm.timing.silent_ns,
        places=places,
        faults=faults,
        filter=kind,
        filter_why=why,
        parameters=parameters([place.interface for place in places]),
        way_out=way_out(),
    )


def places_of(module: Module) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """Return the interfaces of the addresses, and what is wrong with the others."""
    texts = [str(ipaddress.ip_address(one.addr)) for one in module.farm.addresses]
    located = Addresses(module.farm.virtual_addresses)
    try:
        targets, faults = located.locate()
        configured = located.configured()
    finally:
        located.close()
    by_name: dict[str, list[int]] = {}
    sources: dict[int, str] = {}
    for target in targets:
        number = texts.index(str(target.address))
        by_name.setdefault(target.link.name, []).append(number)
        sources[number] = source_for(target, configured, frozenset(texts))
    found = []
    for name, numbers in by_name.items():
        mac = mac_text(hardware_address(name))
        if not is_host_mac(mac):
            faults = (*faults, f"{name} is no Ethernet interface: a farm's address needs one")
            continue
        own = tuple(sources[number] for number in numbers)
        up = not without_cable((name,))
        found.append(Place(name, mac, _mtu(name), up, tuple(numbers), own))
    return tuple(found), faults


def source_for(target: Target, configured: tuple[Configured, ...], virtual: frozenset[str]) -> str:
    """Return the node's own address beside a virtual one, of the same subnet if there is one."""
    own = [
        entry
        for entry in configured
        if entry.index == target.link.index
        and entry.address.version == target.address.version
        and str(entry.address) not in virtual
    ]
    beside = [
        entry
        for entry in own
        if target.address in ipaddress.ip_network(f"{entry.address}/{entry.prefix}", strict=False)
    ]
    best = (beside or own)[:1]
    return str(best[0].address) if best else ""


def _mtu(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _GET_MTU, struct.pack("40s", name.encode()[:15]))
    return int(struct.unpack_from("@i", answer, 16)[0])


def parameters(interfaces: list[str]) -> dict[str, str]:
    """Return the kernel parameters that matter, by name; those that are missing are left out."""
    names = [f"net/ipv4/conf/{where}/{n}" for where in ("all", *interfaces) for n in _OF_INTERFACE]
    names += [f"net/ipv6/conf/{where}/drop_unsolicited_na" for where in ("all", *interfaces)]
    found = {}
    for name in names:
        try:
            found[name] = Path("/proc/sys", name).read_text(encoding="ascii").strip()
        except OSError:
            continue
    return found


def way_out() -> str:
    """Return the interface of the default route of IPv4; "": there is none."""
    try:
        lines = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return ""
    rows = [line.split() for line in lines]
    best = [(int(row[6]), row[0]) for row in rows if len(row) > 7 and row[1] == row[7] == "0" * 8]
    return min(best)[1] if best else ""
