"""The filter `nft`: jhash and connection tracking, all of it in the kernel.

For services behind address translation (containers), whose sockets a program at the interface
cannot see, and for kernels without BPF. It places clients by another hash than the other two.
"""

from pathlib import Path

from mirrorfarm.limits import Nanoseconds
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.lease import Lease
from mirrorfarm.netfilter.libnftables import Nftables
from mirrorfarm.netfilter.nfnetlink import Nfnetlink
from mirrorfarm.netfilter.nft_elements import changes
from mirrorfarm.netfilter.nft_rules import removal, rule_set, table_name
from mirrorfarm.netfilter.sysctls import FILTER, Sysctls

# A segment in the middle of a connection that tracking did not see begin must not become a
# connection of this node; one out of the window must not cease to be one.
TRACKING = {
    "net/netfilter/nf_conntrack_tcp_loose": "0",
    "net/netfilter/nf_conntrack_tcp_be_liberal": "1",
}


PARTS_EVERY = 5  # Looks at all of the rules, which take several milliseconds, are more seldom.

Part = tuple[str, str, int]  # Family, kind (table, chain, rule, set), the kernel's number.


class NftFilter:
    """A `PacketFilter` of nftables. To be used by one thread."""

    def __init__(self, ledger: Path) -> None:
        """`ledger` is the node's file of held kernel parameters."""
        self._ledger = ledger
        self._table: BucketTable | None = NO_BUCKETS  # None: the kernel may have another one.
        self._module = ""
        self._groups = 0
        self._tables: Nftables | None = None
        self._sets: Nfnetlink | None = None
        self._lease: Lease | None = None
        self._sysctls: Sysctls | None = None
        self._parts: frozenset[Part] = frozenset()
        self._looks = 0

    def open(self, settings: Settings) -> None:
        """Load the rules in one transaction; what a killed predecessor left is replaced by it.

        Raises SystemUnsuitable or OSError if the kernel refuses.
        """
        assert self._tables is None, "opened twice"
        self._module, self._groups = settings.module, settings.groups
        self._tables = Nftables()
        try:
            self._sets = Nfnetlink()
            self._tables.run(removal(settings.module) + rule_set(settings))
            self._parts = parts(self._tables, settings.module)
            self._lease = Lease(self._tables, settings.module)
            # The parameters exist once a rule tracks connections.
            self._sysctls = Sysctls(self._ledger, f"{FILTER} {settings.module}")
            self._sysctls.hold(TRACKING)
        except BaseException:
            self.close()
            raise

    def apply(self, table: BucketTable) -> None:
        """Change every bucket that differs in one transaction.

        If it fails, the next one replaces whatever is in the kernel.
        """
        assert self._sets
        before, self._table = self._table, None
        messages = changes(self._module, self._groups, before, table)
        if messages:
            self._sets.run(messages)
        self._table = table

    def renew(self, deadline_ns: Nanoseconds) -> bool:
        """Prolong the lease; False: it had run out, and every bucket is FOREIGN now."""
        assert self._lease
        if self._lease.renew(deadline_ns):
            return True
        self.apply(NO_BUCKETS)
        return False

    def is_whole(self) -> bool:
        """Return whether its tables are there, and now and then each part of them."""
        assert self._tables
        self._looks += 1
        each = self._looks % PARTS_EVERY == 0
        return has_parts(self._tables, self._module, self._parts, each=each)

    def counters(self) -> dict[str, int]:
        """Return packets by what was done with them."""
        assert self._tables
        return named_counters(self._tables, self._module)

    def close(self) -> None:
        """Delete the tables and restore the kernel's parameters."""
        if self._tables is not None:
            try:
                self._tables.run(removal(self._module))
            finally:
                self._tables.close()
                if self._sets is not None:
                    self._sets.close()
                self._tables = self._sets = self._lease = None
                self._table = NO_BUCKETS
                if self._sysctls is not None:
                    self._sysctls.release()


def remove_tables(module: str) -> None:
    """Delete a module's tables, whoever made them; raises SystemUnsuitable or OSError."""
    tables = Nftables()
    try:
        tables.run(removal(module))
    finally:
        tables.close()


def parts(tables: Nftables, module: str) -> frozenset[Part]:
    """Return of what a module's tables consist; raises OSError if the kernel does not tell.

    What was removed and made anew, as from a copy of the rules that somebody saved, is another
    table: the kernel never gives its number twice. Its sets hold the buckets of that time.
    """
    found = set(_tables(tables, module))
    for family in {family for family, _, _ in found}:
        for entry in tables.list(f"table {family} {table_name(module)}"):
            for kind, about in entry.items():
                if "handle" in about:
                    found.add((family, kind, about["handle"]))
    return frozenset(found)


def has_parts(tables: Nftables, module: str, wanted: frozenset[Part], *, each: bool) -> bool:
    """Return whether what was loaded is there: the same tables, and `each` part of them."""
    there = parts(tables, module) if each else _tables(tables, module)
    return there >= (wanted if each else {part for part in wanted if part[1] == "table"})


def _tables(tables: Nftables, module: str) -> frozenset[Part]:
    listed = [entry["table"] for entry in tables.list("tables") if "table" in entry]
    own = [table for table in listed if table["name"] == table_name(module)]
    return frozenset((table["family"], "table", table["handle"]) for table in own)


def named_counters(tables: Nftables, module: str) -> dict[str, int]:
    """Return the packets of each counter of a module's table."""
    entries = tables.list(f"counters table inet {table_name(module)}")
    found = [entry["counter"] for entry in entries if "counter" in entry]
    return {counter["name"]: counter["packets"] for counter in found}
