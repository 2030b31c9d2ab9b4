"""The shipped filter is read; anything else is refused in words."""

import contextlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.netfilter.elf import INSTRUCTION_BYTES, MapDefinition, read

ROOT = Path(__file__).parents[2]
SHIPPED = (ROOT / "netfilter" / "farm.bpf.o").read_bytes()
COMPILER_OF_SHIPPED = "14."  # Of Debian 12; another one orders instructions differently.


def clang_version() -> str:
    """Return the version of clang; empty if there is none."""
    if shutil.which("clang") is None or shutil.which("llvm-strip") is None:
        return ""
    return subprocess.check_output(["clang", "-dumpversion"], text=True).strip()


def test_the_shipped_object_is_what_the_loader_needs() -> None:
    made = read(SHIPPED)
    assert made.license == b"GPL"
    assert {map_.name for map_ in made.maps} == {
        *("accepted", "addresses", "buckets", "directory", "lease"),
        *("peers", "relays", "reopened", "verdicts"),
    }
    assert MapDefinition("buckets", 2, 4, 4, 8 * 1024) in made.maps
    assert {name for _, name in made.uses} <= {map_.name for map_ in made.maps}
    assert len(made.instructions) < 4096 * INSTRUCTION_BYTES


def test_maps_are_put_where_the_program_uses_them() -> None:
    made = read(SHIPPED)
    code = made.linked({map_.name: 1000 + i for i, map_ in enumerate(made.maps)})
    names = [map_.name for map_ in made.maps]
    for offset, name in made.uses:
        assert code[offset + 1] >> 4 == 1
        assert struct.unpack_from("<i", code, offset + 4)[0] == 1000 + names.index(name)


@pytest.mark.skipif(not clang_version(), reason="needs clang and llvm")
def test_the_shipped_object_is_made_from_the_source(tmp_path: Path) -> None:
    built = tmp_path / "farm.bpf.o"
    order = ["make", "-s", "-C", str(ROOT), "bpf", f"BPF_OUT={built}"]
    subprocess.run(order, check=True, timeout=100)
    assert read(built.read_bytes()).maps == read(SHIPPED).maps
    if clang_version().startswith(COMPILER_OF_SHIPPED):
        assert built.read_bytes() == SHIPPED, "run `make bpf` and commit farm.bpf.o"


@given(st.integers(0, len(SHIPPED) - 1))
def test_a_file_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(SHIPPED[:length])


@given(
    st.lists(
        st.tuples(st.integers(0, len(SHIPPED) - 1), st.integers(0, 255)), min_size=1, max_size=20
    )
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(damage: list[tuple[int, int]]) -> None:
    data = bytearray(SHIPPED)
    for place, value in damage:
        data[place] = value
    try:
        made = read(bytes(data))
    except ValueError:
        return
    made.linked({map_.name: 3 for map_ in made.maps} | {name: 3 for _, name in made.uses})


@given(st.binary(max_size=400), st.integers(0, len(SHIPPED)))
def test_hostile_headers_do_no_harm(data: bytes, tail: int) -> None:
    for hostile in (data, SHIPPED[:16] + data, SHIPPED[:64] + data + SHIPPED[tail:]):
        with contextlib.suppress(ValueError):
            read(hostile)


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, b"\x7fELG", "no ELF file"),
        (4, b"\x01", "64 bits"),
        (5, b"\x02", "little endian"),
        (18, b"\x3e\0", "machine 62"),
        (58, b"\x41\0", "unknown size"),
        (62, b"\xff\xff", "no names of sections"),
        (40, b"\xff" * 8, "cut short"),
    ],
)
def test_the_reason_is_told(offset: int, value: bytes, reason: str) -> None:
    data = SHIPPED[:offset] + value + SHIPPED[offset + len(value) :]
    with pytest.raises(ValueError, match=reason):
        read(data)


def test_a_file_too_long_or_without_the_program_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        read(SHIPPED + bytes(1 << 20))
    with pytest.raises(ValueError, match="0 sections named xdp"):
        read(SHIPPED, "xdp")


def section_table(data: bytes) -> dict[bytes, int]:
    """Return where the header of each section is."""
    table, count, names = struct.unpack_from("<40xQ12xHH", data)
    (strings,) = struct.unpack_from("<Q", data, table + 64 * names + 24)
    found = {}
    for i in range(count):
        (name,) = struct.unpack_from("<I", data, table + 64 * i)
        found[data[strings + name : data.index(b"\0", strings + name)]] = table + 64 * i
    return found


def patched(section: bytes, at: int, layout: str, value: int) -> bytes:
    """Return the object with a value changed within a section."""
    data = bytearray(SHIPPED)
    (begin,) = struct.unpack_from("<Q", data, section_table(SHIPPED)[section] + 24)
    struct.pack_into(layout, data, begin + at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("section", "at", "layout", "value", "reason"),
    [
        (b".reltc", 0, "<Q", 4, "not at an instruction"),
        (b".reltc", 0, "<Q", 1 << 40, "not in the program"),
        (b".reltc", 0, "<Q", 0, "at no load of a map"),
        (b".reltc", 8, "<Q", 1 << 60, "names no symbol"),
        (b".reltc", 8, "<I", 10, "relocation 10: unknown"),
        (b".reltc", 12, "<I", 0, "is no map"),
        (b"maps", 12, "<I", 0, "0 entries"),
        (b"maps", 12, "<I", 1 << 31, "entries"),
        (b"maps", 4, "<I", 0, "no good sizes"),
        (b"maps", 8, "<I", 1 << 20, "no good sizes"),
    ],
)
def test_what_would_be_loaded_wrongly_is_refused(
    section: bytes, at: int, layout: str, value: int, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        read(patched(section, at, layout, value))
