"""Transactions of nftables as messages to the kernel, without a library: see `nft_elements`.

The kernel does all of it before the call that sends it returns, and has answered each message
then. It obeys the whole transaction or nothing of it.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence

from mirrorfarm.netfilter.libnftables import TransactionRefused
from mirrorfarm.netfilter.nft_elements import ADD, Message

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11  # Answers do not repeat the request; say why.
_BEGIN, _END = 0x10, 0x11  # NFNL_MSG_BATCH_*
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_ERROR = 2  # NLMSG_ERROR: an answer, also a good one.
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400
_REASONS, _MESSAGE = 0x200, 1  # NLM_F_ACK_TLVS, NLMSGERR_ATTR_MSG
_REQUEST_HEAD_BYTES = 16
# The kernel takes twice as much in one transaction; 1024 elements for each of 16 sets are 263 kB.
_SEND_BYTES = 212_992
_ANSWER_BYTES_MAX = 4_096

# Length, type, flags, sequence, port; then `struct nfgenmsg`: family, version, resource.
_head = struct.Struct("=IHHIIBBH")
_answer = struct.Struct("=IHHIIi")
_attribute = struct.Struct("=HH")


class Nfnetlink:
    """A socket to nftables of the network namespace it was made in. For one thread at a time."""

    def __init__(self) -> None:
        """Raise OSError if the kernel lacks it."""
        self._number = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise

    def run(self, messages: Sequence[Message]) -> None:
        """Perform all of `messages`, or nothing: then raise TransactionRefused.

        Any other OSError leaves open which of the two it was.
        """
        first, last = self._number + 1, self._number + len(messages) + 2
        self._number = last
        asked = dict(enumerate(messages, first + 1))
        parts = [_packed(number, message) for number, message in asked.items()]
        self._socket.send(b"".join((_bound(_BEGIN, first), *parts, _bound(_END, last))))
        for number, code, reason in self._answers():
            if code and first <= number <= last:
                wanted = asked[number].meaning if number in asked else "commit a transaction"
                because = f"{os.strerror(code)}{f' ({reason})' if reason else ''}"
                raise TransactionRefused(f"the kernel refuses to {wanted}: {because}")
            asked.pop(number, None)
        if asked:
            raise OSError("nftables: the kernel has not answered a transaction")

    def _answers(self) -> Iterator[tuple[int, int, str]]:
        """Yield what the kernel has answered: number of the message, error or 0, its reason."""
        while True:
            try:
                data = self._socket.recv(_ANSWER_BYTES_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            _, kind, flags, number, _, code = _answer.unpack_from(data)
            if kind == _ERROR:
                yield number, -code, _reason(data) if flags & _REASONS else ""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _bound(kind: int, number: int) -> bytes:
    """Return the message that begins or ends a transaction."""
    return _head.pack(_head.size, kind, _REQUEST, number, 0, 0, 0, socket.htons(_NFTABLES))


def _packed(number: int, message: Message) -> bytes:
    flags = _REQUEST | _ACK | (_CREATE if message.kind == ADD else 0)
    size = _head.size + len(message.attributes)
    head = _head.pack(size, _NFTABLES << 8 | message.kind, flags, number, 0, message.family, 0, 0)
    return head + message.attributes


def _reason(answer: bytes) -> str:
    """Return what an answer says in words; they follow the header of the request."""
    at = _answer.size + _REQUEST_HEAD_BYTES
    while at + _attribute.size <= len(answer):
        size, kind = _attribute.unpack_from(answer, at)
        if kind == _MESSAGE:
            return answer[at + _attribute.size : at + size].rstrip(b"\0").decode(errors="replace")
        at += max(_attribute.size, (size + 3) // 4 * 4)
    return ""
