"""The check of a farm's network: what it says of good networks and of each thing that is wrong."""

import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mirrorfarm.actors.vip import check as part_module
from mirrorfarm.actors.vip.check import Part, Peer, mac_bytes
from mirrorfarm.cli.client import Client
from mirrorfarm.cli.farm_check import Lead, check_farm
from mirrorfarm.cli.main import Scope
from mirrorfarm.errors import MirrorfarmError, Refused, SystemUnsuitable
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.network import Wiring, inside, order, unique_prefix
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.netfilter.announce import hardware_address
from mirrorfarm.netfilter.neighbours import mac_text
from mirrorfarm.netfilter.preflight import Facts, Kind, Place, Probe, build
from tests.live.farm_work import ADDRESS, ADDRESS6, Stream, answers, install, up, userconfig

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

NODES = ("n1", "n2", "n3")
GROUP_ADDRESS = "198.18.0.101"
Verdicts = list[dict[str, str]]


@pytest.fixture(scope="module")
def lab() -> Iterator[OneMachine]:
    """Three nodes with agents; clients are on `client`, heartbeats on `default`."""
    with OneMachine(nodes=NODES, networks=("client", "default"), witness=False) as machine:
        # What a busy machine adds to a round trip is less than half of such a pulse.
        own = userconfig(farm='pulse="500"')
        text = own.replace("vmac_invisible", "multicast")
        text = text.replace(f'<virtual_addr addr="{ADDRESS6}"/>', "")
        text = text.replace(ADDRESS, GROUP_ADDRESS)
        install(machine, text, "group")
        install(machine, own, "web")
        yield machine


def run_check(lab: OneMachine, *words: str, node: str = "n1") -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "mirrorfarm.cli.main", "farm", "check", *words]
    return lab.run(node, argv, 150)


def check(lab: OneMachine, code: int, module: str = "web", node: str = "n1") -> dict[str, Any]:
    """Return what a check found; it must end with this exit code."""
    done = run_check(lab, "-m", module, "--json", node=node)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == code, bad(found["verdicts"])
    return found


def bad(verdicts: Verdicts) -> Verdicts:
    return [one for one in verdicts if one["level"] in {"warning", "problem"}]


def told(found: dict[str, Any], level: str, topic: str) -> str:
    """Return the verdicts of a level about a topic, as one text."""
    return "\n".join(
        " | ".join((one["what"], one["why"], one["cure"]))
        for one in found["verdicts"]
        if one["level"] == level and one["topic"] == topic
    )


def switch(lab: OneMachine, *words: str) -> None:
    order("nsenter", f"--net=/run/netns/{lab.wiring.namespace('sw')}", "--", *words)


def left_behind(lab: OneMachine, node: str) -> str:
    """Return what a check could have left on a node: entries, memberships, a wide interface."""
    space = lab.wiring.namespace(node)
    entries = order("ip", "-n", space, "neigh", "show", "to", ADDRESS)
    entries += order("ip", "-n", space, "-6", "neigh", "show", "to", ADDRESS6)
    link = order("ip", "-d", "-n", space, "link", "show", "eth0")
    wide = "promiscuity 0" not in link
    forwards = order("bridge", "-n", space, "fdb", "show", "dev", "eth0")
    return f"{entries}{forwards if '5a:fe' in forwards else ''}{link if wide else ''}"


def test_a_good_network_is_found_good_before_the_module_is_started(lab: OneMachine) -> None:
    found = check(lab, 0, node="n2")
    assert not bad(found["verdicts"])
    assert "eth0" in told(found, "ok", "delivery")
    assert "not seen by others" in told(found, "ok", "flood")
    assert "change the neighbour entries" in told(found, "ok", "announcement")
    assert "nobody answers for it" in told(found, "ok", "owner")
    assert "MTU 1500 of every node reach every other node" in told(found, "ok", "size")
    assert "lan default" in told(found, "ok", "heartbeat")
    assert "n1, n2 and n3 use" in told(found, "ok", "filter")
    assert {one["address"] for one in found["delivery"]} == {ADDRESS, ADDRESS6}
    for node in NODES:
        assert left_behind(lab, node) == ""
    words = run_check(lab, "-m", "web")
    assert "each of 5 frames of every node reached every other node" in words.stdout
    assert (
        "each node sends once more, while all receive whatever there is: n1 n2 n3" in words.stderr
    )


