"""The filter `nfqueue`: its rule sets as text, and its verdict on one packet.

Packets take three steps in PREROUTING, and the mark of a packet tells the next step what to do:
1. nftables: lease, ICMP errors, live connections as in mode `nft`; then flows whose verdict is
   remembered. What is left is marked UNDECIDED.
2. iptables queues what is so marked. Nobody at the queue, or a full queue: dropped.
3. nftables remembers the verdict that came with the packet, for packets of the same flow.

So one packet of each flow is seen here, but every datagram of those that a rule places one by one
(ON_IPID). What is remembered is forgotten when a bucket moves.
"""

from enum import IntEnum

from mirrorfarm.limits import REMEMBER_SECONDS, REMEMBERED_FLOWS_MAX
from mirrorfarm.netfilter.filter import BucketTable, Settings
from mirrorfarm.netfilter.nft_rules import (
    COUNTERS,
    ERRORS,
    ONGOING,
    OPENS,
    destinations,
    ingress,
    lease_check,
    matches,
    table,
    table_name,
)
from mirrorfarm.netfilter.packet import Kind, Packet, parse
from mirrorfarm.netfilter.rules import (
    Filter,
    Known,
    Placement,
    Rules,
    State,
    accepts,
    bucket,
    first_rule,
)

_BEFORE, _AFTER = -152, -149  # iptables queues in between, at -150.
_EARLY = -310  # Before connection tracking, behind the joining of fragments.
_SETS = ("mine", "foreign", "others")
_FLOW = {
    4: "ip saddr . ip daddr . meta l4proto . th sport . th dport",
    6: "ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport",
}
_FLOW_TYPE = {
    4: "ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service",
    6: "ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service",
}
_FAMILIES = {4: "ip", 6: "ip6"}
_ACCEPTED = [f"{OPENS} counter name opened", "meta mark set 0 counter name accepted accept"]


class Mark(IntEnum):
    """What the mark of a packet says, in its lowest byte."""

    UNDECIDED = 1
    FRAGMENTS = 2  # Undecided, and joined from fragments: placed by address alone.
    RESET = 3  # Undecided, going out: a reset without ACK.
    TAKE = 4  # Taken, and so are all packets of the flow.
    FOREIGN = 5  # Dropped, and so are all packets of the flow.
    OTHERS = 6  # Dropped, and so are the segments of the flow that open nothing.
    ONCE = 7  # Taken; nothing is remembered.
    DROP = 8  # Dropped; nothing is remembered.
    ELSEWHERE = 9  # Dropped as another node's; nothing is remembered.


def mark(settings: Settings, what: Mark) -> int:
    """Return the mark of a module's packets: modules of one node have different queues."""
    return 0x4D00_0000 | settings.queue << 8 | what


def decide(data: bytes, asked: Mark, rules: Rules, seed: int, table: BucketTable) -> Mark:
    """Return the verdict on one queued packet; any bytes may be given, nothing is raised.

    A segment that gets here belongs to no connection that this node's tracking knows.
    """
    packet = parse(data)
    if asked is Mark.RESET:
        return _decide_reset(packet, rules, seed, table)
    if asked is Mark.FRAGMENTS and packet.kind in (Kind.SYN, Kind.STREAM, Kind.UDP, Kind.ECHO):
        packet = packet._replace(kind=Kind.FRAGMENT, source_port=0, destination_port=0)
    place = bucket(packet, rules, seed)
    if not isinstance(place, Placement):
        return Mark.DROP
    state = table.state(place.group, place.bucket)
    taken = accepts(packet, state, Known.NOTHING)
    if packet.kind not in (Kind.SYN, Kind.STREAM, Kind.UDP) or _is_placed_alone(packet, rules):
        return Mark.ONCE if taken else Mark.ELSEWHERE  # It says nothing of any other packet.
    if state is State.SOFT and packet.kind is not Kind.UDP:
        return Mark.ONCE if taken else Mark.OTHERS
    return Mark.TAKE if taken else Mark.FOREIGN


def _is_placed_alone(packet: Packet, rules: Rules) -> bool:
    """Tell whether the next datagram of the same flow may be another node's."""
    rule = first_rule(packet, rules)
    alone = rule is not None and rule.filter is Filter.ON_IPID
    return alone and packet.kind is Kind.UDP and packet.version == 4


