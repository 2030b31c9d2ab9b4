"""What an agent reads of the orders of a check, and of its own interfaces."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.vip.check import Peer
from mirrorfarm.actors.vip.subnets import Configured, Link, Target
from mirrorfarm.errors import Refused
from mirrorfarm.farm_check import FarmChecks, peers, sizes, source_for
from mirrorfarm.modules import install as modules
from mirrorfarm.paths import Paths
from mirrorfarm.transport.messages import AgentCommand

VIP = ipaddress.ip_address("198.18.0.100")
LINK = Link(2, "eth0", b"\x02" + bytes(5))


def test_words_that_name_nodes_are_read() -> None:
    mac = bytes.fromhex("020000000001")
    assert peers(("peer:0:2:02:00:00:00:00:01", "size:1500")) == (Peer(0, 2, mac),)
    assert sizes(("peer:0:2:02:00:00:00:00:01", "size:1500", "size:9999")) == (1500, 9216)


@pytest.mark.parametrize(
    "word",
    [
        "peer:",
        "peer:0:16:02:00:00:00:00:01",
        "peer:15:0:02:00:00:00:00:01",
        "peer:-1:0:02:00:00:00:00:01",
        "peer:0:0:01:00:00:00:00:01",
        "peer:0:0:00:00:00:00:00:00",
        "size:",
        "size:1",
        "size:-1500",
        "size:15000",
    ],
)
def test_words_that_make_no_sense_are_refused(word: str) -> None:
    read = peers if word.startswith("peer") else sizes
    with pytest.raises(Refused):
        read((word,))


@given(words=st.lists(st.text(max_size=30) | st.just("size:100"), max_size=8))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        found = peers(tuple(words)), sizes(tuple(words))
    except Refused:
        return
    assert len(found[1]) <= 4


def test_more_nodes_or_sizes_than_there_can_be_are_refused() -> None:
    with pytest.raises(Refused):
        peers(("peer:0:0:02:00:00:00:00:01",) * 241)
    with pytest.raises(Refused):
        sizes(("size:1000",) * 5)


def test_the_source_is_the_nodes_own_address_of_the_same_subnet() -> None:
    target = Target(VIP, 24, LINK, False)
    other = Configured(2, ipaddress.ip_address("198.18.9.1"), 24)
    beside = Configured(2, ipaddress.ip_address("198.18.0.1"), 24)
    virtual = Configured(2, VIP, 32)
    elsewhere = Configured(3, ipaddress.ip_address("198.18.0.2"), 24)
    texts = frozenset((str(VIP),))
    assert source_for(target, (virtual, other, beside), texts) == "198.18.0.1"
    assert source_for(target, (virtual, other), texts) == "198.18.9.1"
    assert source_for(target, (virtual, elsewhere), texts) == ""


@pytest.mark.parametrize("token", ["", "x", "0" * 31, "G" * 32, "0" * 33])
def test_a_check_without_a_proper_token_is_refused(token: str) -> None:
    checks = FarmChecks(Paths.from_environment(), "n1")
    with pytest.raises(Refused, match="token"):
        checks.perform(AgentCommand("r", "farm-check-begin", "SYSTEM/x", (token, "web")))


def test_a_node_that_the_module_is_not_for_takes_no_part(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.etc.mkdir(parents=True)
    nodes = "".join(f'<node name="n{i}" addr="198.18.0.{i}"/>' for i in (1, 2, 3))
    paths.cluster_xml.write_text(
        f'<cluster><lans><lan name="default">{nodes}</lan></lans></cluster>', encoding="utf-8"
    )
    modules.install(paths, "web", source="web")
    own = paths.module_etc("web") / "conf/userconfig.xml"
    own.write_text(
        '<safe><service mode="farm" nodes="n1 n2"><farm><lan name="default"/></farm></service>'
        "</safe>",
        encoding="utf-8",
    )
    modules.configure(paths, "web")
    begin = AgentCommand("r", "farm-check-begin", "SYSTEM/x", ("0" * 32, "web"))
    with pytest.raises(Refused, match="not for n3: its nodes are n1, n2"):
        FarmChecks(paths, "n3").perform(begin)


def test_an_order_without_a_check_is_refused() -> None:
    checks = FarmChecks(Paths.from_environment(), "n1")
    for verb in ("send", "announce", "end", "dance"):
        with pytest.raises(Refused):
            checks.perform(AgentCommand("r", f"farm-check-{verb}", "SYSTEM/x", ("0" * 32,)))
