"""Traces that are cut off, damaged, foreign, newer or hostile: read as far as they go."""

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from mirrorfarm.actors.effects import Log
from mirrorfarm.actors.events import PeerSilent, Started
from mirrorfarm.errors import TraceInvalid
from mirrorfarm.trace import files
from mirrorfarm.trace.files import Fault, frames, read_header, require_single, sources
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import Gap, Position, read_items, read_steps
from mirrorfarm.transport.trace import TraceWriter
from mirrorfarm.transport.trace_ring import FRAME_BYTES_MAX, Origin
from tests.mirrorfarm.trace.recorded import ORIGIN

COUNT = 8_000  # Steps of several frames.


def write(folder: Path, count: int = 9, origin: Origin = ORIGIN, begin: int = 0) -> Path:
    writer = TraceWriter(folder, origin)
    for number in range(begin, begin + count):
        noise = f"{number * 2654435761 % 2**64:x}" * 12
        writer.step("module", number, PeerSilent(number), [Log("E", noise)])
    writer.close()
    assert writer.counters()["steps"] == count
    return next(iter(sorted(folder.iterdir())))


def read(path: Path) -> tuple[list[int], list[Fault]]:
    """Return the times of all steps that can be read, and the faults."""
    faults: list[Fault] = []
    (source,) = sources([path], faults.append)
    steps = read_items(source, faults.append)
    return [one.now_ns for one in steps if isinstance(one, Step)], faults


def packed(*values: Any, window_log: int = 18, raw: bytes = b"") -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    return compressor.compress(b"".join(msgpack.packb(one) for one in values) + raw)


HEADER = {"mft": 2, "node": "n1", "process": "web", "inc": 1, "epoch_real_ns": 0, "build": "b"}
HEAD = {"now": 5, "lamport": 1, "records": 0, "digest": bytes(16)}
STARTED = [-1, 0, "module", ["Started"], []]
WIDE = [-1, 0, "module", ["OfTomorrow", [0, 0]], [[1]]]


def test_a_file_may_end_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path)
    data = path.read_bytes()
    begin = [offset for offset, _ in frames(path, files.raise_fault)][1]
    for size in range(begin, len(data)):
        path.write_bytes(data[:size])
        times, faults = read(path)
        assert times == list(range(len(times)))
        assert not faults, size


def test_a_damaged_frame_is_left_out_and_told_once(tmp_path: Path) -> None:
    path = write(tmp_path, COUNT)
    data = bytearray(path.read_bytes())
    places = [offset for offset, _ in frames(path, files.raise_fault)]
    assert len(places) > 3
    for byte in range(places[2] + 40, places[2] + 60):
        data[byte] ^= 0xFF
    path.write_bytes(data)
    times, (fault,) = read(path)
    assert fault.path == path
    assert fault.offset == places[2]
    assert "the frame is damaged" in str(fault)
    assert f"{path}: at byte {places[2]} to {places[3] - 1}: the frame" in str(fault)
    assert "take another copy" in str(fault)
    assert 1_000 < len(times) < COUNT
    assert times[-1] == COUNT - 1
    (source,) = sources([path])
    gaps = [one for one in read_items(source, lambda _: None) if isinstance(one, Gap)]
    assert [gap.steps for gap in gaps] == [COUNT - len(times)]


@pytest.mark.parametrize("seed", range(300))
def test_no_byte_that_changes_makes_more_than_a_fault(tmp_path: Path, seed: int) -> None:
    path = write(tmp_path, 3)
    data = bytearray(path.read_bytes())
    for turn in range(1 + seed % 3):
        data[(seed * 7_919 + turn * 104_729) % len(data)] ^= 1 << (seed + turn) % 8
    path.write_bytes(data)
    faults: list[Fault] = []
    try:
        for source in sources([path], faults.append):
            list(read_items(source, faults.append))
    except TraceInvalid:
        assert faults


def test_what_is_between_frames_is_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, COUNT)
    data = path.read_bytes()
    place = [offset for offset, _ in frames(path, files.raise_fault)][3]
    path.write_bytes(data[:place] + b"\0" * 10_000_000 + data[place:])
    times, (fault,) = read(path)
    assert times == list(range(COUNT))
    assert "no frame begins here" in fault.reason


