"""Traces of several nodes become one, in which nothing comes before its cause."""

import shutil
from pathlib import Path

import pytest

from mirrorfarm.actors.effects import Send
from mirrorfarm.actors.events import Received, Started
from mirrorfarm.errors import TraceInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.trace import merge as merging
from mirrorfarm.trace.files import Fault
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.step import Placed
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Probe
from mirrorfarm.transport.trace_ring import Origin, Ring
from tests.mirrorfarm.trace.little_cluster import (
    EPOCH_NS,
    HOUR_NS,
    LittleCluster,
    Machine,
    takeover,
)

EXAMPLES = Path(__file__).parents[3] / "examples" / "traces"


def assert_causal(merged: list[Placed]) -> None:
    """Every receipt is behind its sending, and each process's steps keep their order."""
    for number, placed in enumerate(merged):
        assert placed.number == number
        if placed.sending is not None:
            sender = merged[placed.sending.number]
            assert sender.number < number
            assert sender.lamport < placed.lamport
            assert isinstance(placed.step.event, Received)
            assert placed.sending.effect.message == placed.step.event.message
            assert placed.step.event.source.node == sender.step.node
    by_lane: dict[int, list[Placed]] = {}
    for placed in merged:
        by_lane.setdefault(placed.lane, []).append(placed)
    for row in by_lane.values():
        order = [(one.step.incarnation, one.step.number) for one in row]
        assert order == sorted(order)


def test_nodes_that_are_hours_apart_are_joined_and_the_difference_is_told(recorded: Path) -> None:
    merge = Merge([recorded], vectors=True)
    merged = list(merge.steps())
    assert len(merged) == merge.total > 1_000
    assert_causal(merged)
    assert merge.joined > 300
    assert merge.unordered == merge.gaps == 0
    clocks = {clock.node: clock for clock in merge.clocks}
    assert clocks["n1"].basis == "reference"
    assert abs(clocks["n2"].ahead_ns - 5 * HOUR_NS) < 3_000_000  # 60 ppm of 18 s are in it.
    assert abs(clocks["w"].ahead_ns + 3 * HOUR_NS) < 15_000_000
    assert clocks["n2"].error_ns is not None
    assert clocks["n2"].error_ns < 1_000_000
    assert 30 < clocks["n2"].fast_ppm < 90
    assert "5 h 0 min ahead" in str(clocks["n2"])


def test_the_common_time_is_that_of_the_reference(recorded: Path) -> None:
    merged = list(Merge([recorded]).steps())
    assert 0 < merged[0].at_ns - EPOCH_NS - SECOND_NS < 1_000_000
    wrong = [
        placed
        for placed in merged
        if placed.sending is not None and placed.at_ns - placed.sending.at_ns > 2_000_000
    ]
    assert not wrong, "messages took 0.1 to 0.9 ms"
    times = [placed.at_ns for placed in merged]
    assert times == sorted(times), "no time contradicts the order"


def test_a_cluster_whose_clocks_stood_before_1970_is_told_later(tmp_path: Path) -> None:
    wrong_ns = -EPOCH_NS - HOUR_NS
    takeover(tmp_path, *(Machine(name, wrong_ns=wrong_ns) for name in ("n1", "n2", "w")))
    merge = Merge([tmp_path])
    times = [placed.at_ns for placed in merge.steps()]
    assert times == sorted(times)
    assert 0 == merge.begin_ns == times[0] < times[-1] < HOUR_NS
    assert len(set(times)) > len(times) // 2, "they are not all called 1970"
    begins = HOUR_NS - SECOND_NS
    assert abs(merge.clocks[0].ahead_ns + begins) < SECOND_NS
    assert "59 min 59 s later: one stood before 1970" in str(merge.clocks[0])


def test_vector_clocks_are_those_of_the_past(recorded: Path) -> None:
    merge = Merge([recorded], vectors=True)
    merged = list(merge.steps())
    pasts: list[set[int]] = []  # By brute force: all that precedes a step.
    last: dict[int, int] = {}
    for placed in merged[:600]:
        past = {placed.number}
        if placed.lane in last:
            past |= pasts[last[placed.lane]]
        if placed.sending is not None:
            past |= pasts[placed.sending.number]
        last[placed.lane] = placed.number
        pasts.append(past)
        counts = [0] * len(merge.lanes)
        for number in past:
            counts[merged[number].lane] += 1
        assert placed.vector == tuple(counts)


def test_a_second_run_over_the_steps_is_the_same(recorded: Path) -> None:
    merge = Merge([recorded])
    first = [(one.number, one.at_ns, one.lamport) for one in merge.steps()]
    assert [(one.number, one.at_ns, one.lamport) for one in merge.steps()] == first
    assert not next(merge.steps()).vector


def test_a_node_without_its_peers_traces_is_merged_alone(recorded: Path) -> None:
    merge = Merge([recorded / "n2"])
    merged = list(merge.steps())
    assert {placed.step.node for placed in merged} == {"n2"}
    assert merge.joined == 0


def test_starts_of_a_process_follow_one_another(tmp_path: Path) -> None:
    cluster = LittleCluster(tmp_path, Machine("n2", 9 * SECOND_NS, wrong_ns=-HOUR_NS))
    cluster.start("n1")
    cluster.start("n2")
    cluster.run(2_000)
    cluster.kill("n2")
    cluster.run(3_000)
    cluster.start("n2")
    cluster.run(2_000)
    cluster.close()
    merge = Merge([tmp_path])
    merged = list(merge.steps())
    assert_causal(merged)
    starts = [one.step.incarnation for one in merged if one.step.node == "n2"]
    assert starts == sorted(starts)
    assert set(starts) == {1, 2}


