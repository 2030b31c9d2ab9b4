"""Neighbour entries of the kernel that exist only to see whether an announcement changes them."""

import contextlib
import errno
import threading
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from mirrorfarm.netfilter.neighbours import IPAddress
from mirrorfarm.netfilter.preflight import Learned

_STALE = 0x04  # NUD_STALE: the kernel asks before it uses it.
_NOBODY = "02:00:00:00:00:01"
_INET, _INET6 = 2, 10


class NeighbourEntries:
    """Entries of addresses that nobody uses. Methods raise OSError if the kernel refuses."""

    def __init__(self) -> None:
        self._planted: dict[int, tuple[IPAddress, int]] = {}
        self._lock = threading.Lock()

    def plant(self, number: int, address: IPAddress, index: int) -> None:
        """Make an entry with a MAC that nobody has; one that is there is left alone."""
        entry = {"dst": str(address), "ifindex": index, "lladdr": _NOBODY, "state": _STALE}
        with self._lock:
            try:
                self._ask("add", entry)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
                return
            self._planted[number] = address, index

    def learned(self) -> tuple[Learned, ...]:
        """Return what the entries say now."""
        found = []
        with self._lock:
            for number, (address, index) in sorted(self._planted.items()):
                family = _INET if address.version == 4 else _INET6
                with IPRoute() as route:
                    entries = list(route.get_neighbours(family=family, ifindex=index))
                macs = [
                    str(entry.get_attr("NDA_LLADDR") or "")
                    for entry in entries
                    if entry.get_attr("NDA_DST") == str(address) and entry["ifindex"] == index
                ]
                found.append(Learned(number, macs[0] if macs else ""))
        return tuple(found)

    def close(self) -> None:
        """Remove the entries."""
        with self._lock:
            for address, index in self._planted.values():
                with contextlib.suppress(OSError):
                    self._ask("del", {"dst": str(address), "ifindex": index})
            self._planted.clear()

    @staticmethod
    def _ask(verb: str, entry: dict[str, Any]) -> None:
        try:
            with IPRoute() as route:
                route.neigh(verb, **entry)
        except NetlinkError as error:
            raise OSError(error.code, str(error.args[-1])) from error