def test_a_switch_that_does_not_flood_to_a_node_is_found(lab: OneMachine) -> None:
    switch(lab, "bridge", "link", "set", "dev", "n3-0", "flood", "off")
    try:
        found = check(lab, 1)
        text = told(found, "problem", "delivery")
        assert "no node reaches n3" in text
        assert "bridge link set dev PORT flood on" in text
        assert [one["topic"] for one in bad(found["verdicts"])] == ["delivery"] * 2
        words = run_check(lab, "-m", "web")
        assert words.returncode == 1
        assert "0/5" in words.stdout
        assert "VMware" in words.stdout
    finally:
        switch(lab, "bridge", "link", "set", "dev", "n3-0", "flood", "on")


def test_snooping_with_a_querier_is_found_where_a_group_mac_is_used(lab: OneMachine) -> None:
    assert not bad(check(lab, 0, "group")["verdicts"])
    bridge = ("ip", "link", "set", "br0", "type", "bridge")
    try:
        switch(lab, *bridge, "mcast_query_response_interval", "100")
        switch(lab, *bridge, "mcast_snooping", "1", "mcast_querier", "1")
    except SystemUnsuitable as error:
        pytest.skip(f"this kernel's bridge has no snooping: {error}")
    try:
        deadline = time.monotonic() + 90
        while "no node reaches another" not in (
            text := told(_any(lab, "group"), "problem", "delivery")
        ):
            if time.monotonic() > deadline:
                pytest.skip(f"this bridge floods group MACs in spite of its querier: {text}")
        assert "mcast_router 2" in text
        for node in NODES:
            switch(lab, "bridge", "link", "set", "dev", f"{node}-0", "mcast_router", "2")
        assert not told(_any(lab, "group"), "problem", "delivery")
    finally:
        switch(lab, *bridge, "mcast_snooping", "0", "mcast_querier", "0")


def _any(lab: OneMachine, module: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_check(lab, "-m", module, "--json").stdout)
    return found


@pytest.mark.parametrize(("address", "prefix"), [(ADDRESS, 24), (ADDRESS6, 64)])
def test_a_stranger_that_has_the_address_is_named(
    lab: OneMachine, address: str, prefix: int
) -> None:
    space = lab.wiring.namespace("c")
    nodad = ["nodad"] if ":" in address else []
    order("ip", "-n", space, "addr", "add", f"{address}/{prefix}", "dev", "eth0", *nodad)
    try:
        with inside(space):
            mac = mac_text(hardware_address("eth0"))
        found = check(lab, 1)
        text = told(found, "problem", "owner")
        assert f"{address}: a stranger owns the address: {mac} answers for it" in text
        assert "would lose it" in told(found, "untested", "announcement")
    finally:
        order("ip", "-n", space, "addr", "del", f"{address}/{prefix}", "dev", "eth0")


def test_a_node_with_a_smaller_mtu_is_found(lab: OneMachine) -> None:
    space = lab.wiring.namespace("n3")
    order("ip", "-n", space, "link", "set", "eth0", "mtu", "1400")
    try:
        text = told(check(lab, 0), "warning", "size")
        assert "1500 on n1 and n2; 1400 on n3" in text
    finally:
        order("ip", "-n", space, "link", "set", "eth0", "mtu", "1500")


def test_a_network_that_carries_less_than_the_interfaces_send_is_found(lab: OneMachine) -> None:
    switch(lab, "ip", "link", "set", "n3-0", "mtu", "1400")
    try:
        text = told(check(lab, 1), "problem", "size")
        assert "n3 and the others do not reach each other" in text
        assert "at most 1400 bytes" in text
    finally:
        switch(lab, "ip", "link", "set", "n3-0", "mtu", "1500")
        switch(lab, "ip", "link", "set", "br0", "mtu", "1500")


@pytest.mark.parametrize(
    ("network", "level", "topic"),
    [("client", "problem", "network"), ("default", "warning", "heartbeat")],
)
def test_it_tells_which_of_the_two_networks_is_cut(
    lab: OneMachine, network: str, level: str, topic: str
) -> None:
    lab.cut("n3", network, carrier=True)
    try:
        found = check(lab, 1 if level == "problem" else 0)
        where = {"client": "eth0", "default": "lan default"}[network]
        text = told(found, level, topic)
        assert text.startswith(where)
        assert "n3 and the others do not reach each other" in text
        assert {one["topic"] for one in bad(found["verdicts"])} == {topic}
    finally:
        lab.mend("n3", network, carrier=True)


