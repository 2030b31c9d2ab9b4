"""What was traced is read back as it was; an idle trace costs nothing, a full one never waits."""

import contextlib
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors.effects import Later, Log, PlaneOrder, Send, Tell
from mirrorfarm.actors.events import PeerSilent, Received, Started
from mirrorfarm.errors import TraceInvalid
from mirrorfarm.trace.decoder import Checkpoint, Note
from mirrorfarm.trace.files import read_header, sources
from mirrorfarm.trace.step import Step, Unreadable
from mirrorfarm.trace.steps import Gap, Item, read_items
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import AgentCommand, Probe, StateAnswer
from mirrorfarm.transport.trace import QUEUE_STEPS_MAX, TOO_SLOW, TraceWriter, _Step
from mirrorfarm.transport.trace_encoder import FRAME_BYTES, stand_in
from mirrorfarm.transport.trace_ring import Origin
from tests.transport.bus import until

ORIGIN = Origin("b1", "0123456789abcdef", "n1", "web", 7, "boot-id")
TO = Address("n2", "web", "module")
TIMES = st.integers(0, 2**62)
STEPS: list[tuple[str, int, Any, list[Any]]] = [
    ("module", 1_000, Started(), [Log("E", "started é")]),
    ("heartbeat", 2_000, PeerSilent(9), [Tell("module", PeerSilent(9)), Send(TO, Probe("red", 1))]),
    ("module", 1_500, PeerSilent(9), []),
    (
        "module",
        2**62,
        Received(TO, Probe("red", 1), "red", 7, 8),
        [PlaneOrder("x", ((1, "a", None),))],
    ),
    ("module", 2**62, Received(TO, Probe("red", 2), "red", 7, 9), [Later(5, PeerSilent(1))]),
]


@dataclass
class Counter:
    """A core; its state is how many events it was given."""

    seen: int = 0
    names: dict[str, int] = field(default_factory=dict)


def write(
    folder: Path, steps: list[tuple[str, int, Any, list[Any]]] = STEPS, **how: Any
) -> dict[str, int]:
    writer = TraceWriter(folder, ORIGIN, **how)
    for step in steps:
        writer.step(*step)
    writer.close()
    return writer.counters()


def expected(steps: list[tuple[str, int, Any, list[Any]]] = STEPS) -> list[tuple[Any, ...]]:
    return [(number, *step) for number, step in enumerate(steps, 1)]


def items(folder: Path) -> list[Item]:
    return [item for source in sources([folder]) for item in read_items(source)]


def steps_of(folder: Path) -> list[tuple[Any, ...]]:
    return [
        (one.number, one.actor, one.now_ns, one.event, one.effects)
        for one in items(folder)
        if isinstance(one, Step)
    ]


def is_written(folder: Path, what: Callable[[Path], list[Any]] = steps_of) -> bool:
    with contextlib.suppress(OSError, TraceInvalid):  # No file is there yet, or it has no name.
        return bool(what(folder))
    return False


def kept(folder: Path) -> list[Checkpoint]:
    return [one for one in items(folder) if isinstance(one, Checkpoint)]


def notes_of(folder: Path) -> list[Note]:
    return [one for one in items(folder) if isinstance(one, Note)]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    assert write(tmp_path) == {"steps": 5, "dropped": 0, "unreadable": 0, "failed": 0}
    assert steps_of(tmp_path) == expected()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), TIMES, TIMES), min_size=1))
def test_any_times_in_any_order_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, moments: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    steps: list[tuple[str, int, Any, list[Any]]] = [
        (actor, now, PeerSilent(silent), []) for actor, now, silent in moments
    ]
    write(folder, steps)
    assert steps_of(folder) == expected(steps)


def test_the_header_says_whose_trace_it_is_and_names_all_fields(tmp_path: Path) -> None:
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    header = read_header(path)
    assert header is not None
    assert (header["cluster"], header["node"], header["inc"]) == ("0123456789abcdef", "n1", 7)
    assert header["types"]["Received"][:3] == ["source", "message", "network"]
    assert header["types"]["Probe"] == ["network", "number"]
    assert len(header["build"]) == len(header["cores"]["actors/heartbeat"]) == 16
    now_ns = header["epoch_real_ns"] + time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(now_ns - time.time_ns()) < 60 * 10**9
    assert path.stat().st_mode & 0o077 == 0


def test_contents_of_files_are_never_recorded(tmp_path: Path) -> None:
    secret = b"contents of a file"
    answer = StateAnswer("r", secret)
    orders = PlaneOrder("w", (secret, bytearray(secret), [(memoryview(secret),)], {"k": secret}))
    command = AgentCommand("r", "install", "root", (), secret)
    write(tmp_path, [("module", 1, Received(TO, command), [Send(TO, answer), orders])])
    ((_, _, _, event, effects),) = steps_of(tmp_path)
    assert "contents" not in repr((event, effects))
    held = stand_in(secret)
    assert event.message.package == effects[0].message.json == held
    assert effects[1].arguments == (held, held, ((held,),), {"k": held})
    assert held[4:12] == len(secret).to_bytes(8, "big")


