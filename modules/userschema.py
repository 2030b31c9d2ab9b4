"""The table of userconfig.xml: every element, attribute, default and kind that a module may have.

What the reference product has and mirrorfarm has no use for is listed with the reason, so that
existing files work unchanged; what it cannot do yet is refused in so many words.
"""

from typing import Final

from mirrorfarm.limits import (
    DIRECTORIES_MAX,
    FARM_NODES_MAX,
    FARM_PULSE_NS_MIN,
    GROUPS_MAX,
    LOOP_INTERVAL_NS,
    MAXLOOP,
    MILLISECOND_NS,
    NETWORKS_MAX,
    POWER_MAX,
    RULES_PER_ADDRESS_MAX,
    SCRIPT_LOG_BYTES_MAX,
    SECOND_NS,
    SLOST_COUNT_MAX,
    SLOST_COUNT_MIN,
    START_TIMEOUT_NS,
    STOP_TIMEOUT_NS,
)
from mirrorfarm.modules import kinds
from mirrorfarm.modules.schema import Attribute, Element
from mirrorfarm.modules.settings import DIVERGENCE_POLICIES, PROFILES

PROCESSES_MAX: Final = 64
VARIABLES_MAX: Final = 64
ADDRESSES_MAX: Final = 32
RULES_MAX: Final = RULES_PER_ADDRESS_MAX

_ANY: Final = kinds.text(256)


def _ignored(reason: str, *attributes: str) -> dict[str, Attribute]:
    return {attribute: Attribute(_ANY, ignored=reason) for attribute in attributes}


def _any_or(kind: kinds.Kind) -> kinds.Kind:
    """Accept `*`, or a value of another kind."""
    return lambda value: value if value == "*" else kind(value)


def _later(what: str) -> Element:
    return Element(unsupported=what)


FARM = Element(
    {
        "pulse": Attribute(kinds.duration("ms", FARM_PULSE_NS_MIN), default=0),
        "slost_count": Attribute(kinds.whole(SLOST_COUNT_MIN, SLOST_COUNT_MAX), default=0),
        "filter": Attribute(kinds.choice("auto", "bpf", "nft", "nfqueue"), default="auto"),
        "seed": Attribute(kinds.whole(0, 2**31 - 1), default=0),
        "drain": Attribute(kinds.duration("s"), default=60 * SECOND_NS),
        "slow_start": Attribute(kinds.duration("s"), default=0),
        **_ignored("views are agreed among all nodes, nobody leads", "mlost_count"),
        **_ignored("heartbeats travel on the port of the bus, lans.port of cluster.xml", "port"),
    },
    {
        "lan": Element(
            {"name": Attribute(kinds.name(), required=True)}, at_least=1, at_most=NETWORKS_MAX
        ),
        "node": _later("the syntax before 8; use lan name="),
    },
    at_most=1,
)
LOADBALANCING = Element(
    {},
    {
        "group": Element(
            {"name": Attribute(kinds.title(32), required=True)},
            {
                "cluster": Element(
                    {},
                    {
                        "host": Element(
                            {
                                "name": Attribute(kinds.name(), required=True),
                                "power": Attribute(kinds.whole(0, POWER_MAX), default=1),
                            },
                            at_least=1,
                            at_most=FARM_NODES_MAX,
                        )
                    },
                    at_most=1,
                ),
                "rule": Element(
                    {
                        "virtual_addr": Attribute(_any_or(kinds.address()), default="*"),
                        "port": Attribute(kinds.text(5), default="*"),
                        "proto": Attribute(kinds.choice("tcp", "udp", "arp"), required=True),
                        "filter": Attribute(
                            kinds.choice("on_addr", "on_port", "on_ipid"), required=True
                        ),
                    },
                    at_least=1,
                    at_most=RULES_MAX,
                ),
            },
            at_least=1,
            at_most=GROUPS_MAX,
        )
    },
    at_most=1,
)


MACRO = Element(
    {
        "name": Attribute(kinds.macro(), required=True),
        "value": Attribute(kinds.text(4_096), required=True),
    },
    at_most=256,
)

