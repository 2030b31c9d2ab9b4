"""Network namespaces of a lab: one switch with a bridge per network, a cable to each machine."""

import contextlib
import ctypes
import itertools
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mirrorfarm.errors import SystemUnsuitable

CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")
ACCEPT_DAD = Path("/proc/sys/net/ipv6/conf/default/accept_dad")
# mf, process id of the lab, x, its number in the process: `cluster.sweep` deletes what is left
# of labs whose process is not there any more.
PREFIX = re.compile(r"mf(\d+)x\d+-")
_numbers = itertools.count()


def unique_prefix() -> str:
    """Return what the names of another lab's namespaces begin with, before `-`."""
    return f"mf{os.getpid()}x{next(_numbers)}"


def order(*argv: str) -> str:
    """Run a system command and return its output; raise SystemUnsuitable with what it said."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError as error:
        raise SystemUnsuitable(f"{argv[0]} is missing: install iproute2 and util-linux") from error
    if done.returncode:
        raise SystemUnsuitable(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")
    return done.stdout


def batch(lines: list[str], namespace: str = "") -> None:
    """Give many lines to one `ip` process; raise SystemUnsuitable at the first that fails."""
    argv = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    text = "\n".join(lines) + "\n"
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise SystemUnsuitable(f"`{' '.join(argv)}` failed: {done.stderr.strip()}\n{text}")


@dataclass
class Wiring:
    """Namespaces named `PREFIX-machine`; interface `eth<i>` of each machine is on network i.

    Machine k of network i has 198.18.i.k/24 and 2001:db8:0:i::k/64.
    """

    prefix: str
    machines: tuple[str, ...]
    networks: tuple[str, ...]
    hosts: dict[str, int] = field(default_factory=dict)  # machine -> last byte of its address
    # Whether link-local addresses are asked about before they are used: that takes a second or two.
    detect_duplicates: bool = True

    def namespace(self, machine: str) -> str:
        """Return the network namespace of a machine; `sw` is the switch."""
        return f"{self.prefix}-{machine}"

    def address(self, machine: str, network: str) -> str:
        """Return the IPv4 address of a machine on a network."""
        return f"198.18.{self.networks.index(network)}.{self.hosts[machine]}"

    def build(self) -> None:
        """Create everything; on failure the caller calls `remove`."""
        switch = self.namespace("sw")
        batch([f"netns add {self.namespace(name)}" for name in ("sw", *self.machines)])
        for machine in self.machines if not self.detect_duplicates else ():
            with inside(self.namespace(machine)):
                ACCEPT_DAD.write_text("0", encoding="ascii")
        bridges = ["link set lo up"]
        for number, _ in enumerate(self.networks):
            bridges.append(f"link add br{number} type bridge stp_state 0 mcast_snooping 0")
            bridges.append(f"link set br{number} up")
            for machine in self.machines:
                port = self.port(machine, number)
                peer = f"peer name eth{number} netns {self.namespace(machine)}"
                bridges.append(f"link add {port} type veth {peer}")
                bridges.append(f"link set {port} master br{number} up")
        batch(bridges, switch)
        for machine in self.machines:
            self.power(machine, on=True)

    def power(self, machine: str, *, on: bool) -> None:
        """Switch the interfaces of a machine on, with its own addresses and no others, or off.

        The kernel of all machines is one: without this, a machine without power would go on
        answering for its addresses.
        """
        own = ["link set lo down", "addr flush dev lo", "link set lo up"]  # With 127.0.0.1 again.
        lines = own if on else []
        for number, _ in enumerate(self.networks):
            host = self.hosts[machine]
            if not on:
                lines.append(f"link set eth{number} down")
                continue
            lines.append(f"addr flush dev eth{number}")
            lines.append(f"link set eth{number} up")
            lines.append(f"addr add 198.18.{number}.{host}/24 dev eth{number}")
            lines.append(f"addr add 2001:db8:0:{number}::{host:x}/64 dev eth{number} nodad")
        batch(lines, self.namespace(machine))

    def port(self, machine: str, number: int) -> str:
        """Return the switch's port of a machine on network `number`."""
        return f"{machine}-{number}"

    def numbers(self, network: str | None) -> list[int]:
        """Return the numbers of one network, or of all."""
        return [self.networks.index(network)] if network else list(range(len(self.networks)))

    def plug(self, machine: str, network: str | None, up: bool, carrier: bool) -> None:
        """Pull or push cables of a machine; with `carrier` its own end notices nothing."""
        for number in self.numbers(network):
            port = ("dev", self.port(machine, number))
            if carrier:
                state = "3" if up else "0"  # Of the bridge port: forwarding, disabled.
                order("bridge", "-n", self.namespace("sw"), "link", "set", *port, "state", state)
            else:
                direction = "up" if up else "down"
                order("ip", "-n", self.namespace("sw"), "link", "set", *port, direction)

    def remove(self) -> None:
        """Delete every namespace of this lab; interfaces and bridges vanish with them."""
        for name in ("sw", *self.machines):
            if (NAMESPACES / self.namespace(name)).exists():
                with contextlib.suppress(SystemUnsuitable):
                    order("ip", "netns", "del", self.namespace(name))


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread, and no other, use the network of `namespace` in the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    there = os.open(NAMESPACES / namespace, os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns", namespace)
        yield
    finally:
        libc.setns(here, CLONE_NEWNET)
        os.close(here)
        os.close(there)
