"""What a check says of a network: stories of three nodes, each with one thing wrong."""

import msgspec
import pytest

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.netfilter.finding import Check, Level, worst
from mirrorfarm.netfilter.preflight import PROBES, Claimed, Kind, Learned, Ping, Seen, Trip
from mirrorfarm.netfilter.verdicts import evaluate
from tests.netfilter.building import (
    NODES,
    SHARED,
    STRANGER,
    VIP,
    bad,
    change,
    fact,
    facts,
    good,
    mac,
    only,
    running,
    without,
)


@pytest.mark.parametrize("check", [good(), running()])
def test_nothing_is_wrong_with_a_good_network(check: Check) -> None:
    verdicts = evaluate(check)
    assert not bad(check)
    assert worst(verdicts) in {Level.OK, Level.UNTESTED}
    topics = [v.topic for v in verdicts if v.level is Level.OK]
    assert list(dict.fromkeys(topics)) == [
        *("nodes", "network", "delivery", "flood", "announcement", "owner", "size", "time"),
        *("heartbeat", "kernel", "filter"),
    ]


def test_a_switch_that_does_not_flood_is_named_with_its_cures() -> None:
    check = good()
    without(check, "n3", Kind.VIRTUAL, Kind.WIDE_VIRTUAL)
    found = only(check, Level.PROBLEM, "delivery")
    assert "no node reaches n3" in found.what
    for word in ("flood on", "UUFB", "VMware", "port security", "vmac_directed"):
        assert word in found.cure


def test_with_a_group_mac_it_is_snooping() -> None:
    check = good()
    for node in NODES:
        fact(check, node, delivery="multicast")
        without(check, node, Kind.VIRTUAL, Kind.WIDE_VIRTUAL)
    found = only(check, Level.PROBLEM, "delivery")
    assert "no node reaches another" in found.what
    assert "snooping" in found.why
    assert "bridge link set dev PORT mcast_router 2" in found.cure


def test_an_interface_that_hears_its_second_mac_only_promiscuously_is_told_from_a_switch() -> None:
    check = good()
    without(check, "n2", Kind.VIRTUAL)
    found = only(check, Level.PROBLEM, "delivery")
    assert "no node reaches n2" in found.what
    assert "promisc on" in found.cure


def test_a_virtual_mac_that_the_switch_has_learned_is_told() -> None:
    check = good()
    for node in ("n1", "n3"):
        without(check, node, Kind.VIRTUAL, Kind.WIDE_VIRTUAL)
    found = only(check, Level.PROBLEM, "delivery")
    assert "only n2 receives them" in found.why
    assert "source" in found.why


def test_loss_of_some_frames_is_a_warning() -> None:
    check = good()
    rows = check.reports["n2"].seen
    lossy = [
        msgspec.structs.replace(r, frames=3, copies=3) if r.kind == Kind.VIRTUAL else r
        for r in rows
    ]
    change(check, "n2", seen=tuple(lossy))
    assert f"of {PROBES} frames only 3" in only(check, Level.WARNING, "delivery").what


def test_a_node_that_nothing_reaches_is_apart_and_the_virtual_mac_is_not_blamed() -> None:
    check = good()
    without(check, "n3", *Kind)
    for node in ("n1", "n2"):
        without(check, node, *Kind, sender="n3")
        change(check, node, told=(), learned=())
    change(check, "n3", trips=(), told=(), learned=())
    found = {v.topic: v for v in bad(check) if v.topic != "announcement"}
    assert set(found) == {"network"}
    assert "n3 and the others do not reach each other" in found["network"].what
    assert "VLAN" in found["network"].cure


def test_a_wrong_interface_is_named() -> None:
    check = good()
    rows = [msgspec.structs.replace(r, interface="eth1") for r in check.reports["n3"].seen]
    change(check, "n3", seen=tuple(rows))
    for node in ("n1", "n2"):
        without(check, node, *Kind, sender="n3")
    (found,) = [v for v in bad(check) if v.topic == "network"]
    assert "on n3 the others are reached by eth1, not by eth0" in found.what


@pytest.mark.parametrize(
    ("kind", "word"), [(Kind.BROADCAST, "broadcasts"), (Kind.OWN, "the node's own MAC")]
)
def test_controls_that_do_not_arrive_are_told_apart(kind: Kind, word: str) -> None:
    check = good()
    without(check, "n3", kind)
    if kind is Kind.OWN:  # Nothing else that goes to its own MAC arrives either.
        without(check, "n3", Kind.SIZE)
    assert word in only(check, Level.PROBLEM, "network").what


def test_copies_are_a_loop() -> None:
    check = good()
    rows = [msgspec.structs.replace(r, copies=2 * r.frames) for r in check.reports["n1"].seen]
    change(check, "n1", seen=tuple(rows))
    found = only(check, Level.WARNING, "flood")
    assert "loop" in found.why


