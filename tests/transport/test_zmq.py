"""Hubs on real sockets: messages arrive by any network; strangers and liars get nowhere."""

import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zmq

import mirrorfarm.transport.zmq as bus
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.limits import FRAME_BYTES_MAX
from mirrorfarm.transport.address import Address, to_all
from mirrorfarm.transport.codec import encode
from mirrorfarm.transport.keys import Keys
from mirrorfarm.transport.messages import (
    AgentCommand,
    Command,
    FarmBeat,
    Frame,
    Probe,
    RegisterAnswer,
    StateAnswer,
)
from mirrorfarm.transport.sockets import (
    Bind,
    Context,
    Link,
    Socket,
    bound_router,
    endpoint,
    peer_dealer,
)
from mirrorfarm.transport.zmq import Hub, HubSettings
from tests.transport.bus import CLUSTER, Inbox, Relay, free_port, make_keys, until

NETWORKS = ("red", "blue")
N1, N2, W1 = (Address(node, "agent", "agent") for node in ("n1", "n2", "w1"))


@dataclass
class Pair:
    """Two nodes with two networks, each direction of each through a relay."""

    keys: dict[str, Keys]
    ports: dict[tuple[str, str], int]
    relays: dict[tuple[str, str], Relay] = field(default_factory=dict)
    hubs: dict[str, Hub] = field(default_factory=dict)
    inboxes: dict[str, Inbox] = field(default_factory=dict)
    more: tuple[Link, ...] = ()  # To nodes that are not there.

    def start(
        self,
        node: str,
        local: Path | None = None,
        incarnation: int = 1,
        answerers: frozenset[str] = frozenset(),
    ) -> Hub:
        other = "n2" if node == "n1" else "n1"
        hub = Hub(
            HubSettings(
                self.keys[node],
                incarnation,
                tuple(Bind(n, endpoint("127.0.0.1", self.ports[node, n])) for n in NETWORKS),
                tuple(
                    Link(other, n, endpoint("127.0.0.1", self.relays[other, n].port))
                    for n in NETWORKS
                )
                + self.more,
                local,
                answerers=answerers,
            )
        )
        self.hubs[node] = hub
        self.inboxes[node] = Inbox()
        hub.register("agent", "agent", self.inboxes[node])
        hub.start()
        return hub

    def meet(self, source: str = "n1", target: str = "n2", by: str = "") -> None:
        """Send until a message of `source` arrives at `target`."""
        inbox = self.inboxes[target]
        before = len(inbox.messages)

        def arrived() -> bool:
            to = Address(target, "agent", "agent")
            self.hubs[source].send(to, "agent", Probe("red", 1), by)
            time.sleep(0.02)
            return len(inbox.messages) > before

        until(arrived)


@pytest.fixture
def pair() -> Iterator[Pair]:
    ports = {(node, network): free_port() for node in ("n1", "n2") for network in NETWORKS}
    one = Pair(make_keys("n1", "n2"), ports)
    try:
        one.relays = {key: Relay(port) for key, port in ports.items()}
        yield one
    finally:
        for hub in one.hubs.values():
            hub.close()
        for relay in one.relays.values():
            relay.close()


