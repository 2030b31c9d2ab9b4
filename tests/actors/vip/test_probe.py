"""Whoever asks for other users of an address may have thousands of files open."""

import os
import resource
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from mirrorfarm.actors.vip import probe
from mirrorfarm.actors.vip.subnets import Link, Target

FILES = 1_100  # More than a set of `select` has room for.
TARGET = Target(ip_address("192.0.2.9"), 24, Link(7, "eth7", b"\x02\0\0\0\0\x01"), False)


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * FILES:
        pytest.skip(f"not more than {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * FILES), hard))
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(FILES)]
    yield
    for file in files:
        os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_who_watches_thousands_of_processes_asks_the_network_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    assert ours.fileno() > 1_023
    monkeypatch.setattr(probe, "_listen", lambda *_: ours)
    answer = bytes.fromhex("ffffffffffff020000000009080600010800060400020200000000 09")
    theirs.send(answer + bytes([192, 0, 2, 9]) + bytes.fromhex("ffffffffffff") + bytes(4))
    assert probe.probe((TARGET,), frozenset()) == ("192.0.2.9=02:00:00:00:00:09",)
    theirs.close()
