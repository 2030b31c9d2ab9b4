"""cluster.xml: the nodes, the networks between them, the witnesses.

Addresses are IP addresses; host names are refused, because a node must find its peers while DNS
is down.
"""

from mirrorfarm.limits import BUS_PORT, NETWORKS_MAX, PEERS_MAX, WITNESS_PORT
from mirrorfarm.modules import kinds
from mirrorfarm.modules.addresses import disguised, of_one_link
from mirrorfarm.modules.faults import Faults
from mirrorfarm.modules.schema import Attribute, Checked, Checker, Element, Macros
from mirrorfarm.modules.settings import Cluster, Network, NodeOnNetwork, Witness
from mirrorfarm.modules.xml import parse

_OWN_CLOCK = "membership follows the modules' heartbeats"
_OBSOLETE = "obsolete in the reference product as well"

NODE = Element(
    attributes={
        "name": Attribute(kinds.name(), required=True),
        "addr": Attribute(kinds.address(), required=True),
        "laddr": Attribute(kinds.address(), default=""),
    }
)
LAN = Element(
    attributes={
        "name": Attribute(kinds.name(), required=True),
        "command": Attribute(kinds.switch(), default=False),
        "console": Attribute(kinds.text(), ignored=_OBSOLETE),
        "framework": Attribute(kinds.text(), ignored=_OBSOLETE),
        "connect": Attribute(kinds.text(), ignored=_OBSOLETE),
    },
    children={"node": Element(NODE.attributes, at_least=1, at_most=PEERS_MAX)},
    at_least=1,
    at_most=NETWORKS_MAX,
)
LANS = Element(
    attributes={
        "port": Attribute(kinds.whole(1, 65_535), default=BUS_PORT),
        "pulse": Attribute(kinds.duration("ms"), ignored=_OWN_CLOCK),
        "mlost_count": Attribute(kinds.whole(1, 10_000), ignored=_OWN_CLOCK),
        "slost_count": Attribute(kinds.whole(1, 10_000), ignored=_OWN_CLOCK),
    },
    children={"lan": LAN},
    at_least=1,
    at_most=1,
)
WITNESS = Element(
    attributes={
        "name": Attribute(kinds.name(), required=True),
        "addr": Attribute(kinds.address(), required=True),
        "port": Attribute(kinds.whole(1, 65_535), default=WITNESS_PORT),
    },
    at_most=NETWORKS_MAX,
)
CLUSTER = Element(children={"lans": LANS, "witness": WITNESS})


def parse_cluster(text: bytes, file: str, *, notes: list[str] | None = None) -> Cluster:
    """Return the cluster that a cluster.xml describes; `file` names it in the faults.

    Raises ConfigInvalid with every fault found. `notes` receives what was read without effect.
    """
    faults = Faults(file)
    tree = parse(text, faults)
    if tree is None:
        faults.raise_if_any()
        raise AssertionError("no tree and no fault")
    if tree.tag != "cluster":
        faults.add(tree.line, tree.tag[:32], "the root element must be cluster")
        faults.raise_if_any()
    checker = Checker(faults, Macros(), notes if notes is not None else [])
    root = checker.check(tree, CLUSTER)
    faults.raise_if_any()  # What follows relates values that are valid one by one.
    lans = root.all("lans")[0]
    _check_lans(lans, faults)
    _check_witnesses(root, lans, faults)
    faults.raise_if_any()
    return Cluster(
        networks=tuple(_network(lan) for lan in lans.all("lan")),
        witnesses=tuple(
            Witness(witness["name"], witness["addr"], witness["port"])
            for witness in root.all("witness")
        ),
        port=lans["port"],
    )


def _network(lan: Checked) -> Network:
    nodes = tuple(
        NodeOnNetwork(node["name"], node["addr"], node["laddr"]) for node in lan.all("node")
    )
    return Network(lan["name"], nodes, lan["command"])


def _check_lans(lans: Checked, faults: Faults) -> None:
    all_nodes: dict[str, None] = {}
    for lan in lans.all("lan"):
        for node in lan.all("node"):
            all_nodes.setdefault(node["name"])
    if not 2 <= len(all_nodes) <= PEERS_MAX:
        faults.add(lans.line, "node", f"{len(all_nodes)} nodes; a cluster has 2 to {PEERS_MAX}")
    complete = 0
    commands = 0
    for lan in lans.all("lan"):
        missing = [name for name in all_nodes if name not in _names(lan.all("node"))]
        complete += not missing
        if lan["command"]:
            commands += 1
            if missing:
                reason = f"the lan of the commands must have every node; add {missing[0]}"
                faults.add(lan.line, "lan.command", reason)
    if commands > 1:
        faults.add(lans.line, "lan.command", "only one lan may carry the commands")
    if not complete:
        faults.add(lans.line, "lan", "at least one lan must have all nodes of the cluster")
    _check_unique(lans.all("lan"), "lan", faults)
    for lan in lans.all("lan"):
        _check_unique(lan.all("node"), f"lan {lan['name']}: node", faults)
    _check_addresses(lans, faults)
    for lan in lans.all("lan"):
        for node in lan.all("node"):
            _check_reachable(node, ("addr", "laddr"), faults)


def _check_reachable(machine: Checked, keys: tuple[str, ...], faults: Faults) -> None:
    """Nobody can connect to an address of one link alone, and who writes one twice has two."""
    for key in keys:
        addr = str(machine[key])
        reason = disguised(addr) if addr else ""
        if reason_of_link := of_one_link(addr):
            reason = f"{reason_of_link}; use a routable one"
        if reason:
            faults.add(machine.line, f"{machine.tag}.{key}", reason)


def _names(elements: list[Checked]) -> list[str]:
    return [str(element["name"]) for element in elements]


def _check_unique(elements: list[Checked], what: str, faults: Faults) -> None:
    names: dict[str, int] = {}
    for element in elements:
        if element["name"] in names:
            reason = f"{element['name']} is already on line {names[element['name']]}"
            faults.add(element.line, f"{what}.name", reason)
        names.setdefault(element["name"], element.line)


def _check_addresses(lans: Checked, faults: Faults) -> None:
    """One address belongs to one node, on one network."""
    owners: dict[str, tuple[str, str]] = {}
    for lan in lans.all("lan"):
        for node in lan.all("node"):
            here = (str(lan["name"]), str(node["name"]))
            for key in ("addr", "laddr"):
                value = node[key]
                owner = owners.setdefault(value, here) if value else here
                if owner != here:
                    reason = f"{value} is already that of {owner[1]} on {owner[0]}"
                    faults.add(node.line, f"node.{key}", reason)


def _check_witnesses(root: Checked, lans: Checked, faults: Faults) -> None:
    _check_unique(root.all("witness"), "witness", faults)
    nodes = [(node["name"], node["addr"]) for lan in lans.all("lan") for node in lan.all("node")]
    seen: dict[tuple[str, int], str] = {}
    for witness in root.all("witness"):
        _check_reachable(witness, ("addr",), faults)
        end = (str(witness["addr"]), int(witness["port"]))
        first = seen.setdefault(end, witness["name"])
        if first != witness["name"]:
            faults.add(witness.line, "witness.addr", f"the same address and port as {first}")
        for name, addr in nodes:
            if witness["name"] == name or witness["addr"] == addr:
                reason = f"is node {name}; a witness must be a third machine"
                faults.add(witness.line, "witness", reason)
