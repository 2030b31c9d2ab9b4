"""What the live tests of a farm share: its configuration, and clients of the module `web`."""

import http.client
from collections import Counter
from collections.abc import Collection

from mirrorfarm.lab import farm_web
from mirrorfarm.lab.cluster import OneMachine, at_once

ADDRESS, PORT = farm_web.ADDRESS, farm_web.PORT
ADDRESS6 = "2001:db8::100"
ASK_SECONDS = 15.0  # The kernel asks again after one, three and seven.


def userconfig(
    *,
    farm: str = "",
    rule: str = "on_port",
    delivery: str = "vmac_invisible",
    more: str = "",
) -> str:
    """Return the configuration of a farm with an address of each family; `more` holds rules."""
    rules = f'<rule proto="tcp" port="{PORT}" filter="{rule}"/>{more}'
    return (
        f'<safe><service mode="farm"><farm {farm}><lan name="default"/></farm>'
        "<vip><interface_list><interface><virtual_interface "
        f'type="{delivery}">'
        f'<virtual_addr addr="{ADDRESS}"/><virtual_addr addr="{ADDRESS6}"/>'
        "</virtual_interface></interface></interface_list><loadbalancing_list>"
        f'<group name="web">{rules}</group></loadbalancing_list></vip>'
        '<user nicestoptimeout="10s" forcestoptimeout="5s"/></service></safe>'
    )


def install(lab: OneMachine, text: str, module: str = farm_web.MODULE) -> None:
    """Start the agents and install the module `web` on every node, with this configuration."""
    at_once(lab.start_node, lab.nodes)
    lab.module = module
    lab.install(module, text, source=farm_web.MODULE)


def up(lab: OneMachine, *nodes: str) -> None:
    """Start the module on these nodes; all of them are in the farm then."""
    for node in nodes:
        lab.order(node, "start")
    farm_web.await_members(lab, nodes, 60)


def await_members(
    lab: OneMachine, node: str, members: Collection[str], seconds: float = 60
) -> None:
    """Wait until a node says that the farm has exactly these members, and is settled."""
    what = f"{node} to see {', '.join(sorted(members))}"
    farm_web.until(lambda: farm_web.sees(lab, node, members), seconds, what)


def ask(address: str = ADDRESS, seconds: float = ASK_SECONDS) -> str:
    """Make a connection and return who answered; the name of the error if nobody did."""
    connection = http.client.HTTPConnection(address, PORT, timeout=seconds)
    try:
        connection.request("GET", "/tile")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def answers(
    lab: OneMachine, count: int, address: str = ADDRESS, seconds: float = ASK_SECONDS
) -> Counter[str]:
    """Return how many of `count` new connections each node answered."""
    with lab.as_client():
        return Counter(ask(address, seconds) for _ in range(count))


class Stream:
    """A connection that is kept open, and asked from time to time."""

    def __init__(self, address: str = ADDRESS) -> None:
        self.connection = http.client.HTTPConnection(address, PORT, timeout=ASK_SECONDS)
        self.node = self.ask()

    def ask(self) -> str:
        """Return who answers on it; the name of the error if it is broken."""
        try:
            self.connection.request("GET", "/hold")
            return self.connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__

    def close(self) -> None:
        """End it."""
        self.connection.close()
