"""The system call bpf(2): maps, programs and links, without a library.

Layouts are those of `union bpf_attr` in linux/bpf.h. Every method raises OSError if the kernel
refuses, except where it says otherwise.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.netfilter.elf import MapDefinition

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "loongarch64": 280}
_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE = 0, 1, 2, 3
_PROGRAM_LOAD, _ATTACH, _DETACH, _TEST_RUN = 5, 8, 9, 10
_PROGRAM_BY_ID, _INFO, _QUERY = 13, 15, 16
_LOOKUP_BATCH, _UPDATE_BATCH = 24, 26
_SCHED_CLS = 3  # Program type: traffic control.
TCX_IN, TCX_OUT = 46, 47  # Attach types.
_PER_CPU = frozenset((5, 6, 10))  # Map types with one value per CPU.
_LOG_BYTES = 1_048_576
_FRAME_BYTES_MAX = 4_096
_ATTACHED_MAX = 64  # Programs at one interface, as the kernel has it.
_INFO_BYTES, _INFO_NAME = 80, 64  # Of `struct bpf_prog_info`, up to the end of its name.
NAME_BYTES_MAX = 15

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(command: int, attributes: bytes) -> tuple[int, bytes]:
    """Return the result, and the attributes as the kernel left them."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise SystemUnsuitable(
            f"the farm filter in the kernel is not made for {platform.machine()}: "
            "use the filter mode nft or nfqueue"
        )
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(
        _libc.syscall(
            ctypes.c_long(number), ctypes.c_long(command), buffer, ctypes.c_long(len(attributes))
        )
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result, buffer.raw


def _buffer(data: bytes) -> tuple["ctypes.Array[ctypes.c_char]", int]:
    """Return a buffer and its address; it must outlive the call."""
    buffer = ctypes.create_string_buffer(data, max(1, len(data)))
    return buffer, ctypes.addressof(buffer)


def possible_cpus() -> int:
    """Return how many values a map with one per CPU has."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip()
    total = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


class Descriptor:
    """A file descriptor of the kernel's object, closed with it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        """Let go of the object; it ends when nobody holds it."""
        if self.number >= 0:
            os.close(self.number)
            self.number = -1


class Map(Descriptor):
    """A map; keys and values are bytes. Values per CPU are returned one after the other."""

    def __init__(self, definition: MapDefinition) -> None:
        self.definition = definition
        self.cpus = possible_cpus() if definition.kind in _PER_CPU else 1
        self._value_bytes = definition.value_bytes
        if self.cpus > 1 or definition.kind in _PER_CPU:
            self._value_bytes = (definition.value_bytes + 7) // 8 * 8 * self.cpus
        name, kind, key_bytes, value_bytes, entries = definition
        sizes = (kind, key_bytes, value_bytes, entries, 0, 0, 0)
        label = name.encode()[:NAME_BYTES_MAX]
        super().__init__(_call(_MAP_CREATE, struct.pack("=IIIIIII16s", *sizes, label))[0])

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None if there is none."""
        value = ctypes.create_string_buffer(self._value_bytes)
        try:
            self._element(_LOOKUP, key, ctypes.addressof(value))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def put(self, key: bytes, value: bytes) -> None:
        """Write the value of a key."""
        assert len(value) == self._value_bytes, self.definition
        buffer, address = _buffer(value)
        self._element(_UPDATE, key, address)
        del buffer

    def remove(self, key: bytes) -> None:
        """Remove a key; nothing if there is none."""
        try:
            self._element(_DELETE, key, 0)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def put_many(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write many values by one call."""
        pairs = list(entries)
        if pairs:
            keys = b"".join(key for key, _ in pairs)
            self.put_columns(keys, b"".join(value for _, value in pairs))

    def put_columns(self, keys: bytes, values: bytes) -> None:
        """Write many values by one call; keys and values stand one after the other."""
        count = len(keys) // self.definition.key_bytes
        assert len(values) == count * self._value_bytes, self.definition
        key_buffer, key_address = _buffer(keys)
        value_buffer, value_address = _buffer(values)
        attributes = struct.pack(
            "=QQQQIIQQ", 0, 0, key_address, value_address, count, self.number, 0, 0
        )
        _call(_UPDATE_BATCH, attributes)
        del key_buffer, value_buffer

    def get_array(self, first: int, count: int) -> bytes:
        """Return `count` values of an array from index `first` on, by one call."""
        before, before_address = _buffer(struct.pack("=I", max(0, first - 1)))
        after, after_address = _buffer(bytes(4))
        keys = ctypes.create_string_buffer(4 * count)
        values = ctypes.create_string_buffer(self._value_bytes * count)
        attributes = struct.pack(
            "=QQQQIIQQ",
            before_address if first else 0,
            after_address,
            ctypes.addressof(keys),
            ctypes.addressof(values),
            count,
            self.number,
            0,
            0,
        )
        try:
            _call(_LOOKUP_BATCH, attributes)
        except OSError as error:
            if error.errno != errno.ENOENT:  # The end of the array was reached.
                raise
        del before, after
        return values.raw

    def _element(self, command: int, key: bytes, value_address: int) -> None:
        assert len(key) == self.definition.key_bytes, self.definition
        buffer, address = _buffer(key)
        _call(command, struct.pack("=IIQQQ", self.number, 0, address, value_address, 0))
        del buffer


@dataclass(frozen=True, slots=True)
class Run:
    """What a program did with a frame."""

    returned: int
    nanoseconds: int  # On average, if it was repeated.
    frame: bytes  # As the program left it.


class Program(Descriptor):
    """A program for traffic control that the kernel's verifier has accepted."""

    @classmethod
    def load(cls, name: str, instructions: bytes, license_: bytes) -> "Program":
        """Load a program; raise SystemUnsuitable with the words of the verifier."""
        code, code_address = _buffer(instructions)
        licence, license_address = _buffer(license_ + b"\0")
        log = ctypes.create_string_buffer(_LOG_BYTES)

        def attributes(level: int) -> bytes:
            size, address = (_LOG_BYTES, ctypes.addressof(log)) if level else (0, 0)
            count = len(instructions) // 8
            first = (_SCHED_CLS, count, code_address, license_address, level, size, address)
            return struct.pack("=IIQQIIQII16s", *first, 0, 0, name.encode()[:NAME_BYTES_MAX])

        try:
            return cls(_call(_PROGRAM_LOAD, attributes(0))[0])
        except OSError:
            try:  # Once more, to hear why.
                return cls(_call(_PROGRAM_LOAD, attributes(1))[0])
            except OSError as error:
                words = log.value.decode(errors="replace").strip().splitlines()[-3:]
                raise SystemUnsuitable(refusal(error, " / ".join(words))) from error
        finally:
            del code, licence

    @classmethod
    def find(cls, number: int) -> "Program":
        """Return the program of this number; it takes CAP_SYS_ADMIN."""
        return cls(_call(_PROGRAM_BY_ID, struct.pack("=III", number, 0, 0))[0])

    def run(self, frame: bytes, repeat: int = 1) -> Run:
        """Give a frame to the program without any interface (BPF_PROG_TEST_RUN)."""
        into, into_address = _buffer(frame)
        out = ctypes.create_string_buffer(_FRAME_BYTES_MAX)
        first = (self.number, 0, len(frame), len(out), into_address, ctypes.addressof(out), repeat)
        attributes = struct.pack("=IIIIQQIIIIQQIIII", *first, *(0,) * 9)
        _, result = _call(_TEST_RUN, attributes)
        del into
        returned, _, out_bytes = struct.unpack_from("=iII", result, 4)
        (nanoseconds,) = struct.unpack_from("=I", result, 36)
        return Run(returned, nanoseconds, out.raw[:out_bytes])

    def attach(self, interface_index: int, hook: int) -> None:
        """Attach to one direction of an interface, after what is there (TCX, Linux 6.6).

        It stays until it is detached, also when this process is gone.
        """
        _call(_ATTACH, self._attachment(interface_index, hook))

    def detach(self, interface_index: int, hook: int) -> None:
        """Detach from an interface."""
        _call(_DETACH, self._attachment(interface_index, hook))

    def identity(self) -> tuple[int, str]:
        """Return the number that the kernel gave the program, and its name."""
        info = ctypes.create_string_buffer(_INFO_BYTES)
        _call(_INFO, struct.pack("=IIQ", self.number, _INFO_BYTES, ctypes.addressof(info)))
        (number,) = struct.unpack_from("=I", info.raw, 4)
        return number, info.raw[_INFO_NAME:].split(b"\0")[0].decode(errors="replace")

    def _attachment(self, interface_index: int, hook: int) -> bytes:
        return struct.pack("=IIIIIIQ", interface_index, self.number, hook, 0, 0, 0, 0)


def numbers(interface_index: int, hook: int = TCX_IN) -> list[int]:
    """Return the numbers of the programs at one direction of an interface (TCX)."""
    ids = (ctypes.c_uint32 * _ATTACHED_MAX)()
    first = (interface_index, hook, 0, 0, ctypes.addressof(ids), _ATTACHED_MAX, 0)
    _, result = _call(_QUERY, struct.pack("=IIIIQIIQQQQ", *first, 0, 0, 0, 0))
    (count,) = struct.unpack_from("=I", result, 24)
    return ids[:count]


def attached(interface_index: int, hook: int = TCX_IN) -> list[Program]:
    """Return the programs at one direction of an interface (TCX); the caller closes them."""
    found: list[Program] = []
    for number in numbers(interface_index, hook):
        try:
            found.append(Program.find(number))
        except OSError as error:
            if error.errno != errno.ENOENT:  # Gone meanwhile.
                for program in found:
                    program.close()
                raise
    return found


def refusal(error: OSError, words: str = "") -> str:
    """Return, in words, that the kernel did not take the filter, why, and what to do."""
    if error.errno in (errno.EPERM, errno.EACCES) and not words:
        why = "this process may not load it (needed are CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN)"
    elif error.errno == errno.ENOSYS:
        why = "this kernel has no bpf(2)"
    else:
        why = f"{error.strerror}{': ' + words if words else ''}"
    return (
        f"the kernel refused the farm filter: {why}. "
        "Set the filter mode nft or nfqueue on every node of the farm, or use Linux 5.13 or later"
    )