HEARTBEAT = Element(
    {
        "name": Attribute(kinds.name(), required=True),
        "ident": Attribute(kinds.name()),
        "pulse": Attribute(kinds.duration("ms", 10 * MILLISECOND_NS)),
        "timeout": Attribute(kinds.duration("ms", 10 * MILLISECOND_NS)),
    },
    at_least=1,
    at_most=NETWORKS_MAX,
)
HEART = Element(
    {
        "pulse": Attribute(kinds.duration("ms", 10 * MILLISECOND_NS)),
        "timeout": Attribute(kinds.duration("ms", 10 * MILLISECOND_NS)),
        "detection": Attribute(kinds.duration("ms", 10 * MILLISECOND_NS)),
        "lease": Attribute(kinds.duration("ms", 10 * MILLISECOND_NS)),
        "replication_timeout": Attribute(kinds.duration("ms", 10 * MILLISECOND_NS)),
        **_ignored("heartbeats travel on the port of the bus, lans.port of cluster.xml", "port"),
        **_ignored("the kernel keeps its own neighbour table", "permanent_arp"),
    },
    {"heartbeat": HEARTBEAT, "server": _later("the syntax before 8; use heartbeat name=")},
    at_most=1,
)

_NATIVE: Final = "the replication tunes itself"
_NFS: Final = "the directories are not replicated through NFS"
RFS = Element(
    {
        "async": Attribute(kinds.choice("none", "second"), default="none"),
        "mode": Attribute(kinds.choice("commit", "each"), default="commit"),
        "threads": Attribute(kinds.whole(1, 16), default=2),
        "divergence": Attribute(kinds.choice(*DIVERGENCE_POLICIES), default="keep-primary"),
        "quarantine": Attribute(kinds.directory(), default=""),
        "scripts": Attribute(kinds.choice("off", later=("on",)), default="off"),
        "syncdelta": Attribute(kinds.choice("0"), default="0"),
        **_ignored(_NFS, "mountoversuffix", "mountover", "packetsize", "nfsbox_options"),
        **_ignored(_NFS, "checktime", "checkintv"),
        **_ignored(_NATIVE, "reipacketsize", "ruzone_blocksize", "nbrei", "namespacepolicy"),
        **_ignored(_NATIVE, "reitimeout", "reicommit", "reidetail", "nbremconn", "reiallowedbw"),
        **_ignored("set heart.replication_timeout", "locktimeout", "sendtimeout"),
        **_ignored("access control lists are always replicated", "acl"),
        **_ignored("for Windows only", "iotimeout", "roflags", "allocthreshold"),
    },
    {
        "replicated": Element(
            {
                "dir": Attribute(kinds.directory(), required=True),
                "mode": Attribute(
                    kinds.choice("read_only"), ignored="the secondary's copy is always protected"
                ),
            },
            {
                "tocheck": Element({"path": Attribute(kinds.path(relative=False), required=True)}),
                "notreplicated": Element(
                    {
                        "path": Attribute(kinds.path(relative=True)),
                        "regexpath": Attribute(kinds.posix_regex()),
                    }
                ),
            },
            at_least=1,
            at_most=DIRECTORIES_MAX,
        ),
        "flow": _later('use <heartbeat ident="flow">'),
    },
    at_most=1,
)

VIP = Element(
    {
        "tcpreset": Attribute(kinds.switch(), default=True),
        "scriptcontrol": Attribute(kinds.switch(), default=False),
    },
    {
        "interface_list": Element(
            {},
            {
                "interface": Element(
                    {
                        "name": Attribute(kinds.interface(), default=""),
                        **_ignored("interfaces are watched with the addresses", "check"),
                        **_ignored(
                            "addresses are announced again and again by default",
                            *("arpreroute", "arpinterval", "arpelapse"),
                        ),
                    },
                    {
                        "real_interface": Element(
                            {},
                            {
                                "virtual_addr": Element(
                                    {
                                        "addr": Attribute(kinds.address(), required=True),
                                        "where": Attribute(
                                            kinds.choice("one_side_alias", "one_side"),
                                            default="one_side_alias",
                                        ),
                                        "check": Attribute(kinds.switch(), default=True),
                                        "netmask": Attribute(kinds.netmask(), default=0),
                                        **_ignored("connections are not counted", "connections"),
                                    },
                                    at_least=1,
                                )
                            },
                        ),
                        "virtual_interface": Element(
                            {
                                "type": Attribute(
                                    kinds.choice("vmac_invisible", "vmac_directed", "multicast"),
                                    default="vmac_invisible",
                                ),
                                "addr": Attribute(kinds.text(17), default=""),
                            },
                            {
                                "virtual_addr": Element(
                                    {
                                        "addr": Attribute(kinds.address(), required=True),
                                        "where": Attribute(kinds.choice("alias"), default="alias"),
                                        "netmask": Attribute(
                                            kinds.netmask(),
                                            ignored="each address stands alone on lo (/32, /128)",
                                        ),
                                        **_ignored("there is nothing to check on lo", "check"),
                                        **_ignored("see mirrorfarm farm state", "connections"),
                                    },
                                    at_least=1,
                                )
                            },
                        ),
                    },
                    at_least=1,
                )
            },
            at_most=1,
        ),
        "loadbalancing_list": LOADBALANCING,
    },
    at_most=1,
)

