"""Perform what a farm's cores ask: the filter, the shared addresses, the count of connections.

A lock keeps filter and addresses from being used by two threads at once. A new table and a new
lease are waited for: what a node says to the others after it must be true. Raising and removing
the addresses is not: a thread does it. An address that cannot be removed keeps its filter, which
then drops everything: without it this node would answer for all.
"""

import contextlib
import ipaddress
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirrorfarm.actors.effects import ApplyTable, CountSockets, RenewLease
from mirrorfarm.actors.events import (
    CablesOut,
    FilterCounted,
    FilterFailed,
    HardwareIs,
    ResourceChanged,
    SocketsCounted,
    StrangersSeen,
    VipIsDown,
    VipIsUp,
)
from mirrorfarm.actors.farm_filter.leftovers import Leftovers, keep_parameters
from mirrorfarm.actors.farm_filter.opening import settings_of
from mirrorfarm.actors.farm_filter.places import Places
from mirrorfarm.actors.farm_filter.sockets import count, live
from mirrorfarm.actors.module.farm.state import VIP
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.actors.supervisor import heard
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.actors.vip.addresses import interfaces_of
from mirrorfarm.actors.vip.cables import Steady, without_cable
from mirrorfarm.actors.vip.connections import reset
from mirrorfarm.actors.vip.door import REMOVAL
from mirrorfarm.actors.vip.shared import SharedAddress, strangers
from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.modules.farmconfig import farm_rules
from mirrorfarm.modules.settings import Farm, Module
from mirrorfarm.netfilter.announce import relaying_address
from mirrorfarm.netfilter.bpf import NO_RELAY, BpfFilter, Relay
from mirrorfarm.netfilter.choice import make
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, PacketFilter, Settings
from mirrorfarm.netfilter.jhash import jhash_bucket
from mirrorfarm.netfilter.rules import xxhash_bucket

_RETRY_S = 0.1
_LOOK_S = 0.25  # Between two looks at the cables.
_ANEW_LOOKS = 5  # So long may an interface that was made anew lack its addresses.
_COUNT_EVERY = 4
_STRANGERS_EVERY = 120  # Looks between two questions who else has the addresses: 30 s.
_LIVE_EVERY = 5  # Connections are listed this often more seldom: that takes longer.
_FAULTS = (OSError, MirrorfarmError)


