"""A farm of three nodes and a client on one bridge: every client is answered by exactly one."""

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from mirrorfarm.lab.farm import VIP4, VIP6, FarmLab, farm, resets

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

KINDS = ("nft",)
CONNECTIONS = 300
STREAMS = 90
MOVES = 40


def tell(text: str) -> None:
    """Show a measurement: `pytest -s`."""
    sys.stdout.write(f"\n{text}\n")


def wait(condition: Callable[[], bool], seconds: float = 3.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def name_of(sock: socket.socket) -> str:
    """Return the name with which the service of a connection begins."""
    return sock.recv(100).decode()


def answers(lab: FarmLab, address: str, count: int) -> tuple[int, Counter[str]]:
    """Connect `count` times; return how often the predicted owner answered, and who did."""
    right, who = 0, Counter[str]()
    for _ in range(count):
        with lab.connect(address) as sock:
            name = name_of(sock)
            right += name == lab.owner(sock)
            who[name] += 1
    return right, who


def is_silent(lab: FarmLab, address: str = VIP4, seconds: float = 0.3) -> bool:
    """Tell whether nobody answers, by TCP nor by UDP."""
    for ask in (lab.connect, lab.ask):
        try:
            answer = ask(address, seconds)
        except TimeoutError:
            continue
        if isinstance(answer, socket.socket):
            answer.close()
        return False
    return True


@pytest.mark.parametrize("delivery", ["vmac_invisible", "multicast"])
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_one_of_three_answers_every_connection_and_every_datagram(
    kind: str, delivery: str
) -> None:
    with farm(kind, delivery) as lab, resets(lab) as seen:
        for address in (VIP4, VIP6):
            right, who = answers(lab, address, CONNECTIONS)
            tell(f"{kind} {delivery} {address}: {dict(who)}")
            assert right == CONNECTIONS
            assert min(who.values()) > CONNECTIONS / 6
            for _ in range(50):
                answered, owner = lab.ask(address)
                assert answered == [owner]
        assert not seen
