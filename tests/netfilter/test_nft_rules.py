"""The rule sets as text: order of the rules, and transactions between tables of buckets."""

import ipaddress
import re

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.nft_rules import (
    changes,
    lease_begin,
    lease_end,
    lease_renew,
    removal,
    rule_set,
)
from mirrorfarm.netfilter.rules import State, rule

ADDRESSES = (ipaddress.ip_address("198.18.0.100"), ipaddress.ip_address("2001:db8::100"))
RULES = (
    rule("tcp", "on_port", "80"),
    rule("tcp", "on_addr", "443", "198.18.0.100", group=1),
    rule("udp", "on_ipid"),
    rule("arp", "on_addr"),
)
SETTINGS = Settings("web", ("eth0", "eth1"), ADDRESSES, RULES, 0x5EED)

# Sixteen states, repeated: enough for every change there is.
groups = st.lists(
    st.binary(min_size=16, max_size=16).map(
        lambda drawn: bytes(byte % 3 for byte in drawn) * (BUCKETS // 16)
    ),
    max_size=3,
).map(tuple)


def chain(text: str, name: str) -> list[str]:
    """Return the rules of a chain in the rule set, the filled one if it is named twice."""
    bodies = re.findall(rf"chain {name} {{\n(.*?)\n\s*}}\n", text, re.DOTALL)
    return [line.strip() for line in bodies[-1].splitlines()]


def perform(commands: str, kernel: dict[str, set[int]]) -> None:
    """Do to `kernel` what nftables would do; what it would refuse is an error."""
    for line in commands.splitlines():
        verb, _, _, _, name, listed = line.split(maxsplit=5)
        numbers = {int(word) for word in listed.strip("{ }").split(",")}
        present = kernel.setdefault(name, set())
        if verb == "delete":
            assert numbers <= present, "the kernel refuses to delete what is not there"
            present -= numbers
        else:
            assert not numbers & present
            present |= numbers


def expected(table: BucketTable) -> dict[str, set[int]]:
    sets: dict[str, set[int]] = {}
    for number, states in enumerate(table.groups):
        sets[f"open_{number}"] = {b for b in range(BUCKETS) if states[b] != State.FOREIGN}
        sets[f"hard_{number}"] = {b for b in range(BUCKETS) if states[b] == State.HARD}
    return sets


def filled(sets: dict[str, set[int]]) -> dict[str, set[int]]:
    return {name: numbers for name, numbers in sets.items() if numbers}


def test_the_lease_comes_before_everything_and_refusal_is_last() -> None:
    rules = chain(rule_set(SETTINGS), "virtual")
    assert rules[0].startswith("meta mark set 1")
    assert rules[1] == "meta mark != @alive counter name fenced drop"
    assert rules[-1] == "counter name refused drop"


def test_opening_segments_are_never_passed_by_connection_tracking() -> None:
    tracked = [line for line in rule_set(SETTINGS).splitlines() if "ct state" in line]
    assert [line.strip() for line in tracked] == [
        "tcp flags & (syn|ack) != syn ct state established goto taken"
    ]


def test_the_first_matching_rule_decides_and_rules_for_other_addresses_are_left_out() -> None:
    rules = chain(rule_set(SETTINGS), "virtual")
    decided = [line for line in rules if "l4proto" in line]
    assert decided == [
        "ip daddr 198.18.0.100 meta l4proto tcp tcp dport 80 goto tcp4_on_port_0",
        "ip daddr 198.18.0.100 meta l4proto tcp tcp dport 443 goto tcp4_on_addr_1",
        "ip daddr 198.18.0.100 meta l4proto udp goto udp4_on_ipid_0",
        "ip6 daddr 2001:db8::100 meta l4proto tcp tcp dport 80 goto tcp6_on_port_0",
        "ip6 daddr 2001:db8::100 meta l4proto udp goto udp6_on_addr_0",
    ]


def test_a_segment_of_an_unknown_connection_needs_a_bucket_that_is_owned_alone() -> None:
    assert chain(rule_set(SETTINGS), "tcp4_on_port_0") == [
        "meta mark set jhash ip saddr . th sport mod 1024 seed 0x5eed",
        "tcp flags & (syn|ack) == syn meta mark @open_0 goto taken",
        "tcp flags & (syn|ack) != syn meta mark @hard_0 goto taken",
        "goto foreign",
    ]


def test_pings_follow_the_first_rule_by_address_alone() -> None:
    text = rule_set(SETTINGS)
    pings = [line for line in chain(text, "virtual") if "echo-request" in line]
    assert pings[0] == "ip daddr 198.18.0.100 icmp type echo-request goto udp4_on_addr_0"
    assert "jhash ip saddr mod" in chain(text, "udp4_on_addr_0")[0]


def test_resets_without_ack_leave_only_buckets_that_are_owned_alone() -> None:
    text = rule_set(SETTINGS)
    assert (
        "ip saddr 198.18.0.100 tcp sport 80 tcp flags & (rst|ack) == rst "
        "goto resets_4_on_port_0" in chain(text, "resets")
    )
    assert chain(text, "resets_4_on_port_0")[:2] == [
        "meta mark set jhash ip daddr . th dport mod 1024 seed 0x5eed",
        "meta mark != @hard_0 counter name resets drop",
    ]


def test_frames_for_the_virtual_mac_are_let_through_on_every_interface() -> None:
    text = rule_set(SETTINGS)
    for number, interface in enumerate(SETTINGS.interfaces):
        rules = chain(text, f"in_{number}")
        assert f'device "{interface}"' in rules[0]
        assert rules[1] == (
            "ether daddr 5a:fe:c6:12:00:64 ip daddr 198.18.0.100 meta pkttype set host"
        )


def test_where_nodes_use_their_own_macs_no_frame_is_changed() -> None:
    own = Settings("web", ("eth0",), ADDRESSES, RULES, 1, Delivery.DIRECTED)
    assert "pkttype" not in rule_set(own)


@given(groups, groups)
def test_changes_lead_from_any_table_to_any_other(
    old: tuple[bytes, ...], new: tuple[bytes, ...]
) -> None:
    before, after = BucketTable(1, old), BucketTable(2, new)
    kernel: dict[str, set[int]] = {}
    perform(changes("web", NO_BUCKETS, before), kernel)
    perform(changes("web", before, after), kernel)
    assert filled(kernel) == filled(expected(after))


def test_nothing_is_ordered_for_the_same_table() -> None:
    table = BucketTable(1, (bytes([2]) * BUCKETS,))
    assert changes("web", table, table) == ""


def test_a_lease_is_prolonged_only_by_deleting_the_one_that_is_there() -> None:
    alive = "element inet mirrorfarm_web alive"
    assert lease_renew("web", 290) == (
        f"delete {alive} {{ 1 }}\nadd {alive} {{ 1 timeout 290ms }}\n"
    )
    assert lease_begin("web", 290).startswith(lease_end("web"))


def test_tables_are_removed_whether_they_exist_or_not() -> None:
    lines = removal("web").splitlines()
    assert lines[:2] == ["table inet mirrorfarm_web", "delete table inet mirrorfarm_web"]
    assert lines[3] == "delete table netdev mirrorfarm_web"
