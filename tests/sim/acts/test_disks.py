"""Faults of disks and clocks do what they say."""

import errno

import pytest

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.disks import BitRot, ClockDrift, DiskFills, RecordRots, ShortWrite
from mirrorfarm.sim.engine import RATE_MILLIONTHS, Draws
from mirrorfarm.sim.storage import Extents
from tests.sim.acts.clusters import farm, pair, results


def test_a_disk_has_room_for_so_many_writes_and_the_application_hears_of_the_rest() -> None:
    world = pair()
    told = results(world)
    perform(world, DiskFills("n1", 2, SECOND_NS))
    for _ in range(3):
        world.write()
        world.run(20)
    assert list(told.values()) == [0, 0, errno.ENOSPC]
    assert world.role("n1") == "PRIM Ready"
    world.run(1_000)
    world.write()
    world.run(20)
    assert list(told.values())[-1] == 0


def test_a_full_disk_of_the_second_ends_its_session() -> None:
    world = pair()
    perform(world, DiskFills("n2"))
    world.write()
    assert world.run_until(lambda: world.role("n1") == "ALONE Ready", 3_000)
    assert "No space" in world.reason("n2") or "28" in world.reason("n2"), world.reason("n2")


def test_a_write_that_stops_half_way_is_an_error_and_what_it_did_is_on_both_disks() -> None:
    world = pair()
    told = results(world)
    perform(world, ShortWrite("n1"))
    number = world.write()
    world.run(50)
    assert told == {number: errno.ENOSPC}
    assert all(number in node.disk.data for node in world.nodes.values())
    assert world.role("n1") == "PRIM Ready"


def test_the_second_is_left_behind_when_its_disk_stops_half_way() -> None:
    world = pair()
    perform(world, ShortWrite("n2"))
    number = world.write()
    assert world.run_until(lambda: number in world.monitors.acked, 3_000)
    assert world.role("n1") == "ALONE Ready"


def test_what_cannot_be_read_ends_a_copy_until_it_is_written() -> None:
    world = pair(extents=4)
    for _ in range(4):
        world.write()
        world.run(20)
    perform(world, BitRot("n1", 1))
    world.nodes["n1"].disk.map_file = b""
    world.kill_plane("n2")
    world.run(3_000)
    assert world.role("n2") != "SECOND Ready"
    disk = world.nodes["n1"].disk
    with pytest.raises(OSError, match="cannot read"):
        disk.read(1)
    disk.write(1, 99)
    assert disk.read(1) == 99


def test_a_node_whose_record_cannot_be_read_says_so_and_trusts_none_of_its_data() -> None:
    world = pair()
    world.kill("n2")
    perform(world, RecordRots("n2"))
    world.start("n2", again=True)
    assert any("no slot" in line for line in world.story) or world.run_until(
        lambda: any("no slot" in line for line in world.story), 500
    )
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)


def test_a_clock_is_fast_from_now_on_and_what_waits_for_it_waits_for_its_time() -> None:
    world = pair()
    clocks = world.hosts["n1"].clocks
    before = clocks.boot(world.now)
    perform(world, ClockDrift("n1", RATE_MILLIONTHS))
    assert abs(clocks.boot(world.now) - before) <= 1
    start = world.now
    world.run(10_000)
    passed = clocks.boot(world.now) - before
    assert abs(passed - (world.now - start) * (1_000_000 + RATE_MILLIONTHS) // 1_000_000) <= 2
    assert world.role("n1") == "PRIM Ready"


def test_a_farm_lives_with_clocks_that_change_their_rates() -> None:
    world = farm()
    perform(world, ClockDrift("n1", RATE_MILLIONTHS))
    perform(world, ClockDrift("n2", -RATE_MILLIONTHS))
    world.run(5_000)
    assert world.settled(*world.names)


def test_names_that_were_not_flushed_may_be_the_old_ones_after_a_loss_of_power() -> None:
    found = set()
    for seed in range(20):
        disk = Extents()
        disk.name(map_file=b"old")
        disk.map_file = b""  # Removed, and the directory was not flushed.
        disk.power_fails(Draws(seed, "disk"))
        found.add(disk.map_file)
    assert found == {b"old", b""}
    disk = Extents()
    disk.name(map_file=b"old")
    disk.name(map_file=b"")
    disk.power_fails(Draws(1, "disk"))
    assert disk.map_file == b""


def test_what_is_written_over_while_it_is_flushed_is_durable_as_it_was() -> None:
    found = set()
    for seed in range(20):
        disk = Extents()
        disk.write(1, 10)
        until = disk.order
        disk.write(1, 20)
        disk.write(2, 30)
        disk.flush(until)
        assert disk.volatile == {20, 30}
        disk.power_fails(Draws(seed, "disk"))
        found.add((disk.memory.get(1), disk.memory.get(2)))
    assert found == {(10, None), (20, None), (10, 30), (20, 30)}
