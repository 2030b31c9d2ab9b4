"""Each node binds its own addresses and links to those of the others."""

from pathlib import Path

from mirrorfarm.modules.settings import Cluster, Network, NodeOnNetwork, Witness
from mirrorfarm.paths import Paths
from mirrorfarm.transport.sockets import Bind, Link
from mirrorfarm.transport.topology import node_settings, witness_settings
from tests.transport.bus import make_keys

CLUSTER = Cluster(
    (
        Network("red", (NodeOnNetwork("n1", "198.18.0.1", "10.0.0.1"), NodeOnNetwork("n2", "b"))),
        Network("six", tuple(NodeOnNetwork(n, f"2001:db8::{n[1]}") for n in ("n1", "n2"))),
        Network("far", (NodeOnNetwork("n2", "198.18.2.2"), NodeOnNetwork("n3", "198.18.2.3"))),
    ),
    (Witness("w1", "198.18.9.9"),),
)


def test_a_node_binds_its_own_addresses_and_links_to_all_others() -> None:
    keys = make_keys("n1", "n2", "n3", "w1")["n1"]
    settings = node_settings(CLUSTER, keys, 5, Paths(Path("/r")))
    assert settings.binds == (
        Bind("red", "tcp://10.0.0.1:4800"),
        Bind("six", "tcp://[2001:db8::1]:4800"),
    )
    assert settings.links == (
        Link("n2", "red", "tcp://b:4800"),
        Link("n2", "six", "tcp://[2001:db8::2]:4800"),
        Link("w1", "witness", "tcp://198.18.9.9:4801"),
    )
    assert settings.local_socket == Path("/r/run/mirrorfarm/bus.sock")
    assert settings.module == "agent"
    assert settings.answerers == {"w1"}


def test_a_name_without_a_key_is_left_out() -> None:
    settings = node_settings(CLUSTER, make_keys("n1", "n3")["n1"], 5, Paths(Path("/r")))
    assert settings.links == ()


def test_a_witness_connects_to_nobody() -> None:
    settings = witness_settings(CLUSTER, make_keys("n1", "w1")["w1"], 5)
    assert settings.binds == (Bind("witness", "tcp://198.18.9.9:4801"),)
    assert settings.links == ()
    assert settings.local_socket is None
    assert settings.module == "witness"
