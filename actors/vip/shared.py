"""The virtual addresses of a farm on this node: taken, never claimed.

All nodes have them at once, on `lo`, where the kernel accepts packets to them and stays silent
about them (`arp_ignore`, `arp_announce`; an IPv6 address of `lo` is not answered for elsewhere).
What neighbours learn comes from the responder. The filter must be open before `up` and must
stay until after `down`: without it every node would answer.
"""

import contextlib
from pathlib import Path

from mirrorfarm.actors.vip.addresses import Addresses, is_local
from mirrorfarm.actors.vip.probe import probe
from mirrorfarm.actors.vip.subnets import Link, Target
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.modules.settings import VirtualAddress
from mirrorfarm.netfilter.announce import Responder
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import BucketTable, Settings
from mirrorfarm.netfilter.neighbours import mac_text
from mirrorfarm.netfilter.sysctls import ADDRESS, Sysctls

# Answer only for addresses of the interface that was asked; never ask with another one's. Other
# values of `arp_ignore` that are as good: only to askers of the same subnet, and never.
_ARP = {"arp_ignore": ("1", "2", "8"), "arp_announce": ("2",)}
_EVERY_INTERFACE = "all"  # The kernel takes the higher value of this and the interface's own.
_LOOPBACK = "lo"


class SharedAddress:
    """The addresses of one farm module. To be used by one thread."""

    def __init__(self, settings: Settings, ledger: Path, promiscuous: bool = False) -> None:
        """`ledger` is the node's file of held kernel parameters."""
        self._settings = settings
        self._addresses = Addresses(tuple(VirtualAddress(str(a)) for a in settings.addresses))
        self._sysctls = Sysctls(ledger, f"{ADDRESS} {settings.module}")
        self._responder: Responder | None = None
        self._promiscuous = promiscuous
        self._interfaces = frozenset(settings.interfaces)

    def up(self, table: BucketTable) -> None:
        """Take the addresses and announce them; raise SystemUnsuitable if that cannot be.

        What a killed predecessor left behind is taken over. After an error nothing is left, or
        `down` raises.
        """
        if self._settings.delivery is Delivery.NONE:
            return
        try:
            self._sysctls.hold(
                {
                    f"net/ipv4/conf/{interface}/{name}": value
                    for interface in self._silent_interfaces()
                    for name, value in _ARP.items()
                }
            )
            self._add()
            # Last: who has learned the address finds it answering.
            self._responder = Responder(self._settings, self._promiscuous)
            self._responder.adopt(table)
            self._responder.open()
        except BaseException:
            with contextlib.suppress(SystemUnsuitable):  # Told is why it cannot be up.
                self.down()
            raise

    def adopt(self, table: BucketTable) -> None:
        """Members have changed: announce, and answer as the new table says. Returns at once."""
        if self._responder is not None:
            self._responder.adopt(table)

    def announce(self) -> None:
        """Announce once more. Returns at once."""
        if self._responder is not None:
            self._responder.announce()

    def is_whole(self) -> bool:
        """Return whether the addresses are on this node still: other programs may remove them."""
        settings = self._settings
        if settings.delivery is Delivery.NONE:
            return True
        return all(is_local(address) for address in settings.addresses)

    def strangers(self, members: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Ask who else has the addresses; return `address=mac` of each, sorted. Takes 300 ms.

        `members` are MACs, as text, of the farm's nodes: with `vmac_directed` they answer too.
        Raises OSError if the interfaces cannot be listened to.
        """
        return strangers(self._settings, members)

    def down(self) -> None:
        """Leave nothing on this node; raise SystemUnsuitable if an address stays: try again.

        The kernel stays silent about it until then.
        """
        if self._responder is not None:
            self._responder.close()
            self._responder = None
        try:
            self._addresses.remove()
        except OSError as error:
            raise SystemUnsuitable(f"a virtual address stays on this node: {error}") from error
        finally:
            self._addresses.close()
        with contextlib.suppress(OSError):  # A ledger that cannot be written: the next one does.
            self._sysctls.release()

    def _silent_interfaces(self) -> tuple[str, ...]:
        """Return where the kernel must be silent: also at a second adapter on the same network.

        It would answer there with a MAC that one node has, whatever its own subnet is, and no
        filter is at that adapter. Nobody knows which networks are the same, nor which adapters
        come later.
        """
        has_ipv4 = any(address.version == 4 for address in self._settings.addresses)
        return (*self._settings.interfaces, *[_EVERY_INTERFACE] * has_ipv4)

    def _add(self) -> None:
        try:
            loopback = next(link for link in self._addresses.links() if link.name == _LOOPBACK)
            for address in self._settings.addresses:
                target = Target(
                    address, address.max_prefixlen, Link(loopback.index, _LOOPBACK, b""), False
                )
                # Where an interface has no address, one of `lo` is used, in questions of ARP too.
                self._addresses.add(target, unused=True)
        except OSError as error:
            raise SystemUnsuitable(f"a virtual address cannot be put on lo: {error}") from error


def strangers(settings: Settings, members: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Do what `SharedAddress.strangers` does, in any thread."""
    addresses = Addresses(())
    try:
        links = [link for link in addresses.links() if link.name in settings.interfaces]
    finally:
        addresses.close()
    targets = tuple(
        Target(address, address.max_prefixlen, link, False)
        for link in links
        for address in settings.addresses
    )
    shared = {mac_text(settings.virtual_mac(address)) for address in settings.addresses}
    return probe(targets, members | shared)
