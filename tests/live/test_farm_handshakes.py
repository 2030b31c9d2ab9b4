"""Handshakes that a planned move of their bucket interrupts."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time

import pytest

from mirrorfarm.lab.farm import CONNECT_SECONDS, PORT, VIP4, FarmLab, farm, resets
from mirrorfarm.limits import BUCKETS

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

HANDSHAKES = 60


def filter_client(lab: FarmLab, rules: str) -> None:
    """Let the client lose what `rules` of nftables say."""
    command = ["ip", "netns", "exec", lab.wiring.namespace("c"), "nft", "-f", "-"]
    subprocess.run(command, input=rules, text=True, check=True, timeout=60)


LOSE = """table ip lost {
  chain in {
    type filter hook input priority 0;
    tcp flags & (syn|ack) == syn|ack drop
  }
}
"""


def begin(lab: FarmLab) -> socket.socket:
    with lab.client():
        sock = socket.socket()
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect((VIP4, PORT))
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


@pytest.mark.parametrize("kind", ["bpf", "nft", "nfqueue"])
def test_a_handshake_whose_bucket_moves_ends_at_one_node_and_is_not_reset(kind: str) -> None:
    with farm(kind, "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        with lab.connect(VIP4) as first:
            first.recv(100)  # A name that comes after the end would be answered by a reset.
        seen = stack.enter_context(resets(lab))
        filter_client(lab, LOSE)
        socks = [stack.enter_context(begin(lab)) for _ in range(HANDSHAKES)]
        deadline = time.monotonic() + 30  # The owners answer every one; no answer is heard.
        while (begun := sum(len(node.clients()) for node in lab.nodes)) < HANDSHAKES:
            assert time.monotonic() < deadline, f"{begun} of {HANDSHAKES} were answered"
            time.sleep(0.01)
        for number in range(len(lab.nodes)):
            owned = [bucket for bucket in range(BUCKETS) if lab.owners[bucket] == number]
            lab.move(owned[: len(owned) // 2], number, (number + 1) % len(lab.nodes))
        filter_client(lab, "flush ruleset\n")
        answered = sum(is_answered(sock, 30) for sock in socks)
        held_back = sum(node.counters().get("resets", 0) for node in lab.nodes)
        sys.stdout.write(f"\n{kind}: {answered} answered, {held_back} resets held back\n")
        stack.close()
        assert answered == HANDSHAKES
        assert not seen
