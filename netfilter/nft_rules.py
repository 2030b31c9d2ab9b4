"""The rule sets of nftables as text: which packets to a virtual address this node takes.

Both filters of nftables share a frame: of what arrives for a virtual address, on whatever interface
but `lo`, nothing is taken without a lease. `alive` holds one element with a time limit; without it
everything is dropped, by the kernel, whatever became of the daemon.

The kernel cannot tell by jhash alone whether a segment belongs to a connection of this node, so
connection tracking does: a connection opened here is taken wherever its bucket is now. All other
packets follow their bucket alone, and are decided before tracking spends its time on them. Tables
are `inet` and `netdev`, named after the module.

Order (`design` of the farm): ICMP errors to all, live connections, rules, refusal. Only the chain
`taken` accepts, and it asks for the lease: what is dropped anyway need not.
"""

from collections.abc import Iterable, Iterator

from mirrorfarm.limits import BUCKETS
from mirrorfarm.netfilter.filter import Settings
from mirrorfarm.netfilter.neighbours import IPAddress, mac_text
from mirrorfarm.netfilter.packet import TCP, UDP
from mirrorfarm.netfilter.rules import ANY_PORT, Filter, Rule, State, rules_of

# Behind the joining of fragments (-400), before everything else.
_EARLY = -310
# Behind connection tracking (-200), before anybody's rules for marks (-150).
_TRACKED = -160
COUNTERS = ("accepted", "opened", "foreign", "refused", "fenced", "resets")
# Behind the translation of source addresses (100): only here a container's are virtual again.
_TRANSLATED = 110
LEASE_MARK = 1
# The sets of buckets, and which states are in each: the usual ones, FOREIGN and HARD, are one
# element apart, so that closing buckets, and opening those of a dead node, takes the least time.
BUCKET_SETS = {"open": (State.HARD, State.SOFT), "soft": (State.SOFT,)}

OPENS = "tcp flags & (syn|ack) == syn"
ONGOING = "tcp flags & (syn|ack) != syn"
ERRORS = (
    "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    "icmpv6 type { 1-4, 133-137 }",  # Errors; neighbour and router discovery.
)
_PROTOCOLS = {TCP: "tcp", UDP: "udp"}
_FAMILIES = {4: "ip", 6: "ip6"}


def table_name(module: str) -> str:
    """Return the name of a module's tables."""
    return f"mirrorfarm_{module}"


def removal(module: str) -> str:
    """Return the commands that delete both tables, whether they exist or not."""
    name = table_name(module)
    return "".join(
        f"table {family} {name}\ndelete table {family} {name}\n" for family in ("inet", "netdev")
    )


def rule_set(settings: Settings) -> str:
    """Return the whole of mode `nft`, to be loaded in one transaction: nothing is taken yet."""
    lines = [
        "set alive { type mark; flags timeout; size 4; }",
        *_counters(),
        *_prerouting(settings),
        "chain rules {",
        *_dispatch(settings),
        "counter name refused drop",
        "}",
        "chain virtual {",
        f"{ONGOING} accept",  # Until tracking has seen it: `ongoing`.
        *(f"{errors} goto taken" for errors in ERRORS),
        "goto rules",
        "}",
        "chain ongoing {",
        "ct state established goto taken",
        "goto rules",
        "}",
        *_resets(settings),
    ]
    before = [*_bucket_sets(settings), *_verdicts(), *_bucket_chains(settings)]
    return table("inet", settings, [*before, *lines]) + ingress(settings)


def ingress(settings: Settings, more: Iterable[str] = ()) -> str:
    """Return the table that lets the IP layer have the frames for the virtual MACs.

    The IP layer drops what was sent to another host's unicast MAC, and TCP what was sent to a
    group. `more` are rules for the same place.
    """
    lines: list[str] = []
    macs = [(address, settings.virtual_mac(address)) for address in settings.addresses]
    for number, interface in enumerate(settings.interfaces):
        lines.append(f"chain in_{number} {{")
        lines.append(f'type filter hook ingress device "{interface}" priority 0; policy accept;')
        for address, mac in macs:
            if mac:
                family = _FAMILIES[address.version]
                lines.append(
                    f"ether daddr {mac_text(mac)} {family} daddr {address} meta pkttype set host"
                )
        lines += [*more, "}"]
    return table("netdev", settings, lines)


