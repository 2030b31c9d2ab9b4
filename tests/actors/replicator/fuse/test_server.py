"""Threads of a mount: surplus ones end, those that serve stay."""

import os
import socket
import threading
import time
from typing import Any

import pytest

from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.protocol import Reply, Request
from mirrorfarm.actors.replicator.fuse.server import Server
from mirrorfarm.actors.replicator.journal import LocalJournal

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the threads keep capabilities")
WANTED = 2
REQUESTS = 300
AT_ONCE = 6


class SlowToLeave:
    """A lock after which a thread that is counted as surplus is overtaken by the others."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = server._lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        surplus = self._server._idle > WANTED
        self._lock.release()
        if surplus:
            time.sleep(0.05)


def request(unique: int) -> bytes:
    header = bytearray(40)
    protocol.IN_HEADER.pack_into(header, 0, 40, protocol.STATFS, unique, 1, 0, 0, 0, 0, 0)
    return bytes(header)


def test_surplus_threads_do_not_all_end_at_the_same_time() -> None:
    kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernel.settimeout(5)

    def statfs(request: Request) -> Reply:
        if request.unique % 3 == 0:
            server.about_to_wait()
            time.sleep(0.002)
        return None

    reports: list[str] = []
    number_of_device = device.detach()
    server = Server(
        number_of_device, {protocol.STATFS: statfs}, LocalJournal(), WANTED, reports.append
    )
    slow: Any = SlowToLeave(server)
    server._lock = slow
    server.start()
    for number in range(1, REQUESTS + 1):
        kernel.send(request(number))
        if number > AT_ONCE:
            assert len(kernel.recv(100)) == 16, "an answer"
    for _ in range(AT_ONCE):
        assert len(kernel.recv(100)) == 16, "an answer"
    assert reports == []
    assert server._threads >= WANTED
    nothing = os.open("/", os.O_RDONLY)  # Reading it fails: as if the mount were gone.
    os.dup2(nothing, number_of_device)
    os.close(nothing)
    kernel.close()
    assert server.stop(10)
    server.close()


def test_a_request_that_waits_needs_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(os.open("/", os.O_RDONLY), {}, LocalJournal(), WANTED, lambda _: None)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    server.about_to_wait()
    assert server.stop(0.1), "nobody is waited for that was never there"
    server.close()
