"""Answer questions for the virtual addresses, and announce them, on raw sockets.

The sockets also make the interface receive the virtual MAC: such a membership (`man 7 packet`)
ends with its socket, so a node whose daemon is gone goes deaf to it. Questions reach us beside
the kernel, which stays silent: the addresses are on `lo`.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.limits import ANNOUNCE_EVERY_NS, SECOND_NS
from mirrorfarm.netfilter.delivery import Answers, Delivery
from mirrorfarm.netfilter.filter import BucketTable, Settings
from mirrorfarm.netfilter.neighbours import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    ICMPV6,
    IPAddress,
    solicited_group,
)

_FRAME_BYTES_MAX = 256
_FRAMES_PER_TURN = 64  # Then announcements and orders have their turn.
_REOPEN_NS = SECOND_NS
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _IGNORE_OUTGOING = 1, 23
_MULTICAST, _PROMISCUOUS, _UNICAST = 0, 1, 3  # PACKET_MR_*
_GET_HARDWARE_ADDRESS = 0x8927  # SIOCGIFHWADDR
# What an interface that is down, or has gone, says.
_GONE = frozenset((errno.ENETDOWN, errno.ENODEV, errno.ENXIO, errno.ENETUNREACH, errno.EBADF))

Instruction = tuple[int, int, int, int]


def arp_program(addresses: tuple[IPAddress, ...]) -> tuple[Instruction, ...]:
    """Return the program that passes ARP requests for `addresses`, and nothing else."""
    wanted = [int(address) for address in addresses if address.version == 4]
    tests = [(0x15, len(wanted) - at, 0, number) for at, number in enumerate(wanted)]
    return (
        (0x28, 0, 0, 20),  # The operation;
        (0x15, 0, len(tests) + 1, 1),
        (0x20, 0, 0, 38),  # the address asked for.
        *tests,
        (0x06, 0, 0, 0),
        (0x06, 0, 0, _FRAME_BYTES_MAX),
    )


# Neighbour solicitations: the next header, then the ICMPv6 type.
SOLICITATIONS: tuple[Instruction, ...] = (
    (0x30, 0, 0, 20),
    (0x15, 0, 3, ICMPV6),
    (0x30, 0, 0, 54),
    (0x15, 0, 1, 135),
    (0x06, 0, 0, _FRAME_BYTES_MAX),
    (0x06, 0, 0, 0),
)


@dataclass(slots=True)
class _Place:
    """One interface: its sockets, and what is said there."""

    interface: str
    answers: Answers
    sockets: list[socket.socket] = field(default_factory=list)  # ARP first.
    group_socket: socket.socket | None = None

    def close(self) -> None:
        for sock in (*self.sockets, self.group_socket):
            if sock is not None:
                sock.close()
        self.sockets, self.group_socket = [], None


class Responder:
    """The voice of the virtual addresses of one module, on a thread of its own."""

    def __init__(self, settings: Settings, promiscuous: bool = False) -> None:
        """Speak for `settings.addresses`; `promiscuous`: where drivers cannot filter MACs."""
        self._settings = settings
        self._promiscuous = promiscuous
        self._places = [
            _Place(
                interface,
                Answers(
                    settings.delivery,
                    settings.addresses,
                    b"",
                    settings.rules,
                    settings.seed,
                    settings.mac,
                ),
            )
            for interface in settings.interfaces
        ]
        self._orders, self._ordered = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._table: BucketTable | None = None  # Swapped whole by who calls `adopt`.
        self._stopping = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Open the sockets, announce, and answer from now on.

        Raises SystemUnsuitable if an interface is missing or refuses.
        """
        if self._settings.delivery is Delivery.NONE:
            return
        for place in self._places:
            try:
                self._open(place)
            except OSError as error:
                self._close_all()
                raise SystemUnsuitable(
                    f"{place.interface}: the virtual address cannot be announced there: "
                    f"{error.strerror}; the farm needs root and an Ethernet interface that is up"
                ) from error
        self._thread = threading.Thread(target=self._run, name="announce", daemon=True)
        self._thread.start()

    def adopt(self, table: BucketTable) -> None:
        """Obey a new table and announce: members have changed. Returns at once."""
        self._table = table
        self._wake(b"t")

    def announce(self) -> None:
        """Announce now. Returns at once."""
        self._wake(b"a")

    def close(self) -> None:
        """Fall silent and end the memberships of the virtual MAC."""
        self._stopping = True
        self._wake(b"s")
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._close_all()
        for end in (self._orders, self._ordered):
            with contextlib.suppress(OSError):
                os.close(end)

    def _wake(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # A full pipe wakes as well; a closed one need not.
            os.write(self._ordered, order)

    def _run(self) -> None:
        announce_ns = reopen_ns = time.monotonic_ns()
        while not self._stopping:
            now = time.monotonic_ns()
            if now >= announce_ns:
                self._announce()
                announce_ns = now + ANNOUNCE_EVERY_NS
            if now >= reopen_ns:
                self._reopen()
                reopen_ns = now + _REOPEN_NS
            self._wait(min(announce_ns, reopen_ns) - time.monotonic_ns())

    def _wait(self, nanoseconds: int) -> None:
        """Wait for frames and orders, and serve those that are there."""
        poll = select.poll()
        poll.register(self._orders, select.POLLIN)
        owners = {sock.fileno(): (place, sock) for place in self._places for sock in place.sockets}
        for number in owners:
            poll.register(number, select.POLLIN)
        for number, _ in poll.poll(max(0, nanoseconds) // 1_000_000 + 1):
            if number == self._orders:
                self._obey()
            else:
                self._serve(*owners[number])

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            orders = os.read(self._orders, 4096)
            if b"t" in orders and self._table is not None:
                for place in self._places:
                    self._send(place, place.answers.adopt(self._table.groups))
            if b"a" in orders:
                self._announce()

    def _serve(self, place: _Place, sock: socket.socket) -> None:
        for _ in range(_FRAMES_PER_TURN):
            try:
                frame = sock.recv(_FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                self._gone(place, error)
                return
            self._send(place, place.answers.answer(frame))

    def _announce(self) -> None:
        for place in self._places:
            with contextlib.suppress(OSError):  # A bond may change it.
                self._send(place, place.answers.rename(hardware_address(place.interface)))
            self._send(place, place.answers.announcements())

    def _send(self, place: _Place, frames: list[bytes]) -> None:
        if not place.sockets:
            return
        for frame in frames:
            try:
                place.sockets[0].send(frame)
            except BlockingIOError:
                return  # A full queue: who asked asks again.
            except OSError as error:
                self._gone(place, error)
                return

    def _gone(self, place: _Place, error: OSError) -> None:
        """Take note of an interface that failed; one that is only down comes back by itself."""
        if error.errno in _GONE and error.errno != errno.ENETDOWN:
            place.close()

    def _reopen(self) -> None:
        """Look for interfaces that went away with their sockets."""
        for place in self._places:
            if place.sockets:
                with contextlib.suppress(OSError):
                    index = socket.if_nametoindex(place.interface)
                    if place.sockets[0].getsockname()[0] == place.interface and index:
                        continue
                place.close()
            with contextlib.suppress(OSError):
                self._open(place)
                self._send(place, place.answers.announcements())

    def _open(self, place: _Place) -> None:
        index = socket.if_nametoindex(place.interface)
        place.answers.mac = hardware_address(place.interface)
        addresses = self._settings.addresses
        try:
            place.sockets.append(listen(place.interface, ETHERTYPE_ARP, arp_program(addresses)))
            if any(address.version == 6 for address in addresses):
                place.sockets.append(listen(place.interface, ETHERTYPE_IPV6, SOLICITATIONS))
                place.group_socket = _join(index, addresses)
            self._receive_virtual_macs(place.sockets[0], index)
        except OSError:
            place.close()
            raise

    def _receive_virtual_macs(self, sock: socket.socket, index: int) -> None:
        macs = {self._settings.virtual_mac(address) for address in self._settings.addresses}
        receive_macs(sock, index, sorted(macs - {b""}))
        if self._promiscuous:
            receive_all(sock, index)

    def _close_all(self) -> None:
        for place in self._places:
            place.close()


def receive_macs(sock: socket.socket, index: int, macs: list[bytes]) -> None:
    """Let an interface receive these MACs, group or not, until the packet socket is closed."""
    for mac in macs:
        kind = _MULTICAST if mac[0] & 1 else _UNICAST
        request = struct.pack("@iHH8s", index, kind, len(mac), mac)
        sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)


def receive_all(sock: socket.socket, index: int) -> None:
    """Let an interface receive whatever there is, until the packet socket is closed."""
    request = struct.pack("@iHH8s", index, _PROMISCUOUS, 0, b"")
    sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)


def hardware_address(interface: str) -> bytes:
    """Return the MAC of an interface; raises OSError if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("256s", interface.encode()[:15])
        return fcntl.ioctl(sock, _GET_HARDWARE_ADDRESS, request)[18:24]


def relaying_address(interfaces: tuple[str, ...]) -> bytes:
    """Return the one MAC at which a node with `vmac_directed` is relayed to on all interfaces.

    Raises OSError if an interface has none, SystemUnsuitable if there is more than one: nodes
    know only one of each other, and a frame for it is lost on another one's network.
    """
    found = {hardware_address(interface): interface for interface in interfaces}
    if len(found) > 1:
        raise SystemUnsuitable(
            f"vmac_directed relays by one hardware address, but {', '.join(found.values())} have "
            "different ones; use another type, or a module for the addresses of each interface"
        )
    return next(iter(found))


def listen(interface: str, ethertype: int, program: tuple[Instruction, ...]) -> socket.socket:
    """Open a socket that receives what `program` passes; nothing before it is attached."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        steps = b"".join(struct.pack("HBBI", *step) for step in program)
        buffer = ctypes.create_string_buffer(steps)
        attached = struct.pack("@HP", len(program), ctypes.addressof(buffer))
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, attached)
        with contextlib.suppress(OSError):  # Since Linux 4.20; our own frames ask nothing anyway.
            sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        sock.setblocking(False)
        sock.bind((interface, ethertype))
    except OSError:
        sock.close()
        raise
    return sock


def _join(index: int, addresses: tuple[IPAddress, ...]) -> socket.socket:
    """Join the groups in which the addresses are asked for: switches that listen need it."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        for group in sorted({solicited_group(a) for a in addresses if a.version == 6}):
            request = group.packed + struct.pack("@I", index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    except OSError:
        sock.close()
        raise
    return sock