def test_a_running_farm_says_of_itself_that_a_stranger_has_its_address(lab: OneMachine) -> None:
    space = lab.wiring.namespace("c")
    words = ("-n", space, "addr", "add", f"{ADDRESS6}/64", "dev", "eth0", "nodad")
    order("ip", *words)
    try:
        with inside(space):
            mac = mac_text(hardware_address("eth0"))
        lab.order("n1", "start")
        deadline = time.monotonic() + 60
        while f"{ADDRESS6}: {mac}" not in (reason := lab.state("n1").get("reason", "")):
            assert time.monotonic() < deadline, reason
            time.sleep(0.05)
        told_why = " ".join(lab.mirrorfarm("n1", "why", "-m", "web").split())
        assert f"a stranger owns the address {ADDRESS6}: {mac}" in told_why
        assert "mirrorfarm farm check -m web" in told_why
    finally:
        order("ip", "-n", space, "addr", "del", f"{ADDRESS6}/64", "dev", "eth0")
        lab.order("n1", "stop")


def test_a_node_without_power_takes_no_part_and_the_others_are_checked(lab: OneMachine) -> None:
    lab.kill_node("n3")
    try:
        found = check(lab, 1)
        assert "n3 took no part" in told(found, "problem", "nodes")
        assert "of every node reached every other" in told(found, "ok", "delivery")
    finally:
        lab.start_node("n3")


def test_a_running_farm_serves_on_during_a_check(lab: OneMachine) -> None:
    up(lab, *NODES)
    try:
        with lab.as_client():
            streams = [Stream() for _ in range(20)]
        found: list[dict[str, Any]] = []
        _meanwhile(lab, lambda: found.append(check(lab, 0)))
        assert not bad(found[0]["verdicts"])
        assert "n1, n2 and n3 answer for it" in told(found[0], "ok", "owner")
        assert "only while the module is stopped" in told(found[0], "untested", "announcement")
        assert [stream.ask() for stream in streams] == [stream.node for stream in streams]
        for stream in streams:
            stream.close()
        switch(lab, "bridge", "link", "set", "dev", "n3-0", "flood", "off")
        assert "no node reaches n3" in told(check(lab, 1), "problem", "delivery")
    finally:
        switch(lab, "bridge", "link", "set", "dev", "n3-0", "flood", "on")
        for node in NODES:
            lab.order(node, "stop")


def _meanwhile(lab: OneMachine, work: Callable[[], None]) -> None:
    """Do something in a thread while clients connect; every one of them is answered."""
    thread = threading.Thread(target=work)
    thread.start()
    asked = 0
    while thread.is_alive():
        served = answers(lab, 30)
        assert set(served) <= set(NODES), served
        asked += 30
    thread.join()
    assert asked


def test_a_second_check_is_refused_and_so_are_orders_without_a_check(lab: OneMachine) -> None:
    token = secrets.token_hex(16)
    with Client(lab.paths("n2"), who="SYSTEM/lab") as client:
        client.agent("n2", "farm-check-begin", (token, "web"))
        try:
            with pytest.raises(MirrorfarmError, match="another check of a farm goes on on n2"):
                lab.mirrorfarm("n1", "farm", "check", "-m", "web")
            assert left_behind(lab, "n1") == ""
            for words in (
                ("farm-check-announce", secrets.token_hex(16)),
                ("farm-check-announce", "x"),
                ("farm-check-dance", token),
                ("farm-check-send", token, "peer:0:1:ff:ff:ff:ff:ff:ff"),
                ("farm-check-send", token, "peer:99:1:02:00:00:00:00:01"),
                ("farm-check-send", token, "size:99999"),
            ):
                with pytest.raises(Refused):
                    client.agent("n2", words[0], words[1:])
        finally:
            client.agent("n2", "farm-check-end", (token,))
        with pytest.raises(Refused, match="no such check"):
            client.agent("n2", "farm-check-announce", (token,))
    assert left_behind(lab, "n2") == ""


