"""From the cluster's configuration to the sockets of one node or witness."""

from typing import Final

from mirrorfarm.modules.settings import Cluster
from mirrorfarm.paths import Paths
from mirrorfarm.transport.keys import Keys
from mirrorfarm.transport.sockets import Bind, Link, endpoint
from mirrorfarm.transport.zmq import HubSettings

# What witnesses are reached by is no network of cluster.xml; it is named so in counts and events.
WITNESS_NETWORK: Final = "witness"
WITNESS_MODULE: Final = "witness"  # Its actors are `name/witness/…`.


def node_settings(cluster: Cluster, keys: Keys, incarnation: int, paths: Paths) -> HubSettings:
    """Return the bus of node `keys.name`: its own addresses, links to every peer and witness.

    A name without a key is left out: it was added to cluster.xml after this node joined.
    """
    binds: list[Bind] = []
    links: list[Link] = []
    for network in cluster.networks:
        own = [node for node in network.nodes if node.name == keys.name]
        for node in own:
            where = endpoint(node.laddr or node.addr, cluster.port)
            binds.append(Bind(network.name, where))
        for node in network.nodes:
            if own and node.name in keys.peers:
                links.append(Link(node.name, network.name, endpoint(node.addr, cluster.port)))
    for witness in cluster.witnesses:
        if witness.name in keys.peers:
            where = endpoint(witness.addr, witness.port)
            links.append(Link(witness.name, WITNESS_NETWORK, where))
    # Witnesses, and whoever has a key and is no node any more.
    answerers = frozenset(keys.peers) - frozenset(cluster.nodes)
    return HubSettings(
        keys, incarnation, tuple(binds), tuple(links), paths.bus_socket, answerers=answerers
    )


def witness_settings(cluster: Cluster, keys: Keys, incarnation: int) -> HubSettings:
    """Return the bus of witness `keys.name`: it connects to nobody and answers who asks."""
    binds = tuple(
        Bind(WITNESS_NETWORK, endpoint(witness.addr, witness.port))
        for witness in cluster.witnesses
        if witness.name == keys.name
    )
    return HubSettings(keys, incarnation, binds, module=WITNESS_MODULE)
