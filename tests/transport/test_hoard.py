"""Parts of a message are kept by libzmq until the last one came: they must not take all memory."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import zmq

import mirrorfarm.transport.zmq as bus
from mirrorfarm.transport import hoard
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import encode
from mirrorfarm.transport.hoard import Hoard, connections, resident_bytes
from mirrorfarm.transport.keys import Keys
from mirrorfarm.transport.messages import Frame, Probe
from mirrorfarm.transport.sockets import (
    Bind,
    Context,
    Link,
    Socket,
    endpoint,
    peer_dealer,
    try_send,
)
from mirrorfarm.transport.zmq import Hub, HubSettings
from tests.transport.bus import CLUSTER, Inbox, free_port, make_keys, until

MEBIBYTE = 1_048_576
LIMIT = 64 * MEBIBYTE
PARTS = 400
# Of an attacker that has the key of a node: parts of a size that is allowed, then the last one.
ATTACKER = """
import sys, zmq
own_secret, own_public, server, where, parts = sys.argv[1:]
dealer = zmq.Context().socket(zmq.DEALER)
dealer.curve_secretkey, dealer.curve_publickey = own_secret.encode(), own_public.encode()
dealer.curve_serverkey = server.encode()
dealer.connect(where)
part = bytes(1_000_000)
for _ in range(int(parts)):
    dealer.send(part, zmq.SNDMORE)
dealer.send(part)
print("sent", flush=True)
sys.stdin.read()
"""


@dataclass
class Bus:
    keys: dict[str, Keys]
    where: str
    victim: Hub
    honest: Socket  # Of a node whose hub would look at the memory of this process, too.
    inbox: Inbox
    sent: int = 0

    def meet(self) -> None:
        before = len(self.inbox.messages)

        def arrived() -> bool:
            self.sent += 1
            to, source = (Address(node, "agent", "agent") for node in ("n1", "n3"))
            frame = Frame(CLUSTER, source, 1, self.sent, 0, to, Probe("red", self.sent))
            try_send(self.honest, [encode(frame)])
            time.sleep(0.02)
            return len(self.inbox.messages) > before

        until(arrived)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    monkeypatch.setattr(hoard, "BYTES_MAX", LIMIT)
    monkeypatch.setattr(bus, "TICK_MS", 50)
    monkeypatch.setattr(hoard, "TRIMS", 200)
    keys, where = make_keys("n1", "n2", "n3"), endpoint("127.0.0.1", free_port())
    victim = Hub(HubSettings(keys["n1"], 1, (Bind("red", where),)))
    context: Context = zmq.Context()
    honest, inbox = peer_dealer(context, keys["n3"], Link("n1", "red", where)), Inbox()
    victim.register("agent", "agent", inbox)
    try:
        victim.start()
        yield Bus(keys, where, victim, honest, inbox)
    finally:
        context.destroy(linger=0)
        victim.close()


def test_who_sends_a_message_of_endless_parts_is_cut_off_and_nobody_else(three: Bus) -> None:
    three.meet()
    of_honest = set(connections())
    key = three.keys["n2"]
    before = most = resident_bytes()
    attacker = subprocess.Popen(
        [
            *(sys.executable, "-c", ATTACKER),
            *(key.secret, key.public, key.peers["n1"], three.where, str(PARTS)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:

        def cut_off() -> bool:
            nonlocal most
            most = max(most, resident_bytes())
            return three.victim.counters()["hoarded"] > 0

        until(cut_off, 30)
        until(lambda: resident_bytes() < before + LIMIT // 2, 30)
        assert most < before + 3 * LIMIT
        assert of_honest <= set(connections())
        assert three.victim.counters()["bad_parts"] == 0
        three.meet()
        assert three.victim.counters()["hoarded"] == 1
    finally:
        attacker.kill()
        attacker.communicate()


def test_memory_that_stays_ends_no_connection_each_second(
    three: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.meet()
    three.victim.close()  # Its own look would see what is said here.
    used = 10 * LIMIT
    monkeypatch.setattr(hoard, "resident_bytes", lambda: used)
    one = Hoard()
    assert not one.look()
    used += LIMIT
    one.look()
    assert not one.look()
    used += LIMIT // 4
    assert not one.look()


def test_a_process_without_connections_has_none_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    used = LIMIT
    monkeypatch.setattr(hoard, "BYTES_MAX", LIMIT)
    monkeypatch.setattr(hoard, "connections", dict)
    monkeypatch.setattr(hoard, "resident_bytes", lambda: used)
    one = Hoard()
    assert not one.look()
    used += LIMIT
    assert not one.look()


def test_a_socket_that_listens_is_not_ended_where_no_connection_brought_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = LIMIT
    monkeypatch.setattr(hoard, "BYTES_MAX", LIMIT)
    monkeypatch.setattr(hoard, "resident_bytes", lambda: used)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = Hoard()
        assert not one.look()
        used += LIMIT
        assert not one.look()
        with socket.create_connection(listener.getsockname(), 10):
            pass