class FarmDoor:
    """The filter and the addresses of one farm module on this node."""

    def __init__(
        self,
        module: Module,
        kind: str,
        ledger: Path,
        tell: Inbox,
        log: Callable[[str, str], None] = lambda level, text: None,
    ) -> None:
        """`kind`: bpf nft nfqueue. `ledger`: the node's file of held kernel parameters.

        `tell` is given FilterCounted once a second while the filter is open, CablesOut,
        StrangersSeen and the resource REMOVAL when that changes; and VIP, with the action
        `wait`, when filter or addresses are lost with an interface. `log`: level and text.
        """
        assert module.mode == "farm", "only a farm has a filter"
        self._module = module
        self._farm: Farm = module.farm
        self._kind = kind
        self._ledger = ledger
        self._left = Leftovers(module, ledger, log)
        self._tell = tell
        self._place = jhash_bucket if kind == "nft" else xxhash_bucket
        self._rules = farm_rules(self._farm.rules)
        self._addresses = tuple(ipaddress.ip_address(one.addr) for one in self._farm.addresses)
        self._worker = ThreadPoolExecutor(1, "farm filter")
        self._using = threading.Lock()  # The filter.
        self._counter = ThreadPoolExecutor(1, "farm sockets")
        self._table = NO_BUCKETS
        self._relay = NO_RELAY
        self._places = Places(self._find_interfaces)  # At which it is.
        self.mac = self._own_mac()  # To which others relay; empty: nothing is relayed.
        self._told_mac = self.mac  # The network may be late, or its interface made anew.
        self._filter: PacketFilter | None = None
        self._shared: SharedAddress | None = None
        self._stays = ""  # Why an address is on this node still that was to be removed.
        self._orders = 0  # To raise or remove the addresses: each makes the one before void.
        self._interfaces: tuple[str, ...] = ()  # While the filter is open.
        self._anew = 0  # How often it is tried yet to raise again what went with an interface.
        self._is_lost = False  # It was not raised, and the module knows.
        self._removed = ""  # What is to be told of a filter that others removed.
        self._answered: Settings | None = None  # While all nodes answer with one virtual MAC.
        self._strangers: tuple[str, ...] = ()
        self._ends = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="farm counters", daemon=True)
        self._ticker.start()

    # --- addresses -------------------------------------------------------------------------

    def add(self, run: int, inbox: Inbox) -> None:
        """Open the filter, then take the addresses and announce them; VipIsUp follows."""
        self._orders += 1
        self._submit(lambda: inbox(VipIsUp(run, self._open())))

    def remove(self, run: int, inbox: Inbox) -> None:
        """Give the addresses up, then close the filter; VipIsDown follows once none is left."""
        self._orders += 1
        self._submit(self._remove, run, self._orders, inbox)

    def _remove(self, run: int, order: int, inbox: Inbox) -> None:
        """Try until nothing is left, or a newer order makes this one void."""
        if order != self._orders:
            return
        self._anew, self._removed = 0, ""
        if self._close():
            inbox(VipIsDown(run))
            return
        # Whoever hears that it is down takes this node for silent: better say nothing.
        again = threading.Timer(_RETRY_S, self._submit_if_open, (self._remove, run, order, inbox))
        again.daemon = True
        again.start()

    def _submit_if_open(self, work: Callable[..., Any], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # It has ended.
            self._submit(work, *arguments)

    def announce(self) -> None:
        """Announce the addresses once more."""
        self._submit(lambda: self._shared.announce() if self._shared else None)

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._worker.submit(self._alone, work, *arguments)

    def _alone(self, work: Callable[..., Any], *arguments: Any) -> Any:
        with self._using:
            return heard(work, *arguments)

    def _open(self) -> tuple[str, ...]:
        self._anew = 0
        # What is left, also of a process before this one, is not known: begin anew.
        if (self._stays or self._filter is None) and not self._close():
            return (self._stays,)
        if self._filter is not None or not self._addresses:
            return ()
        try:
            settings = settings_of(self._module, self._find_interfaces())
            if settings.delivery is Delivery.DIRECTED:
                self.mac = relaying_address(settings.interfaces)
            self._left.clear()
            self._left.note(self._kind)
            self._filter = make(self._kind, self._ledger)
            self._filter.open(settings)
            self._filter.apply(self._table)
            if isinstance(self._filter, BpfFilter) and self._relay.own:
                self._relay = replace(self._relay, own=self.mac)
                self._filter.relay(self._relay)
            self._shared = SharedAddress(settings, self._ledger)
            self._shared.up(self._table)
        except _FAULTS as error:
            self._close()
            return (f"filter {self._kind}: {error}", *((self._stays,) if self._stays else ()))
        self._places.take(settings.interfaces)
        if self._is_lost:
            self._is_lost = False
            self._tell(ResourceChanged(VIP, "up"))
        self._interfaces = settings.interfaces if settings.delivery is not Delivery.NONE else ()
        if settings.delivery in (Delivery.INVISIBLE, Delivery.MULTICAST):
            self._answered = settings
        return ()

    def _own_mac(self) -> bytes:
        if self._farm.delivery != Delivery.DIRECTED:
            return b""
        try:
            return relaying_address(self._places.names or self._find_interfaces())
        except _FAULTS:
            return b""  # Told when the addresses are taken.

    def _find_interfaces(self) -> tuple[str, ...]:
        """Return the interfaces on whose networks the addresses are."""
        return interfaces_of(self._farm.virtual_addresses)

    def _close(self, *, for_good: bool = True) -> bool:
        """Leave nothing in the kernel; the addresses go first, or every node would answer.

        Return whether they are gone. If not, the filter stays, and drops everything.
        """
        self._answered, self._interfaces = None, ()
        self._places.take(())
        if self._shared is not None and self._module.tcpreset and for_good:
            with contextlib.suppress(*_FAULTS):
                reset(self._addresses)
        try:
            (self._shared.down if self._shared is not None else self._left.remove_addresses)()
        except _FAULTS as error:
            self._end_lease()
            self._note_stay(str(error))
            return False
        self._shared = None
        with contextlib.suppress(*_FAULTS):  # What stays is noted: it goes before one is opened.
            self._end_filter()
        self._note_stay("")
        return True

    def _end_filter(self) -> None:
        closed, self._filter = self._filter, None
        if closed is not None:
            closed.close()
            self._left.forget()
        self._left.clear()

    def _note_stay(self, why: str) -> None:
        before, self._stays = self._stays, why
        if why and not before:
            self._tell(ResourceChanged(REMOVAL, "down", reason=f"({why})"))
        elif before and not why:
            self._tell(ResourceChanged(REMOVAL, "up"))

    def _raise_anew(self, are_left: bool) -> None:
        """Raise filter and addresses again: at a new interface there is no filter at all.

        It may get its own addresses only in a moment. If not, the module waits for that.
        """
        tries = self._anew
        if are_left and self._places.names:  # It may have been closed meanwhile.
            self._close(for_good=False)
            tries = _ANEW_LOOKS
        if not tries:
            return
        failures = self._open()
        if failures:
            self._anew = tries - 1
            if not self._anew:
                self._is_lost = True
                self._tell(ResourceChanged(VIP, "down", "wait", "; ".join(failures)))

    def _follow_mac(self) -> None:
        """Relay by the MAC that the interface has now: a bond changes it with its cable."""
        mac = self._own_mac()
        if not mac or mac == self.mac or self._filter is None:
            return
        try:
            if isinstance(self._filter, BpfFilter) and self._relay.own:
                self._relay = replace(self._relay, own=mac)
                self._filter.relay(self._relay)
        except _FAULTS:
            return  # Tried again at the next look.
        self.mac = mac  # Told to the others with the next lease.
        if self._shared is not None:
            self._shared.announce()

    def _mind_others(self) -> None:
        """Put there again what another program removed, as `nft flush ruleset` does."""
        if self._filter is None or self._shared is None or self._stays or self._places.are_gone():
            return
        with contextlib.suppress(*_FAULTS):  # If nothing is known its lease says what it does.
            if keep_parameters(self._ledger, self._module.name):
                self._shared.announce()  # Neighbours may have learned the address of a node.
            lost = [f"the filter {self._kind}"] * (not self._filter.is_whole())
            if lost := lost + ["an address"] * (not self._shared.is_whole()):
                self._close(for_good=False)
                self._anew = _ANEW_LOOKS
                self._removed = f"another program removed {' and '.join(lost)}: put there again"

    # --- the filter ------------------------------------------------------------------------

    def apply(self, order: ApplyTable, inbox: Inbox) -> None:
        """Replace the table; on return the kernel obeys it, or FilterFailed follows."""
        self._submit(self._apply, order, inbox).result()

    def _apply(self, order: ApplyTable, inbox: Inbox) -> None:
        self._table = BucketTable(order.number, order.states)
        self._relay = Relay(self.mac, order.peers, order.relay) if order.relay else NO_RELAY
        if self._filter is None:
            return
        try:
            self._filter.apply(self._table)
            if isinstance(self._filter, BpfFilter) and self.mac:
                self._filter.relay(self._relay)
        except _FAULTS as error:
            # The node is about to say that it closed what may be open still: it must be silent.
            self._end_lease()
            inbox(FilterFailed(f"the filter {self._kind} refuses its table: {error}"))
            return
        if self._shared is not None:
            self._shared.adopt(self._table)

    def _end_lease(self) -> None:
        if self._filter is not None:
            with contextlib.suppress(*_FAULTS):  # It is over in a moment all the same.
                self._filter.renew(0)

    def renew(self, order: RenewLease, inbox: Inbox) -> None:
        """Let the filter work until the deadline; FilterFailed follows if it does not."""
        if self._filter is None:  # The worker may be about to open it.
            self._submit(self._renew, order.deadline_ns, inbox).result()
        else:  # Several times a second: no other thread is woken for it.
            self._alone(self._renew, order.deadline_ns, inbox)

    def _renew(self, deadline_ns: int, inbox: Inbox) -> None:
        if self._filter is None or self._stays:
            return
        if self._removed:
            why, self._removed = self._removed, ""
            inbox(FilterFailed(why))
            return
        if self.mac != self._told_mac:
            self._told_mac = self.mac
            inbox(HardwareIs(self.mac))
        try:
            works = self._filter.renew(deadline_ns)
        except _FAULTS as error:
            inbox(FilterFailed(f"the filter {self._kind} does not take its lease: {error}"))
            return
        if not works and deadline_ns:
            inbox(FilterFailed("its lease had run out in the filter"))

    # --- counting --------------------------------------------------------------------------

    def count(self, order: CountSockets, inbox: Inbox) -> None:
        """Look where connections are; SocketsCounted follows."""
        self._counter.submit(heard, self._count, order.number, inbox)

    def _count(self, number: int, inbox: Inbox) -> None:
        how = self._rules, self._farm.seed, len(self._farm.groups), self._place
        try:
            found = count(self._addresses, *how, translating=self._kind == "nft")
        except OSError:
            return  # Nothing is concluded: the buckets go on draining.
        inbox(SocketsCounted(number, *found))

    def _tick(self) -> None:
        turn, looks, answered, cables = 0, 0, 0, Steady()
        while not self._ends.wait(_LOOK_S):
            if cables.notice(without_cable(self._interfaces), boot_clock_ns()):
                self._tell(CablesOut(cables.told))
            answered = answered + 1 if self._answered is not None else 0
            if answered % _STRANGERS_EVERY == 1:
                with contextlib.suppress(RuntimeError):  # It has ended.
                    self._counter.submit(heard, self._look_for_strangers)
            if (are_left := self._places.are_left()) or self._anew:
                with contextlib.suppress(RuntimeError):  # It has ended.
                    self._submit(self._raise_anew, are_left).result()
            looks += 1
            if looks % _COUNT_EVERY:
                continue
            try:
                found = self._submit(self._counters).result()
            except RuntimeError:
                return  # The worker has ended.
            if found is not None:
                connections = -1
                if turn % _LIVE_EVERY == 0:
                    connections = live(self._addresses, translating=self._kind == "nft")
                self._tell(FilterCounted(tuple(sorted(found.items())), connections))
                turn += 1

    def _look_for_strangers(self) -> None:
        """Ask who else has the addresses; takes 300 ms of a thread that nobody waits for."""
        settings = self._answered
        if settings is None:
            return
        try:
            found = strangers(settings)
        except OSError:
            return  # An interface that is down has no strangers on it that we could hear.
        if found != self._strangers and settings is self._answered:
            self._strangers = found
            self._tell(StrangersSeen(found))

    def _counters(self) -> dict[str, int] | None:
        self._follow_mac()
        self._mind_others()
        try:
            return self._filter.counters() if self._filter is not None else None
        except _FAULTS:
            return None

    def close(self) -> None:
        """End the threads. The filter stays in the kernel and drops when its lease is over."""
        self._ends.set()
        self._worker.shutdown(wait=True)
        self._counter.shutdown(wait=False)
        self._ticker.join(timeout=5)
        self._places.close()
