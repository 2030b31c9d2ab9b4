"""The rule sets as text: order of the rules."""

import ipaddress
import re

from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import Settings
from mirrorfarm.netfilter.nft_rules import (
    lease_begin,
    lease_end,
    lease_renew,
    removal,
    rule_set,
)
from mirrorfarm.netfilter.rules import rule

ADDRESSES = (ipaddress.ip_address("198.18.0.100"), ipaddress.ip_address("2001:db8::100"))
RULES = (
    rule("tcp", "on_port", "80"),
    rule("tcp", "on_addr", "443", "198.18.0.100", group=1),
    rule("udp", "on_ipid"),
    rule("arp", "on_addr"),
)
SETTINGS = Settings("web", ("eth0", "eth1"), ADDRESSES, RULES, 0x5EED)


def chain(text: str, name: str) -> list[str]:
    """Return the rules of a chain in the rule set, the filled one if it is named twice."""
    bodies = re.findall(rf"chain {name} {{\n(.*?)\n\s*}}\n", text, re.DOTALL)
    return [line.strip() for line in bodies[-1].splitlines()]


def test_only_one_chain_accepts_packets_to_the_addresses_and_the_lease_comes_first_there() -> None:
    text = rule_set(SETTINGS)
    assert chain(text, "taken") == [
        "meta mark set 1",
        "meta mark != @alive counter name fenced drop",
        "meta mark set 0",
        "tcp flags & (syn|ack) == syn counter name opened",
        "counter name accepted accept",
    ]
    bodies = {name: chain(text, name) for name in re.findall(r"chain (\w+) {\n", text)}
    outgoing = {name for name in bodies if name.startswith("resets")}
    accepting = {
        (name, line) for name in bodies.keys() - outgoing for line in bodies[name] if "acc" in line
    }
    assert {name for name, _ in accepting} == {
        "before",
        "in_0",
        "in_1",
        "taken",
        "tracked",
        "virtual",
    }
    assert {line for name, line in accepting if name in ("before", "tracked")} == {
        'iifname "lo" accept',
        "type filter hook prerouting priority -310; policy accept;",
        "type filter hook prerouting priority -160; policy accept;",
    }


def test_what_is_put_off_before_tracking_is_exactly_what_is_decided_behind_it() -> None:
    text = rule_set(SETTINGS)
    put_off = "tcp flags & (syn|ack) != syn"
    assert [line for line in chain(text, "virtual") if "accept" in line] == [f"{put_off} accept"]
    assert chain(text, "before")[2:] == [
        "ip daddr 198.18.0.100 goto virtual",
        "ip6 daddr 2001:db8::100 goto virtual",
    ]
    assert chain(text, "tracked")[2:] == [
        f"ip daddr 198.18.0.100 {put_off} goto ongoing",
        f"ip6 daddr 2001:db8::100 {put_off} goto ongoing",
    ]


def test_every_packet_comes_to_a_verdict_and_what_no_rule_is_about_is_refused() -> None:
    text = rule_set(SETTINGS)
    assert chain(text, "virtual")[-1] == chain(text, "ongoing")[-1] == "goto rules"
    assert chain(text, "rules")[-1] == "counter name refused drop"
    for name in ("tcp4_on_port_0", "tcp4_on_addr_1", "udp4_on_ipid_0", "udp6_on_addr_0"):
        assert chain(text, name)[-1] == "goto foreign"
    assert chain(text, "foreign") == ["counter name foreign drop"]


def test_opening_segments_are_never_passed_by_connection_tracking() -> None:
    tracked = [line for line in rule_set(SETTINGS).splitlines() if "ct state" in line]
    assert [line.strip() for line in tracked] == ["ct state established goto taken"]
    assert "ct state established goto taken" in chain(rule_set(SETTINGS), "ongoing")


def test_the_first_matching_rule_decides_and_rules_for_other_addresses_are_left_out() -> None:
    rules = chain(rule_set(SETTINGS), "rules")
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
        "tcp flags & (syn|ack) != syn meta mark @open_0 meta mark != @soft_0 goto taken",
        "goto foreign",
    ]


def test_pings_follow_the_first_rule_by_address_alone() -> None:
    text = rule_set(SETTINGS)
    pings = [line for line in chain(text, "rules") if "echo-request" in line]
    assert pings[0] == "ip daddr 198.18.0.100 icmp type echo-request goto udp4_on_addr_0"
    assert "jhash ip saddr mod" in chain(text, "udp4_on_addr_0")[0]


def test_resets_without_ack_leave_only_buckets_that_are_owned_alone() -> None:
    text = rule_set(SETTINGS)
    # Source addresses are translated back at 100, those of what is forwarded as well.
    hook = "type filter hook postrouting priority 110; policy accept;"
    assert chain(text, "resets")[0] == hook
    assert (
        "ip saddr 198.18.0.100 tcp sport 80 tcp flags & (rst|ack) == rst "
        "goto resets_4_on_port_0" in chain(text, "resets")
    )
    assert chain(text, "resets_4_on_port_0")[:3] == [
        "meta mark set jhash ip daddr . th dport mod 1024 seed 0x5eed",
        "meta mark != @open_0 counter name resets drop",
        "meta mark @soft_0 counter name resets drop",
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
