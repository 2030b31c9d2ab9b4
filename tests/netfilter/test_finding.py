"""A check of sixteen nodes says as much as one of three, in hardly more words."""

import itertools

import msgspec
import pytest

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.netfilter.finding import Check, Level, Verdict, apiece, listed, merged, named
from mirrorfarm.netfilter.finding_delivery import incomplete
from mirrorfarm.netfilter.preflight import Kind, Learned, Ping
from mirrorfarm.netfilter.verdicts import evaluate
from tests.netfilter.building import (
    MANY,
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

WORDS_MAX = 200  # Of what a verdict is about; why and what to do are the same for all farms.


def lose(check: Check, *nodes: str) -> None:
    """Let nodes take no part."""
    for node in nodes:
        del check.facts[node], check.reports[node]
        check.missing[node] = "the agent does not answer"
        check.roles.pop(node)


def apart(check: Check, node: str) -> None:
    """Let nothing pass between a node and the others."""
    without(check, node, *Kind)
    change(check, node, told=(), trips=(), learned=(Learned(0, "02:00:00:00:00:ff"),))
    for other in check.nodes:
        if other != node:
            without(check, other, *Kind, sender=node)
            told = [c for c in check.reports[other].told if c.source != mac(node)]
            change(check, other, told=tuple(told))


def test_names_are_few_words() -> None:
    assert listed([]) == "nobody"
    assert listed(["a", "b", "a"]) == "a and b"
    assert named(("n3", "n1"), ("n1", "n2", "n3")) == "n1 and n3"
    assert named(reversed(MANY), MANY) == "all 16 nodes"
    assert named(MANY[1:], MANY) == "all nodes but n1"
    assert named(("n10", "n2"), MANY) == "n2 and n10"
    values = dict.fromkeys(MANY, 1500) | {"n3": 1400}
    assert apiece(values, MANY) == "1500 on all nodes but n3; 1400 on n3"


def test_what_is_said_of_several_nodes_is_said_once() -> None:
    same = Verdict(
        Level.WARNING, "kernel", "{nodes}: it is {1}", "", "`mirrorfarm -H {hosts} state`"
    )
    other = same._replace(what="{nodes}: it is 2")
    found = merged([("n1", same), ("n2", other), ("n3", same)], MANY)
    assert [v.what for v in found] == ["n1 and n3: it is {1}", "n2: it is 2"]
    assert found[0].cure == "`mirrorfarm -H n1,n3 state`"


@pytest.mark.parametrize("check", [good(MANY), running(MANY)])
def test_a_good_farm_of_sixteen_takes_no_more_lines_than_one_of_three(check: Check) -> None:
    verdicts = evaluate(check)
    assert not bad(check)
    assert len(verdicts) == len(evaluate(good()))
    assert "all 16 nodes took part" in verdicts[0].what
    assert all(len(v.what) < WORDS_MAX for v in verdicts)
    assert not incomplete(check, 0, 0)


def test_nodes_that_are_off_take_one_line_each_way() -> None:
    check = good(MANY)
    lose(check, "n3", "n16")
    for node in check.present:
        pings = (Ping("lan", 0, MILLISECOND_NS), Ping("lan", 2, -1), Ping("lan", 15, -1))
        change(check, node, pings=tuple(p for p in pings if MANY[p.target] != node))
    missing, silent = bad(check)
    assert missing.what == "n3 and n16 took no part in the check"
    assert "mirrorfarm -H n3,n16 state" in missing.cure
    assert silent.what == "lan lan: no node reaches n3 or n16 by ping"


def test_a_node_that_is_apart_is_blamed_for_nothing_else() -> None:
    check = good(MANY)
    apart(check, "n2")
    assert only(check, Level.PROBLEM, "network").what.endswith(
        ": n2 and the others do not reach each other"
    )
    text = "".join(
        v.what for v in evaluate(check) if v.topic in {"delivery", "announcement", "size"}
    )
    assert "every other node" not in text  # It is not true of n2.
    assert text.count("every node that it reaches at all") == 3
    assert incomplete(check, 0, 0) == [
        (0, "every other node", "n2"),
        (0, "n2", "every other node"),
    ]


def test_a_kernel_that_obeys_no_announcement_is_told_from_a_node_that_heard_none() -> None:
    check = good(MANY)
    change(check, "n4", learned=(Learned(0, "02:00:00:00:00:ff"),))
    assert "change nothing on n4" in only(check, Level.WARNING, "announcement").what
    change(check, "n4", told=())
    assert "no node reaches n4" in only(check, Level.WARNING, "announcement").what


def test_a_loop_and_a_hub_are_told_without_every_pair() -> None:
    check = good(MANY)
    for node in MANY:
        rows = [msgspec.structs.replace(r, copies=2 * r.frames) for r in check.reports[node].seen]
        change(check, node, seen=tuple(rows))
    assert "from every node to every other node" in only(check, Level.WARNING, "flood").why
    check = good(MANY)
    for node, (sender, target) in itertools.product(MANY, itertools.permutations(range(16), 2)):
        if node not in {MANY[sender], MANY[target]}:
            row = msgspec.structs.replace(
                check.reports[node].seen[0], sender=sender, kind=int(Kind.WIDE_OWN), target=target
            )
            change(check, node, seen=(*check.reports[node].seen, row))
    assert "own MAC of all 16 nodes reach all 16 nodes" in only(check, Level.WARNING, "flood").what


def test_the_same_fault_of_sixteen_nodes_is_one_line() -> None:
    check = good(MANY)
    parameters = {"net/ipv4/conf/eth0/rp_filter": "1"}
    for node in MANY:
        fact(check, node, parameters=parameters, way_out="eth9")
    assert only(check, Level.WARNING, "kernel").what.startswith("all 16 nodes: net.ipv4.conf.eth0")
    check = good(MANY)
    for node in MANY[:15]:
        fact(check, node, filter="", filter_why="nothing works")
    assert "all nodes but n16: no filter works" in only(check, Level.PROBLEM, "filter").what
    check = good(MANY)
    for node in MANY[:2]:
        place = msgspec.structs.replace(check.facts[node].places[0], up=False)
        fact(check, node, places=(place,))
    assert "n1 and n2: eth0 is down" in only(check, Level.PROBLEM, "nodes").what


def test_the_node_that_is_different_is_seen_at_once() -> None:
    check = good(MANY)
    fact(check, "n7", rules="other")
    assert "same on all nodes but n7; other on n7" in only(check, Level.PROBLEM, "nodes").what
    check = good(MANY)
    fact(check, "n7", places=facts("n7", mtu=1280, nodes=MANY).places)
    assert "1500 on all nodes but n7; 1280 on n7" in only(check, Level.WARNING, "size").what


def test_who_answers_is_told_in_the_order_of_the_module() -> None:
    check = running(MANY)
    check.roles |= dict.fromkeys(MANY[4:], "STOP")
    for node in MANY:
        claims = [c for c in check.reports[node].claims if c.source <= "02:00:00:00:00:04"]
        change(check, node, claims=tuple(claims))
    (text,) = [v.what for v in evaluate(check) if v.topic == "owner"]
    assert "n1, n2, n3 and n4 answer for it" in text
    for node in MANY:
        change(check, node, claims=())
    assert "n1, n2, n3 and n4 do not answer" in only(check, Level.WARNING, "owner").what
