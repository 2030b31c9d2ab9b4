"""What happens to a farm under load, and what became of its clients' connections meanwhile."""

import os
import signal
import threading
from collections.abc import Callable

from mirrorfarm.errors import TimedOut
from mirrorfarm.lab import farm_web
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.farm_traffic import Count, Traffic

JOIN_SECONDS = 90.0  # Who leaves again and again has to wait before it is taken.


class FarmEvents:
    """A farm whose nodes are all UP, with a client that asks all the time."""

    def __init__(self, lab: OneMachine, traffic: Traffic, settle: float) -> None:
        """`settle`: seconds for which connections are watched after each event."""
        self.lab, self.traffic, self.settle = lab, traffic, settle

    def event(self, title: str, act: Callable[[], object], *, planned: bool = True) -> Count:
        """Do something; return what became of the connections. Raises TimedOut."""
        count = self.traffic.begin(title, planned)
        act()
        self.traffic.finish(count, self.settle)
        if self.traffic.failure:
            raise TimedOut(f"the client failed: {self.traffic.failure}")
        return count

    def share(self, node: str, verb: str, *words: str, buckets: range) -> None:
        """Give a node an order and wait until it owns so many buckets."""
        farm_web.order(self.lab, node, verb, *words)
        (viewer, *_) = self._but(node)
        farm_web.await_buckets(self.lab, viewer, node, lambda own: own in buckets)

    def leave(self, node: str) -> int:
        """Stop a node, whose clients end their connections while it drains; return how many."""
        stop = threading.Thread(target=self.lab.order, args=(node, "stop"), daemon=True)
        stop.start()
        farm_web.until(lambda: self.lab.state(node).get("phase") != "up", 60, "its drain")
        left = self.traffic.hang_up(node)
        stop.join(timeout=60)
        self.lab.wait_state(node, "STOP", 10, status="NotReady")
        return left

    def join(self, node: str) -> None:
        """Start a node and wait until it is in."""
        self.lab.order(node, "start")
        farm_web.await_members(self.lab, self.lab.nodes, JOIN_SECONDS)

    def cable(self, node: str, *, cut: bool) -> None:
        """Pull or push the cable of a node; wait until the rest, or all, are the farm.

        One that is pulled stays out until its node has noticed, which takes a second.
        """
        if cut:
            self.lab.cut(node)
        else:
            self.lab.mend(node)
        self._await(node, gone=cut)
        if cut:
            farm_web.until(lambda: self._misses_cable(node), JOIN_SECONDS, f"{node} to notice")

    def _misses_cable(self, node: str) -> bool:
        return "no cable at" in self.lab.state(node).get("reason", "")

    def freeze(self, node: str, *, frozen: bool) -> None:
        """Stop a node's module process beyond its lease, or let it go on."""
        for pid in self.lab.pids(node)["module"]:
            os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)
        self._await(node, gone=frozen)

    def _await(self, node: str, *, gone: bool) -> None:
        members = self._but(node) if gone else self.lab.nodes
        farm_web.await_members(self.lab, members, JOIN_SECONDS)

    def _but(self, node: str) -> tuple[str, ...]:
        return tuple(one for one in self.lab.nodes if one != node)
