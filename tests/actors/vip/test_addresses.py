"""What the kernel says of the addresses and routes of a node, and what is done about it."""

import contextlib
import errno
import gc
import ipaddress
import os
import queue
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mirrorfarm.actors.events import ResourceChanged, VipIsDown, VipIsUp
from mirrorfarm.actors.vip.addresses import Addresses, is_local
from mirrorfarm.actors.vip.core import PRESENCE
from mirrorfarm.actors.vip.door import REMOVAL, SOURCE, VipDoor
from mirrorfarm.actors.vip.subnets import Target
from mirrorfarm.lab.network import inside
from mirrorfarm.modules.settings import VirtualAddress

live = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
VIP = "198.18.0.100"
ALIAS = (VirtualAddress(VIP),)
MAIN = (VirtualAddress(VIP, where="one_side"),)
GATEWAY = "203.0.113.1"  # In no subnet of the node.


class Node:
    """A namespace with one interface, and doors inside."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.name = f"mfaddr{uuid.uuid4().hex[:8]}"
        self.stack = stack
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "delete", self.name], check=True)
        self.ip("link add side0 type veth peer name side1")
        for link in ("lo", "side0", "side1"):
            self.ip(f"link set {link} up")
        self.ip("address add 198.18.0.1/24 dev side0")

    def ip(self, words: str) -> str:
        command = ["ip", "-n", self.name, *words.split()]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def batch(self, lines: list[str]) -> None:
        command = ["ip", "-n", self.name, "-batch", "-"]
        subprocess.run(command, check=True, input="\n".join(lines), text=True)

    def has(self, address: str) -> bool:
        return f" {address}/" in self.ip("-o address show")

    def routes(self) -> list[str]:
        return [line.strip() for line in self.ip("route show").splitlines()]

    def door(self, vips: tuple[VirtualAddress, ...]) -> VipDoor:
        with inside(self.name):
            door = VipDoor(vips, tell=self.told.put)
        self.stack.callback(door.close)
        return door

    def up(self, vips: tuple[VirtualAddress, ...]) -> tuple[VipDoor, tuple[str, ...]]:
        door = self.door(vips)
        door.add(1, self.told.put)
        event = self.told.get(timeout=60)
        assert isinstance(event, VipIsUp)
        return door, event.failures


def until(condition: Callable[[], bool], told: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


@pytest.fixture
def node() -> Iterator[Node]:
    with contextlib.ExitStack() as stack:
        yield Node(stack)


class TestListings:
    pytestmark = live

    def test_what_a_listing_left_out_is_not_said_to_be_down(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        door, failures = node.up(ALIAS)
        assert not failures
        whole, left_out = Addresses.configured, [1, 1]  # For `present`, and for `remove`.

        def configured(self: Addresses) -> Any:
            return () if left_out and left_out.pop() else whole(self)

        monkeypatch.setattr(Addresses, "configured", configured)
        door.remove(2, node.told.put)
        stays = node.told.get(timeout=60)
        assert (stays.resource, stays.value) == (REMOVAL, "down")
        assert f"{VIP}: still an address of this node" in stays.reason
        assert node.told.get(timeout=60) == ResourceChanged(REMOVAL, "up")
        assert node.told.get(timeout=60) == VipIsDown(2)
        assert not node.has(VIP)

    # With one of 120 numbers it is the last address that two packets have no room for.
    @pytest.mark.parametrize(("count", "more"), [(400, 120), (3_000, 2)])
    def test_a_listing_leaves_nothing_out_while_others_remove_addresses(
        self, node: Node, monkeypatch: pytest.MonkeyPatch, count: int, more: int
    ) -> None:
        """The kernel goes on at a number: what moved up to a smaller one, it does not tell."""
        everyone = [str(ipaddress.IPv4Address("198.19.0.0") + n) for n in range(count + more)]
        node.batch([f"address add {one}/32 dev side0" for one in everyone[:count]])
        removals: list[str] = []

        def removing(receive: Any) -> Any:
            def received(sock: socket.socket, *words: Any) -> Any:
                data = receive(sock, *words)
                if removals and sock.family == socket.AF_NETLINK:
                    node.ip(f"address del {removals.pop()}/32 dev side0")
                return data

            return received

        for name in ("recv", "recvfrom"):
            monkeypatch.setattr(socket.socket, name, removing(getattr(socket.socket, name)))
        with inside(node.name), contextlib.closing(Addresses(ALIAS)) as addresses:
            for number, newest in enumerate(everyone[count:]):
                node.ip(f"address add {newest}/32 dev side0")
                removals.append(everyone[number])
                told = {str(entry.address) for entry in addresses.configured()}
                assert set(everyone[number + 1 : count + number + 1]) - told == set()
                node.ip(f"address add {everyone[number]}/32 dev side0")

    def test_a_local_route_of_a_subnet_makes_no_address_the_node_s(self, node: Node) -> None:
        """As a transparent proxy has one: its node would never be rid of an address."""
        node.ip("route add local 198.18.0.0/24 dev lo")
        door, _ = node.up(ALIAS)
        with inside(node.name):
            assert is_local(ipaddress.ip_address(VIP))
        door.remove(2, node.told.put)
        assert node.told.get(timeout=60) == VipIsDown(2)
        with inside(node.name):
            assert not is_local(ipaddress.ip_address(VIP))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_socket_that_failed_is_not_used_again() -> None:
    addresses = Addresses(ALIAS)
    links = addresses.links()
    fault = OSError(errno.ENOBUFS, "No buffer space available")
    addresses._socket.asyncore.protocol.error_received(fault)
    assert addresses.links() == links
    assert addresses.routes() is not None
    addresses.close()
    del fault  # Its traceback holds what pyroute2 does not close where it failed.
    gc.collect()


class TestRoutes:
    pytestmark = live

    def test_an_address_serves_although_a_route_of_it_is_refused(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

        monkeypatch.setattr(Addresses, "_add_route", refuse)
        announced: list[str] = []

        def announce(targets: tuple[Target, ...]) -> tuple[str, ...]:
            announced.extend(str(one.address) for one in targets)
            return ()

        door = node.door(MAIN)
        monkeypatch.setattr(door._announcer, "announce", announce)
        door.add(1, node.told.put)
        failures = node.told.get(timeout=60).failures
        assert len(failures) == 2
        assert "198.18.0.0/25 on side0: " in failures[0]
        assert "Network is unreachable" in failures[0]
        assert node.has(VIP)
        assert announced == [VIP]
        node.ip(f"address del {VIP}/24 dev side0")
        gone = node.told.get(timeout=60)
        assert (gone.resource, gone.value) == (PRESENCE, "down")

    def test_a_gateway_that_is_on_the_link_by_word_alone_is_covered(self, node: Node) -> None:
        node.ip(f"route add default via {GATEWAY} dev side0 onlink")
        _, failures = node.up(MAIN)
        assert not failures
        assert node.has(VIP)
        assert f"0.0.0.0/1 via {GATEWAY} dev side0 proto static src {VIP} onlink" in node.routes()

    @pytest.mark.parametrize(
        "way",
        [
            "via inet6 2001:db8::1 dev side0",
            "nexthop via 198.18.0.2 dev side0 nexthop via 198.18.0.3 dev side0",
            "encap ip id 7 dst 198.18.0.2 dev side0",
        ],
    )
    def test_a_route_that_is_more_than_a_gateway_is_left_alone(self, node: Node, way: str) -> None:
        node.ip("address add 2001:db8::2/64 dev side0 nodad")
        try:
            node.ip(f"route add 0.0.0.0/0 {way}")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"not with this kernel: {error.stderr}")
        # Not as good as the first one: what covers it would cover both.
        node.ip("route add default via 198.18.0.9 dev side0 metric 500")
        before = node.routes()
        _, failures = node.up(MAIN)
        assert not failures
        added = [line for line in node.routes() if line not in before]
        assert [line.split()[0] for line in added] == ["198.18.0.0/25", "198.18.0.128/25"]

    def test_what_covers_a_route_has_all_that_the_route_has(self, node: Node) -> None:
        """Through a tunnel with a smaller MTU connections would stand still without it."""
        metrics = (
            "metric 100 mtu lock 1400 advmss 1300 window 40000 rto_min 50ms hoplimit 9 "
            "initcwnd 20 initrwnd 30 features ecn quickack 1 congctl reno fastopen_no_cookie 1"
        )
        node.ip(f"route add default via 198.18.0.9 dev side0 realm 5 {metrics}")
        node.ip("route add 203.0.113.0/24 dev side0 scope global mtu 1300")
        before = {line.split()[0]: line for line in node.routes()}
        door, failures = node.up(MAIN)
        assert not failures

        def alike(route: str, half: str) -> bool:
            """Whether a half is there that differs in nothing but destination and source."""
            words = before[route].split()
            found = [line.split() for line in node.routes() if line.startswith(f"{half} ")]
            ours = [word for word in found[0] if word not in ("proto", "static", "src", VIP)]
            return ours[1:] == words[1:]

        assert all(alike("default", half) for half in ("0.0.0.0/1", "128.0.0.0/1"))
        assert all(alike("203.0.113.0/24", f"203.0.113.{n}/25") for n in (0, 128))
        door.remove(2, node.told.put)
        assert node.told.get(timeout=60) == VipIsDown(2)
        assert {line.split()[0]: line for line in node.routes()} == before

    def test_a_route_for_one_type_of_service_draws_nothing_else(self, node: Node) -> None:
        node.ip("route add default tos 0x10 via 198.18.0.8 dev side0")
        node.ip("route add default via 198.18.0.9 dev side0")
        node.ip("link add side2 type veth peer name side3")
        for link in ("side2", "side3"):
            node.ip(f"link set {link} up")
        node.ip("address add 198.19.0.1/24 dev side2")
        node.ip("route add 203.0.113.0/24 via 198.18.0.9 dev side0")
        node.ip("route add 203.0.113.0/24 tos 0x10 via 198.19.0.9 dev side2")
        _, failures = node.up(MAIN)
        assert not failures

        def way(address: str, service: str = "") -> list[str]:
            words = node.ip(f"route get {address} {service}").split()
            return [words[words.index(name) + 1] for name in ("via", "src")]

        assert way("192.0.2.1") == ["198.18.0.9", VIP]
        assert way("192.0.2.1", "tos 0x10") == ["198.18.0.8", VIP]
        assert way("203.0.113.1", "tos 0x10") == ["198.19.0.9", "198.19.0.1"]

    def test_the_node_follows_a_gateway_that_was_changed(self, node: Node) -> None:
        """Clients beyond it would get no answers any more, nor would the node."""
        node.ip("route add default via 198.18.0.8 dev side0")
        door, failures = node.up(MAIN)
        assert not failures
        node.ip("route replace default via 198.18.0.9 dev side0")
        new = f"0.0.0.0/1 via 198.18.0.9 dev side0 proto static src {VIP}"
        until(lambda: new in node.routes(), node.routes)
        assert not any("198.18.0.8" in line for line in node.routes())
        node.ip("route del default")
        until(lambda: not any("198.18.0.9" in line for line in node.routes()), node.routes)
        assert f"198.18.0.0/25 dev side0 proto static scope link src {VIP}" in node.routes()
        door.remove(2, node.told.put)
        assert node.told.get(timeout=60) == VipIsDown(2)

    def test_a_link_that_was_down_has_its_routes_again(self, node: Node) -> None:
        node.up(MAIN)
        before = node.routes()
        node.ip("link set side0 down")
        node.ip("link set side0 up")
        until(lambda: node.routes() == before, node.routes)

    def test_a_route_that_is_refused_later_is_told_until_it_is_there(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node.up(MAIN)
        whole = Addresses._add_route

        def refuse(self: Addresses, route: Any) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

        monkeypatch.setattr(Addresses, "_add_route", refuse)
        node.ip("route add default via 198.18.0.9 dev side0")
        told = node.told.get(timeout=60)
        assert (told.resource, told.value, told.action) == (SOURCE, "down", "noaction")
        assert "0.0.0.0/1 via 198.18.0.9 on side0: " in told.reason
        monkeypatch.setattr(Addresses, "_add_route", whole)
        assert node.told.get(timeout=60) == ResourceChanged(SOURCE, "up")
