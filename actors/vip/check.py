"""One node's part in the check of a farm's network: send marked frames, count those that arrive.

Everything that a part opens ends with it: sockets, memberships of the virtual MACs, neighbour
entries. It ends when it is told so, or by itself when nobody has given it an order for a while.
"""

import contextlib
import ipaddress
import select
import socket
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from mirrorfarm.actors.vip.neighbour_entries import NeighbourEntries
from mirrorfarm.actors.vip.probe import ADVERTISEMENTS
from mirrorfarm.limits import (
    CHECK_CLAIMS_MAX,
    CHECK_LASTS_NS,
    CHECK_SILENT_NS,
    CHECK_SIZE_MAX,
    MILLISECOND_NS,
)
from mirrorfarm.netfilter.announce import listen, receive_all, receive_macs
from mirrorfarm.netfilter.neighbours import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    announcements,
    mac_text,
    parse_claim,
    question,
)
from mirrorfarm.netfilter.preflight import (
    PROBES,
    PROGRAM,
    SIZE_PROBES,
    Claimed,
    Facts,
    Kind,
    Place,
    Probe,
    Report,
    Tally,
    Trip,
    build,
    parse,
)

_ALL = ((0x06, 0, 0, 65_535),)
_EVERY_ETHERTYPE = 0x0003  # Such a socket also sees what a filter drops afterwards.
_CLAIM_BYTES_MAX = 256
_PACE_S = 0.001  # Between two frames: a burst would measure queues.
_ROUND_S = 0.04  # Between two questions for the round trip.
_ANSWERS_S = 0.5  # For the last of them to be answered.
_CLAIMS_S = 0.3
_ASK_TWICE_S = 0.15
_POLL_MS = 100


class Peer(NamedTuple):
    """Where another node is, on the segment of an address."""

    segment: int
    node: int
    mac: bytes


def mac_bytes(text: str) -> bytes:
    """Return the six bytes of a MAC."""
    return bytes.fromhex(text.replace(":", ""))


class Ear:
    """The sockets of one interface."""

    def __init__(self, place: Place, macs: list[bytes], addresses: tuple[int, ...]) -> None:
        """Listen; raises OSError if the interface refuses. `addresses`: their versions."""
        self.place = place
        self.mac = mac_bytes(place.mac)
        self.index = socket.if_nametoindex(place.interface)
        self.sockets: list[socket.socket] = []  # That of the probes first.
        try:
            self.sockets.append(listen(place.interface, _EVERY_ETHERTYPE, PROGRAM))
            receive_macs(self.sockets[0], self.index, macs)
            if 4 in addresses:
                self.sockets.append(listen(place.interface, ETHERTYPE_ARP, _ALL))
            if 6 in addresses:
                self.sockets.append(listen(place.interface, ETHERTYPE_IPV6, ADVERTISEMENTS))
        except OSError:
            self.close()
            raise

    def send(self, frame: bytes) -> None:
        """Send a frame at the pace of the check; raises OSError if it cannot be sent."""
        time.sleep(_PACE_S)
        self.sockets[0].send(frame)

    def close(self) -> None:
        """End the memberships with their sockets."""
        for sock in self.sockets:
            sock.close()


