"""cluster.xml: what it gives, and every way in which it can be wrong."""

import pytest

from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.modules.cluster import parse_cluster
from mirrorfarm.modules.settings import Cluster, Network, NodeOnNetwork, Witness

GOOD = b"""<?xml version="1.0"?>
<cluster>
  <lans port="4800">
    <lan name="default">
      <node name="n1" addr="198.18.0.1"/>
      <node name="n2" addr="198.18.0.2" laddr="198.18.9.2"/>
    </lan>
    <lan name="private" command="on">
      <node name="n1" addr="[2001:db8::1]"/>
      <node name="n2" addr="2001:db8::2"/>
    </lan>
  </lans>
  <witness name="w1" addr="198.18.0.9"/>
</cluster>
"""


def faults_of(text: bytes) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as refused:
        parse_cluster(text, "cluster.xml")
    return refused.value.faults


def test_cluster_of_two_nodes_two_networks_and_a_witness() -> None:
    first = (
        NodeOnNetwork("n1", "198.18.0.1"),
        NodeOnNetwork("n2", "198.18.0.2", "198.18.9.2"),
    )
    second = (NodeOnNetwork("n1", "2001:db8::1"), NodeOnNetwork("n2", "2001:db8::2"))
    assert parse_cluster(GOOD, "cluster.xml") == Cluster(
        networks=(Network("default", first), Network("private", second, command=True)),
        witnesses=(Witness("w1", "198.18.0.9"),),
    )


def test_every_wrong_value_is_told_at_once() -> None:
    text = b"""<cluster>
<lans prot="4800" port="0">
<lan nam="default">
<node name="N1" addr="server1"/>
<nodes name="n2"/>
</lan>
</lans>
<witness addr="1.2.3"/>
</cluster>"""
    assert faults_of(text) == (
        "cluster.xml:2: lans.prot: unknown attribute; did you mean port?",
        "cluster.xml:2: lans.port: 0 is not within 1 to 65535",
        "cluster.xml:3: lan.nam: unknown attribute; did you mean name?",
        "cluster.xml:3: lan.name: required, but absent",
        "cluster.xml:4: node.name: 'N1' is not a name: a small letter, then up to 31 of "
        "a-z 0-9 _ -",
        "cluster.xml:4: node.addr: 'server1' is not an IP address; names are not resolved here, "
        "so that no failover depends on DNS",
        "cluster.xml:5: cluster/lans/lan/nodes: unknown element; did you mean node?",
        "cluster.xml:8: witness.addr: '1.2.3' is not an IP address; names are not resolved here, "
        "so that no failover depends on DNS",
        "cluster.xml:8: witness.name: required, but absent",
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'<node name="n2" addr="2001:db8::2"/>', b"", "the lan of the commands must have every"),
        (b'name="private"', b'name="default"', "lan.name: default is already on line 4"),
        (b'name="n2" addr="198.18.0.2"', b'name="n1" addr="198.18.0.2"', "already on line 5"),
        (b'addr="198.18.0.2"', b'addr="198.18.0.1"', "198.18.0.1 is already that of n1"),
        (b'addr="2001:db8::2"', b'addr="198.18.0.2"', "is already that of n2 on default"),
        (b'addr="198.18.0.9"', b'addr="198.18.0.1"', "must be a third machine"),
        (b'name="w1"', b'name="n1"', "must be a third machine"),
        (b'<lan name="default">', b'<lan name="default" command="on">', "only one lan"),
        (b'addr="2001:db8::2"', b'addr="fe80::2"', "node.addr: fe80::2 is valid on one link only"),
        (b'laddr="198.18.9.2"', b'laddr="fe80::2"', "node.laddr: fe80::2 is valid on one link"),
        (b'addr="198.18.0.9"', b'addr="fe80::9"', "witness.addr: fe80::9 is valid on one link"),
        (b'addr="2001:db8::2"', b'addr="::ffff:198.18.0.1"', "written as one of IPv6; write 198."),
        (b'addr="198.18.0.9"', b'addr="::ffff:198.18.0.1"', "written as one of IPv6; write 198."),
    ],
)
def test_relations_between_values(old: bytes, new: bytes, reason: str) -> None:
    assert old in GOOD
    assert any(reason in fault for fault in faults_of(GOOD.replace(old, new, 1)))


def test_one_node_is_no_cluster() -> None:
    text = b'<cluster><lans><lan name="l"><node name="a" addr="198.18.0.1"/></lan></lans></cluster>'
    assert faults_of(text) == ("cluster.xml:1: node: 1 nodes; a cluster has 2 to 64",)


def test_some_lan_must_have_all_nodes() -> None:
    text = b"""<cluster><lans>
<lan name="one"><node name="a" addr="198.18.0.1"/><node name="b" addr="198.18.0.2"/></lan>
<lan name="two"><node name="b" addr="198.18.1.2"/><node name="c" addr="198.18.1.3"/></lan>
</lans></cluster>"""
    assert "at least one lan must have all nodes" in faults_of(text)[0]


def test_obsolete_attributes_are_noted() -> None:
    notes: list[str] = []
    parse_cluster(GOOD.replace(b'name="private"', b'name="private" console="on"'), "c", notes=notes)
    assert notes == ["c:8: lan.console: has no effect: obsolete in the reference product as well"]


def test_userconfig_in_place_of_a_cluster_is_recognised() -> None:
    assert faults_of(b"<safe/>") == ("cluster.xml:1: safe: the root element must be cluster",)
