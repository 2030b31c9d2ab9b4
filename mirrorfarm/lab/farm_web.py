"""The module `web` as a farm in a lab: started, asked for its shares, waited for."""

import time
from collections.abc import Callable, Collection
from typing import Any

from mirrorfarm.cli.client import Client
from mirrorfarm.errors import MirrorfarmError, TimedOut
from mirrorfarm.lab.cluster import OneMachine, at_once
from mirrorfarm.lab.configuration import WEB_EXTRA, farm_xml

ADDRESS = "198.18.0.100"
PORT = 8080
MODULE = "web"
POLL_SECONDS = 0.02

Details = dict[str, Any]


def start(lab: OneMachine, farm: str = "", nodes: Collection[str] = ()) -> None:
    """Install and start the module on all nodes, or on some; `farm`: attributes of `<farm>`."""
    lab.module = MODULE
    at_once(lab.start_node, lab.nodes)
    text = farm_xml(
        networks=lab.networks, addresses=(ADDRESS,), port=PORT, farm=farm, extra=WEB_EXTRA
    )
    lab.install(MODULE, text)
    for node in nodes or lab.nodes:
        lab.order(node, "start")
    await_members(lab, nodes or lab.nodes, 60)


def details(lab: OneMachine, node: str) -> Details:
    """Return what a node says of its farm; empty when it says nothing."""
    return lab.state(node, seconds=1).get("farm") or {}


def sees(lab: OneMachine, node: str, members: Collection[str]) -> bool:
    """Return whether a node says that these are the farm, and that it is settled."""
    return view_of(lab, node, members) > 0


def view_of(lab: OneMachine, node: str, members: Collection[str]) -> int:
    """Return the view of a node that says that these are the farm, and settled; 0: it does not."""
    told = details(lab, node)
    settled = set(told.get("members", ())) == set(members) and told["settled"]
    return int(told["view"]) if settled else 0


def buckets(lab: OneMachine, viewer: str, node: str) -> int:
    """Return how many buckets a node owns, as `viewer` knows; -1: unsettled or unknown."""
    told = details(lab, viewer)
    if not told.get("settled"):
        return -1
    own = [one["buckets"] for one in told["nodes"] if one["name"] == node]
    return sum(own[0].values()) if own else -1


def order(lab: OneMachine, node: str, verb: str, *words: str) -> None:
    """Give a node an order with arguments, such as `power 2`."""
    with Client(lab.paths(node), who="SYSTEM/lab") as client:
        client.command(node, lab.module, verb, words, seconds=30)


def await_members(lab: OneMachine, members: Collection[str], seconds: float) -> None:
    """Wait until each of `members` says that these are the farm, and obeys its newest view."""

    def check() -> bool:
        views = set()
        for node in members:  # Not all at once: while one is not there yet, the others have work.
            view = view_of(lab, node, members)
            if not view:
                return False
            views.add(view)
        return len(views) == 1

    until(check, seconds, f"a farm of {', '.join(members)}")


def await_buckets(
    lab: OneMachine, viewer: str, node: str, check: Callable[[int], bool], seconds: float = 60.0
) -> None:
    """Wait until the number of buckets of a node is as wanted."""
    what = f"another share of {node}"
    until(lambda: check(buckets(lab, viewer, node)), seconds, what)


def until(check: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until the check is true; return how long it took. Raises TimedOut."""
    begun = time.monotonic()
    while True:
        try:
            if check():
                return time.monotonic() - begun
        except MirrorfarmError:
            pass  # A node that does not answer yet.
        if time.monotonic() - begun > seconds:
            raise TimedOut(f"waited {seconds:g} s in vain for {what}")
        time.sleep(POLL_SECONDS)
