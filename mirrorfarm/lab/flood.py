"""Send the same frames again and again, hundreds of thousands per second, by `sendmmsg`.

Run as `python -m mirrorfarm.lab.flood INTERFACE SECONDS < frames`; each frame in the input is
preceded by its length, two bytes. Prints what it sent and in what time, as JSON.
"""

import ctypes
import json
import socket
import struct
import sys
import time
from collections.abc import Iterable

_BATCH = 64


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Head(ctypes.Structure):  # struct msghdr
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (("head", _Head), ("sent", ctypes.c_uint32))


def packed(frames: Iterable[bytes]) -> bytes:
    """Return frames as this program reads them."""
    return b"".join(struct.pack("!H", len(frame)) + frame for frame in frames)


def unpacked(data: bytes) -> list[bytes]:
    """Return the frames in what `packed` made."""
    frames, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        frames.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return frames


def flood(interface: str, frames: list[bytes], seconds: float) -> tuple[int, float]:
    """Send `frames` in turn for some time; return how many were sent, and the seconds taken."""
    library = ctypes.CDLL(None, use_errno=True)
    buffers = [ctypes.create_string_buffer(frame, len(frame)) for frame in frames]
    vectors = [_Vector(ctypes.addressof(buffer), len(buffer)) for buffer in buffers]
    messages = (_Message * len(frames))()
    for message, vector in zip(messages, vectors, strict=True):
        message.head.vectors = ctypes.pointer(vector)
        message.head.vector_count = 1
    size, count, at = ctypes.sizeof(_Message), 0, 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((interface, 0))
        sock.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)  # SO_SNDBUFFORCE
        sock.setsockopt(263, 20, 1)  # PACKET_QDISC_BYPASS
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            batch = min(_BATCH, len(frames) - at)
            place = ctypes.c_void_p(ctypes.addressof(messages) + at * size)
            sent = library.sendmmsg(sock.fileno(), place, batch, 0)
            count += max(0, sent)
            at = (at + max(0, sent)) % len(frames)  # A full queue takes fewer.
        return count, time.perf_counter() - begin


if __name__ == "__main__":
    total, spent = flood(sys.argv[1], unpacked(sys.stdin.buffer.read()), float(sys.argv[2]))
    json.dump({"sent": total, "seconds": spent}, sys.stdout)