def lease_begin(module: str, milliseconds: int) -> str:
    """Return the commands that begin a lease."""
    return f"{lease_end(module)}{_lease_element('add', module, milliseconds)}"


def lease_renew(module: str, milliseconds: int) -> str:
    """Return the commands that prolong a lease.

    The kernel refuses both if it has run out: there is nothing to delete then. So a daemon that
    was frozen cannot open again what others may have taken over.
    """
    return _lease_element("delete", module, 0) + _lease_element("add", module, milliseconds)


def lease_end(module: str) -> str:
    """Return the command that ends a lease now."""
    return f"flush set inet {table_name(module)} alive\n"


def lease_check() -> list[str]:
    """Return the rules without which nothing is taken; the mark is lost."""
    return [
        f"meta mark set {LEASE_MARK}",
        "meta mark != @alive counter name fenced drop",
    ]


def matches(settings: Settings, address: IPAddress) -> Iterator[tuple[Rule, str]]:
    """Yield the rules of a virtual address in order, each with what its packets match."""
    family = _FAMILIES[address.version]
    for one in rules_of(address.packed, settings.rules):
        protocol = _PROTOCOLS[one.protocol]
        port = "" if one.port == ANY_PORT else f" {protocol} dport {one.port}"
        yield one, f"{family} daddr {address} meta l4proto {protocol}{port}"


def destinations(settings: Settings, verdict: str) -> list[str]:
    """Return rules that give `verdict` to whatever is sent to a virtual address."""
    return [
        f"{_FAMILIES[address.version]} daddr {address} {verdict}" for address in settings.addresses
    ]


def table(family: str, settings: Settings, lines: Iterable[str]) -> str:
    """Return the declaration of one of a module's tables."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"table {family} {table_name(settings.module)} {{\n{body}\n}}\n"


def _bucket_sets(settings: Settings) -> list[str]:
    return [
        f"set {name}_{group} {{ type mark; size {BUCKETS}; }}"
        for group in range(settings.groups)
        for name in BUCKET_SETS
    ]


def _counters() -> list[str]:
    return [f"counter {name} {{ }}" for name in COUNTERS]


def _prerouting(settings: Settings) -> list[str]:
    own = 'iifname "lo" accept'  # A member that uses the address talks to itself.
    return [
        "chain before {",
        f"type filter hook prerouting priority {_EARLY}; policy accept;",
        own,
        *destinations(settings, "goto virtual"),
        "}",
        "chain tracked {",
        f"type filter hook prerouting priority {_TRACKED}; policy accept;",
        own,
        *destinations(settings, f"{ONGOING} goto ongoing"),
        "}",
    ]


def _verdicts() -> list[str]:
    return [
        "chain virtual { }",  # Named before they are filled: chains refer to each other.
        "chain ongoing { }",
        "chain taken {",
        *lease_check(),
        "meta mark set 0",
        f"{OPENS} counter name opened",
        "counter name accepted accept",
        "}",
        "chain foreign {",
        "counter name foreign drop",
        "}",
    ]


def _dispatch(settings: Settings) -> list[str]:
    """Return what sends each packet to the chain of its rule; pings follow the first rule."""
    lines = []
    for address in settings.addresses:
        echo = {4: "icmp type echo-request", 6: "icmpv6 type echo-request"}[address.version]
        first = True
        for one, match in matches(settings, address):
            if first:
                family = _FAMILIES[address.version]
                ping = one._replace(protocol=UDP, filter=Filter.ON_ADDR)
                chain = _bucket_chain(ping, address.version)
                lines.append(f"{family} daddr {address} {echo} goto {chain}")
                first = False
            lines.append(f"{match} goto {_bucket_chain(one, address.version)}")
    return lines


def _bucket_chain(one: Rule, version: int) -> str:
    """Return the name of the chain in which a rule's packets find their bucket."""
    protocol = _PROTOCOLS[one.protocol]
    return f"{protocol}{version}_{_by(one, version).name.lower()}_{one.group}"