def _decide_reset(packet: Packet, rules: Rules, seed: int, table: BucketTable) -> Mark:
    """Let a reset go only from a bucket that is owned alone (see `nft_rules`)."""
    answered = packet._replace(
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
    )
    place = bucket(answered, rules, seed)
    if not isinstance(place, Placement):
        return Mark.ONCE
    return Mark.ONCE if table.state(place.group, place.bucket) is State.HARD else Mark.DROP


def rule_set(settings: Settings) -> str:
    """Return the whole of steps 1 and 3, to be loaded in one transaction: nothing is taken yet."""
    lines = [
        "set alive { type mark; flags timeout; size 4; }",
        *_memory(),
        *(f"counter {name} {{ }}" for name in COUNTERS),
        *_chain("taken", [f"meta mark set {_word(settings, Mark.ONCE)} accept"]),
        *_chain("foreign", ["counter name foreign drop"]),
        *_chain("ask", _ask(settings)),
        *_chain("virtual", _virtual(settings)),
        *_chain("early", _early(settings)),
        *_chain(
            "datagrams",
            [
                # Placed by address alone: what is remembered of the flow was decided by port.
                f"meta mark {_word(settings, Mark.FRAGMENTS)} accept",
                *(f"{flow} @foreign{version} goto foreign" for version, flow in _FLOW.items()),
            ],
        ),
        *_chain(
            "before",
            [
                f"type filter hook prerouting priority {_BEFORE}; policy accept;",
                'iifname "lo" accept',
                *destinations(settings, "goto virtual"),
            ],
        ),
        *_chain("accepted", _ACCEPTED),
        *_chain("verdict", _verdict(settings)),
        *_chain(
            "after",
            [
                f"type filter hook prerouting priority {_AFTER}; policy accept;",
                'iifname "lo" accept',
                *destinations(settings, "goto verdict"),
            ],
        ),
        *_output(settings),
    ]
    return table("inet", settings, lines) + ingress(settings, _fragment_marks(settings))


def forget(module: str) -> str:
    """Return the commands that forget every verdict."""
    name = table_name(module)
    return "".join(
        f"flush set inet {name} {kind}{version}\n" for version in _FLOW for kind in _SETS
    )


def queue_rules(settings: Settings, verb: str) -> str:
    """Return step 2 as the input of (ip|ip6)tables-restore; `verb` is -A or -C.

    Neither --queue-bypass nor fail-open: with them two nodes would answer.
    """
    lines = [
        f"{verb} {chain} -m mark --mark {_word(settings, what)} -m comment "
        f"--comment {table_name(settings.module)} -j NFQUEUE --queue-num {settings.queue}"
        for chain, what in (
            ("PREROUTING", Mark.UNDECIDED),
            ("PREROUTING", Mark.FRAGMENTS),
            ("OUTPUT", Mark.RESET),
        )
    ]
    return "\n".join(("*mangle", *lines, "COMMIT", ""))


def queue_rules_removal(saved: str, module: str) -> str:
    """Return what removes a module's rules of step 2, as `queue_rules`; empty: there are none.

    `saved` is what (ip|ip6)tables-save printed.
    """
    own = f"--comment {table_name(module)} -j NFQUEUE "
    lines = [line for line in saved.splitlines() if line.startswith("-A ") and own in line]
    if not lines:
        return ""
    return "\n".join(("*mangle", *(f"-D {line[3:]}" for line in lines), "COMMIT", ""))


def _memory() -> list[str]:
    return [
        f"set {kind}{version} {{ type {_FLOW_TYPE[version]}; size {REMEMBERED_FLOWS_MAX}; "
        f"flags dynamic,timeout; timeout {REMEMBER_SECONDS}s; }}"
        for version in _FLOW
        for kind in _SETS
    ]


def _early(settings: Settings) -> list[str]:
    """Return what drops the datagrams of other nodes before tracking spends its time on them.

    A segment may belong to a live connection, which only tracking knows: that comes first.
    """
    return [
        f"type filter hook prerouting priority {_EARLY}; policy accept;",
        'iifname "lo" accept',
        "meta l4proto != udp accept",
        *destinations(settings, "goto datagrams"),
    ]