class Part:
    """A node in one check. Orders come from one thread at a time; its own thread listens."""

    def __init__(self, token: bytes, facts: Facts) -> None:
        """Listen on every interface that is up. Raises OSError; nothing is open then."""
        self.token = token
        self.facts = facts
        self._number = facts.nodes.index(facts.node)
        self._addresses = [ipaddress.ip_address(text) for text in facts.addresses]
        self._tally = Tally()
        self._claims: dict[Claimed, None] = {}
        self._told: dict[Claimed, None] = {}
        self._announced = False  # From now on a claim is an announcement.
        self._asked_ns: dict[tuple[int, int, int], int] = {}
        self._times_ns: dict[tuple[int, int], list[int]] = {}
        self._faults: dict[str, None] = {}
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._began_ns = self._ordered_ns = time.monotonic_ns()
        self._entries = NeighbourEntries()
        self._ears: list[Ear] = []
        macs = sorted({mac_bytes(text) for text in facts.virtual_macs if text})
        versions = tuple(address.version for address in self._addresses)
        try:
            for place in facts.places:
                if place.up:
                    self._ears.append(Ear(place, macs, versions))
        except OSError:
            self._close()
            raise
        self._thread = threading.Thread(target=self._listen, name="farm check", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def ordered(self) -> None:
        """Note that somebody still wants this check."""
        self._ordered_ns = time.monotonic_ns()

    # --- listening -------------------------------------------------------------------------

    def _listen(self) -> None:
        poll = select.poll()
        owners = {sock.fileno(): (ear, sock) for ear in self._ears for sock in ear.sockets}
        for number in owners:
            poll.register(number, select.POLLIN)
        try:
            while not self._ends.is_set():
                now = time.monotonic_ns()
                if now > min(self._ordered_ns + CHECK_SILENT_NS, self._began_ns + CHECK_LASTS_NS):
                    return
                for number, _ in poll.poll(_POLL_MS):
                    with contextlib.suppress(OSError):  # Down for a moment; what counts is missing.
                        self._receive(*owners[number])
        finally:
            self._close()

    def _receive(self, ear: Ear, sock: socket.socket) -> None:
        if sock is not ear.sockets[0]:
            self._claimed(ear, sock.recv(_CLAIM_BYTES_MAX))
            return
        frame = sock.recv(CHECK_SIZE_MAX + 64)
        now = time.monotonic_ns()
        probe = parse(frame, self.token)
        if probe is None or probe.sender == self._number:
            return
        if probe.kind is Kind.ASK and probe.target == self._number:
            reply = probe._replace(kind=Kind.ANSWER, sender=self._number, target=probe.sender)
            sock.send(build(reply, ear.mac, frame[6:12]))
        with self._lock:
            if probe.kind is Kind.ANSWER and probe.target == self._number:
                asked = self._asked_ns.pop((probe.segment, probe.sender, probe.number), None)
                if asked is not None:
                    times = self._times_ns.setdefault((probe.segment, probe.sender), [])
                    times.append(now - asked)
            self._tally.add(ear.place.interface, probe)

    def _claimed(self, ear: Ear, frame: bytes) -> None:
        claim = parse_claim(frame)
        if claim is None or claim.address not in self.facts.addresses:
            return
        address = self.facts.addresses.index(claim.address)
        found = Claimed(ear.place.interface, address, claim.mac, mac_text(frame[6:12]))
        with self._lock:
            where = self._told if self._announced else self._claims
            if len(where) < CHECK_CLAIMS_MAX:
                where[found] = None

    # --- orders ----------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask who has the addresses; takes 300 ms."""
        for _ in range(2):
            for ear in self._ears:
                for number in ear.place.addresses:
                    self._send(ear, question(self._addresses[number], ear.mac))
            time.sleep(_ASK_TWICE_S)
        time.sleep(_CLAIMS_S - _ASK_TWICE_S)

    def send(self, peers: tuple[Peer, ...], sizes: tuple[int, ...]) -> None:
        """Send to the virtual MACs, to all, and to each peer alone; measure round trips."""
        for ear in self._ears:
            own = self._peers(ear, peers)
            self._send_virtual(ear, Kind.VIRTUAL)
            self._send_probes(ear, Kind.BROADCAST, ((0, b"\xff" * 6),))
            self._send_probes(ear, Kind.OWN, own)
            for size in sizes:
                if size <= min(ear.place.mtu, CHECK_SIZE_MAX):
                    self._send_probes(ear, Kind.SIZE, own, size)
        self._measure(peers)

    def widen(self) -> None:
        """Receive whatever there is from now on."""
        for ear in self._ears:
            try:
                receive_all(ear.sockets[0], ear.index)
            except OSError as error:
                self._fault(f"{ear.place.interface} cannot receive everything: {error.strerror}")

    def send_wide(self, peers: tuple[Peer, ...]) -> None:
        """Send to the virtual MACs and to each peer alone, for nodes that receive everything."""
        for ear in self._ears:
            self._send_virtual(ear, Kind.WIDE_VIRTUAL)
            self._send_probes(ear, Kind.WIDE_OWN, self._peers(ear, peers))

    def watch(self, plant: bool) -> None:
        """Note announcements from now on; with `plant`, make entries for them to change."""
        with self._lock:
            self._announced = True
        for ear in self._ears if plant else ():
            for number in ear.place.addresses:
                try:
                    self._entries.plant(number, self._addresses[number], ear.index)
                except OSError as error:
                    self._fault(f"{self._addresses[number]}: no neighbour entry: {error}")

    def announce(self) -> None:
        """Announce the addresses as this node's responder does."""
        for ear in self._ears:
            for number in ear.place.addresses:
                mac = self.facts.virtual_macs[number]
                told = mac_bytes(mac) if mac else ear.mac
                for frame in announcements(self._addresses[number], told, ear.mac):
                    self._send(ear, frame)

    def report(self) -> Report:
        """Return what has arrived until now."""
        learned = self._entries.learned()
        with self._lock:
            trips = tuple(
                Trip(segment, node, tuple(sorted(times)))
                for (segment, node), times in sorted(self._times_ns.items())
            )
            return Report(
                seen=self._tally.rows(),
                trips=trips,
                claims=tuple(self._claims),
                told=tuple(self._told),
                learned=learned,
                faults=tuple(self._faults),
            )

    def close(self) -> None:
        """End it and leave nothing behind."""
        self._ends.set()
        self._thread.join(timeout=5)

    def _close(self) -> None:
        self._entries.close()
        for ear in self._ears:
            ear.close()

    # --- sending ---------------------------------------------------------------------------

    @staticmethod
    def _peers(ear: Ear, peers: tuple[Peer, ...]) -> tuple[tuple[int, bytes], ...]:
        segment = ear.place.addresses[0]
        return tuple((peer.node, peer.mac) for peer in peers if peer.segment == segment)

    def _send_virtual(self, ear: Ear, kind: Kind) -> None:
        segment = ear.place.addresses[0]
        for target, mac in self.facts.shared(ear.place).items():
            address = self._addresses[target]
            own = ear.place.sources[ear.place.addresses.index(target)]
            source = ipaddress.ip_address(own or ("::" if address.version == 6 else "0.0.0.0"))
            for number in range(PROBES):
                probe = Probe(self.token, kind, self._number, segment, target, number)
                self._send(ear, build(probe, ear.mac, mac_bytes(mac), (source, address)))

    def _send_probes(
        self, ear: Ear, kind: Kind, targets: Iterable[tuple[int, bytes]], size: int = 0
    ) -> None:
        segment = ear.place.addresses[0]
        for target, mac in targets:
            for number in range(SIZE_PROBES if size else PROBES):
                probe = Probe(self.token, kind, self._number, segment, target, number, size)
                self._send(ear, build(probe, ear.mac, mac))

    def _measure(self, peers: tuple[Peer, ...]) -> None:
        with self._lock:
            for peer in peers:
                self._times_ns.setdefault((peer.segment, peer.node), [])
        for number in range(PROBES):
            for ear in self._ears:
                segment = ear.place.addresses[0]
                for node, mac in self._peers(ear, peers):
                    probe = Probe(self.token, Kind.ASK, self._number, segment, node, number)
                    with self._lock:
                        self._asked_ns[segment, node, number] = time.monotonic_ns()
                    self._send(ear, build(probe, ear.mac, mac), pace=False)
            time.sleep(_ROUND_S)
        deadline = time.monotonic() + _ANSWERS_S
        while time.monotonic() < deadline:
            with self._lock:
                if not self._asked_ns:
                    return
            time.sleep(10 * MILLISECOND_NS / 1e9)

    def _send(self, ear: Ear, frame: bytes, pace: bool = True) -> None:
        try:
            ear.send(frame) if pace else ear.sockets[0].send(frame)
        except OSError as error:
            self._fault(f"{ear.place.interface}: a frame could not be sent: {error.strerror}")

    def _fault(self, text: str) -> None:
        with self._lock:
            if len(self._faults) < CHECK_CLAIMS_MAX:
                self._faults[text] = None
