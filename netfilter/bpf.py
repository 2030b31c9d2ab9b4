"""The filter `bpf`: one program at each interface, before the IP layer; the default.

It places clients by the same hash as `nfqueue`, and sees the sockets of its own network
namespace only: services behind address translation need the filter `nft`.
"""

from dataclasses import dataclass

from xxhash import xxh64_hexdigest

from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.limits import BUCKETS, Nanoseconds
from mirrorfarm.netfilter import tables
from mirrorfarm.netfilter.bpf_program import FarmProgram
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import ALL_FOREIGN, NO_BUCKETS, BucketTable, Settings


@dataclass(frozen=True, slots=True)
class Relay:
    """To whom packets go that reach this node and are another's, by hardware address.

    A group is 1024 bytes: 0 nobody, the number of a peer (from 1 on), or EVERY_PEER, which is
    right for SOFT buckets here, and for those that are SOFT at their owner.
    """

    own: bytes = b""
    peers: tuple[bytes, ...] = ()
    groups: tuple[bytes, ...] = ()

    def group(self, number: int) -> bytes:
        """Return whom each bucket of a group is relayed to."""
        return self.groups[number] if number < len(self.groups) else _NOBODY


_NOBODY = bytes(BUCKETS)
NO_RELAY = Relay()


def program_name(module: str) -> str:
    """Return the name of a module's program: as long as the kernel allows, and its alone."""
    return f"mf_{xxh64_hexdigest(module.encode())[:12]}"


class BpfFilter:
    """A `PacketFilter` in the kernel. To be used by one thread."""

    def __init__(self, *, old: bool = False) -> None:
        """`old`: attach as kernels before 6.6 do."""
        self._old = old
        self._table = NO_BUCKETS
        self._relay = NO_RELAY
        self._groups = 0
        self._written: list[list[bytes]] = []  # What is in the kernel, by group.
        self._deadline_ns = 0
        self._program: FarmProgram | None = None
        self.attached: tuple[str, ...] = ()  # How, at each interface: `tcx` or `clsact`.

    def open(self, settings: Settings) -> None:
        """Load the program and attach it; what a killed predecessor left is replaced by it.

        Raises SystemUnsuitable if the kernel refuses, OSError if an interface fails.
        """
        assert self._program is None, "opened twice"
        self._program = FarmProgram.load(program_name(settings.module))
        self._groups = settings.groups
        self._written = [tables.bucket_values(ALL_FOREIGN, _NOBODY)] * self._groups
        directed = settings.delivery is Delivery.DIRECTED
        try:
            for address in settings.addresses:
                self._program.set_address(
                    address.packed, settings.rules, settings.seed, directed=directed
                )
            self.attached = tuple(
                self._program.attach(name, old=self._old) for name in settings.interfaces
            )
        except BaseException:
            self.close()
            raise

    def apply(self, table: BucketTable) -> None:
        """Change every bucket that differs: those that close first, then those that open."""
        self._write(table, self._relay)

    def relay(self, relay: Relay) -> None:
        """Relay what is not this node's (`vmac_directed`): say to whom, after each `apply`."""
        assert self._program
        self._program.set_peers(relay.own, relay.peers)
        self._write(self._table, relay)

    def _write(self, table: BucketTable, relay: Relay) -> None:
        assert self._program
        closing: list[tuple[bytes, bytes]] = []
        opening: list[tuple[bytes, bytes]] = []
        for group in range(self._groups):
            old = self._written[group]
            new = tables.bucket_values(table.group(group), relay.group(group))
            for key, before, after in zip(tables.bucket_keys(group), old, new, strict=True):
                if before != after:
                    (opening if after[0] else closing).append((key, after))
            self._written[group] = new
        self._table, self._relay = table, relay
        try:
            self._program.change(closing)
            self._program.change(opening)
        except OSError:
            # Half written: nothing is taken, and the next table is written whole.
            self._written = [[b""] * BUCKETS] * self._groups
            self._program.renew(0)
            self._deadline_ns = 0
            raise

    def renew(self, deadline_ns: Nanoseconds) -> bool:
        """Prolong the lease; False: it had run out, and every bucket is FOREIGN now.

        The deadline is a time, not a duration: a process that is frozen before it has written
        it cannot write more than it was allowed.
        """
        assert self._program
        now_ns = boot_clock_ns()
        if now_ns < deadline_ns and (now_ns < self._deadline_ns or not self._deadline_ns):
            self._program.renew(deadline_ns)
            self._deadline_ns = deadline_ns
            return True
        self._program.renew(0)
        self._deadline_ns = 0
        self.apply(BucketTable(self._table.view, (ALL_FOREIGN,) * self._groups))
        return False

    def is_whole(self) -> bool:
        """Return whether the program is at every interface that there is."""
        assert self._program
        return self._program.is_attached()

    def counters(self) -> dict[str, int]:
        """Return packets by what was done with them."""
        assert self._program
        counted = self._program.verdicts()
        return {
            "accepted": sum(counted[name] for name in tables.ACCEPTED),
            "foreign": counted["foreign"] + counted["unknown"],
            "refused": counted["refused"] + counted["malformed"],
            "fenced": counted["fenced"],
            "resets": counted["silenced"],
            "relayed": counted["relayed"],
            "opened": counted["opened"],
        }

    def accepted(self, group: int) -> tuple[int, ...]:
        """Return how many packets of each bucket were accepted here."""
        assert self._program
        return self._program.accepted(group)

    def close(self) -> None:
        """Detach from every interface. The virtual address must be off this node before."""
        if self._program is not None:
            self._program.close()
            self._program = None
            self._table, self._relay = NO_BUCKETS, NO_RELAY
            self._deadline_ns, self.attached = 0, ()