@contextlib.contextmanager
def outsider(
    pair: Pair, keys: Keys, server: str = "", user: str = "n2"
) -> Iterator[zmq.Socket[bytes]]:
    """A socket of the attacker's own making, towards the red network of `user`."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.curve_secretkey = keys.secret.encode()
    dealer.curve_publickey = keys.public.encode()
    dealer.curve_serverkey = (server or pair.keys[user].public).encode()
    dealer.sndtimeo = 5_000
    dealer.connect(endpoint("127.0.0.1", pair.ports[user, "red"]))
    try:
        yield dealer
    finally:
        context.destroy(linger=0)


def a_frame(sequence: int, source: Address = N1, message: object = None) -> bytes:
    probe = message or Probe("red", sequence)
    return encode(Frame(CLUSTER, source, 1, sequence, 0, N2, probe))  # type: ignore[arg-type]


def test_a_message_arrives_once_although_sent_on_both_networks(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet(by="red")
    pair.meet(by="blue")
    inbox = pair.inboxes["n2"]
    inbox.messages.clear()
    pair.hubs["n1"].send(N2, "agent", Probe("red", 77))
    until(lambda: pair.hubs["n2"].counters()["duplicate"] == 1)
    assert [(source, message) for source, message, _ in inbox.messages] == [(N1, Probe("red", 77))]
    heard = {(news.peer, news.network): news.heard_ns for news in pair.hubs["n2"].networks()}
    assert set(heard) == {("n1", "red"), ("n1", "blue")}
    assert all(heard.values())


def test_one_frame_goes_to_several_nodes_the_own_one_too(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet()
    for inbox in pair.inboxes.values():
        inbox.messages.clear()
    before = pair.hubs["n1"].counters()
    pair.hubs["n1"].send(to_all(("n1", "n2", "n9"), N2.module, N2.actor), "agent", Probe("red", 78))
    until(lambda: all(inbox.messages for inbox in pair.inboxes.values()))
    told = [inbox.messages[0][:2] for inbox in pair.inboxes.values()]
    assert told == [(N1, Probe("red", 78))] * 2
    until(lambda: pair.hubs["n1"].counters()["unknown_node"] == before["unknown_node"] + 1)


def test_a_node_with_many_peers_gathers_heartbeats_of_a_farm_and_loses_nothing(pair: Pair) -> None:
    others = [f"n{number}" for number in range(3, 12)]
    pair.keys = make_keys("n1", "n2", *others)
    pair.more = tuple(Link(other, "red", endpoint("127.0.0.1", free_port())) for other in others)
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet(by="red")
    inbox = pair.inboxes["n2"]
    inbox.messages.clear()
    for number in range(200):
        message = FarmBeat(number, 1) if number % 3 else Probe("red", number)
        pair.hubs["n1"].send(N2, "agent", message, "red")  # Networks do not wait for each other.
    until(lambda: len(inbox.messages) == 200)
    numbers = [message.number for _, message, _ in inbox.messages]  # type: ignore[union-attr]
    assert numbers == list(range(200))


def test_a_message_for_one_network_takes_that_one(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    for network in NETWORKS:
        pair.meet(by=network)
        assert pair.inboxes["n2"].messages[-1][2] == network
    pair.hubs["n1"].send(N2, "agent", Probe("red", 1), "green")
    until(lambda: pair.hubs["n1"].counters()["unknown_network"] == 1)


def test_both_directions_work(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet("n1", "n2")
    pair.meet("n2", "n1")


def test_when_one_network_is_cut_messages_arrive_by_the_other(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet(by="red")
    pair.meet(by="blue")
    for node in ("n1", "n2"):
        pair.relays[node, "red"].sever()
    pair.inboxes["n2"].messages.clear()
    for number in range(20):
        pair.hubs["n1"].send(N2, "agent", Probe("red", number))
    until(lambda: len(pair.inboxes["n2"].messages) == 20)
    assert {network for _, _, network in pair.inboxes["n2"].messages} == {"blue"}
    for node in ("n1", "n2"):
        pair.relays[node, "red"].cut = False
    pair.meet(by="red")


def test_nothing_old_arrives_after_a_cut(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet(by="red")
    pair.relays["n2", "red"].sever()
    hub = pair.hubs["n1"]
    until(lambda: _unsent(hub, "red"))
    pair.relays["n2", "red"].cut = False
    pair.meet(by="red")
    assert Probe("red", 666) not in [message for _, message, _ in pair.inboxes["n2"].messages]


def _unsent(hub: Hub, network: str) -> bool:
    before = hub.counters()["unsent"]
    hub.send(N2, "agent", Probe("red", 666), network)
    time.sleep(0.01)
    return hub.counters()["unsent"] > before


def test_a_network_that_swallows_everything_is_given_up_and_taken_again(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet(by="red")
    pair.relays["n2", "red"].stall(True)
    until(lambda: _unsent(pair.hubs["n1"], "red"), 20)
    pair.relays["n2", "red"].stall(False)
    pair.meet(by="red")


def test_a_peer_that_starts_again_is_met_again(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet()
    pair.hubs["n2"].close()
    pair.start("n2", incarnation=2)
    pair.meet("n1", "n2")
    pair.meet("n2", "n1")


def test_a_peer_whose_address_once_belonged_to_somebody_else_is_met(pair: Pair) -> None:
    # libzmq gives a link up for good when the other side does not know its key.
    right = dict(pair.keys)
    pair.keys = {**make_keys("n1", "n2"), "n1": right["n1"]}
    pair.start("n1")
    pair.start("n2")
    until(lambda: pair.hubs["n2"].counters()["stranger"] > 0 or _reopened(pair.hubs["n1"]))
    pair.hubs["n2"].close()
    pair.keys = right
    pair.start("n2")
    pair.meet("n1", "n2")
    pair.meet("n2", "n1")


def _reopened(hub: Hub) -> bool:
    return hub.counters()["reopened"] > 0


def test_a_stranger_is_refused_before_it_can_say_anything(pair: Pair) -> None:
    hub = pair.start("n2")
    with outsider(pair, make_keys("n1")["n1"]) as dealer:
        dealer.send(a_frame(1))
        until(lambda: hub.counters()["stranger"] > 0)
    assert hub.counters()["accepted"] == 0
    assert pair.inboxes["n2"].messages == []


def test_a_server_with_another_key_than_the_pinned_one_gets_nothing(pair: Pair) -> None:
    pair.start("n1")
    right, pair.keys = pair.keys, make_keys("n1", "n2")
    pair.keys["n1"] = right["n1"]
    hub = pair.start("n2")
    until(lambda: _unsent(pair.hubs["n1"], "red"))
    until(lambda: _reopened(pair.hubs["n1"]))
    assert hub.counters()["accepted"] == 0


def test_a_node_cannot_speak_for_another(pair: Pair) -> None:
    pair.keys = make_keys("n1", "n2", "n3")
    hub = pair.start("n2")
    with outsider(pair, pair.keys["n3"]) as dealer:
        dealer.send(a_frame(1, N1))
        until(lambda: hub.counters()["forged_source"] == 1)
        dealer.send(a_frame(1, Address("n3", "agent", "agent")))
        until(lambda: hub.counters()["accepted"] == 1)
    assert [source.node for source, _, _ in pair.inboxes["n2"].messages] == ["n3"]


def test_a_witness_answers_about_registers_and_orders_nobody_about(pair: Pair) -> None:
    pair.keys = make_keys("n1", "n2", "w1")
    hub = pair.start("n2", answerers=frozenset(("w1",)))
    with outsider(pair, pair.keys["w1"]) as dealer:
        dealer.send(a_frame(1, W1, AgentCommand("1", "install", "SYSTEM", ("db",), b"PK")))
        dealer.send(a_frame(2, W1, Command("2", "primforce", "SYSTEM")))
        dealer.send(a_frame(3, W1, RegisterAnswer(3, "refused")))
        until(lambda: len(pair.inboxes["n2"].messages) == 1)
    assert pair.inboxes["n2"].messages[0][1] == RegisterAnswer(3, "refused")
    assert hub.counters()["overreach"] == 2


def test_a_frame_that_is_sent_again_is_dropped_even_on_a_new_connection(pair: Pair) -> None:
    hub = pair.start("n2")
    for attempt in range(2):
        with outsider(pair, pair.keys["n1"]) as dealer:
            dealer.send(a_frame(5))
            until(lambda: hub.counters()["duplicate"] + hub.counters()["accepted"] == attempt + 1)  # noqa: B023 - called at once.
    assert hub.counters()["duplicate"] == 1
    assert len(pair.inboxes["n2"].messages) == 1


def test_garbage_of_an_authenticated_peer_is_counted_and_the_rest_still_heard(pair: Pair) -> None:
    hub = pair.start("n2")
    with outsider(pair, pair.keys["n1"]) as dealer:
        dealer.send(b"\xc1" * 100)
        dealer.send_multipart([b"a", b"b", b"c"])
        dealer.send(b"")
        dealer.send(a_frame(1))
        until(lambda: hub.counters()["accepted"] == 1)
    assert hub.counters()["bad_frame"] == 2
    assert hub.counters()["bad_parts"] == 1


def test_a_message_that_is_too_big_ends_the_connection_not_the_hub(pair: Pair) -> None:
    hub = pair.start("n2")
    with outsider(pair, pair.keys["n1"]) as dealer:
        dealer.send(bytes(FRAME_BYTES_MAX + 1000))
        dealer.send(a_frame(1))
        time.sleep(0.1)
    with outsider(pair, pair.keys["n1"]) as dealer:
        dealer.send(a_frame(2))
        until(lambda: hub.counters()["accepted"] > 0)
    assert pair.inboxes["n2"].messages[-1][1] == Probe("red", 2)
    assert hub.counters()["bad_frame"] == 0


def test_the_largest_frame_passes(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.meet(by="red")
    big = StateAnswer("r", bytes(FRAME_BYTES_MAX - 200))
    pair.hubs["n1"].send(N2, "agent", big, "red")
    until(lambda: pair.inboxes["n2"].messages[-1][1] == big)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 300, b"\xff" + bytes(8) + b"\x7f\x03", b"\0"]
)
def test_raw_bytes_on_the_port_do_no_harm(pair: Pair, data: bytes) -> None:
    hub = pair.start("n2")
    where = ("127.0.0.1", pair.ports["n2", "red"])
    # The hub may end the connection before all is said.
    with socket.create_connection(where, timeout=5) as raw, contextlib.suppress(OSError):
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(1000):
            pass
    with outsider(pair, pair.keys["n1"]) as dealer:
        dealer.send(a_frame(1))
        until(lambda: hub.counters()["accepted"] == 1)


def test_connections_that_say_nothing_are_ended(pair: Pair) -> None:
    pair.start("n2")
    with socket.create_connection(("127.0.0.1", pair.ports["n2", "red"]), timeout=10) as raw:
        while raw.recv(1000):
            pass


def test_a_client_without_curve_is_refused(pair: Pair) -> None:
    hub = pair.start("n2")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(endpoint("127.0.0.1", pair.ports["n2", "red"]))
    dealer.send(a_frame(1))
    with outsider(pair, pair.keys["n1"]) as honest:
        honest.send(a_frame(2))
        until(lambda: hub.counters()["accepted"] == 1)
    context.destroy(linger=0)
    assert [message for _, message, _ in pair.inboxes["n2"].messages] == [Probe("red", 2)]


def test_a_witness_answers_on_the_connection_the_question_came_by() -> None:
    keys = make_keys("n1", "w1")
    where = endpoint("127.0.0.1", free_port())
    witness = Hub(HubSettings(keys["w1"], 1, (Bind("out", where),), module="witness"))
    node = Hub(HubSettings(keys["n1"], 1, (), (Link("w1", "out", where),)))
    register = Address("w1", "witness", "register")

    def answer(frame: Frame, _network: str) -> None:
        assert isinstance(frame.message, Probe)
        witness.send(frame.source, "register", Probe("answer", frame.message.number))

    inbox = Inbox()
    witness.register("witness", "register", answer)
    node.register("agent", "agent", inbox)
    try:
        witness.send(N1, "register", Probe("red", 1))  # Not heard of yet.
        witness.start()
        node.start()

        def answered() -> bool:
            node.send(register, "agent", Probe("red", 4))
            time.sleep(0.02)
            return bool(inbox.messages)

        until(answered)
        assert inbox.messages[0] == (register, Probe("answer", 4), "out")
        assert witness.counters()["unknown_node"] == 1
    finally:
        node.close()
        witness.close()


def test_an_address_that_comes_later_is_bound_then(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", pair.ports["n2", "red"])):
        hub = pair.start("n2")
        assert [bind.network for bind in hub.unbound()] == ["red"]
    until(lambda: not hub.unbound())
    pair.start("n1")
    pair.meet(by="red")


def test_an_address_that_is_bound_is_not_bound_again_when_the_next_one_fails(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[Bind] = []
    tries: list[str] = []

    def scarce(context: Context, keys: Keys, bind: Bind) -> Socket | None:
        if busy:
            return None
        tries.append(bind.network)
        if bind.network == "blue" and not failed:
            failed.append(bind)
            raise zmq.ZMQError(errno.EMFILE)
        return bound_router(context, keys, bind)

    busy = True
    monkeypatch.setattr(bus, "TICK_MS", 50)
    monkeypatch.setattr(bus, "bound_router", scarce)
    hub = pair.start("n2")
    busy = False
    until(lambda: not hub.unbound())
    assert tries == ["red", "blue", "blue"]


def test_a_link_that_cannot_be_opened_anew_now_is_opened_later(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Link] = []
    real = peer_dealer

    def scarce(context: Context, keys: Keys, link: Link) -> Socket:
        if opening and len(refused) < 3:
            refused.append(link)
            raise zmq.ZMQError(errno.EMFILE)
        return real(context, keys, link)

    opening = False
    monkeypatch.setattr(bus, "REOPEN_NS", 0)
    monkeypatch.setattr(bus, "peer_dealer", scarce)
    hub = pair.start("n1")
    opening = True
    until(lambda: _unsent(hub, "red") and len(refused) == 3, 20)
    until(lambda: hub.counters()["reopened"] > 2, 20)
    pair.start("n2")
    pair.meet(by="red")


def test_a_handler_that_fails_does_not_end_the_hub(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    pair.hubs["n2"].register("agent", "clumsy", lambda *_: 1 / 0)  # type: ignore[arg-type]
    pair.meet()
    pair.hubs["n1"].send(Address("n2", "agent", "clumsy"), "agent", Probe("red", 1))
    until(lambda: pair.hubs["n2"].counters()["handler_failed"] == 1)
    pair.hubs["n1"].send(Address("n2", "agent", "nobody"), "agent", Probe("red", 1))
    until(lambda: pair.hubs["n2"].counters()["no_actor"] == 1)
    pair.meet()


def test_a_socket_path_that_is_too_long_is_reported(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 50) / ("y" * 50) / "bus.sock"
    hub = Hub(HubSettings(make_keys("n1")["n1"], 1, (), (), path))
    with pytest.raises(SystemUnsuitable, match="MIRRORFARM_ROOT"):
        hub.start()


def test_an_idle_hub_does_not_spin(pair: Pair) -> None:
    for node in ("n1", "n2"):
        pair.start(node)
    for network in NETWORKS:
        pair.meet("n1", "n2", network)
        pair.meet("n2", "n1", network)
    started = time.process_time()
    time.sleep(1.0)  # A span to measure, not something to wait for.
    assert time.process_time() - started < 0.1