def _virtual(settings: Settings) -> list[str]:
    fragments = _word(settings, Mark.FRAGMENTS)
    return [
        # The lease is looked up by a mark; what the mark said must not be lost.
        f"meta mark {fragments} jump fenced_fragments",
        f"meta mark != {fragments} jump fenced",
        *(f"{errors} goto taken" for errors in ERRORS),
        f"{ONGOING} ct state established goto taken",
        *(
            line
            for address in settings.addresses
            for line in _asked(settings, address.version, str(address))
        ),
        "counter name refused drop",
    ]


def _asked(settings: Settings, version: int, address: str) -> list[str]:
    """Return what sends to `ask` the packets to one address that a rule is about."""
    found = [
        match
        for own in settings.addresses
        if str(own) == address
        for _, match in matches(settings, own)
    ]
    echo = {4: "icmp type echo-request", 6: "icmpv6 type echo-request"}[version]
    ping = [f"{_FAMILIES[version]} daddr {address} {echo} goto ask"] if found else []
    return [*ping, *(f"{match} goto ask" for match in found)]


def _ask(settings: Settings) -> list[str]:
    fragments = _word(settings, Mark.FRAGMENTS)
    lines = [f"meta mark {fragments} accept"]
    for version, flow in _FLOW.items():
        lines += [
            f"{flow} @mine{version} goto taken",
            f"{flow} @foreign{version} goto foreign",
            f"{ONGOING} {flow} @others{version} goto foreign",
        ]
    return [*lines, f"meta mark set {_word(settings, Mark.UNDECIDED)} accept"]


def _verdict(settings: Settings) -> list[str]:
    """Return step 3. A memory that is full forgets nothing: the flow is asked about again."""
    lines = []
    for version, flow in _FLOW.items():
        protocol = _FAMILIES[version]
        for what, kind in ((Mark.TAKE, "mine"), (Mark.FOREIGN, "foreign"), (Mark.OTHERS, "others")):
            lines.append(
                f"meta nfproto {'ipv4' if protocol == 'ip' else 'ipv6'} "
                f"meta mark {_word(settings, what)} add @{kind}{version} {{ {flow} }}"
            )
    return [
        f"meta mark {_word(settings, Mark.ONCE)} goto accepted",  # Most: remembered before.
        *lines,
        f"meta mark {_word(settings, Mark.TAKE)} goto accepted",
        "counter name foreign drop",  # Another node's, and whatever passed by the queue.
    ]


def _output(settings: Settings) -> list[str]:
    reset = _word(settings, Mark.RESET)
    sources = [
        f"{_FAMILIES[address.version]} saddr {address} tcp flags & (rst|ack) == rst "
        f"meta mark set {reset}"
        for address in settings.addresses
    ]
    return [
        *_chain("fenced", lease_check()),
        *_chain(
            "fenced_fragments",
            [*lease_check(), f"meta mark set {_word(settings, Mark.FRAGMENTS)}"],
        ),
        *_chain(
            "resets",
            [
                f"type filter hook output priority {_BEFORE}; policy accept;",
                'oifname "lo" accept',
                *sources,
            ],
        ),
        *_chain(
            "resets_after",
            [
                f"type filter hook output priority {_AFTER}; policy accept;",
                f"meta mark {_word(settings, Mark.ONCE)} meta mark set 0",
                f"meta mark {reset} counter name resets drop",
            ],
        ),
    ]


def _fragment_marks(settings: Settings) -> list[str]:
    """Return what tells step 2 of a packet that it came in fragments: tracking joins them."""
    mark = _word(settings, Mark.FRAGMENTS)
    lines = []
    for address in settings.addresses:
        if address.version == 4:
            lines.append(f"ip daddr {address} ip frag-off & 0x3fff != 0 meta mark set {mark}")
        else:
            lines.append(f"ip6 daddr {address} frag frag-off != 0 meta mark set {mark}")
            lines.append(f"ip6 daddr {address} frag more-fragments 1 meta mark set {mark}")
    return lines


def _chain(name: str, rules: list[str]) -> list[str]:
    return [f"chain {name} {{", *rules, "}"]


def _word(settings: Settings, what: Mark) -> str:
    return f"{mark(settings, what):#x}"