def test_frames_of_others_that_a_node_sees_are_a_hub() -> None:
    check = good()
    extra = Seen("eth0", 0, 0, int(Kind.WIDE_OWN), 1, 0, PROBES, PROBES)
    change(check, "n3", seen=(*check.reports["n3"].seen, extra))
    found = only(check, Level.WARNING, "flood")
    assert "own MAC of n2 reach n3" in found.what


def test_with_two_nodes_it_is_not_guessed_who_else_sees_frames() -> None:
    check = good()
    del check.facts["n3"], check.reports["n3"]
    check.missing["n3"] = "its agent does not answer"
    untested = [v for v in evaluate(check) if v.level is Level.UNTESTED]
    assert [v.topic for v in untested] == ["flood"]
    assert only(check, Level.PROBLEM, "nodes").what.startswith("n3 took no part")


@pytest.mark.parametrize("make", [good, running])
@pytest.mark.parametrize("says", [STRANGER, SHARED])
def test_a_stranger_that_has_the_address_is_named_by_its_mac(make: object, says: str) -> None:
    check = make()  # type: ignore[operator]
    claims = check.reports["n2"].claims
    change(check, "n2", claims=(*claims, Claimed("eth0", 0, says, STRANGER)))
    found = only(check, Level.PROBLEM, "owner")
    assert STRANGER in found.what
    assert VIP in found.what


def test_a_node_that_takes_no_part_may_be_the_one_that_answers() -> None:
    check = running()
    del check.facts["n3"], check.reports["n3"]
    check.missing["n3"] = "its agent does not answer"
    (found,) = [v for v in bad(check) if v.topic == "owner"]
    assert found.level is Level.WARNING
    assert "or this is n3" in found.why


def test_with_the_nodes_own_macs_one_that_takes_no_part_is_not_called_a_stranger() -> None:
    check = good()
    check.roles = dict.fromkeys(NODES, "UP")
    for node in NODES:
        fact(check, node, delivery="vmac_directed", virtual_macs=("",))
        change(check, node, claims=(Claimed("eth0", 0, mac("n3"), mac("n3")),), learned=())
    assert not [v for v in bad(check) if v.topic == "owner"]
    del check.facts["n3"], check.reports["n3"]
    check.missing["n3"] = "its agent does not answer"
    (found,) = [v for v in bad(check) if v.topic == "owner"]
    assert found.level is Level.WARNING
    assert mac("n3") in found.what
    assert "or this is n3" in found.why


def test_a_node_that_answers_with_its_own_mac_is_told() -> None:
    check = good()
    change(check, "n1", claims=(Claimed("eth0", 0, mac("n2"), mac("n2")),))
    found = only(check, Level.PROBLEM, "owner")
    assert "n2 answers with its own MAC" in found.what


def test_a_running_node_that_does_not_answer_is_told() -> None:
    check = running()
    for node in ("n1", "n2"):
        claims = [c for c in check.reports[node].claims if c.source != mac("n3")]
        change(check, node, claims=tuple(claims))
    assert "n3 does not answer" in only(check, Level.WARNING, "owner").what


def test_announcements_that_do_not_arrive_are_told() -> None:
    check = running()
    change(check, "n3", told=())
    found = only(check, Level.WARNING, "announcement")
    assert "gratuitous ARP: no node reaches n3" in found.what


def test_announcements_that_change_nothing_are_told() -> None:
    check = good()
    change(check, "n3", learned=(Learned(0, "02:00:00:00:00:01"),))
    assert "change nothing on n3" in only(check, Level.WARNING, "announcement").what


def test_what_was_not_announced_is_called_untested() -> None:
    check = good()
    check.unannounced = check.unplanted = "somebody else answers"
    assert not bad(check)
    assert "somebody else answers" in {v.why for v in evaluate(check) if v.level is Level.UNTESTED}


def test_different_mtus_are_a_warning_and_a_network_that_carries_less_is_a_problem() -> None:
    check = good()
    fact(check, "n3", places=facts("n3", mtu=1280).places)
    assert "1280 on n3" in only(check, Level.WARNING, "size").what
    check = good()
    rows = [r for r in check.reports["n3"].seen if r.size != 1500]
    change(check, "n3", seen=tuple(rows))
    found = only(check, Level.PROBLEM, "size")
    assert "no node reaches n3 (at most 1280 bytes pass)" in found.what


@pytest.mark.parametrize(
    ("milliseconds", "level"),
    [(50, Level.OK), (51, Level.WARNING), (399, Level.WARNING), (400, Level.PROBLEM)],
)
def test_a_round_trip_is_compared_with_the_pulse(milliseconds: int, level: Level) -> None:
    for topic, changes in (
        ("time", {"trips": (Trip(0, 1, (milliseconds * MILLISECOND_NS,) * 5),)}),
        ("heartbeat", {"pings": (Ping("default", 1, milliseconds * MILLISECOND_NS),)}),
    ):
        check = good()
        change(check, "n1", **changes)
        assert worst([v for v in evaluate(check) if v.topic == topic]) is level