ERRD = Element(
    {"polltimer": Attribute(kinds.duration("s", SECOND_NS), default=30 * SECOND_NS)},
    {
        "proc": Element(
            {
                "name": Attribute(kinds.text(63), default=""),
                "nameregex": Attribute(kinds.regex(), default=""),
                "argregex": Attribute(kinds.regex(), default=""),
                "class": Attribute(kinds.name(), default="prim"),
                "action": Attribute(
                    kinds.choice("stopstart", "restart", "stop", "noaction"), default="stopstart"
                ),
                "atleast": Attribute(kinds.whole(-1, 10_000), default=1),
                "atmax": Attribute(kinds.whole(-1, 10_000), default=-1),
                "service": Attribute(kinds.switch(), default=False),
                "start_after": Attribute(kinds.whole(0, 1_000), default=0),
            },
            at_least=1,
            at_most=PROCESSES_MAX,
        )
    },
    at_most=1,
)

USER = Element(
    {
        "nicestoptimeout": Attribute(kinds.duration("s", SECOND_NS), default=STOP_TIMEOUT_NS),
        "forcestoptimeout": Attribute(kinds.duration("s", SECOND_NS), default=STOP_TIMEOUT_NS),
        "starttimeout": Attribute(kinds.duration("s", SECOND_NS), default=START_TIMEOUT_NS),
        "logging": Attribute(kinds.choice("userlog", "none"), default="userlog"),
        "userlogsize": Attribute(  # KiB.
            kinds.whole(1, 1_048_576), default=SCRIPT_LOG_BYTES_MAX // 1_024
        ),
    },
    {
        "var": Element(
            {
                "name": Attribute(kinds.text(64), required=True),
                "value": Attribute(kinds.text(4_096), required=True),
            },
            at_most=VARIABLES_MAX,
        )
    },
    at_most=1,
)

ARBITER = Element(
    {
        "kind": Attribute(kinds.choice("witness", "ping", "none"), required=True),
        "name": Attribute(kinds.name(), default=""),
        "addr": Attribute(kinds.addresses(), default=()),
    },
    at_most=1,
)

SERVICE = Element(
    {
        "mode": Attribute(kinds.choice("mirror", "farm", "light"), required=True),
        "boot": Attribute(kinds.choice("on", "off", "auto", "ignore"), default="ignore"),
        "boot_delay": Attribute(
            kinds.duration("s"), ignored="modules start with the agent: delay mirrorfarm.service"
        ),
        "failover": Attribute(kinds.switch(), default=True),
        "defaultprim": Attribute(kinds.name(), default="alone"),
        "maxloop": Attribute(kinds.whole(0, 10_000), default=MAXLOOP),
        "loop_interval": Attribute(kinds.duration("h"), default=LOOP_INTERVAL_NS),
        "automatic_reboot": Attribute(kinds.choice("off", later=("on",)), default="off"),
        "nodes": Attribute(kinds.names(), default=()),
        "profile": Attribute(kinds.choice(*PROFILES), default="default"),
    },
    {
        "heart": HEART,
        "rfs": RFS,
        "vip": VIP,
        "errd": ERRD,
        "user": USER,
        "arbiter": ARBITER,
        "farm": FARM,
        "failover": _later("failover rules"),
        "check": _later("checkers other than errd; use errd, or let start_prim judge"),
        "vhost": _later("virtual host names"),
    },
    at_least=1,
    at_most=1,
)

SAFE = Element({}, {"macro": MACRO, "service": SERVICE})
