"""Reset the TCP connections of an address: both ends learn at once that it is going away.

Without this a client waits for its retransmissions to time out, minutes, on a connection
whose address has moved to a node that knows nothing of it. The kernel lists sockets and
destroys them by netlink (`man 7 sock_diag`); destroying one sends a RST.
"""

import errno
import os
import socket
import struct
from ipaddress import IPv4Address, ip_address

from mirrorfarm.netfilter.neighbours import IPAddress

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_DESTROY = 21
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_SOURCE_CONDITION = 7  # INET_DIAG_BC_S_COND
# All states but LISTEN (10), CLOSE (7) and TIME_WAIT (6): those have nobody to tell.
_STATES = 0xFFF & ~(1 << 10 | 1 << 7 | 1 << 6)

_header = struct.Struct("=IHHII")
_request = struct.Struct("=BBBBI")
_ID_BYTES = 48  # struct inet_diag_sockid
_ID_AT = _header.size + 4  # Behind family, state, timer, retransmissions.
_SOCKETS_MAX = 500_000
_RECEIVE_BYTES = 262_144


def reset(addresses: tuple[IPAddress, ...]) -> int:
    """Reset every TCP connection whose local address is one of `addresses`; return how many.

    A connection that ends meanwhile is none. Raises OSError if the kernel cannot do it.
    """
    if not addresses:
        return 0
    count = 0
    with _open() as sock:
        for address in addresses:
            for family in _families(address):
                for identity in _list(sock, family, address):
                    count += _destroy(sock, family, identity)
    return count


def identities(address: IPAddress) -> list[bytes]:
    """Return the kernel's identity (struct inet_diag_sockid) of each connection of an address.

    Raises OSError if the kernel cannot list them, or if there are too many: what was left out
    must not pass for what is not there.
    """
    with _open() as sock:
        lists = [_list(sock, family, address) for family in _families(address)]
    if max(map(len, lists)) >= _SOCKETS_MAX:
        raise OSError(errno.E2BIG, f"{address} has more connections than are listed")
    return [one for found in lists for one in found]


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    sock.settimeout(1.0)
    sock.bind((0, 0))
    return sock


def _families(address: IPAddress) -> tuple[int, ...]:
    """A socket of family IPv6 may have an IPv4 address, mapped."""
    if isinstance(address, IPv4Address):
        return (socket.AF_INET6, socket.AF_INET)
    return (socket.AF_INET6,)


def _list(sock: socket.socket, family: int, address: IPAddress) -> list[bytes]:
    """Return the kernel's identities of the sockets with this local address."""
    kind = socket.AF_INET if address.version == 4 else socket.AF_INET6
    condition = struct.pack("=BBHi", kind, address.max_prefixlen, 0, -1) + address.packed
    size = 4 + len(condition)
    # One instruction: go on (to the end: accept) if the source matches, else jump past it.
    program = struct.pack("=BBH", _SOURCE_CONDITION, size, size + 4) + condition
    attribute = struct.pack("=HH", 4 + len(program), _BYTECODE) + program
    body = _request.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + bytes(_ID_BYTES) + attribute
    _send(sock, _BY_FAMILY, _REQUEST | _DUMP, body)
    found: list[bytes] = []
    while True:
        data = sock.recv(_RECEIVE_BYTES)
        while len(data) >= _header.size:
            length, kind_, _, _, _ = _header.unpack_from(data)
            if kind_ == _DONE:
                return found
            if kind_ == _ERROR:
                _raise(data)
                return found
            identity = data[_ID_AT : _ID_AT + _ID_BYTES]
            if _is_local(identity, family, address) and len(found) < _SOCKETS_MAX:
                found.append(identity)
            data = data[(length + 3) & ~3 :]


def _is_local(identity: bytes, family: int, address: IPAddress) -> bool:
    """Check what the kernel's filter said: this must never hit another connection."""
    if len(identity) != _ID_BYTES:
        return False
    local = ip_address(identity[4:8] if family == socket.AF_INET else identity[4:20])
    return (getattr(local, "ipv4_mapped", None) or local) == address


def _destroy(sock: socket.socket, family: int, identity: bytes) -> int:
    body = _request.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + identity
    _send(sock, _DESTROY, _REQUEST | _ACK, body)
    try:
        _raise(sock.recv(_RECEIVE_BYTES))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return 0
    return 1


def _send(sock: socket.socket, kind: int, flags: int, body: bytes) -> None:
    sock.send(_header.pack(_header.size + len(body), kind, flags, 1, 0) + body)


def _raise(message: bytes) -> None:
    """Raise the error that an error message carries, if it is one."""
    (code,) = struct.unpack_from("=i", message, _header.size)
    if code:
        raise OSError(-code, os.strerror(-code))
