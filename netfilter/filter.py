"""What every filter of a farm is: the table of buckets it obeys, and what can be asked of it.

There are three (`bpf`, `nft`, `nfqueue`; `choice.py` picks one) with one contract: a packet to a
virtual address is taken by the node that owns its bucket, and by nobody once that node's lease
has run out. The control side swaps whole tables; no packet passes through an inbox.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mirrorfarm.limits import BUCKETS, GROUPS_MAX, VIRTUAL_ADDRESSES_MAX, Nanoseconds
from mirrorfarm.netfilter.delivery import Delivery, virtual_mac
from mirrorfarm.netfilter.neighbours import IPAddress
from mirrorfarm.netfilter.rules import Rules, State

_STATES = bytes(State)


class Choice(NamedTuple):
    """A kind of filter, and why it is that one."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class BucketTable:
    """What this node does with each bucket of each group, in one agreed view.

    A group is 1024 bytes, each a `State`. Groups that are missing are FOREIGN throughout.
    """

    view: int
    groups: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.groups) <= GROUPS_MAX, "more groups than a filter has room for"
        for group in self.groups:
            assert len(group) == BUCKETS, "a group has one state per bucket"
            assert not group.translate(None, _STATES), "a bucket is FOREIGN, HARD or SOFT"

    def group(self, number: int) -> bytes:
        """Return the states of a group."""
        return self.groups[number] if number < len(self.groups) else ALL_FOREIGN

    def state(self, group: int, bucket: int) -> State:
        """Return the state of one bucket."""
        return State(self.group(group)[bucket])


ALL_FOREIGN = bytes(BUCKETS)
NO_BUCKETS = BucketTable(0)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a filter is opened with; nothing of it changes while it is open."""

    module: str
    interfaces: tuple[str, ...]  # Where frames for the virtual addresses arrive.
    addresses: tuple[IPAddress, ...]
    rules: Rules
    seed: int  # 32 bits; the same on every node, as are the rules and the kind of filter.
    delivery: Delivery = Delivery.INVISIBLE
    mac: bytes = b""  # Virtual MAC of the configuration; empty: made of the address.
    queue: int = 0  # Of NFQUEUE: each module of a node has its own.

    def __post_init__(self) -> None:
        assert len(self.addresses) <= VIRTUAL_ADDRESSES_MAX
        assert 0 <= self.seed < 1 << 32, "the kernel's jhash has a seed of 32 bits"

    @property
    def groups(self) -> int:
        """How many groups the rules name."""
        return max((rule.group for rule in self.rules), default=0) + 1

    def virtual_mac(self, address: IPAddress) -> bytes:
        """Return the MAC to which frames for `address` are sent; empty: the node's own."""
        return virtual_mac(self.delivery, address, self.mac)


class PacketFilter(Protocol):
    """A filter as the farm drives it, from one thread. Methods raise OSError if it fails.

    A filter that has failed takes no packet once the lease has run out, whatever state it is in.
    """

    def open(self, settings: Settings) -> None:
        """Put the filter into the kernel: every bucket FOREIGN, no lease, nothing taken."""

    def apply(self, table: BucketTable) -> None:
        """Change every bucket that differs, all at once; on return the kernel obeys it."""

    def renew(self, deadline_ns: Nanoseconds) -> bool:
        """Let the filter work until `deadline_ns` of the boot clock; return whether it does.

        False: the lease had run out before, or the deadline has passed. Every bucket is FOREIGN
        then, for others may own them by now: the node joins again, applies what it is given,
        and renews.
        """

    def is_whole(self) -> bool:
        """Return whether all of it is in the kernel still: other programs may remove it."""

    def counters(self) -> dict[str, int]:
        """Return packets by what was done with them, as `farm state` shows them."""

    def close(self) -> None:
        """Take everything out of the kernel. The virtual address must be off this node before."""
