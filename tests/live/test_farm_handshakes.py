"""Handshakes that a planned move of their bucket interrupts."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorfarm.lab.farm import CONNECT_SECONDS, PORT, VIP4, VIP6, FarmLab, FarmNode, farm, resets
from mirrorfarm.lab.network import inside
from mirrorfarm.limits import BUCKETS
from tests.live.test_farm_translation import container

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

HANDSHAKES = 60


def filter_client(lab: FarmLab, rules: str) -> None:
    """Let the client lose what `rules` of nftables say."""
    command = ["ip", "netns", "exec", lab.wiring.namespace("c"), "nft", "-f", "-"]
    subprocess.run(command, input=rules, text=True, check=True, timeout=60)


LOSE = """table inet lost {
  chain in {
    type filter hook input priority 0;
    tcp flags & (syn|ack) == syn|ack drop
  }
}
"""


def begin(lab: FarmLab, address: str = VIP4) -> socket.socket:
    with lab.client():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect((address, PORT))
    return sock


def is_answered(sock: socket.socket, seconds: float) -> bool:
    """Wait for the connection and the name its service says; then use it."""
    if not select.select([sock], [], [], seconds)[0]:
        return False
    sock.settimeout(CONNECT_SECONDS)
    try:
        name = sock.recv(100)
        sock.send(b"?")
        return bool(name) and sock.recv(100) == name
    except OSError:
        return False


def half_open(node: FarmNode) -> int:
    """Return how many handshakes a node's container has answered, and whose end it awaits."""
    with inside(f"{node.namespace}-box"):
        table = Path("/proc/thread-self/net/tcp").read_text(encoding="ascii")
    return sum(line.split()[3] == "03" for line in table.splitlines()[1:])  # SYN_RECV


def halves_move(lab: FarmLab) -> None:
    """Move half of each node's buckets to the next one."""
    for number in range(len(lab.nodes)):
        owned = [bucket for bucket in range(BUCKETS) if lab.owners[bucket] == number]
        lab.move(owned[: len(owned) // 2], number, (number + 1) % len(lab.nodes))


def until_begun(count: Callable[[], int]) -> None:
    """Wait until the owners have answered every handshake; the client hears no answer."""
    deadline = time.monotonic() + 30
    while (begun := count()) < HANDSHAKES:
        assert time.monotonic() < deadline, f"{begun} of {HANDSHAKES} were answered"
        time.sleep(0.01)


def tell(kind: str, lab: FarmLab, answered: int) -> None:
    held_back = sum(node.counters().get("resets", 0) for node in lab.nodes)
    sys.stdout.write(f"\n{kind}: {answered} answered, {held_back} resets held back\n")


@pytest.mark.parametrize("address", [VIP4, VIP6])
@pytest.mark.parametrize("kind", ["bpf", "nft", "nfqueue"])
def test_a_handshake_whose_bucket_moves_ends_at_one_node_and_is_not_reset(
    kind: str, address: str
) -> None:
    with farm(kind, "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        with lab.connect(address) as first:
            first.recv(100)  # A name that comes after the end would be answered by a reset.
        seen = stack.enter_context(resets(lab))
        filter_client(lab, LOSE)
        socks = [stack.enter_context(begin(lab, address)) for _ in range(HANDSHAKES)]
        until_begun(lambda: sum(len(node.clients()) for node in lab.nodes))
        halves_move(lab)
        filter_client(lab, "flush ruleset\n")
        answered = sum(is_answered(sock, 30) for sock in socks)
        tell(kind, lab, answered)
        stack.close()
        assert answered == HANDSHAKES
        assert not seen


def test_a_handshake_with_a_container_is_not_reset_by_another_one() -> None:
    """What containers send is forwarded, and has the virtual address only at the very end."""
    with farm("nft", "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        for number, node in enumerate(lab.nodes, 1):
            stack.enter_context(container(node, number))
        with lab.connect(VIP4) as first:
            first.recv(100)  # A name that comes after the end would be answered by a reset.
        seen = stack.enter_context(resets(lab))
        filter_client(lab, LOSE)
        socks = [stack.enter_context(begin(lab)) for _ in range(HANDSHAKES)]
        until_begun(lambda: sum(half_open(node) for node in lab.nodes))
        halves_move(lab)
        filter_client(lab, "flush ruleset\n")
        answered = sum(is_answered(sock, 30) for sock in socks)
        tell("nft, translated", lab, answered)
        stack.close()
        assert answered == HANDSHAKES
        assert not seen
