"""pcapng: the messages that came, for Wireshark's tools for time.

Each network is an interface; a packet is the frame as it is inside the encryption (msgpack), with
the link type DLT_USER0, at the time it came. The address of its actor is in the packet's comment.
The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html. What a trace holds
of a message is what its receiver's core was given, so messages that were lost are not there.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.actors.events import Received
from mirrorfarm.durations import span
from mirrorfarm.errors import FrameInvalid
from mirrorfarm.trace.export.format import Subject, Write
from mirrorfarm.trace.facts import Fact, name_of
from mirrorfarm.trace.step import Placed
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.codec import encode
from mirrorfarm.transport.messages import Frame

SECTION: Final = 0x0A0D0D0A
INTERFACE: Final = 1
PACKET: Final = 6
BYTE_ORDER: Final = 0x1A2B3C4D
USER0: Final = 147  # LINKTYPE_USER0
LOCAL: Final = "local"  # Between processes of one node.

COMMENT, NAME, TIME_UNIT = 1, 2, 9  # Options.
OPTION_BYTES_MAX: Final = 65_535  # The length of an option has 16 bits,
TIME_MAX: Final = (1 << 64) - 1  # and the time of a packet 64.


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    rows = [struct.pack("<HH", code, len(data)) + _padded(data) for code, data in options]
    return b"".join(rows) + struct.pack("<HH", 0, 0)


def _text(value: str) -> bytes:
    """Return a text as an option holds it: as much of it as there is room for, in UTF-8."""
    return value.encode()[:OPTION_BYTES_MAX].decode(errors="ignore").encode()


@dataclass(slots=True)
class Pcapng:
    """Writes one packet for each message that came."""

    subject: Subject
    write: Write
    packets: int = 0
    left_out: int = 0  # Messages that no node can have sent.
    untimed: int = 0  # That came, by the clock of a machine, at a time the format has no room for.
    _interfaces: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        body = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)
        self.write(_block(SECTION, body + _options((4, b"mirrorfarm"))))

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Write a packet, if the step received a message."""
        del facts
        step, event = placed.step, placed.step.event
        if not isinstance(event, Received):
            return
        if placed.at_ns > TIME_MAX:  # The header of the trace is damaged or forged.
            self.untimed += 1
            return
        to = Address(step.node, event.source.module, step.actor)
        frame = Frame(
            self.subject.merge.cluster,
            event.source,
            event.incarnation,
            event.sequence,
            0,  # The sender's hybrid clock is not in a trace.
            to,
            event.message,
        )
        try:
            data = encode(frame)
        except (OverflowError, FrameInvalid):  # It was forged: no number or frame is so large.
            self.left_out += 1
            return
        network = event.network or LOCAL
        comment = f"{name_of(event.message)} {event.source} -> {to}"
        if placed.sending is not None:
            comment += f" in {span(max(0, placed.at_ns - placed.sending.at_ns))}"
        self._packet(self._interface(network), placed.at_ns, data, comment)

    def close(self) -> str:
        """Nothing is left."""
        told = f"{self.packets} packets of the link type DLT_USER0"
        if self.left_out:
            told += f"; {self.left_out} are no messages"
        if self.untimed:
            told += f"; {self.untimed} came at no time that pcapng can tell"
        return told

    def _interface(self, network: str) -> int:
        number = self._interfaces.get(network)
        if number is None:
            number = self._interfaces[network] = len(self._interfaces)
            options = _options((NAME, _text(network)), (TIME_UNIT, b"\x09"))
            self.write(_block(INTERFACE, struct.pack("<HHI", USER0, 0, 0) + options))
        return number

    def _packet(self, interface: int, at_ns: int, data: bytes, comment: str) -> None:
        high, low = at_ns >> 32, at_ns & 0xFFFFFFFF
        head = struct.pack("<IIIII", interface, high, low, len(data), len(data))
        self.write(_block(PACKET, head + _padded(data) + _options((COMMENT, _text(comment)))))
        self.packets += 1
