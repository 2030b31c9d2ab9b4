"""Messages to bytes and back: the only file that knows how frames look on the wire.

A frame is one msgpack array: the protocol version, then the fields of `Frame` in order, then
the fields of newer peers, which are ignored. It is made of arrays, text, bytes, integers,
true, false and nil alone: no maps, floats, extension types or timestamps.
"""

import re
from typing import Any, Final

import msgpack
import msgspec

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import FRAME_BYTES_MAX, FRAME_DEPTH_MAX, FRAME_ITEMS_MAX, NAME_PATTERN
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Frame

PROTOCOL_VERSION: Final = 1
_FIELDS: Final = len(Frame.__struct_fields__)
_INTEGER_MAX: Final = 2**63 - 1  # What every language that reads a trace can hold.
_NAME: Final = re.compile(NAME_PATTERN)
_CLUSTER: Final = re.compile(r"[0-9a-f]{16}")
_LEAVES: Final = frozenset((str, bytes, bool, type(None)))
_BYTES: Final = (bytes,)


def encode(frame: Frame) -> bytes:
    """Return the bytes of `frame`, at most FRAME_BYTES_MAX; a bigger one is a fault of ours."""
    plain = msgspec.to_builtins(frame, builtin_types=_BYTES)
    plain.insert(0, PROTOCOL_VERSION)
    # "replace": texts of the operating system may hold characters that are not Unicode.
    data: bytes = msgpack.packb(plain, unicode_errors="replace")
    assert len(data) <= FRAME_BYTES_MAX, f"frame of {len(data)} bytes: {type(frame.message)}"
    return data


def decode(data: bytes) -> Frame:
    """Return the frame that `data` holds; raise FrameInvalid, and nothing else, if it is none."""
    if len(data) > FRAME_BYTES_MAX:
        raise FrameInvalid(f"frame of {len(data)} bytes, at most {FRAME_BYTES_MAX} allowed")
    try:
        plain = _unpack(data)
        _check_values(plain)
        if type(plain) is not list or not plain or plain[0] != PROTOCOL_VERSION:
            raise FrameInvalid(f"frame is not of protocol version {PROTOCOL_VERSION}")
        frame = msgspec.convert(plain[1 : _FIELDS + 1], Frame, strict=True, builtin_types=_BYTES)
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
    _check_envelope(frame)
    return frame


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
    for address in (frame.source, frame.to):
        _check_address(address)
    network = getattr(frame.message, "network", None)
    if network is not None and not _NAME.fullmatch(network):
        raise FrameInvalid("network is not a name")


def _check_address(address: Address) -> None:
    for name in (address.node, address.module, address.actor):
        if not _NAME.fullmatch(name):
            raise FrameInvalid("address with a part that is not a name")
