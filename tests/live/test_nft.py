"""The sets of the filter `nft` in the kernel: what they hold after changes, and after refusals."""

import contextlib
import json
import os
import random
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from mirrorfarm.lab.network import NAMESPACES, inside, order
from mirrorfarm.limits import BUCKETS, GROUPS_MAX
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.libnftables import TransactionRefused
from mirrorfarm.netfilter.nfnetlink import Nfnetlink
from mirrorfarm.netfilter.nft import NftFilter
from mirrorfarm.netfilter.nft_elements import ADD, INET, Message, changes
from mirrorfarm.netfilter.rules import State, rule

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

RULES = tuple(rule("udp", "on_addr", str(1 + n), group=n) for n in range(GROUPS_MAX))
SETTINGS = Settings("web", (), (ip_address("198.18.0.100"),), RULES, 7)
TABLE = ("inet", "mirrorfarm_web")
Contents = dict[str, set[int]]


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"mfnft{random.getrandbits(32):08x}"
    order("ip", "netns", "add", name)
    with inside(name):
        yield name
    order("ip", "netns", "del", name)
    assert not (NAMESPACES / name).exists()


@pytest.fixture
def opened(namespace: str, tmp_path: Path) -> Iterator[NftFilter]:
    assert namespace
    filter_ = NftFilter(tmp_path / "ledger.json")
    filter_.open(SETTINGS)
    with contextlib.closing(filter_):
        yield filter_


def contents() -> Contents:
    """Return the elements of all sets of buckets that have any, as nft prints them."""
    entries = json.loads(order("nft", "--json", "--numeric", "list", "table", *TABLE))["nftables"]
    sets = [entry["set"] for entry in entries if "set" in entry]
    found = {one["name"]: set(one["elem"]) for one in sets if one.get("elem")}
    found.pop("alive", None)
    return found


def expected(table: BucketTable) -> Contents:
    found = {}
    for group, states in enumerate(table.groups):
        for name, of in (("open", (State.HARD, State.SOFT)), ("soft", (State.SOFT,))):
            found[f"{name}_{group}"] = {b for b in range(BUCKETS) if states[b] in of}
    return {name: buckets for name, buckets in found.items() if buckets}


def all_groups(states: bytes) -> BucketTable:
    return BucketTable(1, (states,) * GROUPS_MAX)


HARD, SOFT = bytes([State.HARD]) * BUCKETS, bytes([State.SOFT]) * BUCKETS


def test_after_every_change_the_kernel_holds_exactly_the_table(opened: NftFilter) -> None:
    chance = random.Random(4)
    tables = [all_groups(HARD), all_groups(SOFT), all_groups(HARD), NO_BUCKETS, all_groups(SOFT)]
    for turn in range(20):
        groups = [
            bytes(chance.choices(list(State), k=BUCKETS)) for _ in range(turn % (GROUPS_MAX + 1))
        ]
        tables.append(BucketTable(turn, tuple(groups)))
    for table in tables:
        opened.apply(table)
        assert contents() == expected(table)


def test_a_refused_change_is_not_half_done_and_the_reason_is_told(opened: NftFilter) -> None:
    before = all_groups(bytes([State.HARD, State.SOFT]) * (BUCKETS // 2))
    opened.apply(before)
    # Somebody takes from the last set what the filter is about to take from all of them.
    last = f"soft_{GROUPS_MAX - 1}"
    order("nft", "delete", "element", *TABLE, last, "{ 1 }")
    found = contents()
    with pytest.raises(TransactionRefused) as refused:
        opened.apply(all_groups(HARD))
    assert str(refused.value) == (
        f"the kernel refuses to delete buckets from {last} of table inet mirrorfarm_web: "
        "No such file or directory"
    )
    assert contents() == found


def test_the_change_after_a_refused_one_leaves_nothing_over(opened: NftFilter) -> None:
    opened.apply(all_groups(HARD))
    order("nft", "delete", "element", *TABLE, "open_0", "{ 5 }")
    order("nft", "add", "element", *TABLE, "soft_3", "{ 9 }")
    with pytest.raises(TransactionRefused):
        opened.apply(NO_BUCKETS)
    table = all_groups(bytes([State.FOREIGN, State.HARD]) * (BUCKETS // 2))
    opened.apply(table)
    assert contents() == expected(table)
    order("nft", "flush", "set", *TABLE, "open_1")
    with pytest.raises(TransactionRefused):
        opened.apply(NO_BUCKETS)
    assert opened.renew(0) is False  # What the farm does then: the lease ends, and all is closed.
    assert contents() == {}


def test_without_its_table_every_change_is_refused_with_the_reason(opened: NftFilter) -> None:
    order("nft", "delete", "table", *TABLE)
    for _ in range(2):
        with pytest.raises(TransactionRefused, match="No such file or directory"):
            opened.apply(all_groups(HARD))


def test_a_whole_transaction_is_refused_to_one_who_may_not_change_nftables(
    opened: NftFilter,
) -> None:
    assert contents() == {}
    messages = changes("web", GROUPS_MAX, NO_BUCKETS, all_groups(HARD))
    sets = Nfnetlink()
    with contextlib.closing(sets):
        os.seteuid(65_534)
        try:
            with pytest.raises(TransactionRefused, match=r"commit .*: Operation not permitted"):
                sets.run(messages)
        finally:
            os.seteuid(0)
        assert contents() == {}
        sets.run(messages)
    assert contents() == expected(all_groups(HARD))
    assert opened.counters()["accepted"] == 0


def test_a_malformed_message_is_refused_and_so_are_the_good_ones_with_it(
    opened: NftFilter,
) -> None:
    good = changes("web", GROUPS_MAX, NO_BUCKETS, all_groups(HARD))
    sets = Nfnetlink()
    with contextlib.closing(sets):
        for bad in (b"", good[0].attributes[:-8], b"\xff" * 64):
            broken = Message(ADD, INET, bad, "break something")
            with pytest.raises(TransactionRefused, match="the kernel refuses to break something: "):
                sets.run([*good, broken, *good, broken])
            assert contents() == {}
        sets.run(good)  # The second refusal, which nobody waited for, is not of this one.
    assert contents() == expected(all_groups(HARD))
    opened.apply(all_groups(HARD))


def test_a_kernel_that_does_not_answer_is_an_error(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert namespace
    sets = Nfnetlink()
    with contextlib.closing(sets):
        monkeypatch.setattr(socket.socket, "send", lambda *_: 0)
        with pytest.raises(OSError, match="has not answered"):
            sets.run(changes("web", 1, None, NO_BUCKETS))
