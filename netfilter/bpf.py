"""The filter `bpf`: one program at each interface, before the IP layer; the default.

It places clients by the same hash as `nfqueue`, and sees the sockets of its own network
namespace only: services behind address translation need the filter `nft`.
"""

from xxhash import xxh64_hexdigest

from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.limits import BUCKETS, Nanoseconds
from mirrorfarm.netfilter import tables
from mirrorfarm.netfilter.bpf_program import FarmProgram
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import ALL_FOREIGN, NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.rules import State


def program_name(module: str) -> str:
    """Return the name of a module's program: as long as the kernel allows, and its alone."""
    return f"mf_{xxh64_hexdigest(module.encode())[:12]}"


class BpfFilter:
    """A `PacketFilter` in the kernel. To be used by one thread."""

    def __init__(self) -> None:
        self._table = NO_BUCKETS
        self._groups = 0
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
        directed = settings.delivery is Delivery.DIRECTED
        try:
            for address in settings.addresses:
                self._program.set_address(
                    address.packed, settings.rules, settings.seed, directed=directed
                )
            self.attached = tuple(self._program.attach(name) for name in settings.interfaces)
        except BaseException:
            self.close()
            raise

    def apply(self, table: BucketTable) -> None:
        """Change every bucket that differs: those that close first, then those that open."""
        assert self._program
        closing: list[tuple[bytes, bytes]] = []
        opening: list[tuple[bytes, bytes]] = []
        for group in range(self._groups):
            old, new = self._table.group(group), table.group(group)
            if old == new:
                continue
            for bucket in range(BUCKETS):
                if old[bucket] != new[bucket]:
                    state = State(new[bucket])
                    entry = (tables.bucket_key(group, bucket), tables.bucket_value(state))
                    (opening if state is not State.FOREIGN else closing).append(entry)
        self._program.change(closing)
        self._program.change(opening)
        self._table = table

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

    def counters(self) -> dict[str, int]:
        """Return packets by what was done with them."""
        assert self._program
        counted = self._program.verdicts()
        return {
            "accepted": sum(counted[name] for name in tables.ACCEPTED),
            "foreign": counted["foreign"] + counted["unknown"],
            "refused": counted["refused"] + counted["malformed"],
            "fenced": counted["fenced"],
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
            self._table, self._deadline_ns, self.attached = NO_BUCKETS, 0, ()
