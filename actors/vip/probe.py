"""Ask the network whether somebody uses the virtual addresses, without claiming them."""

import contextlib
import ctypes
import select
import socket
import struct
import time

from mirrorfarm.actors.vip.subnets import Target
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.netfilter.neighbours import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    ICMPV6,
    mac_text,
    parse_claim,
    question,
)

# Two questions, because one frame may be lost; RFC 5227 takes seconds that a takeover has not.
ASK_AT_NS = (0, 150 * MILLISECOND_NS)
WAIT_NS = 300 * MILLISECOND_NS
_FRAME_BYTES_MAX = 256
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER

# Take neighbour advertisements only, or a busy interface would wake us for every packet:
# load the next header, then the ICMPv6 type; accept if they are 58 and 136.
ADVERTISEMENTS = (
    (0x30, 0, 0, 20),
    (0x15, 0, 3, ICMPV6),
    (0x30, 0, 0, 54),
    (0x15, 0, 1, 136),
    (0x06, 0, 0, _FRAME_BYTES_MAX),
    (0x06, 0, 0, 0),
)


def probe(targets: tuple[Target, ...], own: frozenset[str]) -> tuple[str, ...]:
    """Return `address=mac` of strangers that claim one of `targets`, sorted.

    Takes 300 ms unless every address is claimed before. `own` are the MACs of this node, as
    text. An interface that is down hides nobody on the others: raises OSError only if none can
    be listened to.
    """
    asked = tuple(t for t in targets if len(t.link.mac) == 6 and any(t.link.mac))
    if not asked:
        return ()
    sockets: dict[tuple[str, int], socket.socket] = {}
    fault: OSError | None = None
    try:
        for place in dict.fromkeys(_place(target) for target in asked):
            try:
                sockets[place] = _listen(*place)
            except OSError as error:
                fault = error
        if fault is not None and not sockets:
            raise fault
        asked = tuple(target for target in asked if _place(target) in sockets)
        return _converse(asked, sockets, own | {mac_text(t.link.mac) for t in asked})
    finally:
        for sock in sockets.values():
            sock.close()


def _place(target: Target) -> tuple[str, int]:
    ethertype = ETHERTYPE_ARP if target.address.version == 4 else ETHERTYPE_IPV6
    return target.link.name, ethertype


def _listen(interface: str, ethertype: int) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        if ethertype == ETHERTYPE_IPV6:
            program = b"".join(struct.pack("HBBI", *step) for step in ADVERTISEMENTS)
            buffer = ctypes.create_string_buffer(program)
            length, address = len(ADVERTISEMENTS), ctypes.addressof(buffer)
            sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", length, address))
        sock.setblocking(False)
        sock.bind((interface, ethertype))
    except OSError:
        sock.close()
        raise
    return sock


def _converse(
    targets: tuple[Target, ...],
    sockets: dict[tuple[str, int], socket.socket],
    own: frozenset[str],
) -> tuple[str, ...]:
    """Ask at the given times and listen until the end, or until all are claimed."""
    wanted = {str(target.address) for target in targets}
    claimed: dict[str, str] = {}
    begin = time.monotonic_ns()
    to_ask = list(ASK_AT_NS)
    by_number = {sock.fileno(): sock for sock in sockets.values()}
    poll = select.poll()  # Not `select`: whoever watches many processes has numbers above 1023.
    for number in by_number:
        poll.register(number, select.POLLIN)
    while len(claimed) < len(wanted):
        passed = time.monotonic_ns() - begin
        if passed >= WAIT_NS:
            break
        if to_ask and passed >= to_ask[0]:
            to_ask.pop(0)
            for target in targets:
                with contextlib.suppress(OSError):
                    sockets[_place(target)].send(question(target.address, target.link.mac))
        until = to_ask[0] if to_ask else WAIT_NS
        ready = poll.poll(max(0, until - passed) / MILLISECOND_NS)
        for descriptor, _ in ready:
            try:
                claim = parse_claim(by_number[descriptor].recv(_FRAME_BYTES_MAX))
            except OSError:
                continue
            if claim and claim.address in wanted and claim.mac not in own:
                claimed.setdefault(claim.address, claim.mac)
    return tuple(sorted(f"{address}={mac}" for address, mac in claimed.items()))
