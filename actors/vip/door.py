"""Perform what the core of the virtual addresses asks, on threads of its own."""

import contextlib
import ipaddress
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from mirrorfarm.actors.events import ResourceChanged, VipIsDown, VipIsUp, VipProbed
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.actors.vip.addresses import Addresses, is_local, keep_others
from mirrorfarm.actors.vip.announce import Announcer
from mirrorfarm.actors.vip.connections import reset
from mirrorfarm.actors.vip.core import PRESENCE
from mirrorfarm.actors.vip.probe import probe
from mirrorfarm.actors.vip.routes import News
from mirrorfarm.actors.vip.subnets import Target
from mirrorfarm.modules.settings import VirtualAddress
from mirrorfarm.netfilter.neighbours import IPAddress, mac_text
from mirrorfarm.oserrors import told

REMOVAL = "vip.removal"  # Resource: down while an address stays that was to be removed.
SOURCE = "vip.source"  # Resource: down while routes are refused that `one_side` needs.
NO_RIGHT = "the virtual addresses are not set: the guard has acted, or is about to"
_ORDERS_MAX = 16
_LOOK_S = 1.0
_MISSES = 2
_RETRY_S = 0.1


class _Worker:
    """A thread that performs orders in turn; too many waiting: the oldest is superseded.

    `idle` is called now and then while there are none.
    """

    def __init__(self, name: str, idle: Callable[[], None] = lambda: None) -> None:
        self._idle = idle
        self._orders: deque[Callable[[], None]] = deque(maxlen=_ORDERS_MAX)
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, order: Callable[[], None]) -> None:
        with self._changed:
            self._orders.append(order)
            self._changed.notify()

    def pause(self, seconds: float) -> bool:
        """Wait; return False at once if there is something else to do."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._orders or self._closing, seconds)

    def close(self) -> None:
        """Perform what was ordered, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._orders or self._closing, _LOOK_S)
                if self._closing and not self._orders:
                    return
                order = self._orders.popleft() if self._orders else self._idle
            order()