def test_traces_of_two_clusters_are_not_merged_as_one() -> None:
    with pytest.raises(TraceInvalid, match=r"traces of different clusters: name those of one"):
        Merge([EXAMPLES])


def test_the_same_trace_twice_is_refused(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded / "n1", tmp_path / "copy")
    with pytest.raises(TraceInvalid, match=r"both hold start 1 of n1/ledger: name only one"):
        Merge([recorded, tmp_path])


def test_a_damaged_part_is_a_gap_and_the_rest_is_merged(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "all")
    [path] = (tmp_path / "all" / "n1").rglob("*.mft")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    faults: list[Fault] = []
    merge = Merge([tmp_path / "all"], faults.append)
    merged = list(merge.steps())
    assert faults
    assert_causal(merged)
    assert len(merged) < len(list(Merge([recorded]).steps()))
    assert {placed.step.node for placed in merged} >= {"n2", "w"}


def test_what_awaits_a_message_that_never_was_sent_goes_on(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "UNDER_WAY_MAX", 0)
    forgetful = Merge([recorded])
    assert len(list(forgetful.steps())) == forgetful.total
    assert forgetful.joined == 0


def test_messages_join_machines_whose_clocks_jump_by_more_than_anybody_would_wait(
    tmp_path: Path,
) -> None:
    """As if n1 and w stood still, and their clocks with them."""
    n2 = Machine("n2", 100 * SECOND_NS)
    cluster = LittleCluster(tmp_path, n2)
    cluster.start("n1")
    cluster.start("n2")
    for _ in range(3):
        cluster.run(1_000)
        n2.boot_ns += 30 * SECOND_NS
    cluster.run(1_000)
    cluster.close()
    merge = Merge([tmp_path])
    merged = list(merge.steps())
    assert len(merged) == merge.total
    assert (merge.unordered, merge.joined) == (0, 72)
    assert_causal(merged)


Told = tuple[float, str, int]  # By its clock, in seconds: sent or received, and which message.


def process(folder: Path, name: str, incarnation: int, peer: str, *told: Told) -> None:
    """Record steps of `node/process`; what it hears is from the first start of app on `peer`."""
    node, _, process = name.partition("/")
    origin = Origin("0.1", "c", node, process, incarnation, "b")
    ring = Ring(folder / name, origin, 99_999, 1, {"epoch_real_ns": 0})
    other, probe = Address(peer, "app", "x"), Probe("red", 1)
    for number, (second, what, message) in enumerate(told, 1):
        now = round(second * SECOND_NS)
        ring.ready(now, number)
        event = Received(other, probe, "red", 1, message) if what == "received" else Started()
        sends = [Send(other, probe)] if what == "sent" else []
        ring.encoder.step("x", now, event, sends, [message] if sends else ())
    ring.flush(ends=True)


def test_steps_of_one_machine_come_in_the_order_of_its_clock(tmp_path: Path) -> None:
    """n1 and its clock stood still for 39 s, which no common line has."""
    mine = [(1, "received", 1), (1.5, "sent", 1), (2, "received", 2), (3, "sent", 2)]
    process(tmp_path, "n1/app", 1, "n2", *mine)
    process(tmp_path, "n1/beside", 2, "n2", (1.2, "", 0), (2.5, "", 0))
    theirs = [(1, "sent", 1), (1.5, "received", 1), (41, "sent", 2), (42, "received", 2)]
    process(tmp_path, "n2/app", 1, "n1", *theirs)
    merge = Merge([tmp_path])
    merged = list(merge.steps())
    assert (merge.joined, merge.unordered) == (4, 0)
    mine_ns = [placed.step.now_ns for placed in merged if placed.step.node == "n1"]
    assert mine_ns == [round(s * SECOND_NS) for s in (1, 1.2, 1.5, 2, 2.5, 3)]
    times = [placed.at_ns for placed in merged]
    assert times == sorted(times)


def test_a_message_says_more_than_the_clock_of_a_machine(tmp_path: Path) -> None:
    """Processes look at it before they are done."""
    process(tmp_path, "n1/app", 1, "n2", (2, "sent", 1), (5, "", 0))
    process(tmp_path, "n1/beside", 2, "n1", (1, "received", 1), (3, "", 0))
    merge = Merge([tmp_path])
    merged = [(placed.step.process, placed.step.number) for placed in merge.steps()]
    assert merged == [("app", 1), ("beside", 1), ("beside", 2), ("app", 2)]
    assert (merge.joined, merge.unordered) == (1, 0)


def test_processes_that_wait_for_each_other_go_on_at_once(tmp_path: Path) -> None:
    later: list[Told] = [(second, "", 0) for second in range(3, 20)]
    for node, peer in (("n1", "n2"), ("n2", "n1")):
        process(tmp_path, f"{node}/app", 1, peer, (1, "received", 1), (2, "sent", 1), *later)
    process(tmp_path, "n3/app", 1, "n1", *later)
    merge = Merge([tmp_path])
    merged = list(merge.steps())
    assert len(merged) == merge.total == 55
    assert (merge.unordered, merge.joined) == (1, 1)
    times = [placed.at_ns for placed in merged]
    assert times == sorted(times), "n3 is not ahead of the others"
    assert [one.number for one in merge.steps()] == list(range(55)), "a second time as well"


def test_memory_holds_no_more_than_what_is_under_way(tmp_path: Path) -> None:
    takeover(tmp_path)
    merge = Merge([tmp_path])
    most = 0
    for _ in merge.steps():
        most = max(most, len(merge._under_way))
    assert most <= merging.UNDER_WAY_MAX
