"""What was traced is read back as it was; an idle trace costs nothing, a full one never waits."""

import resource
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors.effects import Log, PlaneOrder, Send, Tell
from mirrorfarm.actors.events import PeerSilent, Received, Started
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import AgentCommand, Probe, StateAnswer
from mirrorfarm.transport.trace import (
    EFFECT,
    FILE_BYTES,
    INPUT,
    NOTE,
    QUEUE_STEPS_MAX,
    Origin,
    TraceRecord,
    TraceWriter,
    _Ring,
    _Step,
    read_header,
    read_trace,
)
from tests.transport.bus import until

ORIGIN = Origin("b1", "0123456789abcdef", "n1", "web", 7, "boot-id")
TO = Address("n2", "web", "module")
STEPS: list[tuple[str, int, Any, list[Any]]] = [
    ("module", 1_000, Started(), [Log("E", "started é")]),
    ("heartbeat", 2_000, PeerSilent(9), [Tell("module", PeerSilent(9)), Send(TO, Probe("red", 1))]),
    ("module", 1_500, PeerSilent(9), []),
    ("module", 2**62, Received(TO, Probe("red", 1), "red"), [PlaneOrder("x", (1, "a", None))]),
]


def write(folder: Path, steps: list[tuple[str, int, Any, list[Any]]] = STEPS) -> dict[str, int]:
    writer = TraceWriter(folder, ORIGIN)
    for step in steps:
        writer.step(*step)
    writer.close()
    return writer.counters()


def expected(steps: list[tuple[str, int, Any, list[Any]]] = STEPS) -> list[TraceRecord]:
    return [
        TraceRecord(EFFECT if n else INPUT, now, actor, lamport, (msgspec.to_builtins(value),))
        for lamport, (actor, now, event, effects) in enumerate(steps, 1)
        for n, value in enumerate([event, *effects])
    ]


def plain(path: Path) -> list[TraceRecord]:
    """Return all records but notes."""
    return [one for one in read_trace(path) if one.kind != NOTE]


def as_lists(records: list[TraceRecord]) -> str:
    """Tuples and lists are the same in a trace."""
    return msgspec.json.encode(records).decode()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    assert write(tmp_path) == {"steps": 4, "dropped": 0, "unreadable": 0, "failed": 0}
    assert as_lists(plain(tmp_path)) == as_lists(expected())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2**62), st.integers(0, 2**62))))
def test_any_times_in_any_order_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, moments: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    steps: list[tuple[str, int, Any, list[Any]]] = [
        (actor, now, PeerSilent(silent), []) for actor, now, silent in moments
    ]
    write(folder, steps)
    assert as_lists(plain(folder)) == as_lists(expected(steps))


def test_events_are_typed_again_from_what_was_read(tmp_path: Path) -> None:
    write(tmp_path)
    last = [one for one in plain(tmp_path) if one.kind == INPUT][-1]
    assert msgspec.convert(last.fields[0], Received) == STEPS[-1][2]


def test_the_header_says_whose_trace_it_is_and_names_all_fields(tmp_path: Path) -> None:
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    header = read_header(path)
    assert (header["cluster"], header["node"], header["inc"]) == ("0123456789abcdef", "n1", 7)
    assert header["types"]["Received"] == ["source", "message", "network"]
    assert header["types"]["Probe"] == ["network", "number"]
    now_ns = header["epoch_real_ns"] + time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(now_ns - time.time_ns()) < 60 * 10**9
    assert path.stat().st_mode & 0o077 == 0


def test_contents_of_files_are_never_recorded(tmp_path: Path) -> None:
    secret = b"contents of a file"
    answer = StateAnswer("r", secret)
    orders = PlaneOrder("w", (secret, bytearray(secret), [(memoryview(secret),)], {"k": secret}))
    command = AgentCommand("r", "install", "root", (), secret)
    write(
        tmp_path,
        [("module", 1, Received(TO, command), [Send(TO, answer), orders])],
    )
    records = plain(tmp_path)
    assert "contents" not in repr(records)
    assert records[0].fields[0][2][-1] == len(secret)
    assert records[1].fields[0][2][2] == len(secret)
    size = len(secret)
    assert records[2].fields[0][2] == [size, size, [[size]], {"k": size}]


