"""A farm whose service is in a container: its address is translated behind the filter."""

import contextlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from mirrorfarm.lab.farm import PORT, VIP4, FarmLab, FarmNode, end, farm, resets, start_service
from mirrorfarm.lab.network import NAMESPACES, order

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
            [*enter, "nft", "-f", "-"], input=translate, text=True, check=True, timeout=9
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
