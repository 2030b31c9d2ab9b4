"""The files of a ring that goes on: its machine's clock is set."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrorfarm.actors.effects import Log
from mirrorfarm.actors.events import PeerSilent
from mirrorfarm.cli.main import main
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.trace.copying import Copy
from mirrorfarm.trace.files import sources
from mirrorfarm.trace.redact import KEY_BYTES, Redactor, vocabulary
from mirrorfarm.trace.steps import read_items, read_steps
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