class VipDoor:
    """The virtual addresses of one module on this node. No method blocks.

    Orders are performed in the order given; a probe takes its 300 ms beside them. `close`
    leaves the addresses as they are.
    """

    def __init__(
        self,
        vips: tuple[VirtualAddress, ...],
        tcpreset: bool = True,
        tell: Inbox = lambda event: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """`tell` is given the resources REMOVAL, PRESENCE and SOURCE when they change.

        `is_over` tells whether this node may have the addresses no more: it may have stood still
        between an order and what is done about it, and the guard has removed them meanwhile.
        """
        self._checked = frozenset(ipaddress.ip_address(vip.addr) for vip in vips if vip.check)
        self._misses = 0  # Looks in a row that missed an address that was set.
        self._tcpreset = tcpreset
        self._tell = tell
        self._is_over = is_over
        self._stays = False  # An address, although it was to be removed.
        self._addresses = Addresses(vips)
        self._probed = Addresses(vips)  # The prober's own socket.
        self._announcer = Announcer()
        self._news = News()
        self._refused: tuple[str, ...] = ()  # Routes, in words, when they were last looked at.
        self._up: tuple[Target, ...] = ()
        self._orders = _Worker("vip orders", self._look)
        self._probes = _Worker("vip probes")

    def probe(self, run: int, inbox: Inbox) -> None:
        """Ask for other users of the addresses; VipProbed follows within 400 ms."""
        self._probes.put(lambda: inbox(VipProbed(run, self._find_conflicts())))

    def add(self, run: int, inbox: Inbox) -> None:
        """Configure the addresses and announce them once; VipIsUp follows."""
        self._orders.put(lambda: inbox(VipIsUp(run, self._add())))

    def announce(self) -> None:
        """Announce the addresses that are up once more."""
        self._orders.put(self._announce_again)

    def remove(self, run: int, inbox: Inbox) -> None:
        """Reset connections and remove the addresses; VipIsDown follows once none is left."""
        self._orders.put(lambda: self._remove(run, inbox))

    def close(self) -> None:
        """End the threads and close the sockets."""
        # A netlink socket is closed by the thread that opened it.
        self._orders.put(self._addresses.close)
        self._orders.put(self._news.close)
        self._probes.put(self._probed.close)
        self._orders.close()
        self._probes.close()
        self._announcer.close()

    def _add(self) -> tuple[str, ...]:
        if self._is_over():
            return (NO_RIGHT,)
        try:
            targets, located = self._addresses.locate()
        except OSError as error:
            return (f"interfaces cannot be listed: {error}",)
        faults = list(located)
        added: list[Target] = []
        refused: list[str] = []
        for target in targets:
            try:
                self._addresses.add(target)
            except OSError as error:
                faults.append(f"{target.address}: not added on {target.link.name}: {error}")
                continue
            added.append(target)
            refused += self._addresses.prefer(target)
        if self._is_over():  # It ended meanwhile: whoever has the addresses now is not disturbed.
            with contextlib.suppress(OSError):  # The guard removes them as well.
                self._addresses.remove()
            return (NO_RIGHT,)
        self._up, self._refused = tuple(added), tuple(refused)
        return (*faults, *refused, *self._announcer.announce(self._up))

    def _look(self) -> None:
        """Notice that another program removed an address, as a restart of the network does.

        It is not set again here: the guard may have removed it, for the peer to have it. The
        mirror sets it, if it has the right to.
        """
        own = [target for target in self._up if target.address in self._checked]
        try:
            gone = [f"{one.address} of {one.link.name}" for one in own if not is_local(one.address)]
        except OSError:
            return  # Nothing is known.
        before, self._misses = self._misses, self._misses + 1 if gone else 0
        if self._misses == _MISSES:  # An interface that is down for a moment gets its routes back.
            why = f"(another program removed {', '.join(gone)})"
            self._tell(ResourceChanged(PRESENCE, "down", "stopstart", why))
        elif before >= _MISSES and not gone:
            self._tell(ResourceChanged(PRESENCE, "up"))
        self._follow()

    def _follow(self) -> None:
        """Follow what others change of links, addresses and routes: an address needs them all."""
        for target in self._up:  # The guard, which would take others along, may be next.
            keep_others(target.link.index, target.address.version)
        try:
            changed = bool(self._up) and self._news.heard()
            if changed and self._look_at_links():
                self._announce_again()
            for target in self._up if changed else ():
                if is_local(target.address) and self._addresses.is_in_front(target):
                    self._step_back(target)
            main = [target for target in self._up if target.main]
            # The routes of one that is gone went with it, and come with it.
            if (changed or self._refused) and all(is_local(target.address) for target in main):
                faults = [fault for target in main for fault in self._addresses.prefer(target)]
                self._note_refused(tuple(faults))
        except OSError:
            self._news.close()  # Nothing is known: all is looked at again.

    def _look_at_links(self) -> bool:
        """Take names and MACs that the interfaces have now; return whether a MAC is another."""
        links = {link.index: link for link in self._addresses.links()}
        before = self._up
        self._up = tuple(replace(one, link=links.get(one.link.index, one.link)) for one in before)
        return any(old.link.mac != new.link.mac for old, new in zip(before, self._up, strict=True))

    def _step_back(self, target: Target) -> None:
        if self._is_over():
            return
        self._addresses.step_back(target)
        if self._is_over():  # It ended meanwhile, and the guard may have been before us.
            with contextlib.suppress(OSError):
                self._addresses.remove()

    def _note_refused(self, refused: tuple[str, ...]) -> None:
        before, self._refused = self._refused, refused
        if refused and refused != before:
            self._tell(ResourceChanged(SOURCE, "down", reason=f"({'; '.join(refused)})"))
        elif before and not refused:
            self._tell(ResourceChanged(SOURCE, "up"))

    def _announce_again(self) -> None:
        """Announce what is here still: who has it now would be cut off from its clients."""
        if self._is_over():
            return
        # A fault was told when the address came up; the next announcement may get through.
        with contextlib.suppress(OSError):
            self._look_at_links()
            self._announcer.announce(tuple(one for one in self._up if is_local(one.address)))

    def _remove(self, run: int, inbox: Inbox) -> None:
        """Try until nothing is left, or a newer order makes this one void."""
        self._up = ()
        self._note_refused(())
        while True:
            try:
                present = tuple(entry.address for entry in self._addresses.present())
                if self._tcpreset:
                    self._reset(present)
                self._addresses.remove()
            except OSError as error:
                # Saying that it is down would allow the peer to go up: why it is not is said.
                if not self._stays:
                    self._stays = True
                    why = f"(a virtual address stays on this node: {told(error)})"
                    self._tell(ResourceChanged(REMOVAL, "down", reason=why))
                if self._orders.pause(_RETRY_S):
                    continue
                return
            if self._stays:
                self._stays = False
                self._tell(ResourceChanged(REMOVAL, "up"))
            inbox(VipIsDown(run))
            return

    @staticmethod
    def _reset(present: tuple[IPAddress, ...]) -> None:
        with contextlib.suppress(OSError):  # A courtesy to clients: never a reason to stay up.
            reset(present)

    def _find_conflicts(self) -> tuple[str, ...]:
        try:
            targets, _ = self._probed.locate()
            own = frozenset(mac_text(link.mac) for link in self._probed.links() if link.mac)
            return probe(targets, own)
        except OSError:
            return ()  # An interface that is down has no strangers on it that we could hear.