def test_what_only_looks_like_many_frames_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.mft"
    good = packed(HEADER) + packed(HEAD, STARTED, [0, 1])
    path.write_bytes(good + files.MAGIC * 5_000 + packed(HEAD, STARTED, [0, 1]) + b"\0" * 9)
    times, told = read(path)
    assert times == [6, 6]
    assert [str(fault).split(": ")[1] for fault in told] == [
        f"at byte {len(good)} to {len(good) + 19_999}",
        f"at byte {path.stat().st_size - 9} to {path.stat().st_size - 1}",
    ]
    faults: list[Fault] = []
    path.write_bytes(files.MAGIC * 5_000)
    assert read_header(path, faults.append) is None
    assert len(faults) == 1


def test_a_fault_that_grows_with_its_file_is_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "x.mft"
    told: set[Fault] = set()
    for length in (20, 30):
        path.write_bytes(packed(HEADER) + b"\0" * length)
        list(frames(path, told.add))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a trace"),
        (b"hello, this is a text", "not a trace"),
        (packed([1, 2]), "not a trace"),
        (packed("mft"), "not a trace"),
        (packed({"mft": "2"}), "not a trace"),
        (packed({"mft": 1}), "an older mirrorfarm, in format 1; this one reads 2"),
        (packed({"mft": 3}), "a newer mirrorfarm, in format 3; this one reads 2"),
        (packed(HEADER | {"node": 7}), "the header lacks node"),
        (packed(raw=b"\x91" * 500_000), "not a trace"),
        (packed(raw=b"\xdd\xff\xff\xff\xff"), "not a trace"),
        (packed(raw=b"\xc6\xff\xff\xff\xff"), "not a trace"),
        (packed(raw=b"\0" * 300_000_000), "asks for|more than 1048576 bytes|absurd"),
        (packed(HEADER, window_log=27, raw=b"x" * 300_000_000), "bytes of memory|more than"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_name(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    path = tmp_path / "x.mft"
    path.write_bytes(data)
    faults: list[Fault] = []
    assert read_header(path, faults.append) is None
    assert str(faults[0]).startswith(f"{path}: at byte 0: ")
    with pytest.raises(TraceInvalid, match=reason):
        list(read_steps([path]))


@pytest.mark.parametrize(
    ("records", "raw"),
    [
        ([[0, 1]], b""),  # No such slot.
        ([[]], b""),
        ([[None]], b""),
        (["text"], b""),
        ([STARTED, [0]], b""),
        ([STARTED, [0, "x"]], b""),
        ([STARTED, [0, 1, 5, 1]], b""),  # No such place.
        ([STARTED, [0, 1, -1, 9]], b""),  # Told by no slot.
        ([STARTED, [0, 1, -1, 0]], b""),
        ([[-1, 0, "module", ["PeerSilent", 1], [[7]]]], b""),
        ([[-1, 0, "module", ["PeerSilent", 1], [[]]]], b""),
        ([[-1, 0, "module", ["PeerSilent", 1], [[0, 0, 0]]]], b""),
        ([[-1, 0, 7, ["PeerSilent", 1], [[1]]]], b""),
        ([[-1, 0, "module", "PeerSilent", [[1]]]], b""),
        ([[-1, 1, "module", ["Log", "E", "x"], []], [0]], b""),  # An effect without an event.
        ([STARTED, [0, 1], [-1, 0, "module", ["PeerSilent", 1], [[1]]], [1, 1, 0, {"0": 1}]], b""),
        ([WIDE, [0, 1, 0, 1, 0, 1]], b""),  # Places made again and again, by one record:
        ([WIDE, [0, 1, 0, 1, 1, 1]], b""),
        ([WIDE, [0, 1, 0, {"0": 1, "00": 1}]], b""),  # its parts,
        ([WIDE, [0, 1, 0, {"-1": 1}]], b""),
        ([[*WIDE[:4], [[1], [1]]], [0, 1]], b""),  # and under several numbers.
        ([[*WIDE[:4], [[1, 0], [-1, 0]]], [0, 1]], b""),
        ([[-12, 5, bytes(16)]], b""),  # A digest of something else.
        ([[-11, "module"]], b""),
        ([[-10]], b""),
        ([], b"\x91" * 100_000),  # Deep nesting,
        ([], b"\xdd\xff\xff\xff\xff"),  # absurd lengths,
        ([], b"\xdb\xff\xff\xff\xff"),
        ([], b"\xc9\xff\xff\xff\xff\x01"),  # foreign types,
        ([], b"\xa2\xff\xff"),  # no text.
    ],
)
def test_hostile_records_end_their_frame_with_one_fault(
    tmp_path: Path, records: list[Any], raw: bytes
) -> None:
    path = tmp_path / "x.mft"
    hostile = packed(HEAD, *records, raw=raw)
    good = packed(HEAD, STARTED, [0, 1])
    path.write_bytes(packed(HEADER) + hostile + good)
    times, faults = read(path)
    assert times[-1] == 6, "the next frame is read"
    assert len(faults) <= 1
    cut_off = not faults and not records  # An object that never ends: as where a file is cut off.
    assert cut_off or "the frame is damaged" in faults[0].reason


def test_a_frame_that_swells_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.mft"
    bomb = packed(HEAD, raw=b"\xc0" * (FRAME_BYTES_MAX + 1))
    path.write_bytes(packed(HEADER) + bomb + packed(HEAD, STARTED, [0, 1]))
    times, (fault,) = read(path)
    assert times == [6]
    assert f"more than {FRAME_BYTES_MAX} bytes" in fault.reason


def test_values_of_a_newer_build_stay_plain(tmp_path: Path) -> None:
    path = tmp_path / "x.mft"
    tomorrow = [-1, 0, "module", ["OfTomorrow", 1, ["n1"]], [[1], [2]]]
    changed = [-1, 1, "module", ["Log", 5, 6], [[1], [2]]]  # Its fields are numbers now.
    told = [-1, 1, "module", ["Tell", "module", ["OfTomorrow", 3]], [[2, 1]]]
    records = [tomorrow, [0, 1], changed, [1], told, [2], [0, 1, 0, 4], [2, 0, 1]]
    path.write_bytes(packed(HEADER) + packed(HEAD, *records))
    first, second = read_steps([path])
    assert first.event == ["OfTomorrow", 1, ["n1"]]
    assert second.event == ["OfTomorrow", 5, ["n1"]]
    assert first.effects[0] == ["Log", 5, 6]
    assert first.effects[1].event == ["OfTomorrow", 3]
    assert second.effects[0].event == ["OfTomorrow", 4]


def test_several_processes_and_nodes_are_told_apart_and_merged_by_time(tmp_path: Path) -> None:
    for node, begin in (("n1", 0), ("n2", 5)):
        write(tmp_path / node, 9, Origin("b", "c", node, "web", 1, "boot"), begin)
    write(tmp_path / "n1", 3, Origin("b", "c", "n1", "web", 2, "boot"), 20)
    found = sources([tmp_path])
    assert [(one.node, one.incarnation) for one in found] == [("n1", 1), ("n1", 2), ("n2", 1)]
    steps = list(read_steps([tmp_path]))
    assert len(steps) == 21
    assert [one.real_ns for one in steps] == sorted(one.real_ns for one in steps)


def test_a_path_without_traces_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(TraceInvalid, match=r"no trace can be read there; name files \*\.mft"):
        sources([tmp_path])
    with pytest.raises(TraceInvalid, match="no such file or folder"):
        sources([tmp_path / "nothing"])


def close(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have a folder refuse to be listed: the tests may be run by one whom nothing is refused."""
    honest = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_may_not_be_read_is_told_and_does_not_count_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "n1")
    write(tmp_path / "n2/trace", origin=Origin("b", "c", "n2", "web", 1, "boot"))
    close(monkeypatch, tmp_path / "n2/trace")
    faults: list[Fault] = []
    assert [one.node for one in sources([tmp_path], faults.append)] == ["n1"]
    denied = (f"{tmp_path}/n2/trace: cannot be read (Permission denied): run as root, or copy it",)
    assert tuple(map(str, faults)) == denied
    with pytest.raises(TraceInvalid, match=re.escape(f"{tmp_path}/n2: no trace can be read there")):
        sources([tmp_path / "n2"], faults.append)
    with pytest.raises(TraceInvalid, match=re.escape(denied[0])):
        sources([tmp_path / "n2"], lambda _: None)
    with pytest.raises(TraceInvalid, match=re.escape(denied[0])):
        sources([tmp_path])


def test_a_file_counts_once_whatever_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "n1")
    later = shutil.copy(path, path.with_name("trace-00000002.mft"))
    (tmp_path / "link").symlink_to("n1")
    monkeypatch.chdir(tmp_path)
    names = ("link", "n1", "n1/../n1", str(tmp_path), later, f"link/{path.name}")
    for paths in (names, names[1:], reversed(names), (later, "link"), (later, path)):
        (source,) = sources([Path(one) for one in paths])
        assert [one.resolve() for one in source.files] == [path, later]


def test_two_folders_with_the_same_start_are_refused(tmp_path: Path) -> None:
    shutil.copytree(write(tmp_path / "n1").parent, tmp_path / "copy")
    found = sources([tmp_path])
    require_single(found[:1])
    with pytest.raises(TraceInvalid, match="both hold start 7 of n1/web: name only one"):
        require_single(found)


def test_forged_heads_that_share_their_blocks_are_not_all_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    honest, own = files._extent, threading.get_ident()

    def extent(data: bytes, begin: int) -> int:
        if threading.get_ident() == own:  # What follows a trace may do so beside this test.
            looked_at.append(begin)
        return honest(data, begin)

    monkeypatch.setattr(files, "_extent", extent)
    heads = [
        files.MAGIC + b"\0\x40" + (9 * to_come << 3).to_bytes(3, "little") for to_come in (2, 1, 0)
    ]
    shared = b"\x08\0\0x" * (files.PACKED_BYTES_MAX // 4 + 1)  # Blocks of one byte.
    path = tmp_path / "x.mft"
    good = packed(HEAD, STARTED, [0, 1])
    path.write_bytes(packed(HEADER) + b"".join(heads) + shared + good)
    assert [content for _, content in frames(path, lambda _: None)][1:] == [
        b"".join(msgpack.packb(one) for one in (HEAD, STARTED, [0, 1]))
    ]
    assert len(looked_at) == 3


def test_a_file_of_gigabytes_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BUFFER_BYTES", 3 * FRAME_BYTES_MAX)
    path = write(tmp_path, COUNT)
    lengths: list[int] = []
    honest: Callable[..., bool] = files._Window.has

    def has(window: Any, at: int) -> bool:
        found = honest(window, at)
        lengths.append(len(window.data))
        return found

    monkeypatch.setattr(files._Window, "has", has)
    with path.open("ab") as file:
        file.truncate(2**33)  # Sparse: zeros up to 8 GB.
    reader = frames(path, lambda _: None)
    got = [next(reader)[0] for _ in range(4)]
    assert got == sorted(got)
    assert max(lengths) <= 3 * FRAME_BYTES_MAX


def test_a_step_that_is_cut_off_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.mft"
    log = [-1, 1, "module", ["Log", "E", "x"], [[2]]]
    records = [STARTED, [0, 1], log, [1], [0, 1], [1, 0, "yy"], [1, 0, "z"]]
    parts = [msgpack.packb(one) for one in (HEAD, *records)]
    content = b"".join(parts)
    # The writer flushes whole steps: no piece ends between an event and its effects.
    never = {len(b"".join(parts[:count])) for count in (3, 4, 6, 7)}
    at = Position()
    seen: list[Step] = []
    for size in sorted({*range(1, len(content) + 1)} - never):
        path.write_bytes(packed(HEADER) + packed(raw=content[:size]))
        (source,) = sources([path])
        seen += [one for one in read_items(source, at=at) if isinstance(one, Step)]
    assert [(one.number, len(one.effects)) for one in seen] == [(1, 1), (2, 2)]


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    at = Position()
    seen: list[int] = []
    for number in range(1, 6):
        writer.step("module", number, Started(), [])
        writer.step("module", number, PeerSilent(number), [])
        with writer._changed:
            entries = writer._whole(ending=True)
        writer._write(entries)
        (source,) = sources([tmp_path])
        seen += [one.number for one in read_items(source, at=at) if isinstance(one, Step)]
    writer.close()
    assert seen == list(range(1, 11))
