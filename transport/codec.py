"""Messages to bytes and back: the only file that knows how frames look on the wire.

A frame is one msgpack array: the protocol version, then the fields of `Frame` in order, then
the fields of newer peers, which are ignored. It is made of arrays, text, bytes, integers,
true, false and nil alone: no maps, floats, extension types or timestamps.
"""

import re
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, get_type_hints

import msgpack
import msgspec

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import (
    FRAME_BYTES_MAX,
    FRAME_DEPTH_MAX,
    FRAME_ITEMS_MAX,
    NAME_PATTERN,
    RECIPIENTS_MAX,
    REQUEST_CHARACTERS_MAX,
)
from mirrorfarm.transport.messages import Frame

PROTOCOL_VERSION: Final = 1
_FIELDS: Final = len(Frame.__struct_fields__)
_fields: Final = attrgetter(*Frame.__struct_fields__)
_INTEGER_MAX: Final = 2**63 - 1  # What every language that reads a trace can hold.
_NAME: Final = re.compile(NAME_PATTERN)
_CLUSTER: Final = re.compile(r"[0-9a-f]{16}")
_LEAVES: Final = frozenset((str, bytes, bool, type(None)))
_BYTES: Final = (bytes,)


# A frame as one array, for the library that reads and writes whole records at once.
_Record: Final[Any] = msgspec.defstruct(
    "_Record", [("version", int), *get_type_hints(Frame).items()], array_like=True, frozen=True
)
_READER: Final = msgspec.msgpack.Decoder(_Record)
_WRITER: Final = msgspec.msgpack.Encoder()
_BIG_INTEGER: Final = re.compile(rb"\xcf[\x80-\xff]")


def encode(frame: Frame) -> bytes:
    """Return the bytes of `frame`; raise FrameInvalid if they are more than FRAME_BYTES_MAX."""
    try:
        data: bytes = _WRITER.encode(_Record(PROTOCOL_VERSION, *_fields(frame)))
    except UnicodeEncodeError:
        data = _encode_marked(frame)
    if len(data) > FRAME_BYTES_MAX:
        raise FrameInvalid(f"frame of {len(data)} bytes: {type(frame.message)}")
    return data


def _encode_marked(frame: Frame) -> bytes:
    """Encode a frame with texts of the operating system that hold what is not Unicode."""
    plain = msgspec.to_builtins(frame, builtin_types=_BYTES)
    plain.insert(0, PROTOCOL_VERSION)
    data: bytes = msgpack.packb(plain, unicode_errors="replace")
    return data


def decode(data: bytes) -> Frame:
    """Return the frame that `data` holds; raise FrameInvalid, and nothing else, if it is none."""
    if len(data) > FRAME_BYTES_MAX:
        raise FrameInvalid(f"frame of {len(data)} bytes, at most {FRAME_BYTES_MAX} allowed")
    frame = _decode_usual(data)
    if frame is None:
        frame = _decode_checked(data)
    _check_envelope(frame)
    return frame


def _decode_usual(data: bytes) -> Frame | None:
    """Return a frame that is as this version writes it; None: it has to be looked at closely.

    Written again it is as long as it was, so it holds nothing but its typed fields: no newer
    fields, which could be anything, and as many items as bytes at most.
    """
    if len(data) > FRAME_ITEMS_MAX or _BIG_INTEGER.search(data):
        return None
    try:
        record = _READER.decode(data)
        if record.version != PROTOCOL_VERSION or len(_WRITER.encode(record)) != len(data):
            return None
    except (ValueError, RecursionError, MemoryError, msgspec.MsgspecError):
        return None
    return Frame(*_fields(record))


def _decode_checked(data: bytes) -> Frame:
    """Return any frame, one of another version's peers too, after a look at every value."""
    try:
        plain = _unpack(data)
        _check_values(plain)
        if type(plain) is not list or not plain or plain[0] != PROTOCOL_VERSION:
            raise FrameInvalid(f"frame is not of protocol version {PROTOCOL_VERSION}")
        return msgspec.convert(plain[1 : _FIELDS + 1], Frame, strict=True, builtin_types=_BYTES)
    except FrameInvalid:
        raise
    except (
        ValueError,  # Also: not UTF-8, limits of msgpack, trailing bytes, wrong types.
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
        msgpack.UnpackException,
        msgspec.MsgspecError,
    ) as cause:
        raise FrameInvalid(f"not a frame: {type(cause).__name__}: {cause}") from None


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(
        data,
        raw=False,
        use_list=True,
        strict_map_key=True,
        max_str_len=FRAME_BYTES_MAX,
        max_bin_len=FRAME_BYTES_MAX,
        max_array_len=FRAME_ITEMS_MAX,
        max_map_len=0,
        max_ext_len=0,
    )


def _check_values(plain: Any) -> None:
    """Refuse what is nested too deep, and any value of a kind that no message has."""
    level: list[list[Any]] = [[plain]]
    depth = 0  # Of the arrays in `level`; the frame itself is the first.
    while level:
        if depth > FRAME_DEPTH_MAX:
            raise FrameInvalid(f"nested deeper than {FRAME_DEPTH_MAX}")
        deeper: list[list[Any]] = []
        for values in level:
            for value in values:
                kind = type(value)
                if kind is list:
                    deeper.append(value)
                elif kind is int:
                    if not -_INTEGER_MAX <= value <= _INTEGER_MAX:
                        raise FrameInvalid("integer of more than 63 bits")
                elif kind not in _LEAVES:
                    raise FrameInvalid(f"{kind.__name__} is not part of the protocol")
        level = deeper
        depth += 1


def _check_envelope(frame: Frame) -> None:
    if not _CLUSTER.fullmatch(frame.cluster):
        raise FrameInvalid("cluster is not 16 hex digits")
    if frame.incarnation < 0 or frame.sequence < 0 or frame.clock < 0:
        raise FrameInvalid("negative incarnation, sequence or clock")
    source, to = frame.source, frame.to
    names = (source.node, source.module, source.actor, to.module, to.actor)
    if not all(map(_is_name, names)) or not _are_names(to.node):
        raise FrameInvalid("address with a part that is not a name")
    request = getattr(frame.message, "request", "")  # It comes back with the answer.
    if type(request) is str and len(request) > REQUEST_CHARACTERS_MAX:
        raise FrameInvalid(f"request of {len(request)} characters")
    network = getattr(frame.message, "network", None)
    if network is not None and not _is_name(network):
        raise FrameInvalid("network is not a name")


@lru_cache(maxsize=4_096)  # The same few names come all the time.
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


@lru_cache(maxsize=4_096)
def _are_names(nodes: str) -> bool:
    names = nodes.split(" ")
    return len(names) <= RECIPIENTS_MAX and all(map(_is_name, names))
