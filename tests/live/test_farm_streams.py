"""Buckets move between nodes, and no connection notices."""

import socket

import pytest

from mirrorfarm.lab.farm_streams import (
    PORT,
    VIRTUAL,
    VIRTUAL_6,
    Client,
    Farm,
    Outcome,
    many_moves,
    resets,
)
from mirrorfarm.lab.network import inside
from mirrorfarm.netfilter.rules import State

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


@pytest.mark.parametrize("virtual", [VIRTUAL, VIRTUAL_6])
@pytest.mark.parametrize(("cookies", "old"), [(1, False), (2, False), (1, True)])
def test_streams_survive_forty_moves_and_new_ones_find_their_owner(
    virtual: str, cookies: int, old: bool
) -> None:
    with Farm("mfst", cookies=cookies, old=old) as farm:
        outcome = many_moves(farm, virtual, seed=40)
    print(f"\n{virtual}, tcp_syncookies={cookies}: {outcome}")
    assert (outcome.alive, outcome.resets) == (90, 0)
    assert (outcome.right, outcome.wrong) == (200, 0)
    assert outcome.hardened > 0
    assert (outcome.cookies > 0) == (cookies == 2)


def test_without_soft_buckets_streams_break_and_this_lab_would_tell() -> None:
    with Farm("mfst") as farm:
        outcome: Outcome = many_moves(farm, VIRTUAL, seed=40, moves=8, state=State.HARD)
    assert outcome.alive < 45
    assert outcome.resets >= 45
    assert outcome.wrong == 0


def test_every_opening_is_taken_by_exactly_one_node() -> None:
    with Farm("mfst") as farm, resets(farm.wiring.namespace("c")) as seen:
        client = Client(farm)
        assert all(client.ask_once() for _ in range(300))
        verdicts = farm.verdicts()
        assert sum(counts["opened"] for counts in verdicts.values()) == 300
        assert sum(counts["foreign"] for counts in verdicts.values()) >= 600
        assert all(60 < counts["opened"] < 140 for counts in verdicts.values())
    assert seen == []


def test_a_port_without_a_rule_does_not_answer_and_the_nodes_own_addresses_do() -> None:
    with Farm("mfst") as farm:
        own = farm.wiring.address("n2", "farm")
        with inside(farm.wiring.namespace("c")):
            with pytest.raises(TimeoutError):
                socket.create_connection((VIRTUAL, PORT + 1), timeout=0.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((own, PORT + 1), timeout=5)
            socket.create_connection((own, PORT), timeout=5).close()
        assert sum(counts["refused"] for counts in farm.verdicts().values()) >= 3