def test_a_file_that_ends_within_a_frame_is_read_up_to_it(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    writer.step(*STEPS[0])
    until(lambda: any(one.stat().st_size for one in tmp_path.iterdir()) and plain(tmp_path))
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size
    writer.step(*STEPS[1])
    writer.close()
    data = path.read_bytes()
    for size in range(whole, len(data)):
        path.write_bytes(data[:size])
        assert as_lists(plain(path)) == as_lists(expected(STEPS[:1]))
    path.write_bytes(data)
    assert as_lists(plain(path)) == as_lists(expected(STEPS[:2]))


def test_each_frame_is_decodable_by_itself(tmp_path: Path) -> None:
    steps: list[tuple[str, int, Any, list[Any]]] = [
        ("module", n, Started(), [Log("E", f"{n} " + "x" * 1_000)]) for n in range(3_000)
    ]
    write(tmp_path, steps)
    assert as_lists(plain(tmp_path)) == as_lists(expected(steps))
    (path,) = tmp_path.iterdir()
    data, frames = path.read_bytes(), 0
    while data:
        one = zstandard.ZstdDecompressor().decompressobj()
        assert len(one.decompress(data)) <= 1_048_576
        data, frames = one.unused_data, frames + 1
    assert frames == 1 + 3  # The header, then 3 MB of records.


def test_the_ring_keeps_the_newest_files(tmp_path: Path) -> None:
    for run in range(6):
        writer = TraceWriter(tmp_path, ORIGIN, files=3)
        writer.step("module", run, PeerSilent(run), [])
        writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"trace-{number:08}.mft" for number in (4, 5, 6)
    ]
    assert [one.at_ns for one in plain(tmp_path)] == [3, 4, 5]


def test_a_file_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN, file_bytes=10_000, files=4)
    for number in range(6_000):
        noise = f"{number * 2654435761 % 2**64:x}" * 40
        writer.step("module", number, Started(), [Log("E", noise)])
    writer.close()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 1
    assert plain(tmp_path)[-1].at_ns == 5_999
    assert read_header(paths[-1])["actors"] == {"module": 1}


def test_a_disk_that_was_full_leaves_no_half_frames(
    tmp_path: Path,
) -> None:
    ring = _Ring(tmp_path, ORIGIN, FILE_BYTES, 2)
    ring.write([_Step("module", 1, 1, Started(), ())])
    (path,) = tmp_path.iterdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match=r"large|written"):
            ring.write([_Step("module", 2, 2, Started(), ())])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    ring.write([_Step("module", 3, 3, Started(), ())])
    assert [one.at_ns for one in plain(tmp_path)] == [1, 3]


def test_a_caller_never_waits_what_is_too_much_is_counted(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    for number in range(5 * QUEUE_STEPS_MAX):
        writer.step("module", number, Started(), [])
    writer.close()
    counts = writer.counters()
    assert counts["steps"] + counts["dropped"] == 5 * QUEUE_STEPS_MAX
    assert len(plain(tmp_path)) == counts["steps"]


def test_what_cannot_be_represented_leaves_a_note(tmp_path: Path) -> None:
    counts = write(
        tmp_path, [("module", 1, Started(), [Log("E", "x" * 600_000), PlaneOrder("a", (2**70,))])]
    )
    assert counts["unreadable"] == 2
    notes = [one.fields for one in read_trace(tmp_path) if one.kind == NOTE]
    assert notes == [("actor", "module"), ("unreadable", "Log"), ("unreadable", "PlaneOrder")]


def test_values_of_foreign_types_are_named_not_shown(tmp_path: Path) -> None:
    order = PlaneOrder("a", (Path("/secret"), object()))
    assert write(tmp_path, [("module", 1, Started(), [order])])["unreadable"] == 0
    assert plain(tmp_path)[1].fields[0] == ["PlaneOrder", "a", ["<PosixPath>", "<object>"]]


def test_a_disk_that_refuses_does_not_reach_the_caller(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t", ORIGIN)
    (tmp_path / "t").rmdir()
    writer.step(*STEPS[0])
    writer.close()
    assert writer.counters()["failed"] == 1


@pytest.mark.parametrize("data", [b"", b"garbage", zstandard.ZstdCompressor().compress(b"\x90")])
def test_files_that_are_no_traces_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.mft"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not a trace"):
        list(read_trace(path))


def test_an_idle_trace_costs_nothing(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    status = Path(f"/proc/self/task/{writer._thread.native_id}/status")

    def switches() -> list[str]:
        return [line for line in status.read_text().splitlines() if "ctxt" in line]

    def asleep() -> bool:
        before = switches()
        time.sleep(0.05)
        return switches() == before

    until(asleep)
    before = switches()
    time.sleep(1.5)  # A span to measure, not something to wait for.
    assert switches() == before
    writer.close()
    assert list(tmp_path.iterdir()) == []
