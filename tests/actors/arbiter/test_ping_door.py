"""Stories of echo requests on the loopback interface."""

import queue
import socket
import threading
import time
from pathlib import Path

import pytest

from mirrorfarm.actors.arbiter.ping_door import PROBES_WAITING_MAX, PingDoor, ping
from mirrorfarm.actors.effects import PingProbe
from mirrorfarm.actors.events import PingAnswered
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS


def may_ping() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not may_ping(), reason="raw sockets need root")
SILENT = "198.18.255.254"  # Reserved for tests: nobody answers.


def has_ipv6() -> bool:
    interfaces = Path("/proc/net/if_inet6")
    return interfaces.exists() and "lo" in interfaces.read_text(encoding="ascii")


def test_an_address_of_this_machine_answers() -> None:
    assert ping(("127.0.0.1",), 2 * SECOND_NS) == ("127.0.0.1",)


def test_those_that_answer_are_told_in_the_order_asked() -> None:
    asked = ("127.0.0.2", SILENT, "127.0.0.1")
    started = time.monotonic_ns()
    assert ping(asked, 200 * MILLISECOND_NS) == ("127.0.0.2", "127.0.0.1")
    assert time.monotonic_ns() - started < 5 * SECOND_NS


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6_answers_as_well() -> None:
    assert ping(("::1", "127.0.0.1"), 2 * SECOND_NS) == ("::1", "127.0.0.1")


@pytest.mark.parametrize("address", ["", "localhost", "1.2.3", "::zz", "-oProxy", "127.0.0.1 "])
def test_what_is_no_address_has_not_answered(address: str) -> None:
    assert ping((address,), 100 * MILLISECOND_NS) == ()


def test_asking_nobody_takes_no_time() -> None:
    started = time.monotonic_ns()
    assert ping((), 30 * SECOND_NS) == ()
    assert time.monotonic_ns() - started < 10 * SECOND_NS


def test_the_door_answers_every_probe_and_refuses_a_flood() -> None:
    door, inbox = PingDoor(), queue.SimpleQueue[PingAnswered]()
    try:
        door.probe(PingProbe(1, ("127.0.0.1",), 2 * SECOND_NS), inbox.put)
        assert inbox.get(timeout=5) == PingAnswered(1, ("127.0.0.1",))
        for request in range(3 * PROBES_WAITING_MAX):
            door.probe(PingProbe(request, (SILENT,), 20 * MILLISECOND_NS), inbox.put)
        answers = [inbox.get(timeout=5) for _ in range(3 * PROBES_WAITING_MAX)]
        assert {answer.request for answer in answers} == set(range(3 * PROBES_WAITING_MAX))
        assert all(answer.answered == () for answer in answers)
    finally:
        door.close()


def test_without_a_thread_nobody_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    door, inbox = PingDoor(), queue.SimpleQueue[PingAnswered]()

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", refused)
        door.probe(PingProbe(1, ("127.0.0.1",), 2 * SECOND_NS), inbox.put)
        assert inbox.get(timeout=5) == PingAnswered(1)
    try:
        door.probe(PingProbe(2, ("127.0.0.1",), 2 * SECOND_NS), inbox.put)
        assert inbox.get(timeout=5) == PingAnswered(2, ("127.0.0.1",))
    finally:
        door.close()