def test_an_interrupted_check_ends_on_every_node(
    lab: OneMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Lead) -> None:
        self._order(self._live, "watch", ("plant",))
        self._order(self._live, "widen")
        assert all(left_behind(lab, node) for node in NODES)
        raise KeyboardInterrupt

    monkeypatch.setattr(Lead, "through", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_farm(Scope(lab.paths("n1"), ""), "web", False)
    assert not any(left_behind(lab, node) for node in NODES)
    check(lab, 0)


def test_modules_that_are_no_farm_or_unknown_are_refused(lab: OneMachine) -> None:
    with pytest.raises(MirrorfarmError, match="module nothing is not installed"):
        lab.mirrorfarm("n1", "farm", "check", "-m", "nothing")


# --- one part, without agents --------------------------------------------------------------


@pytest.fixture
def cable() -> Iterator[Wiring]:
    wiring = Wiring(unique_prefix(), ("a", "b"), ("lan",), {"a": 11, "b": 12})
    try:
        wiring.build()
        yield wiring
    finally:
        wiring.remove()


def part_of(wiring: Wiring, name: str, token: bytes) -> Part:
    with inside(wiring.namespace(name)):
        place = Place(
            "eth0", mac_text(hardware_address("eth0")), 1500, True, (0,), ("198.18.0.11",)
        )
        return Part(
            token,
            Facts(
                node=name,
                nodes=("a", "b"),
                addresses=(ADDRESS,),
                delivery="vmac_invisible",
                virtual_macs=("5a:fe:c6:12:00:64",),
                rules="",
                pulse_ns=100 * MILLISECOND_NS,
                silent_ns=400 * MILLISECOND_NS,
                places=(place,),
            ),
        )


def test_frames_of_another_check_are_not_counted(cable: Wiring) -> None:
    a, b = part_of(cable, "a", b"1" * 16), part_of(cable, "b", b"2" * 16)
    same = part_of(cable, "b", b"1" * 16)
    try:
        a.send((Peer(0, 1, mac_bytes(b.facts.places[0].mac)),), (1500,))
        assert b.report().seen == ()
        expected = {kind: (5, 5) for kind in (Kind.VIRTUAL, Kind.BROADCAST, Kind.OWN, Kind.ASK)}
        expected |= {Kind.SIZE: (2, 2)}

        def counted() -> dict[Kind, tuple[int, int]]:
            return {Kind(row.kind): (row.frames, row.copies) for row in same.report().seen}

        def answered() -> list[int]:
            return [len(trip.times_ns) for trip in a.report().trips]

        deadline = time.monotonic() + 30  # Another thread counts.
        while (counted(), answered()) != (expected, [5]):
            assert time.monotonic() < deadline, (counted(), answered())
            time.sleep(0.01)
        assert b.report().seen == ()
    finally:
        for part in (a, b, same):
            part.close()


def test_frames_that_are_marked_with_a_priority_alone_are_seen(cable: Wiring) -> None:
    """The kernel takes those of VLAN 0 as the interface's own; others are of another network."""
    b = part_of(cable, "b", b"1" * 16)
    try:
        with inside(cable.namespace("a")):
            mac = hardware_address("eth0")
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with wire:
            wire.bind(("eth0", 0))
            # The last one has to be counted; what came before it was looked at by then.
            for kind, tag in ((Kind.OWN, 0x6005), (Kind.BROADCAST, 0x6000)):
                bare = build(Probe(b"1" * 16, kind, 0, 0, 1, 0), mac)
                wire.send(bare[:12] + b"\x81\0" + tag.to_bytes(2, "big") + bare[12:])
        deadline = time.monotonic() + 30
        while not (seen := b.report().seen):
            assert time.monotonic() < deadline, "nothing was seen"
            time.sleep(0.01)
        assert [Kind(row.kind) for row in seen] == [Kind.BROADCAST]
    finally:
        b.close()


def test_a_part_that_nobody_leads_any_more_ends_and_leaves_nothing(
    cable: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "CHECK_SILENT_NS", 3_000 * MILLISECOND_NS)
    space = cable.namespace("a")
    with inside(space):
        part = part_of(cable, "a", b"1" * 16)
        part.watch(plant=True)
        part.widen()
    shown = ("ip", "-n", space, "neigh", "show", "to", ADDRESS)
    assert "02:00:00:00:00:01" in order(*shown)
    deadline = time.monotonic() + 60
    while not part.over:
        assert time.monotonic() < deadline, "its part does not end"
        time.sleep(0.01)
    assert order(*shown) == ""
    assert "promiscuity 0" in order("ip", "-d", "-n", space, "link", "show", "eth0")