def _by(one: Rule, version: int) -> Filter:
    """Return by what a rule places packets of one IP version: IPv6 has no identification."""
    if one.filter is Filter.ON_IPID and version == 6:
        return Filter.ON_ADDR
    return one.filter


def _bucket_chains(settings: Settings) -> list[str]:
    chains: dict[str, list[str]] = {}
    for address in settings.addresses:
        version = address.version
        for one, _ in matches(settings, address):
            ping = one._replace(protocol=UDP, filter=Filter.ON_ADDR)
            for rule in (one, ping):
                chains[_bucket_chain(rule, version)] = _bucket_rules(rule, version, settings.seed)
    lines: list[str] = []
    for name, rules in chains.items():
        lines += [f"chain {name} {{", *rules, "}"]
    return lines


def _bucket_rules(one: Rule, version: int, seed: int) -> list[str]:
    place = f"meta mark set jhash {_key(one, version, 's')} mod {BUCKETS} seed {seed:#x}"
    if one.protocol == TCP:
        return [
            place,
            f"{OPENS} meta mark @open_{one.group} goto taken",
            f"{ONGOING} meta mark @open_{one.group} meta mark != @soft_{one.group} goto taken",
            "goto foreign",
        ]
    return [place, f"meta mark @open_{one.group} goto taken", "goto foreign"]


def _key(one: Rule, version: int, side: str) -> str:
    """Return what is hashed; `side`: s of the source (received), d of the destination (sent)."""
    address = f"{_FAMILIES[version]} {side}addr"
    match _by(one, version):
        case Filter.ON_ADDR:
            return address
        case Filter.ON_PORT:
            return f"{address} . th {side}port"
        case Filter.ON_IPID:
            return f"{address} . ip id"


def _resets(settings: Settings) -> list[str]:
    """Return what keeps back resets that answer a segment of somebody else's connection.

    A SYN that is repeated while its bucket moves leaves a half-open connection at the old owner;
    it would reset the whole one at the new owner. Such a reset has no ACK flag; one by which an
    application ends its own connection has. Those of containers are forwarded: they pass
    POSTROUTING, as the node's own do.
    """
    lines = [
        "chain resets {",
        f"type filter hook postrouting priority {_TRANSLATED}; policy accept;",
        'oifname "lo" accept',
    ]
    for address in settings.addresses:
        family = _FAMILIES[address.version]
        for one in rules_of(address.packed, settings.rules):
            if one.protocol == TCP:
                port = "" if one.port == ANY_PORT else f" tcp sport {one.port}"
                lines.append(
                    f"{family} saddr {address}{port} tcp flags & (rst|ack) == rst "
                    f"goto resets_{address.version}_{one.filter.name.lower()}_{one.group}"
                )
    lines.append("}")
    return [*_reset_chains(settings), *lines]


def _reset_chains(settings: Settings) -> list[str]:
    chains: dict[str, list[str]] = {}
    for address in settings.addresses:
        for one in rules_of(address.packed, settings.rules):
            if one.protocol == TCP:
                key = _key(one, address.version, "d")
                chains[f"resets_{address.version}_{one.filter.name.lower()}_{one.group}"] = [
                    f"meta mark set jhash {key} mod {BUCKETS} seed {settings.seed:#x}",
                    f"meta mark != @open_{one.group} counter name resets drop",
                    f"meta mark @soft_{one.group} counter name resets drop",
                    "meta mark set 0",
                    "accept",
                ]
    lines: list[str] = []
    for name, rules in chains.items():
        lines += [f"chain {name} {{", *rules, "}"]
    return lines


def _lease_element(verb: str, module: str, milliseconds: int) -> str:
    limit = f" timeout {milliseconds}ms" if milliseconds else ""
    return f"{verb} element inet {table_name(module)} alive {{ {LEASE_MARK}{limit} }}\n"
