"""Runs of the simulator under faults, and traces that nobody meant, are exported and explained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.effects import Send, Tell
from mirrorfarm.actors.events import PeerSilent, Received, Started
from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.trace.export import FORMATS, Options, export
from mirrorfarm.trace.facts import Facts
from mirrorfarm.trace.finding import step_id
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.why import why
from mirrorfarm.transport import trace_ring
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Probe
from tests.mirrorfarm.trace.recorded import record_simulations

SECOND = 10**9


@pytest.fixture(name="simulated", scope="module")
def fixture_simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_simulations(tmp_path_factory.mktemp("simulated"), mirrors=1, farms=1)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"jepsen", "porcupine"}))
def test_whatever_cores_do_can_be_exported(name: str, simulated: Path, tmp_path: Path) -> None:
    report = export([simulated], Options(name, tmp_path / "out"))
    assert report.steps == Merge([simulated]).total > 3_000


def test_every_kind_of_fact_can_be_explained(simulated: Path) -> None:
    facts = Facts()
    examples: dict[str, str] = {}
    for placed in Merge([simulated]).steps():
        for fact in facts.of(placed.step):
            examples.setdefault(fact.kind, step_id(placed.step))
    assert examples.keys() >= {"role", "register", "view", "silent", "log", "command", "gate"}
    for name in examples.values():
        assert why([simulated], name).paragraph.endswith(".")


def trace(
    folder: Path,
    node: str,
    *steps: tuple[Any, Sequence[Any], Sequence[int | None]],
    begin: int = 1,
    incarnation: int = 1,
) -> None:
    """Write steps one second apart, from second `begin` on."""
    origin = trace_ring.Origin("1", "c" * 16, node, "web", incarnation, f"boot-{node}")
    ring = trace_ring.Ring(folder / node, origin, 1 << 20, 8)
    for number, (event, effects, sent) in enumerate(steps, begin):
        ring.ready(number * SECOND, number)
        ring.encoder.step("module", number * SECOND, event, effects, sent)
    ring.flush(ends=True)


def received(source: str, sequence: int) -> Received:
    return Received(Address(source, "web", "module"), Probe("red", sequence), "red", 1, sequence)


def send(to: str, sequence: int) -> Send:
    return Send(Address(to, "web", "module"), Probe("red", sequence))


def test_messages_that_each_came_before_the_other_was_sent(tmp_path: Path) -> None:
    trace(tmp_path, "n1", (received("n2", 1), [send("n2", 1)], [1]), (Started(), [], []))
    trace(tmp_path, "n2", (received("n1", 1), [send("n1", 1)], [1]), (Started(), [], []))
    merge = Merge([tmp_path])
    assert len(list(merge.steps())) == 4
    assert merge.unordered == 1
    assert merge.joined == 1


def test_numbers_of_messages_that_are_not_known_hold_up_nobody(tmp_path: Path) -> None:
    trace(tmp_path, "n1", *((Started(), [send("n2", 1)], [None]) for _ in range(50)))
    trace(tmp_path, "n2", *((received("n1", 9_000 + n), [], []) for n in range(50)))
    merge = Merge([tmp_path])
    merged = list(merge.steps())
    assert len(merged) == 100
    assert merge.joined == merge.unordered == 0
    assert [clock.basis for clock in merge.clocks] == ["reference", "time of day"]


def seconds_in_order(folder: Path) -> list[tuple[str, int]]:
    return [(one.step.node, one.step.now_ns // SECOND) for one in Merge([folder]).steps()]


def test_a_message_whose_sending_was_lost_is_not_awaited_beyond_later_ones(tmp_path: Path) -> None:
    trace(tmp_path, "n1", *((Started(), [send("n2", n)], [n]) for n in range(100, 109)))
    trace(tmp_path, "n2", (received("n1", 3), [], []), begin=2)
    order = seconds_in_order(tmp_path)
    assert order.index(("n2", 2)) <= 2


def test_a_message_of_a_process_that_was_killed_is_not_awaited_in_its_next_start(
    tmp_path: Path,
) -> None:
    trace(tmp_path, "n1", (Started(), [send("n2", 1)], [1]))
    trace(tmp_path, "n1", (Started(), [], []), (Started(), [], []), begin=4, incarnation=2)
    trace(tmp_path, "n2", (received("n1", 2), [], []), (Started(), [], []), begin=2)
    assert seconds_in_order(tmp_path) == [("n1", 1), ("n2", 2), ("n2", 3), ("n1", 4), ("n1", 5)]


def test_a_silence_without_any_message_is_explained(tmp_path: Path) -> None:
    silent = Tell("module", PeerSilent(5))
    trace(tmp_path, "n1", (Started(), [silent], []))
    assert "n1 never spoke to a peer" in why([tmp_path], "n1 silent").paragraph
    trace(tmp_path / "more", "n2", (Started(), [send("n1", 1), silent], [1]))
    answer = why([tmp_path / "more"], "n2 silent")
    assert "no message from n1 ever came" in answer.paragraph


def test_names_that_are_markup_do_no_harm(tmp_path: Path) -> None:
    trace(tmp_path, 'n"1;#<', (Started(), [Tell("module", PeerSilent(5))], []))
    for name in ("mermaid", "shiviz", "perfetto", "jsonl"):
        export([tmp_path], Options(name, tmp_path / "out"))
    with pytest.raises(MirrorfarmError):
        why([tmp_path], "x; drop #")
