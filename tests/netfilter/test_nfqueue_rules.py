"""The verdict of the filter in Python on one packet, and its rule sets."""

import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.nfqueue import NfqueueFilter
from mirrorfarm.netfilter.nfqueue_rules import (
    Mark,
    decide,
    forget,
    mark,
    queue_rules,
    queue_rules_removal,
    rule_set,
)
from mirrorfarm.netfilter.packet import parse
from mirrorfarm.netfilter.rules import Placement, Rules, State, bucket, rule
from tests.netfilter import packets
from tests.netfilter.packets import ACK, SYN, TCP, UDP, ipv4, ipv6, tcp, udp

VIP4, VIP6, CLIENT = "198.18.0.100", "2001:db8::100", "198.18.0.50"
RULES: Rules = (rule("tcp", "on_port", "80"), rule("udp", "on_port", "53"))
SEED = 0x5EED
SETTINGS = Settings(
    "web", ("eth0",), tuple(map(ipaddress.ip_address, (VIP4, VIP6))), RULES, SEED, queue=3
)


def all_in(state: State) -> BucketTable:
    return BucketTable(1, (bytes([state]) * BUCKETS,))


def verdict(data: bytes, state: State, asked: Mark = Mark.UNDECIDED) -> Mark:
    return decide(data, asked, RULES, SEED, all_in(state))


def opening(version: int = 4) -> bytes:
    body = tcp(40_000, 80, SYN)
    if version == 6:
        return ipv6("2001:db8::50", VIP6, TCP, body)
    return ipv4("198.18.0.50", VIP4, TCP, body)


ONGOING = ipv4("198.18.0.50", VIP4, TCP, tcp(40_000, 80, ACK))
DATAGRAM = ipv4("198.18.0.50", VIP4, UDP, udp(40_000, 53))
PING = ipv4("198.18.0.50", VIP4, packets.ICMP, packets.icmp(8))
RESET = ipv4(VIP4, "198.18.0.50", TCP, tcp(80, 40_000, packets.RST))


@pytest.mark.parametrize(
    ("data", "foreign", "soft", "hard"),
    [
        (opening(4), Mark.FOREIGN, Mark.ONCE, Mark.TAKE),
        (opening(6), Mark.FOREIGN, Mark.ONCE, Mark.TAKE),
        (ONGOING, Mark.FOREIGN, Mark.OTHERS, Mark.TAKE),
        (DATAGRAM, Mark.FOREIGN, Mark.TAKE, Mark.TAKE),
        (PING, Mark.ELSEWHERE, Mark.ONCE, Mark.ONCE),
    ],
    ids=["SYN", "SYN of IPv6", "segment", "datagram", "ping"],
)
def test_the_state_of_the_bucket_decides(
    data: bytes, foreign: Mark, soft: Mark, hard: Mark
) -> None:
    assert verdict(data, State.FOREIGN) is foreign
    assert verdict(data, State.SOFT) is soft
    assert verdict(data, State.HARD) is hard


def test_without_a_table_nothing_is_taken() -> None:
    for data in (opening(), ONGOING, DATAGRAM, PING):
        taken = decide(data, Mark.UNDECIDED, RULES, SEED, NO_BUCKETS)
        assert taken not in (Mark.TAKE, Mark.ONCE)


def test_what_no_rule_is_about_is_dropped_even_where_all_is_owned() -> None:
    for data in (
        ipv4("198.18.0.50", VIP4, TCP, tcp(40_000, 81)),
        ipv4("198.18.0.50", VIP4, 47, bytes(20)),
        opening()[:30],
        b"",
    ):
        assert verdict(data, State.HARD) is Mark.DROP


def test_a_packet_from_fragments_is_placed_by_address_alone_and_not_remembered() -> None:
    by_address = bucket(parse(ipv4("198.18.0.50", VIP4, UDP, fragment_field=0x2000)), RULES, SEED)
    assert isinstance(by_address, Placement)
    states = bytearray(BUCKETS)
    states[by_address.bucket] = State.HARD
    table = BucketTable(1, (bytes(states),))
    for port in range(40_000, 40_050):
        data = ipv4("198.18.0.50", VIP4, UDP, udp(port, 53))
        assert decide(data, Mark.FRAGMENTS, RULES, SEED, table) is Mark.ONCE


@given(st.integers(0, 65_535), st.sampled_from(State))
def test_a_datagram_that_is_placed_by_its_identification_decides_for_no_other_one(
    identification: int, state: State
) -> None:
    rules = (rule("udp", "on_port", "54"), rule("udp", "on_ipid"), rule("udp", "on_port"))
    data, elsewhere, newer = (
        *(ipv4(CLIENT, VIP4, UDP, udp(9, to), identification=identification) for to in (53, 54)),
        ipv6("2001:db8::50", VIP6, UDP, udp(9, 53)),
    )
    taken = state is not State.FOREIGN
    for asked in (Mark.UNDECIDED, Mark.FRAGMENTS):
        found = decide(data, asked, rules, SEED, all_in(state))
        assert found is (Mark.ONCE if taken else Mark.ELSEWHERE)
    for other in (elsewhere, newer):  # Placed by port, and by address: IPv6 has no identification.
        found = decide(other, Mark.UNDECIDED, rules, SEED, all_in(state))
        assert found is (Mark.TAKE if taken else Mark.FOREIGN)


