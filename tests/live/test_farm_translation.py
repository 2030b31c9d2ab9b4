"""A farm whose service is in a container: its address is translated behind the filter."""

import contextlib
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from mirrorfarm.actors.farm_filter.sockets import count, live
from mirrorfarm.lab.farm import PORT, VIP4, FarmLab, FarmNode, end, farm, resets, start_service
from mirrorfarm.lab.network import NAMESPACES, inside, order
from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.rules import State

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

STREAMS, MOVES = 30, 20


@contextlib.contextmanager
def container(node: FarmNode, number: int) -> Iterator[None]:
    """Give a node a namespace of its own with a service, to which the address is translated."""
    name, net = f"{node.namespace}-box", f"198.19.{number}"
    process = None
    try:
        order("ip", "netns", "add", name)
        order("ip", "-n", name, "link", "set", "lo", "up")
        peer = ("peer", "name", "eth0", "netns", name)
        order("ip", "-n", node.namespace, "link", "add", "box", "type", "veth", *peer)
        order("ip", "-n", node.namespace, "addr", "add", f"{net}.1/24", "dev", "box")
        order("ip", "-n", node.namespace, "link", "set", "box", "up")
        order("ip", "-n", name, "addr", "add", f"{net}.2/24", "dev", "eth0")
        order("ip", "-n", name, "link", "set", "eth0", "up")
        order("ip", "-n", name, "route", "add", "default", "via", f"{net}.1")
        translate = f"""table ip box {{
  chain in {{
    type nat hook prerouting priority dstnat;
    ip daddr {VIP4} tcp dport {PORT} dnat to {net}.2
  }}
}}
"""
        enter = ["ip", "netns", "exec", node.namespace]
        subprocess.run(
            [*enter, "nft", "-f", "-"], input=translate, text=True, check=True, timeout=60
        )
        order(*enter, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        process = start_service(name, f"box{number}", str(PORT), f"{net}.2")
        yield
    finally:
        if process:
            end(process)
        if (NAMESPACES / name).exists():
            order("ip", "netns", "del", name)


def expected(lab: FarmLab, name: str) -> str:
    """Return what the container of a node says."""
    return f"box{[node.name for node in lab.nodes].index(name) + 1}"


def busy(lab: FarmLab, node: FarmNode) -> tuple[set[int], int]:
    """Return in which buckets a node says that it has connections, and how many."""
    settings = lab.settings
    rules = (settings.rules, settings.seed, 1, lab.placing())
    with inside(node.namespace):
        (bits,), connections = count(settings.addresses, *rules, translating=True)
    number = int.from_bytes(bits, "little")
    return {one for one in range(BUCKETS) if number >> one & 1}, connections


def test_connections_to_a_container_are_counted_until_they_end() -> None:
    """Who owns their buckets takes what it does not know only when nobody has any there."""
    with farm("nft", "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        loser, gainer = lab.nodes[:2]
        for number, node in enumerate(lab.nodes, 1):
            stack.enter_context(container(node, number))
        streams = [stack.enter_context(lab.connect(VIP4)) for _ in range(STREAMS)]
        names = [stream.recv(100).decode() for stream in streams]
        mine = [one for one, name in zip(streams, names, strict=True) if name == "box1"]
        places = {
            lab.bucket_of(ip_address(one.getsockname()[0]), one.getsockname()[1]) for one in mine
        }
        assert busy(lab, loser) == (places, len(mine))
        with inside(loser.namespace):
            assert live(lab.settings.addresses, translating=True) == len(mine)
        lab.move([b for b in range(BUCKETS) if lab.owners[b] == 0], 0, 1)
        others = set[int]().union(*(busy(lab, node)[0] for node in (loser, lab.nodes[2])))
        ready = [b for b in range(BUCKETS) if gainer.states[b] == State.SOFT and b not in others]
        gainer.set(ready, State.HARD)
        for stream, name in zip(streams, names, strict=True):
            stream.send(b"?")
            assert stream.recv(100).decode() == name
        for stream in mine:
            stream.close()
        deadline = time.monotonic() + 30
        while left := busy(lab, loser)[1]:
            assert time.monotonic() < deadline, f"{left} connections are counted still"
            time.sleep(0.1)


def test_one_container_answers_and_its_connections_survive_moves() -> None:
    chance = random.Random(3)
    with farm("nft", "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        for number, node in enumerate(lab.nodes, 1):
            stack.enter_context(container(node, number))
        seen = stack.enter_context(resets(lab))
        streams = [stack.enter_context(lab.connect(VIP4)) for _ in range(STREAMS)]
        names = [stream.recv(100).decode() for stream in streams]
        assert names == [expected(lab, lab.owner(stream)) for stream in streams]
        for move in range(MOVES):
            lab.move_at_random(chance, all_of_it=move % 4 == 0)
            for stream, name in zip(streams, names, strict=True):
                stream.send(b"?")
                assert stream.recv(100).decode() == name
            with lab.connect(VIP4) as fresh:
                assert fresh.recv(100).decode() == expected(lab, lab.owner(fresh))
        assert len(Counter(names)) == len(lab.nodes)
        assert not seen
