"""What configuration files say, parsed once into frozen records. Durations are nanoseconds."""

import msgspec

from mirrorfarm.limits import (
    BUS_PORT,
    LOOP_INTERVAL_NS,
    MAXLOOP,
    MILLISECOND_NS,
    SCRIPT_LOG_BYTES_MAX,
    SECOND_NS,
    START_TIMEOUT_NS,
    STOP_TIMEOUT_NS,
    WITNESS_PORT,
)


class Record(msgspec.Struct, frozen=True):
    """Base of the records below."""


# --- cluster.xml ---------------------------------------------------------------------------


class NodeOnNetwork(Record, frozen=True):
    """One node's address on one network, as the others reach it (`addr`) and as it binds it."""

    name: str
    addr: str
    laddr: str = ""  # Local address when address translation makes it differ; "": addr.


class Network(Record, frozen=True):
    """A `<lan>`: a network that the nodes share."""

    name: str
    nodes: tuple[NodeOnNetwork, ...]
    command: bool = False


class Witness(Record, frozen=True):
    """A `<witness>`: the third machine that keeps the registers."""

    name: str
    addr: str
    port: int = WITNESS_PORT


class Cluster(Record, frozen=True):
    """The whole cluster.xml; node names in order of first appearance."""

    networks: tuple[Network, ...]
    witnesses: tuple[Witness, ...] = ()
    port: int = BUS_PORT

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes, in order of first appearance."""
        seen: dict[str, None] = {}
        for network in self.networks:
            for node in network.nodes:
                seen.setdefault(node.name)
        return tuple(seen)


# --- userconfig.xml ------------------------------------------------------------------------


class Timing(Record, frozen=True):
    """The clocks of a mirror. T_L > D > 3 heartbeats is checked at configuration."""

    heartbeat_ns: int = 250 * MILLISECOND_NS
    detection_ns: int = 2 * SECOND_NS
    lease_ns: int = 2_500 * MILLISECOND_NS
    replication_timeout_ns: int = 2 * SECOND_NS


PROFILES: dict[str, Timing] = {
    "default": Timing(),
    "fast": Timing(
        heartbeat_ns=50 * MILLISECOND_NS,
        detection_ns=300 * MILLISECOND_NS,
        lease_ns=400 * MILLISECOND_NS,
        replication_timeout_ns=SECOND_NS,
    ),
    "safekit": Timing(
        heartbeat_ns=700 * MILLISECOND_NS,
        detection_ns=30 * SECOND_NS,
        lease_ns=31 * SECOND_NS,
        replication_timeout_ns=30 * SECOND_NS,
    ),
}


class FarmTiming(Record, frozen=True):
    """The clocks of a farm; `assert_farm_timing` says how they depend on one another."""

    pulse_ns: int = 100 * MILLISECOND_NS
    silent_ns: int = 400 * MILLISECOND_NS  # Without a heartbeat on any network: it is silent.
    lease_ns: int = 650 * MILLISECOND_NS  # From the sending of a heartbeat that was echoed.
    announce_ns: int = 250 * MILLISECOND_NS  # From saying that a node is excluded to acting so.
    tolerate_ns: int = 150 * MILLISECOND_NS  # A weaker stranger may be open beside this node.
    settle_ns: int = 300 * MILLISECOND_NS  # Two nodes hear each other before they share a view.
    minority_ns: int = SECOND_NS  # Who lost most of its view waits so long before it is alone.
    hold_ns: int = 2 * SECOND_NS  # Before a node that left twice is taken back; doubles.
    hold_max_ns: int = 60 * SECOND_NS
    hold_window_ns: int = 300 * SECOND_NS  # Departures that are counted.
    slow_start_ns: int = 0  # In which a joiner's share grows to its power; 0: at once.
    slow_start_steps: int = 4
    scan_ns: int = SECOND_NS  # Between two counts of draining connections.
    retry_ns: int = 50 * MILLISECOND_NS  # A proposal is repeated.


# Every node tells every other one, so what a farm uses grows with the square of its nodes: a
# large one beats less often. Its lease is as short as it can be: a view waits for its end.
LARGE_FARM_TIMING = FarmTiming(
    pulse_ns=205 * MILLISECOND_NS,
    silent_ns=470 * MILLISECOND_NS,
    lease_ns=805 * MILLISECOND_NS,
    announce_ns=280 * MILLISECOND_NS,
    tolerate_ns=180 * MILLISECOND_NS,
    settle_ns=615 * MILLISECOND_NS,
    retry_ns=50 * MILLISECOND_NS,
)


class HeartbeatNetwork(Record, frozen=True):
    """A `<heartbeat>`: one network that carries heartbeats, perhaps also the replication."""

    name: str  # Cluster network.
    ident: str
    pulse_ns: int
    timeout_ns: int
    flow: bool = False  # Also carries the replication stream.


class VirtualAddress(Record, frozen=True):
    """A `<virtual_addr>` of a mirror."""

    addr: str
    prefix: int = 0  # 0: that of the interface's address in the same subnet.
    interface: str = ""  # "": found by the subnet.
    where: str = "one_side_alias"  # one_side_alias one_side
    check: bool = True


# What is kept when both nodes went on alone: the data of the node that stayed primary, of the
# one that became primary last, of the one that changed more, of the only one that wrote (else
# as manual), or what an administrator says.
DIVERGENCE_POLICIES = (
    "keep-primary",
    "keep-newer",
    "keep-more-changes",
    "zero-changes",
    "manual",
)


class Replicated(Record, frozen=True):
    """A `<replicated>` directory."""

    dir: str
    tocheck: tuple[str, ...] = ()
    notreplicated: tuple[str, ...] = ()  # Relative paths.
    notreplicated_regexes: tuple[str, ...] = ()


class Replication(Record, frozen=True):
    """The `<rfs>` element."""

    directories: tuple[Replicated, ...] = ()
    ack_mode: str = "durable"  # async="none": durable; async="second": received
    mode: str = "commit"  # commit each
    threads: int = 2
    divergence: str = "keep-primary"  # One of DIVERGENCE_POLICIES.
    quarantine: str = ""  # Where a copy sets aside writes that only its target had; "": default.


class Process(Record, frozen=True):
    """A `<proc>`: a process that must run (or must not)."""

    name: str = ""
    nameregex: str = ""
    argregex: str = ""
    process_class: str = "prim"  # prim second sec both pre, or a name of the user's: not watched
    action: str = "stopstart"  # stopstart restart stop noaction
    atleast: int = 1  # -1: not checked
    atmax: int = -1  # -1: not checked
    service: bool = False
    start_after: int = 0

    @property
    def ident(self) -> str:
        """The word behind `proc.` in the resource's name."""
        return self.name or self.nameregex or self.argregex