def test_datagrams_of_one_flow_are_spread_by_their_identification() -> None:
    rules = (rule("udp", "on_ipid"),)
    table = BucketTable(1, (bytes([State.FOREIGN, State.HARD]) * (BUCKETS // 2),))
    found = Counter(
        decide(
            ipv4(CLIENT, VIP4, UDP, udp(9, 53), identification=number),
            Mark.UNDECIDED,
            rules,
            SEED,
            table,
        )
        for number in range(1_000)
    )
    assert set(found) == {Mark.ONCE, Mark.ELSEWHERE}
    assert min(found.values()) > 400


def test_a_reset_leaves_only_a_bucket_that_is_owned_alone() -> None:
    assert verdict(RESET, State.HARD, Mark.RESET) is Mark.ONCE
    assert verdict(RESET, State.SOFT, Mark.RESET) is Mark.DROP
    assert verdict(RESET, State.FOREIGN, Mark.RESET) is Mark.DROP


def test_a_reset_is_judged_by_the_bucket_of_the_client_it_goes_to() -> None:
    place = bucket(parse(opening()), RULES, SEED)
    assert isinstance(place, Placement)
    states = bytearray([State.HARD]) * BUCKETS
    states[place.bucket] = State.SOFT
    table = BucketTable(1, (bytes(states),))
    assert decide(RESET, Mark.RESET, RULES, SEED, table) is Mark.DROP


@given(st.binary(max_size=300), st.sampled_from(Mark), st.sampled_from(State))
def test_no_bytes_make_it_raise(data: bytes, asked: Mark, state: State) -> None:
    verdict(data, state, asked)


@given(st.integers(0, 2**32))
def test_no_frame_of_random_traffic_makes_it_raise(seed: int) -> None:
    for frame in packets.Traffic((VIP4, VIP6), (80, 53), seed).frames(20):
        for state in State:
            verdict(frame[14:], state)


def test_the_queue_is_closed_when_nobody_answers() -> None:
    rules = queue_rules(SETTINGS, "-A")
    assert "bypass" not in rules
    assert rules.count("-j NFQUEUE --queue-num 3") == 3
    assert rules.startswith("*mangle\n")
    assert rules.endswith("COMMIT\n")


def test_all_rules_of_a_module_are_removed_and_no_other_ones() -> None:
    own = queue_rules(SETTINGS, "-A").splitlines()[1:-1]
    other = own[0].replace("--comment mirrorfarm_web", "--comment mirrorfarm_web2")
    assert other != own[0]
    saved = "\n".join(("*mangle", ":PREROUTING ACCEPT [0:0]", own[0], other, own[0], own[2], ""))
    removed = [f"-D {line[3:]}" for line in (own[0], own[0], own[2])]
    assert queue_rules_removal(saved, "web") == "\n".join(("*mangle", *removed, "COMMIT", ""))
    assert queue_rules_removal(other, "web") == queue_rules_removal("", "web") == ""


def test_marks_of_two_modules_differ() -> None:
    other = Settings("mail", ("eth0",), (), RULES, SEED, queue=4)
    assert not {mark(SETTINGS, what) for what in Mark} & {mark(other, what) for what in Mark}


def test_the_last_step_drops_whatever_has_no_verdict() -> None:
    text = rule_set(SETTINGS)
    rules = text[text.index("chain verdict") : text.index("chain after")].split("\n")
    assert rules[-3].strip() == "counter name foreign drop"


def test_what_came_in_fragments_does_not_meet_what_is_remembered_of_its_flow() -> None:
    text = rule_set(SETTINGS)
    fragments = f"meta mark {mark(SETTINGS, Mark.FRAGMENTS):#x} accept"
    for name in ("datagrams", "ask"):
        rules = text[text.index(f"chain {name} {{") :].split("\n")
        assert rules[1].strip() == fragments
        assert "@foreign4" in "".join(rules[2:5])


def test_verdicts_that_could_not_be_forgotten_are_forgotten_with_the_next_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, kernel = NfqueueFilter(tmp_path / "ledger"), Refusing()
    monkeypatch.setattr(made, "_settings", SETTINGS)
    monkeypatch.setattr(made, "_tables", kernel)
    table = BucketTable(1, (bytes([State.HARD]) * BUCKETS,))
    with pytest.raises(OSError, match="busy"):
        made.apply(table)
    kernel.refuses = False
    made.apply(table)
    made.apply(table)
    assert kernel.ran == [forget(SETTINGS.module)]


@dataclass
class Refusing:
    """A kernel that takes no rules at first."""

    refuses: bool = True
    ran: list[str] = field(default_factory=list)

    def run(self, commands: str) -> None:
        if self.refuses:
            raise OSError("busy")
        self.ran.append(commands)
