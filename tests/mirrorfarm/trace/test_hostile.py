"""Forged traces: whatever a frame holds, it is a fault that is told, never a crash."""

import struct
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import msgspec
import pytest
import zstandard

from mirrorfarm.actors.events import Received, Started
from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.trace import decoder
from mirrorfarm.trace.decoder import Decoder, FrameBroken
from mirrorfarm.trace.export import FORMATS, Options, export
from mirrorfarm.trace.files import Fault, frames
from mirrorfarm.trace.why import why
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Leave
from mirrorfarm.transport.trace_ring import Origin, Ring

ROUNDS = 60
TOLD: Any = msgspec.defstruct(
    "Told",
    [("write", int), ("extent", int), ("term", int)],
    array_like=True,
    tag=True,
    frozen=True,
)
# Other types in the places of what is expected: nil, false, a row, a map, texts, big numbers.
VALUES = (b"\xc0", b"\xc2", b"\x90", b"\x91\x01", b"\x80", b"\xa0", b"\xa1x", b"\xc4\x01x", b"\x00")
NUMBERS = (b"\xcf" + struct.pack(">Q", 2**64 - 1), b"\xd3" + struct.pack(">q", -(2**63)), b"\xff")


def forged(path: Path, output: Path, random: Random) -> None:
    """Write a trace again, with a few bytes of its records replaced by other values."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file:
        for offset, content in frames(path, lambda _: None):
            data = bytearray(content)
            for _ in range(random.randint(1, 6) if offset else 0):
                at = random.randrange(len(data))
                data[at : at + 1] = random.choice(VALUES + NUMBERS)
            file.write(zstandard.compress(bytes(data)))


@pytest.mark.parametrize("name", [*sorted(FORMATS), "parquet", "why"])
def test_a_forged_trace_is_no_crash(name: str, recorded: Path, tmp_path: Path) -> None:
    random = Random(sum(name.encode()))
    told = 0
    for number in range(ROUNDS // 6):
        folder = tmp_path / str(number)
        for path in recorded.rglob("*.mft"):
            forged(path, folder / path.relative_to(recorded), random)
        faults: list[Fault] = []
        try:
            if name == "why":
                why([folder], "PeerSilent", faults.append)
            else:
                export([folder], Options(name, tmp_path / f"out{number}"), faults.append)
        except MirrorfarmError:
            told += 1
        told += bool(faults)
    assert told > ROUNDS // 12


def test_an_event_that_was_told_counts_as_often_as_it_is_taken_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder, "MADE_MAX", 10_000)
    told = [-1, 1, "module", ["Tell", "module", ["OfTomorrow", [0] * 1_000]], []]
    records: list[Any] = [told, [0]]
    for slot in range(1, 100):
        records += [[-1, 0, "module", ["OfTomorrow", 0], [[1]]], [slot, 0, -1, 0]]
    head = {"now": 0, "lamport": 1, "records": 0, "digest": bytes(16)}
    frame = Decoder(b"".join(msgpack.packb(one) for one in (head, *records)))
    assert frame.open()
    with pytest.raises(FrameBroken, match="more than 10,000 values"):
        list(frame.read())


def test_times_and_numbers_beyond_all_bounds_are_left_out(tmp_path: Path) -> None:
    steps: list[tuple[int, Any, list[Any]]] = [
        (SECOND_NS, Started(), []),
        (2**63, Started(), []),
        (2 * SECOND_NS, ["Told", 2**64 - 1, 1, 1], []),
        (3 * SECOND_NS, Received(Address("n2", "web", "module"), Leave(2**64 - 1)), []),
    ]
    ring = Ring(tmp_path / "t", Origin("1", "c" * 16, "n1", "web", 1, "boot"), 1 << 20, 8)
    for number, (now, event, effects) in enumerate(steps, 1):
        ring.ready(now, number)
        told = TOLD(*event[1:]) if isinstance(event, list) else event
        ring.encoder.step("module", now, told, effects, [])
    ring.flush(ends=True)
    for name in ("parquet", "pcapng", "jsonl", "perfetto", "tla"):
        report = export([tmp_path / "t"], Options(name, tmp_path / name))
        assert (report.steps, report.gaps) == (3, 1)
