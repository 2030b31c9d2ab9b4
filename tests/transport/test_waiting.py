"""Where a hub waits: nothing that a peer says is overlooked, and only peers have to rest."""

import select
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import zmq

from mirrorfarm.transport.waiting import Waiting
from tests.transport.bus import until


@dataclass
class Talk:
    """A dealer that is watched, and the router at its other end."""

    dealer: zmq.Socket[bytes]
    router: zmq.Socket[bytes]
    name: bytes
    waiting: Waiting

    def read(self) -> None:
        """Stand for what reads the dealer."""

    def rings(self) -> bool:
        """Whether the dealer's descriptor tells of news."""
        return bool(select.select([int(self.dealer.getsockopt(zmq.FD))], [], [], 0)[0])

    def answer(self) -> None:
        """Let the router say something; return when the dealer's descriptor has told it."""
        self.router.send_multipart([self.name, b"answer"])
        until(self.rings)


@pytest.fixture
def talk() -> Iterator[Talk]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    waiting = Waiting()
    try:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(b"hello")
        name, _ = router.recv_multipart()
        one = Talk(dealer, router, name, waiting)
        waiting.watch_dealer(dealer, one.read)
        waiting.watch(router, lambda: None)
        until(lambda: not waiting.wait(0))
        yield one
    finally:
        waiting.close()
        context.destroy(linger=0)


def test_a_dealer_that_rings_is_read(talk: Talk) -> None:
    talk.answer()
    assert talk.waiting.wait(5_000) == [talk.read]


def test_what_a_reader_leaves_is_found_the_next_time(talk: Talk) -> None:
    talk.answer()
    assert talk.waiting.wait(5_000) == [talk.read]
    assert talk.waiting.wait(5_000) == [talk.read]
    talk.dealer.recv()
    assert not talk.waiting.wait(0)


def test_news_of_which_sending_took_the_ring_away_are_found(talk: Talk) -> None:
    talk.answer()

    def taken_away() -> bool:
        talk.dealer.send(b"more")
        return not talk.rings()

    until(taken_away)
    assert talk.read not in talk.waiting.wait(0)  # As the descriptor would have it.
    talk.waiting.touch_dealers()
    assert talk.read in talk.waiting.wait(5_000)


def test_a_dealer_that_is_forgotten_is_not_read(talk: Talk) -> None:
    talk.waiting.forget_dealer(talk.dealer)
    talk.answer()
    assert not talk.waiting.wait(0)


def test_peers_rest_and_the_own_node_does_not(talk: Talk) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    near, caller = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    try:
        port = near.bind_to_random_port("tcp://127.0.0.1")
        read_near = list[str]().clear
        talk.waiting.watch(near, read_near, near=True)
        caller.connect(f"tcp://127.0.0.1:{port}")
        talk.answer()
        caller.send(b"hello")
        until(lambda: near.poll(0) == zmq.POLLIN)
        talk.waiting.rest()
        assert talk.waiting.wait(5_000) == [read_near]
        near.recv_multipart()
        assert talk.waiting.wait(5_000) == [talk.read]  # After the rest.
    finally:
        context.destroy(linger=0)
