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
        """Return whether both tables are there."""
        assert self._tables
        return has_tables(self._tables, self._module)

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


def has_tables(tables: Nftables, module: str) -> bool:
    """Return whether a module's tables are in the kernel; raises OSError if it does not tell."""
    listed = [entry["table"] for entry in tables.list("tables") if "table" in entry]
    own = {table["family"] for table in listed if table["name"] == table_name(module)}
    return own >= {"inet", "netdev"}


def named_counters(tables: Nftables, module: str) -> dict[str, int]:
    """Return the packets of each counter of a module's table."""
    entries = tables.list(f"counters table inet {table_name(module)}")
    found = [entry["counter"] for entry in entries if "counter" in entry]
    return {counter["name"]: counter["packets"] for counter in found}