def test_a_message_sent_carries_the_number_of_its_frame(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    for number in (41, 42):
        writer.step("module", number, Started(), [Send(TO, Probe("red", 1)), Log("E", "x")])
        writer.sent("module", number)
    writer.step("module", 3, Started(), [Send(TO, Probe("red", 1))])  # Its number never comes.
    writer.close()
    assert [one.sent for one in items(tmp_path) if isinstance(one, Step)] == [[41], [42], [None]]


def test_a_step_waits_for_the_numbers_of_its_messages_but_not_for_ever(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    writer.step("module", 1, Started(), [Send(TO, Probe("red", 1))])
    writer.step("other", 2, Started(), [])
    until(lambda: any(tmp_path.glob("*.mft")) and len(steps_of(tmp_path)) == 2)
    writer.close()


def test_a_step_is_not_written_while_its_messages_are_being_sent(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    with writer._changed:  # The writer's own thread waits.
        writer._take(first := _Step("a", 1, Started(), ()))
        writer._take(second := _Step("b", 2, Started(), (Send(TO, Probe("red", 1)),), sends=1))
        writer._take(third := _Step("a", 3, Started(), ()))
        writer._open["b"] = second
        assert writer._whole(ending=False) == [first]
        writer.sent("b", 41)
        assert writer._whole(ending=False) == [second, third]
        writer._queue.extend([first, second, third])
    writer.close()
    assert [one.sent for one in items(tmp_path) if isinstance(one, Step)] == [[], [41], []]


def test_the_birth_of_a_core_is_recorded_before_its_first_step(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    writer.watch("module", Counter(3, {"a": 1}), lambda _: None)
    writer.step(*STEPS[0])
    writer.close()
    first, second = items(tmp_path)
    state = {"seen": 3, "names": [["a", 1]]}
    assert first == Checkpoint("module", "Counter", state, birth=True)
    assert isinstance(second, Step)


def test_every_file_has_the_state_of_every_core(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN, file_bytes=10_000)
    core = Counter()
    writer.watch("module", core, lambda visit: visit.look(core))
    for number in range(6):
        for part in range(500):
            noise = f"{(number * 500 + part) * 2654435761 % 2**64:x}" * 40
            writer.step("module", number, Started(), [Log("E", noise)])
        until(lambda: any(tmp_path.glob("*.mft")))
        until(lambda n=500 * (number + 1): len(steps_of(tmp_path)) == n)  # type: ignore[misc]
    until(lambda: all(kept(path) for path in tmp_path.iterdir()))
    writer.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1
    assert [one.birth for one in kept(files[0])] == [True]
    assert [one.birth for one in kept(files[1])] == [False]


def test_a_file_that_ends_within_a_frame_is_read_up_to_it(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    writer.step(*STEPS[0])
    until(lambda: is_written(tmp_path))
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size
    writer.step(*STEPS[1])
    writer.close()
    data = path.read_bytes()
    for size in range(whole, len(data)):
        path.write_bytes(data[:size])
        assert steps_of(path)[:1] == expected(STEPS[:1])
    path.write_bytes(data)
    assert steps_of(path) == expected(STEPS[:2])


def test_each_frame_is_decodable_by_itself(tmp_path: Path) -> None:
    steps: list[tuple[str, int, Any, list[Any]]] = [
        ("module", n, Started(), [Log("E", f"{n} " + "x" * 1_000)]) for n in range(3_000)
    ]
    write(tmp_path, steps)
    assert steps_of(tmp_path) == expected(steps)
    (path,) = tmp_path.iterdir()
    data, found = path.read_bytes(), 0
    while data:
        one = zstandard.ZstdDecompressor().decompressobj()
        assert len(one.decompress(data)) <= FRAME_BYTES + 2_000
        data, found = one.unused_data, found + 1
    assert found == 1 + 12  # The header, then 3 MB of records.


def test_the_ring_keeps_the_newest_files(tmp_path: Path) -> None:
    for run in range(6):
        write(tmp_path, [("module", run, Started(), [])], file_bytes=4_000, files=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[-1] == "trace-00000006.mft"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 12_000
    assert [step[2] for step in steps_of(tmp_path)][-1] == 5
    assert 1 < len(names) < 6


def test_a_file_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    steps: list[tuple[str, int, Any, list[Any]]] = [
        ("module", n, Started(), [Log("E", f"{n * 2654435761 % 2**64:x}" * 40)])
        for n in range(6_000)
    ]
    write(tmp_path, steps, file_bytes=10_000, files=400)
    assert len(list(tmp_path.iterdir())) > 1
    assert steps_of(tmp_path) == expected(steps)
    assert not [one for one in items(tmp_path) if isinstance(one, Gap)]


def test_a_full_disk_leaves_no_half_frames_and_the_loss_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = TraceWriter(tmp_path, ORIGIN, on_loss=lambda *what: told.append(what))
    try:
        writer.step("module", 1, Started(), [])
        until(lambda: any(tmp_path.glob("*.mft")) and steps_of(tmp_path))
        (path,) = tmp_path.iterdir()
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
        writer.step("module", 2, Started(), [Log("E", "more than there is room for")])
        until(lambda: told)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.step("module", 3, Started(), [])
        until(lambda: len(told) == 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
        writer.close()
    assert [(lost, bool(why)) for lost, why in told] == [(1, True), (1, False)]
    assert writer.counters()["failed"] == 1
    first, second = (path for path in sorted(tmp_path.iterdir()))
    assert [step[2] for step in steps_of(first)] == [1]
    assert [step[2] for step in steps_of(second)] == [3]
    assert [one for one in items(tmp_path) if isinstance(one, Gap)] == [Gap(1)]


def test_a_caller_never_waits_what_is_too_much_is_counted(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    for number in range(5 * QUEUE_STEPS_MAX):
        writer.step("module", number, Started(), [])
    writer.close()
    counts = writer.counters()
    assert counts["steps"] + counts["dropped"] == 5 * QUEUE_STEPS_MAX
    assert len(steps_of(tmp_path)) == counts["steps"]


def test_steps_that_were_dropped_leave_a_gap_and_every_core_tells_its_state(tmp_path: Path) -> None:
    looked = threading.Event()
    writer = TraceWriter(tmp_path, ORIGIN)
    writer.watch("module", Counter(), lambda _: looked.set())
    with writer._changed:  # The writer cannot take any.
        for number in range(QUEUE_STEPS_MAX + 9):
            writer._take(_step(number))
    until(lambda: writer.counters()["steps"] and not writer._queue)
    writer.step("module", 1, Started(), [])
    assert looked.wait(10)
    writer.close()
    gaps = [one for one in items(tmp_path) if isinstance(one, Gap)]
    assert gaps == [Gap(writer.counters()["dropped"])]
    assert gaps[0].steps >= 9


def _step(number: int) -> Any:
    return _Step("module", number, Started(), ())


def test_what_cannot_be_represented_leaves_a_note(tmp_path: Path) -> None:
    large = Log("E", "x" * 600_000)
    counts = write(tmp_path, [("module", 1, Started(), [large, PlaneOrder("a", (2**70,))])])
    assert counts["unreadable"] == 2
    (step,) = items(tmp_path)
    assert isinstance(step, Step)
    assert step.effects == [Unreadable("Log"), Unreadable("PlaneOrder")]


def test_an_event_that_cannot_be_represented_still_makes_a_step(tmp_path: Path) -> None:
    large = Received(TO, Probe("x" * 600_000, 1))
    write(tmp_path, [("module", 1, Started(), []), ("module", 5, large, []), *STEPS[:1]])
    steps = [
        (one.number, one.now_ns, type(one.event))
        for one in items(tmp_path)
        if isinstance(one, Step)
    ]
    assert steps == [(1, 1, Started), (2, 5, Unreadable), (3, 1_000, Started)]


def test_values_of_foreign_types_are_named_not_shown(tmp_path: Path) -> None:
    order = PlaneOrder("a", (Path("/secret"), object()))
    assert write(tmp_path, [("module", 1, Started(), [order])])["unreadable"] == 0
    assert steps_of(tmp_path)[0][4] == [PlaneOrder("a", ("<PosixPath>", "<object>"))]


def test_a_disk_that_refuses_does_not_reach_the_caller(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t", ORIGIN)
    (tmp_path / "t").rmdir()
    (tmp_path / "t").touch()
    writer.step(*STEPS[0])
    writer.step(*STEPS[1])
    until(lambda: writer.counters()["failed"] == 2)
    (tmp_path / "t").unlink()
    (tmp_path / "t").mkdir()
    writer.step(*STEPS[2])
    writer.close()
    assert [(step[0], step[2]) for step in steps_of(tmp_path)] == [(3, STEPS[2][1])]


def test_what_began_while_the_disk_refused_tells_its_state_once_it_is_written(
    tmp_path: Path,
) -> None:
    writer, core = TraceWriter(tmp_path / "t", ORIGIN), Counter(3)
    (tmp_path / "t").rmdir()
    (tmp_path / "t").touch()
    writer.watch("module", core, lambda visit: visit.look(core))
    writer.step("module", 1, Started(), [])
    until(lambda: writer.counters()["failed"] == 1)
    (tmp_path / "t").unlink()
    (tmp_path / "t").mkdir()
    writer.step("module", 2, Started(), [])
    until(lambda: is_written(tmp_path / "t", kept))
    writer.close()


def test_what_broke_a_core_is_written_at_once(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, ORIGIN)
    writer.step("module", 1, Started(), [])
    writer.broke("module", AssertionError("never"))
    assert notes_of(tmp_path) == [Note("broke", ("module", "AssertionError('never')"))]


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
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told_and_made_later(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    (tmp_path / "log").touch()  # As a disk that takes no folder.
    folder = tmp_path / "log/trace"
    writer = TraceWriter(folder, ORIGIN, on_loss=lambda *what: told.append(what))
    try:
        writer.step("module", 1, Started(), [])
        until(lambda: told)
        assert "Not a directory" in told[0][1]
        (tmp_path / "log").unlink()
        writer.step("module", 2, Started(), [])
        until(lambda: len(told) == 2)
    finally:
        writer.close()
    assert [step[2] for step in steps_of(folder)] == [2]


@contextlib.contextmanager
def begun(folder: Path) -> Iterator[tuple[TraceWriter, list[tuple[int, str]]]]:
    """Give a writer whose first step is on disk, and what it tells of lost ones."""
    told: list[tuple[int, str]] = []
    writer = TraceWriter(folder, ORIGIN, on_loss=lambda *what: told.append(what))
    writer.watch("module", Counter(), lambda visit: None)
    with contextlib.closing(writer):
        writer.step("module", 1, Started(), [])
        until(lambda: is_written(folder))
        yield writer, told


def test_a_folder_that_somebody_removed_is_told_and_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "log/trace"
    with begun(folder) as (writer, told):
        shutil.rmtree(tmp_path / "log")
        writer.step("module", 2, Started(), [])
        until(lambda: told)
        assert "No such file or directory" in told[0][1]
        writer.step("module", 3, Started(), [])
        until(lambda: len(told) == 2)
        assert told[1] == (1, "")
    assert [step[2] for step in steps_of(folder)] == [3]


def test_that_steps_are_lost_is_told_later_if_there_is_no_thread_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, str]] = []
    writer = TraceWriter(tmp_path, ORIGIN, on_loss=lambda *what: told.append(what))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    try:
        with writer._changed:  # The writer cannot take any.
            for number in range(QUEUE_STEPS_MAX):
                writer._take(_step(number))
            with monkeypatch.context() as scarce:
                scarce.setattr(threading.Thread, "start", refuse)
                writer.step("module", 1, Started(), [])
            writer.step("module", 2, Started(), [])
        until(lambda: told)
        assert told[0][1] == TOO_SLOW
    finally:
        writer.close()


def test_what_was_written_before_another_folder_was_there_for_a_while_stays(tmp_path: Path) -> None:
    folder = tmp_path / "trace"
    with begun(folder) as (writer, told):
        folder.rename(tmp_path / "aside")
        folder.mkdir()
        writer.step("module", 2, Started(), [])
        until(lambda: told)
        folder.rmdir()
        (tmp_path / "aside").rename(folder)
        writer.step("module", 3, Started(), [])
        until(lambda: len(told) == 2)
    assert [step[2] for step in steps_of(folder)] == [1, 3]


def test_a_disk_that_hangs_is_told_while_it_hangs_and_when_it_goes_on(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    goes_on = threading.Event()
    writer = TraceWriter(tmp_path, ORIGIN, on_loss=lambda *what: told.append(what))
    append = writer._ring._append  # A disk that hangs in the middle of a writing.

    def hang(path: Path, data: bytes) -> None:
        goes_on.wait(10)
        append(path, data)

    writer._ring._append = hang  # type: ignore[method-assign]
    try:
        for number in range(2 * QUEUE_STEPS_MAX + 10):
            writer.step("module", number, Started(), [])
        until(lambda: told)
        assert told[0][1] == TOO_SLOW
        goes_on.set()
        for number in range(3):
            writer.step("module", 50_000 + number, Started(), [])
            until(lambda: not writer._queue)
        until(lambda: len(told) == 2)
    finally:
        goes_on.set()
        writer.close()
    assert told[1] == (writer.counters()["dropped"], "")
    gaps = [one.steps for one in items(tmp_path) if isinstance(one, Gap)]
    assert sum(gaps) == told[1][0] > 0


def test_a_recorder_that_breaks_is_told_and_takes_nobody_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(TraceWriter, "_whole", lambda *_: 1 // 0)
    writer = TraceWriter(tmp_path, ORIGIN, on_loss=lambda *what: told.append(what))
    writer.step("module", 1, Started(), [])
    until(lambda: told)
    assert "its recorder broke: ZeroDivisionError" in told[0][1]
    writer.step("module", 2, Started(), [])
    assert writer.counters()["dropped"] == 1
    writer.close()