def test_a_heartbeat_network_without_answers_is_a_warning() -> None:
    check = good()
    change(check, "n1", pings=(Ping("default", 1, -1),))
    found = only(check, Level.WARNING, "heartbeat")
    assert "n1 does not reach n2" in found.what


@pytest.mark.parametrize(
    ("delivery", "parameter", "value", "level"),
    [
        ("multicast", "net/ipv4/conf/all/drop_unicast_in_l2_multicast", "1", Level.PROBLEM),
        ("vmac_invisible", "net/ipv4/conf/all/drop_unicast_in_l2_multicast", "1", Level.OK),
        ("vmac_invisible", "net/ipv4/conf/eth0/rp_filter", "1", Level.WARNING),
        ("vmac_invisible", "net/ipv4/conf/eth0/rp_filter", "2", Level.OK),
        ("vmac_invisible", "net/ipv4/conf/all/drop_gratuitous_arp", "1", Level.WARNING),
        ("vmac_invisible", "net/ipv6/conf/eth0/drop_unsolicited_na", "1", Level.WARNING),
        ("vmac_invisible", "net/ipv6/conf/all/drop_unsolicited_na", "1", Level.OK),
    ],
)
def test_kernel_parameters_matter_where_they_do(
    delivery: str, parameter: str, value: str, level: Level
) -> None:
    check = good()
    for node in NODES:
        fact(check, node, delivery=delivery)
    fact(check, "n1", parameters={parameter: value}, way_out="eth9")
    assert worst([v for v in evaluate(check) if v.topic == "kernel"]) is level


def test_a_parameter_of_a_vlan_is_named_as_sysctl_takes_it() -> None:
    check = good()
    places = tuple(msgspec.structs.replace(p, interface="eth0.100") for p in facts("n1").places)
    parameters = {"net/ipv4/conf/eth0.100/rp_filter": "1"}
    fact(check, "n1", places=places, parameters=parameters, way_out="eth9")
    (found,) = [v for v in evaluate(check) if v.topic == "kernel"]
    assert "net.ipv4.conf.eth0/100.rp_filter is 1" in found.what
    assert "sysctl -w net.ipv4.conf.eth0/100.rp_filter=2" in found.cure


def test_filters_that_differ_or_are_missing_are_problems() -> None:
    check = good()
    fact(check, "n2", filter="nft", filter_why="bpf: the kernel refuses")
    assert "nft on n2" in only(check, Level.PROBLEM, "filter").what
    check.modes = dict.fromkeys(NODES, "nft")  # What runs counts.
    assert not bad(check)
    check = good()
    fact(check, "n2", filter="", filter_why="nothing works")
    assert "nothing works" in only(check, Level.PROBLEM, "filter").what


def test_nodes_that_are_configured_differently_or_cloned_are_problems() -> None:
    check = good()
    fact(check, "n2", rules="other")
    assert "configured differently" in only(check, Level.PROBLEM, "nodes").what
    check = good()
    fact(check, "n2", faults=("198.18.0.100: no interface has an address in its subnet",))
    assert "no interface" in only(check, Level.PROBLEM, "nodes").what
    check = good()
    fact(check, "n3", places=check.facts["n2"].places)
    assert "n2 and n3 have the same MAC" in "".join(v.what for v in bad(check))


def test_an_interface_without_carrier_is_a_problem_and_nothing_else_is_blamed() -> None:
    check = good()
    place = msgspec.structs.replace(check.facts["n3"].places[0], up=False)
    fact(check, "n3", places=(place,))
    assert "n3: eth0 is down" in only(check, Level.PROBLEM, "nodes").what


def test_without_any_node_there_is_only_who_is_missing() -> None:
    check = Check("web", NODES, {}, {}, missing=dict.fromkeys(NODES, "silent"))
    (found,) = evaluate(check)
    assert found.what == "n1, n2 and n3 took no part in the check"
    assert "mirrorfarm -H n1,n2,n3 state" in found.cure


def test_one_node_alone_is_not_called_a_network() -> None:
    check = good()
    for node in ("n2", "n3"):
        del check.facts[node], check.reports[node]
        check.missing[node] = "silent"
    assert {v.topic for v in bad(check)} == {"nodes"}
    assert "delivery" not in {v.topic for v in evaluate(check)}


def test_other_deliveries_have_their_own_expectations() -> None:
    check = running()
    for node in NODES:
        fact(check, node, delivery="vmac_directed", virtual_macs=("",))
        change(check, node, claims=(Claimed("eth0", 0, mac("n1"), mac("n1")),))
    check.unannounced = "the module runs"
    assert not bad(check)
    for node in NODES:
        fact(check, node, delivery="none")
        change(check, node, claims=(Claimed("eth0", 0, STRANGER, STRANGER),))
    assert not bad(check)
