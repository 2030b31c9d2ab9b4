"""Where packets of other nodes are sent on to."""

from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.effects import ApplyTable
from mirrorfarm.actors.farm_filter import relay, table
from mirrorfarm.actors.farm_filter.hearing import hear, silences
from mirrorfarm.actors.farm_filter.state import Settings, State, View, new_state
from mirrorfarm.limits import BUCKETS, SECOND_NS
from mirrorfarm.netfilter.tables import EVERY_PEER
from mirrorfarm.transport.messages import FarmBeat

MACS = {"n1": b"\x02\0\0\0\0\1", "n2": b"\x02\0\0\0\0\2", "n3": b"\x02\0\0\0\0\3"}
OWNERS = bytes([0]) * 400 + bytes([1]) * 400 + bytes([2]) * 223 + b"\xff"


def state(macs: dict[str, bytes] = MACS) -> State:
    """Return n2 of a farm in which each node owns some buckets, the last one nobody's."""
    nodes = ("n1", "n2", "n3")
    s = new_state(Settings("n2", "web", nodes, ("lan",), 1, "bpf", 0, "", mac=MACS["n2"]))
    s.view = View(3, "n1", 1, nodes, ((1, 1, 1),), (OWNERS,))
    for name in ("n1", "n3"):
        s.peers[name].beat = FarmBeat(1, 1, mac=macs.get(name, b""))
        s.peers[name].silent = False
    return s


def test_each_bucket_goes_to_its_owner_and_the_own_ones_stay() -> None:
    (row,), peers = relay.targets(state(), [0], [0])
    assert peers == (MACS["n1"], MACS["n3"])
    assert row == bytes([1]) * 400 + bytes(400) + bytes([2]) * 223 + b"\0"


def test_while_connections_are_left_elsewhere_all_nodes_get_a_bucket() -> None:
    (row,), _ = relay.targets(state(), [1 << 7], [1 << 1000])
    assert row[7] == row[1000] == EVERY_PEER
    assert row[8] == 1


def test_nothing_is_sent_to_a_node_whose_address_is_unknown_or_no_single_one() -> None:
    for wrong in (b"", b"\x01\0\x5e\0\0\1", b"\2\0\0"):
        (row,), peers = relay.targets(state(MACS | {"n3": wrong}), [0], [0])
        assert peers == (MACS["n1"], b"")
        assert row[800:1023] == bytes(223)


@pytest.mark.parametrize(
    ("changes", "relays"),
    [
        ({}, False),
        ({"wish": "in"}, True),
        ({"wish": "drain"}, True),
        ({"view": 2}, True),  # It has not closed yet.
        ({"bid": 4}, True),
    ],
)
def test_what_comes_from_a_node_out_of_service_is_a_clients(
    changes: dict[str, Any], relays: bool
) -> None:
    s = state()
    s.view = View(3, "n1", 1, ("n1", "n2"), ((1, 1),), (bytes([0]) * BUCKETS,))
    s.peers["n3"].beat = FarmBeat(1, 1, mac=MACS["n3"], **changes)
    _, peers = relay.targets(s, [0], [0])
    assert peers == (MACS["n1"], MACS["n3"] if relays else b"")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"wish": "in", "view": 2}, {"incarnation": 2}),  # It died, and its module stays stopped.
        ({"view": 2}, {}),  # It was left out before it had closed.
    ],
)
def test_a_node_that_says_that_it_is_out_of_service_is_a_client_from_then_on(
    first: dict[str, Any], then: dict[str, Any]
) -> None:
    s = state()
    s.view = View(3, "n1", 1, ("n1", "n2"), ((1, 1),), (bytes([0]) * BUCKETS,))
    s.peers["n3"].beat = beat = FarmBeat(1, 1, mac=MACS["n3"], **first)
    table.apply(s)
    assert s.relayed[1] == (MACS["n1"], MACS["n3"])
    told = {"number": 2, "wish": "away", "view": 0}
    s.out = []
    hear(s, s.peers["n3"], msgspec.structs.replace(beat, **told, **then), "lan", SECOND_NS)
    assert [e.peers for e in s.out if isinstance(e, ApplyTable)] == [(MACS["n1"], b"")]


def test_a_node_that_died_is_a_client_from_its_silence_on_unless_it_is_a_member() -> None:
    """Its machine may be up again without its agent: nobody ever says that it takes no part."""
    s = state()
    s.view = View(3, "n1", 1, ("n1", "n2"), ((1, 1),), (bytes([0]) * BUCKETS,))
    beat = FarmBeat(1, 1, wish="in", view=2, mac=MACS["n3"])
    s.peers["n3"].beat = beat
    table.apply(s)
    assert s.relayed[1] == (MACS["n1"], MACS["n3"])
    s.out = []
    assert silences(s, SECOND_NS)
    assert [e.peers for e in s.out if isinstance(e, ApplyTable)] == [(MACS["n1"], b"")]
    s.out = []
    hear(s, s.peers["n3"], msgspec.structs.replace(beat, number=2), "lan", SECOND_NS)
    assert [e.peers for e in s.out if isinstance(e, ApplyTable)] == [(MACS["n1"], MACS["n3"])]


def test_without_a_view_nothing_is_relayed() -> None:
    s = state()
    s.view = None
    assert relay.targets(s, [0], [0]) == ((), ())
    assert len(OWNERS) == BUCKETS
    assert msgspec.json.encode(FarmBeat(1, 1))
