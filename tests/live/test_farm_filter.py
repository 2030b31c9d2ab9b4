"""A farm of three nodes and a client on one bridge: every client is answered by exactly one."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from mirrorfarm.lab.farm import VIP4, VIP6, FarmLab, farm, resets
from mirrorfarm.netfilter.rules import State

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


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_daemon_s_node_answers_nobody_and_the_others_go_on(kind: str) -> None:
    with farm(kind, "vmac_invisible", lease_ms=300) as lab:
        answers(lab, VIP4, 20)
        lab.nodes[0].kill()
        time.sleep(0.4)  # The lease runs out: that is what is tested.
        for address in (VIP4, VIP6):
            silent, others = Counter[bool](), Counter[bool]()
            for _ in range(40):
                try:
                    with lab.connect(address, 0.15) as sock:
                        others[name_of(sock) == lab.owner(sock) != "n1"] += 1
                except TimeoutError:
                    silent[True] += 1
            assert not others[False]
            assert silent[True] > 3
            assert others[True] > 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delivery", ["vmac_invisible", "multicast"])
def test_when_every_daemon_is_killed_nobody_answers(kind: str, delivery: str) -> None:
    with farm(kind, delivery, lease_ms=300) as lab:
        assert not is_silent(lab)
        for node in lab.nodes:
            node.kill()
        assert wait(lambda: is_silent(lab))
        for address in (VIP4, VIP6):
            assert is_silent(lab, address)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_daemon_is_silent_after_its_lease_and_cannot_reopen_it(kind: str) -> None:
    with farm(kind, "vmac_invisible", lease_ms=300) as lab:
        with lab.connect(VIP4) as kept:
            name_of(kept)
            for node in lab.nodes:
                node.freeze()
            begin = time.monotonic()
            last = begin
            kept.settimeout(0.05)
            while time.monotonic() - begin < 1.0:
                with contextlib.suppress(TimeoutError):
                    kept.send(b"?")
                    kept.recv(100)
                    last = time.monotonic()
            tell(
                f"{kind}: last answer {(last - begin) * 1e3:.0f} ms after the freeze, lease 300 ms"
            )
            assert last - begin < 0.35
            assert is_silent(lab)
        for node in lab.nodes:
            node.thaw()
        # Each daemon tries to go on with the table it had, and must not.
        for node in lab.nodes:
            assert node.order({})["held_always"] is False
        assert is_silent(lab), "what others may own by now was opened again"
        for number, node in enumerate(lab.nodes):
            node.set([b for b, owner in enumerate(lab.owners) if owner == number], State.HARD)
        right, _ = answers(lab, VIP4, 50)
        assert right == 50


@pytest.mark.parametrize(
    ("kind", "address", "cookies"),
    [("nft", VIP4, "1"), ("nft", VIP6, "1"), ("nft", VIP4, "2")],
)
def test_live_connections_survive_planned_moves_without_one_reset(
    kind: str, address: str, cookies: str
) -> None:
    chance = random.Random(20)
    with farm(kind, "vmac_invisible") as lab, contextlib.ExitStack() as stack:
        for node in lab.nodes:
            inside = ["ip", "netns", "exec", node.namespace, "sysctl", "-qw"]
            subprocess.run([*inside, f"net.ipv4.tcp_syncookies={cookies}"], check=True, timeout=10)
        seen = stack.enter_context(resets(lab))
        streams = [stack.enter_context(lab.connect(address)) for _ in range(STREAMS)]
        names = [name_of(stream) for stream in streams]
        assert names == [lab.owner(stream) for stream in streams]
        right = worst_ns = 0
        for move in range(MOVES):
            lab.move_at_random(chance, all_of_it=move % 4 == 0)
            for stream, name in zip(streams, names, strict=True):
                begin = time.perf_counter_ns()
                stream.send(b"?")
                assert name_of(stream) == name
                worst_ns = max(worst_ns, time.perf_counter_ns() - begin)
            right += answers(lab, address, 5)[0]
        tell(
            f"{kind} {address} syncookies={cookies}: {MOVES} moves, {STREAMS}/{STREAMS} streams "
            f"alive, {right}/{MOVES * 5} at the owner, slowest echo {worst_ns / 1e6:.1f} ms"
        )
        assert right == MOVES * 5
        stack.close()
        assert not seen


def test_buckets_and_leases_are_changed_in_milliseconds() -> None:
    with farm("nft", "vmac_invisible") as lab:
        node = lab.nodes[0]
        times = {}
        for count in (1, 25, 1024):
            spent = []
            for turn in range(6):
                state = State.SOFT if turn % 2 else State.FOREIGN
                spent.append(node.set(range(count), state)["apply_ns"])
            times[count] = sorted(spent)[len(spent) // 2] / 1e6
        tell("change of 1, 25, 1024 buckets: " + ", ".join(f"{t:.2f} ms" for t in times.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_and_the_rest_of_the_traffic_is_not_touched(kind: str) -> None:
    parameters = (
        "net.ipv4.conf.eth0.arp_ignore",
        "net.ipv4.conf.eth0.arp_announce",
        "net.netfilter.nf_conntrack_tcp_loose",
        "net.netfilter.nf_conntrack_tcp_be_liberal",
    )

    def inside(lab: FarmLab, *words: str) -> str:
        command = ["ip", "netns", "exec", lab.nodes[0].namespace, *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
        return done.stdout

    with farm(kind, "vmac_invisible") as lab:
        own = lab.wiring.address("n1", "lan")
        with lab.client():
            closed = socket.socket()
        with closed, pytest.raises(ConnectionRefusedError):
            closed.connect((own, 9))  # Refused by the kernel, not dropped by the filter.
        held = inside(lab, "sysctl", "-n", *parameters).split()
        assert held == ["1", "2", "0", "1"]
        lab.nodes[0].stop()
        assert inside(lab, "sysctl", "-n", *parameters).split() == ["0", "0", "1", "0"]
        assert inside(lab, "nft", "list", "ruleset").strip() == ""
        assert "198.18.0.100" not in inside(lab, "ip", "addr")
        assert "5a:fe" not in inside(lab, "bridge", "fdb", "show")
        lab.nodes[0].kill()
        lab.nodes[1].kill()  # One that could not clean up is replaced by its successor.
        lab.nodes[1].start()
        lab.nodes[1].stop()
        assert inside(lab, "nft", "list", "ruleset").strip() == ""


def test_the_virtual_mac_is_learned_by_no_switch() -> None:
    with farm("nft", "vmac_invisible") as lab:
        answers(lab, VIP4, 30)
        answers(lab, VIP6, 30)
        command = ["bridge", "-n", lab.wiring.namespace("sw"), "fdb", "show"]
        table = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
        assert "5a:fe" not in table.stdout