class Arbiter(Record, frozen=True):
    """The `<arbiter>` element: who decides who may write."""

    kind: str = "none"  # witness ping none
    name: str = ""  # witness: its name in cluster.xml
    addresses: tuple[str, ...] = ()  # ping: addresses that must answer


class FarmGroup(Record, frozen=True):
    """A `<group>` of a farm: rules that are balanced together."""

    name: str
    powers: tuple[tuple[str, int], ...] = ()  # Of the named nodes; empty: all have the same.

    def power_of(self, node: str) -> int:
        """Return the power of a node; a node that is not named takes no traffic of this group."""
        return dict(self.powers).get(node, 0) if self.powers else 1


class FarmRule(Record, frozen=True):
    """A `<rule>`: traffic that is balanced, and by what of the client."""

    proto: str  # tcp udp arp
    filter: str  # on_addr on_port on_ipid
    port: str = "*"
    virtual_addr: str = "*"
    group: int = 0  # Position of its group.


class FarmAddress(Record, frozen=True):
    """A `<virtual_addr>` of a farm: an address that all nodes have."""

    addr: str
    interface: str = ""  # "": found by the subnet.


class Farm(Record, frozen=True):
    """What only a farm has."""

    networks: tuple[str, ...] = ()  # Cluster networks that carry its heartbeats.
    timing: FarmTiming = FarmTiming()
    addresses: tuple[FarmAddress, ...] = ()
    groups: tuple[FarmGroup, ...] = (FarmGroup("default"),)
    rules: tuple[FarmRule, ...] = ()
    filter: str = "auto"  # auto bpf nft nfqueue
    delivery: str = "vmac_invisible"  # vmac_invisible multicast vmac_directed none
    mac: str = ""  # Virtual MAC; "": made of the address.
    seed: int = 0
    script_control: bool = False  # The scripts open and close the traffic themselves.
    drain_ns: int = 60 * SECOND_NS  # At most, for live connections when a node is stopped.

    @property
    def virtual_addresses(self) -> tuple[VirtualAddress, ...]:
        """The addresses as those of a mirror are described."""
        return tuple(VirtualAddress(one.addr, interface=one.interface) for one in self.addresses)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the load-balancing groups, in their order."""
        return tuple(group.name for group in self.groups)


class Module(Record, frozen=True):
    """A module's userconfig.xml, with its name and its number in the cluster."""

    name: str
    id: int
    nodes: tuple[str, ...]  # The two nodes of a mirror; all of a farm.
    mode: str = "mirror"  # mirror farm light
    boot: str = "ignore"  # on off auto ignore
    failover: bool = True
    defaultprim: str = "alone"  # alone lastprim or a node's name
    maxloop: int = MAXLOOP
    loop_interval_ns: int = LOOP_INTERVAL_NS
    timing: Timing = Timing()
    heartbeats: tuple[HeartbeatNetwork, ...] = ()
    vips: tuple[VirtualAddress, ...] = ()
    tcpreset: bool = True
    replication: Replication = Replication()
    processes: tuple[Process, ...] = ()
    errd_poll_ns: int = 30 * SECOND_NS
    has_scripts: bool = False  # Without a <user> element no script is ever run.
    variables: tuple[tuple[str, str], ...] = ()
    nice_stop_ns: int = STOP_TIMEOUT_NS
    force_stop_ns: int = STOP_TIMEOUT_NS
    start_ns: int = START_TIMEOUT_NS
    script_log: bool = True
    script_log_bytes_max: int = SCRIPT_LOG_BYTES_MAX
    arbiter: Arbiter = Arbiter()
    farm: Farm = Farm()  # Of a farm only.
