"""A ring that goes on while it is read: its clock is set, its oldest files go, it grows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.effects import Log
from mirrorfarm.actors.events import PeerSilent
from mirrorfarm.cli.main import main
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.trace.copying import Copy
from mirrorfarm.trace.decoder import Checkpoint, Note
from mirrorfarm.trace.files import Source, sources
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.redact import KEY_BYTES, Redactor, vocabulary
from mirrorfarm.trace.step import Step
from mirrorfarm.trace.steps import Gap, Item, Position, read_items, read_steps
from mirrorfarm.transport.trace_ring import FILE_BYTES, FILES, Ring
from tests.mirrorfarm.trace.recorded import ORIGIN

DAY_NS = 1_800_000_000 * SECOND_NS
SET_NS = 5 * 3_600 * SECOND_NS
TIMES = [DAY_NS + at * SECOND_NS + (SET_NS if at > 2 else 0) for at in (1, 2, 3, 4)]

Show = Callable[..., list[tuple[int, str]]]


class Recorded:
    """A ring; one step each second of the boot clock."""

    def __init__(self, folder: Path) -> None:
        self.header = {"epoch_real_ns": DAY_NS}  # Of the files that are yet to begin.
        self.ring = Ring(folder, ORIGIN, FILE_BYTES, FILES, self.header)
        self.count = 0

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            self.ring.ready(self.count * SECOND_NS, self.count)
            event = PeerSilent(self.count)
            self.ring.encoder.step("module", self.count * SECOND_NS, event, [Log("E", "x")], [])
        self.ring.flush()

    def next_file(self) -> None:
        """Have the next step begin a file."""
        self.ring.flush(ends=True)
        self.ring.give_up()


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    def call(*words: object) -> list[tuple[int, str]]:
        with pytest.raises(SystemExit):
            main([str(word) for word in ("trace", "show", *words, "--json")])
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [(row["real_ns"], row["kind"]) for row in rows]

    return call


@pytest.fixture
def clock_set(tmp_path: Path) -> Path:
    """Two steps, and two more in a file that began after the clock had been set."""
    recorded = Recorded(tmp_path / "t")
    recorded.steps(2)
    recorded.next_file()
    recorded.header["epoch_real_ns"] += SET_NS
    recorded.ring.ready(3 * SECOND_NS, 3)
    recorded.ring.encoder.note("broke", "guard", "it breaks")
    recorded.steps(2)
    return tmp_path / "t"


def test_times_are_those_of_the_clock_as_each_file_found_it(clock_set: Path, show: Show) -> None:
    assert [step.real_ns for step in read_steps([clock_set])] == TIMES
    rows = show(clock_set)
    assert [at for at, kind in rows if kind == "input"] == TIMES
    assert [at for at, kind in rows if kind == "note"] == TIMES[2:3]


def test_a_time_that_is_wanted_is_one_of_the_clock_as_it_was_set(
    clock_set: Path, show: Show
) -> None:
    between = (DAY_NS + SET_NS // 2) // SECOND_NS
    begin = datetime.fromtimestamp(between, UTC).isoformat()
    assert len([kind for _, kind in show(clock_set, "--from", begin) if kind == "input"]) == 2
    assert len([kind for _, kind in show(clock_set, "--to", begin) if kind == "input"]) == 2


def test_a_redacted_copy_has_the_times_of_the_original(clock_set: Path, tmp_path: Path) -> None:
    (source,) = sources([clock_set])
    copy = Copy(source, tmp_path / "copy", Redactor("hash", bytes(KEY_BYTES), vocabulary()), "hash")
    assert copy.write(read_items(source)) == 4
    assert [step.real_ns for step in read_steps([tmp_path / "copy"])] == TIMES


@pytest.fixture
def three_files(tmp_path: Path) -> Source:
    """Two steps in each."""
    recorded = Recorded(tmp_path / "t")
    for _ in range(3):
        recorded.steps(2)
        recorded.next_file()
    (source,) = sources([tmp_path / "t"])
    assert len(source.files) == 3
    return source


def numbers(items: list[Item]) -> list[int | Gap]:
    """Return the numbers of steps, and what is missing between them."""
    steps = (one for one in items if isinstance(one, Step | Gap))
    return [one if isinstance(one, Gap) else one.number for one in steps]


def doom(monkeypatch: pytest.MonkeyPatch, *doomed: Path) -> None:
    """Have files removed once somebody has opened them, as their recorder may do."""
    honest = Path.open

    def open_and_remove(path: Path, *words: Any, **how: Any) -> Any:
        file = honest(path, *words, **how)
        if path in doomed:
            path.unlink()
        return file

    monkeypatch.setattr(Path, "open", open_and_remove)


def test_reading_goes_on_behind_a_file_that_is_removed_meanwhile(three_files: Source) -> None:
    items = read_items(three_files)
    read = [next(items)]
    for path in three_files.files[:2]:
        path.unlink()
    assert numbers(read + list(items)) == [1, 2, Gap(2), 5, 6]


def test_a_file_that_is_removed_before_it_was_read_is_none_of_the_ring(
    three_files: Source, monkeypatch: pytest.MonkeyPatch, show: Show
) -> None:
    folder = three_files.files[0].parent
    doom(monkeypatch, three_files.files[0])
    assert [step.number for step in read_steps([folder])] == [3, 4, 5, 6]
    doom(monkeypatch, three_files.files[1])
    merge = Merge([folder])
    assert merge.total == 2
    assert [placed.step.number for placed in merge.steps()] == [5, 6]


def test_a_file_that_is_gone_when_its_header_is_read_is_no_fault(
    three_files: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = three_files.files
    honest = Path.stat

    def stat_and_remove(path: Path, **how: Any) -> Any:
        found = honest(path, **how)
        if path == first:
            path.unlink()
        return found

    monkeypatch.setattr(Path, "stat", stat_and_remove)
    (source,) = sources([first.parent])
    assert source.files == (second, third)


def test_whoever_follows_is_told_what_was_removed_before_it_was_read(tmp_path: Path) -> None:
    recorded, at = Recorded(tmp_path / "t"), Position()
    recorded.steps(2)
    (source,) = sources([tmp_path / "t"])
    assert numbers(list(read_items(source, at=at))) == [1, 2]
    for _ in range(2):
        recorded.steps(2)
        recorded.next_file()
    source.files[0].unlink()
    (source,) = sources([tmp_path / "t"])
    assert numbers(list(read_items(source, at=at))) == [Gap(2), 5, 6]
    assert list(read_items(source, at=at)) == []


def test_whoever_follows_gets_what_comes_without_a_step(tmp_path: Path) -> None:
    recorded, at = Recorded(tmp_path / "t"), Position()
    encoder = recorded.ring.encoder

    def news() -> list[type]:
        recorded.ring.flush()
        return [type(one) for one in read_items(sources([tmp_path / "t"])[0], at=at)]

    recorded.steps(1)
    assert news() == [Step]
    encoder.note("broke", "guard", "it breaks")
    assert news() == [Note]
    encoder.checkpoint("module", "Mirror", {}, birth=False)
    assert news() == [Checkpoint]
    assert news() == []
    recorded.steps(1)
    encoder.note("lost", 3)
    assert news() == [Step, Gap]
    recorded.next_file()
    recorded.count += 3
    assert news() == []
    recorded.steps(1)
    assert news() == [Step]
