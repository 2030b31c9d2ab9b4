"""Read a compiled BPF object: one program, its maps, and where the program names them.

Only what `farm.bpf.o` needs of ELF (System V ABI, chapter 4; the relocations of
Documentation/bpf/llvm_reloc.rst): 64 bits, little endian, maps described by four words in the
section `maps`, one relocation per use of a map. Every offset in the file is foreign until it is
checked: bytes that are no such object raise ValueError that says what is wrong.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

BYTES_MAX = 1_048_576
INSTRUCTION_BYTES = 8
INSTRUCTIONS_MAX = 65_536
MAPS_MAX = 32
MAP_ENTRIES_MAX = 1_048_576
MAP_ITEM_BYTES_MAX = 4_096
NAME_BYTES_MAX = 64

_MACHINE_BPF = 247
_SYMBOLS, _RELOCATIONS = 2, 9  # Section types.
_R_BPF_64_64 = 1  # The relocation of a load of 64 bits.
_LOAD_64 = 0x18  # The operation it applies to, two instructions long.
_PSEUDO_MAP = 1  # As source register: the number loaded is the descriptor of a map.

_header = struct.Struct("<16sHHIQQQIHHHHHH")
_section = struct.Struct("<IIQQQQIIQQ")
_symbol = struct.Struct("<IBBHQQ")
_relocation = struct.Struct("<QQ")
_map = struct.Struct("<IIII")


class MapDefinition(NamedTuple):
    """A map as the program needs it."""

    name: str
    kind: int  # BPF_MAP_TYPE_…
    key_bytes: int
    value_bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Object:
    """A program, its maps, and the offsets of the instructions that load each map."""

    instructions: bytes
    maps: tuple[MapDefinition, ...]
    uses: tuple[tuple[int, str], ...]
    license: bytes

    def linked(self, descriptors: dict[str, int]) -> bytes:
        """Return the instructions with the descriptor of each map in its places."""
        code = bytearray(self.instructions)
        for offset, name in self.uses:
            code[offset + 1] = code[offset + 1] & 0x0F | _PSEUDO_MAP << 4
            struct.pack_into("<i", code, offset + 4, descriptors[name])
        return bytes(code)


class _Section(NamedTuple):
    name: str
    kind: int
    content: bytes
    link: int
    info: int


def read(data: bytes, program: str = "tc") -> Object:
    """Return the program in section `program`; raise ValueError that says what is wrong."""
    try:
        sections = _sections(data)
        code_index, code = _one(sections, program)
        maps_index, maps_section = _one(sections, "maps")
        _, license_section = _one(sections, "license")
        length = len(code.content)
        _check(length % INSTRUCTION_BYTES == 0, "the program is no whole number of instructions")
        _check(0 < length <= INSTRUCTIONS_MAX * INSTRUCTION_BYTES, "the program is too long")
        symbols = _map_symbols(sections, maps_index)
        maps = tuple(_definition(name, at, maps_section.content) for at, name in symbols.items())
        _check(len(maps) <= MAPS_MAX, "there are too many maps")
        uses = _uses(sections, code_index, code.content, maps_index)
        license_ = license_section.content.split(b"\0")[0]
        return Object(code.content, maps, uses, license_)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"the file is cut short or damaged: {error}") from error


def _check(good: bool, fault: str) -> None:
    if not good:
        raise ValueError(fault)


def _sections(data: bytes) -> list[_Section]:
    _check(len(data) <= BYTES_MAX, f"the file is longer than {BYTES_MAX} bytes")
    _check(data[:7] == b"\x7fELF\x02\x01\x01", "this is no ELF file of 64 bits, little endian")
    header = _header.unpack_from(data)
    machine, table, entry_bytes, count, names = (header[i] for i in (2, 6, 11, 12, 13))
    _check(machine == _MACHINE_BPF, f"it is for machine {machine}, not for BPF")
    _check(entry_bytes == _section.size, "its section headers have an unknown size")
    _check(table + count * _section.size <= len(data), "the file is cut short")
    raw = [_section.unpack_from(data, table + i * _section.size) for i in range(count)]
    _check(names < count, "it has no names of sections")
    contents = [_content(data, entry) for entry in raw]
    return [
        _Section(_text(contents[names], entry[0]), entry[1], content, entry[6], entry[7])
        for entry, content in zip(raw, contents, strict=True)
    ]


def _content(data: bytes, entry: tuple[int, ...]) -> bytes:
    offset, length = entry[4], entry[5]
    _check(offset + length <= len(data), "a section reaches beyond the end of the file")
    return data[offset : offset + length]


def _text(names: bytes, offset: int) -> str:
    end = names.find(b"\0", offset, offset + NAME_BYTES_MAX)
    _check(offset < len(names) and end >= 0, "a name has no end")
    return names[offset:end].decode("ascii")


def _one(sections: list[_Section], name: str) -> tuple[int, _Section]:
    found = [(i, section) for i, section in enumerate(sections) if section.name == name]
    _check(len(found) == 1, f"it has {len(found)} sections named {name}, not one")
    return found[0]


def _symbol_table(sections: list[_Section]) -> list[tuple[str, int, int]]:
    """Return name, section and offset of each symbol."""
    tables = [section for section in sections if section.kind == _SYMBOLS]
    _check(len(tables) == 1, "it has no symbols, or two tables of them")
    names = sections[tables[0].link].content
    count = len(tables[0].content) // _symbol.size
    found = []
    for i in range(count):
        name, _, _, section, value, _ = _symbol.unpack_from(tables[0].content, i * _symbol.size)
        found.append((_text(names, name) if name else "", section, value))
    return found


def _map_symbols(sections: list[_Section], maps_index: int) -> dict[int, str]:
    symbols = _symbol_table(sections)
    return {at: name for name, section, at in symbols if section == maps_index and name}


def _definition(name: str, at: int, content: bytes) -> MapDefinition:
    _check(at + _map.size <= len(content), f"map {name} reaches beyond its section")
    found = MapDefinition(name, *_map.unpack_from(content, at))
    _check(0 < found.entries <= MAP_ENTRIES_MAX, f"map {name} has {found.entries} entries")
    sizes = (found.key_bytes, found.value_bytes)
    _check(all(0 < size <= MAP_ITEM_BYTES_MAX for size in sizes), f"map {name} has no good sizes")
    return found


def _uses(
    sections: list[_Section], code_index: int, code: bytes, maps_index: int
) -> tuple[tuple[int, str], ...]:
    symbols = _symbol_table(sections)
    found = []
    for section in sections:
        if section.kind != _RELOCATIONS or section.info != code_index:
            continue
        for at in range(0, len(section.content), _relocation.size):
            offset, info = _relocation.unpack_from(section.content, at)
            _check(info >> 32 < len(symbols), "a relocation names no symbol")
            name, where, _ = symbols[info >> 32]
            _check(info & 0xFFFF_FFFF == _R_BPF_64_64, f"relocation {info & 0xFFFF_FFFF}: unknown")
            _check(where == maps_index and name != "", f"{name or 'a relocation'} is no map")
            _check(offset % INSTRUCTION_BYTES == 0, "a relocation is not at an instruction")
            _check(
                offset + 2 * INSTRUCTION_BYTES <= len(code), "a relocation is not in the program"
            )
            _check(code[offset] == _LOAD_64, "a relocation is at no load of a map")
            found.append((offset, name))
    return tuple(found)
