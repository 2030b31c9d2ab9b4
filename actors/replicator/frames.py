"""Frames of the replication stream: a fixed header, then a record, then perhaps a payload.

Three message parts: the header below, the bytes of one record (an operation of
`operations.py`, an order of the copy, or what each kind says), and the payload. Frames of kind
OP and COPY are numbered from 1 without gaps within a stream `(term, sid, nonce)`; the target
carries them out in exactly this order, once, and anything else is counted and dropped.
"""

import struct
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, NamedTuple

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import STREAM_FRAME_BYTES_MAX

MAGIC: Final = b"MFS1"
_HEADER: Final = struct.Struct("<4sBB2xQQQQ")
_FIELDS: Final = struct.Struct("<BB2xQQQQ")  # The same behind the magic number.
HEADER_BYTES: Final = _HEADER.size

# Source to target.
HELLO: Final = 1  # seq: last frame sent. Record: greeting, last acknowledged. Payload: subject.
OP: Final = 2  # A modification.
COPY: Final = 3  # An order or a question of the copy.

# Target to source.
WELCOME: Final = 16  # seq: last frame applied. Record: the HELLO's seq, or of 2^64-1: a gap.
ACK: Final = 17  # seq: last frame applied.
DURABLE: Final = 18  # Record: numbers of the frames whose flush is done.
ANSWER: Final = 19  # seq: number of the question. Record and payload: the answer.
FAULT: Final = 20  # seq: the frame that could not be applied. Record: errno and text.
REFUSED: Final = 21  # Record: why this stream is not accepted.

KINDS: Final = frozenset((HELLO, OP, COPY, WELCOME, ACK, DURABLE, ANSWER, FAULT, REFUSED))

WITH_ANSWER: Final = 1  # Flag: the source awaits DURABLE (an Fsync) for this frame.

GAP: Final = 2**64 - 1
PARTS_MAX: Final = 3


class Header(NamedTuple):
    """First part of every frame. The peer's nonce tells a stream from its predecessor's."""

    kind: int
    flags: int
    term: int
    sid: int
    nonce: int
    seq: int


# As Header(*fields), without Python's detour.
_header: Final[Callable[[tuple[int, ...]], Header]] = partial(tuple.__new__, Header)


def pack(kind: int, stream: tuple[int, int, int], seq: int, flags: int = 0) -> bytes:
    """Bytes of the header of a frame in `stream` (term, sid, nonce)."""
    return _HEADER.pack(MAGIC, kind, flags, *stream, seq)


def unpack(parts: list[bytes]) -> tuple[Header, bytes, bytes]:
    """Header, record and payload of a frame's parts; FrameInvalid if anything is off."""
    count = len(parts)
    if not 1 <= count <= PARTS_MAX:
        raise FrameInvalid(f"frame of {count} parts")
    packed = parts[0]
    record = parts[1] if count > 1 else b""
    payload = parts[2] if count > 2 else b""
    if len(packed) + len(record) + len(payload) > STREAM_FRAME_BYTES_MAX:
        raise FrameInvalid("frame is too large")
    if len(packed) != HEADER_BYTES:
        raise FrameInvalid(f"header of {len(packed)} bytes")
    header = _header(_FIELDS.unpack_from(packed, len(MAGIC)))
    if not packed.startswith(MAGIC) or header.kind not in KINDS:
        raise FrameInvalid(f"frame of kind {header.kind}")
    return header, record, payload


@lru_cache(maxsize=16)
def _numbers(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")


def pack_numbers(numbers: list[int]) -> bytes:
    """Bytes of a list of frame numbers."""
    return _numbers(len(numbers)).pack(*numbers)


def unpack_numbers(record: bytes) -> tuple[int, ...]:
    """Frame numbers in a record; FrameInvalid if its length is off."""
    if len(record) % 8:
        raise FrameInvalid("list of frame numbers")
    return _numbers(len(record) // 8).unpack(record)
