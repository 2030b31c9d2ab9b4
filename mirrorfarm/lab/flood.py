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
from pathlib import Path
from typing import NamedTuple

_BATCH = 256  # So that what Python does between two calls is some ns per frame.
_WAITS = Path("/proc/thread-self/schedstat")


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


class Sent(NamedTuple):
    """What a flood was; `waited` are the seconds in which another process had the processor."""

    frames: int
    seconds: float
    waited: float

    @property
    def rate(self) -> float:
        """Frames per second of this thread's time on its processor, interrupts included."""
        return self.frames / (self.seconds - self.waited)


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


def flood(interface: str, frames: list[bytes], seconds: float) -> Sent:
    """Send `frames` in turn for some time."""
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
        waited, begin = _waited(), time.perf_counter()
        while time.perf_counter() - begin < seconds:
            batch = min(_BATCH, len(frames) - at)
            place = ctypes.c_void_p(ctypes.addressof(messages) + at * size)
            sent = library.sendmmsg(sock.fileno(), place, batch, 0)
            count += max(0, sent)
            at = (at + max(0, sent)) % len(frames)  # A full queue takes fewer.
        return Sent(count, time.perf_counter() - begin, _waited() - waited)


def _waited() -> float:
    """Return the seconds this thread was ready but not running; 0 if the kernel does not count."""
    try:
        return int(_WAITS.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


if __name__ == "__main__":
    outcome = flood(sys.argv[1], unpacked(sys.stdin.buffer.read()), float(sys.argv[2]))
    json.dump({"sent": outcome.frames, "seconds": outcome.seconds}, sys.stdout)
