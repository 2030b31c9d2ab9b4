"""A farm of three nodes, as its administrator and its clients see it."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from mirrorfarm.lab import farm_web
from mirrorfarm.lab.cluster import OneMachine
from tests.live.farm_work import (
    ADDRESS,
    ADDRESS6,
    Stream,
    answers,
    ask,
    await_members,
    install,
    up,
    userconfig,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module", params=["bpf", "nft"])
def lab(request: pytest.FixtureRequest) -> Iterator[OneMachine]:
    """Three nodes UP, with a filter of the kind that is tested."""
    with OneMachine(nodes=NODES, witness=False) as machine:
        install(machine, userconfig(farm=f'filter="{request.param}" drain="10s"'))
        up(machine, *NODES)
        yield machine


def test_every_client_is_answered_by_one_node_and_all_nodes_take_part(lab: OneMachine) -> None:
    for address in (ADDRESS, ADDRESS6):
        found = answers(lab, 150, address)
        assert set(found) == set(NODES), found
        assert sum(found.values()) == 150


def test_shares_and_owners_are_told(lab: OneMachine) -> None:
    told = json.loads(lab.mirrorfarm("n1", "farm", "state", "-m", "web", "--json"))
    assert set(told) == set(NODES)
    assert sum(node["buckets"]["web"] for node in told["n1"]["nodes"]) == 1024
    owners = json.loads(lab.mirrorfarm("n2", "farm", "map", "-m", "web", "--json"))
    assert sorted(set(owners["owners"]["web"])) == list(NODES)
    words = lab.mirrorfarm("n1", "farm", "state", "-m", "web")
    assert "as configured" in words
    assert "33.3 %" in words


def test_a_drained_node_keeps_its_connections_and_gets_no_new_ones(lab: OneMachine) -> None:
    with lab.as_client():
        streams = [Stream() for _ in range(30)]
    try:
        assert {stream.node for stream in streams} == set(NODES)
        lab.mirrorfarm("n1", "farm", "drain", "n2", "-m", "web")
        _await_share(lab, "n2", 0)
        assert set(answers(lab, 90)) == {"n1", "n3"}
        assert [stream.ask() for stream in streams] == [stream.node for stream in streams]
        farm_web.until(lambda: "drains by order" in lab.state("n2")["reason"], 60, "its reason")
        lab.mirrorfarm("n1", "farm", "resume", "n2", "-m", "web")
        _await_share(lab, "n2", 341)
        assert [stream.ask() for stream in streams] == [stream.node for stream in streams]
    finally:
        for stream in streams:
            stream.close()
    assert set(answers(lab, 90)) == set(NODES)


def _await_share(lab: OneMachine, node: str, least: int) -> None:
    """Wait until a node owns `least` buckets or one more; 0: exactly none."""
    wanted = range(least, least + 2 if least else 1)
    farm_web.await_buckets(lab, "n1", node, lambda own: own in wanted)


def test_power_changes_the_shares_and_breaks_no_connection(lab: OneMachine) -> None:
    with lab.as_client():
        streams = [Stream() for _ in range(20)]
    try:
        lab.mirrorfarm("n1", "farm", "power", "n3", "2", "-m", "web")
        _await_share(lab, "n3", 512)
        assert [stream.ask() for stream in streams] == [stream.node for stream in streams]
        lab.mirrorfarm("n1", "farm", "power", "n3", "1", "-m", "web")
        _await_share(lab, "n3", 341)
        assert [stream.ask() for stream in streams] == [stream.node for stream in streams]
    finally:
        for stream in streams:
            stream.close()


def test_a_stopped_node_waits_for_its_connections_and_the_others_take_over(
    lab: OneMachine,
) -> None:
    with lab.as_client():
        streams = [Stream() for _ in range(20)]
    for stream in streams:
        stream.close()
    lab.order("n3", "stop")
    await_members(lab, "n1", {"n1", "n2"})
    assert set(answers(lab, 60)) == {"n1", "n2"}
    lab.order("n3", "start")
    await_members(lab, "n1", set(NODES))
    assert set(answers(lab, 90)) == set(NODES)


def logged(lab: OneMachine, node: str, words: str) -> float:
    """Return when a node last said so in its log, in seconds of the real-time clock."""
    text = (lab.paths(node).module_log("web") / "log.jsonl").read_text()
    whole, _, _ = text.rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return max(float(line["t"]) for line in lines if line["text"].startswith(words))


def test_a_node_without_power_is_replaced_within_a_second(lab: OneMachine) -> None:
    killed = time.time()
    lab.kill_node("n1")
    await_members(lab, "n2", {"n2", "n3"})
    # By its own clock: who asks it may have had to wait.
    assert 0 < logged(lab, "n2", "farm membership: n2 n3") - killed < 3
    assert set(answers(lab, 60)) == {"n2", "n3"}
    words = " ".join(lab.mirrorfarm("n2", "why", "-m", "web").split())
    assert "n1: it is silent on every network of the farm" in words
    lab.start_node("n1")
    lab.order("n1", "start")
    await_members(lab, "n2", set(NODES))
    assert set(answers(lab, 90)) == set(NODES)


def test_a_module_process_that_is_frozen_answers_nobody_and_joins_again(lab: OneMachine) -> None:
    (pid,) = lab.pids("n2")["module"]
    os.kill(pid, signal.SIGSTOP)
    try:
        await_members(lab, "n1", {"n1", "n3"})
        assert set(answers(lab, 60)) == {"n1", "n3"}
    finally:
        os.kill(pid, signal.SIGCONT)
    await_members(lab, "n1", set(NODES))
    assert set(answers(lab, 90)) == set(NODES)


def test_a_module_process_that_dies_leaves_a_filter_that_drops(lab: OneMachine) -> None:
    (pid,) = lab.pids("n2")["module"]
    os.kill(pid, signal.SIGKILL)
    await_members(lab, "n1", {"n1", "n3"})
    assert set(answers(lab, 60)) == {"n1", "n3"}
    await_members(lab, "n1", set(NODES))  # A new process takes its place.
    assert set(answers(lab, 90)) == set(NODES)


def test_a_cut_node_serves_nobody_twice_and_comes_back_by_itself(lab: OneMachine) -> None:
    lab.cut("n3")
    await_members(lab, "n1", {"n1", "n2"})
    assert set(answers(lab, 60)) == {"n1", "n2"}
    lab.mend("n3")
    await_members(lab, "n1", set(NODES))
    assert set(answers(lab, 90)) == set(NODES)


def test_an_order_of_a_mirror_is_refused_in_words(lab: OneMachine) -> None:
    with pytest.raises(Exception, match="swap is for mirrors"):
        lab.order("n1", "swap")


def test_traffic_without_a_rule_is_refused(lab: OneMachine) -> None:
    with lab.as_client():
        with pytest.raises(TimeoutError):
            socket.create_connection((ADDRESS, 81), timeout=0.4)
        assert ask() in NODES


def test_a_stop_leaves_nothing_behind(lab: OneMachine) -> None:
    """Last: the farm is stopped."""
    for node in NODES:
        lab.order(node, "stop")
    for node in NODES:
        shown = lab.run(node, ["ip", "addr", "show", "dev", "lo"]).stdout
        assert ADDRESS not in shown
        assert ADDRESS6 not in shown
        rules = lab.run(node, ["nft", "list", "ruleset"]).stdout
        assert "web" not in rules
    found = answers(lab, 3, seconds=0.3)
    assert not set(found) & set(NODES)
