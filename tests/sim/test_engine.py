"""Virtual time and chance: the same everywhere, from the seed alone."""

import os
import random
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim import swarm, sweep
from mirrorfarm.sim.engine import Clocks, Draws, Engine, exponential
from mirrorfarm.sim.storage import Latency, Records
from mirrorfarm.sim.trap import Trapped, trap

ROOT = Path(__file__).parents[2]


def test_a_stream_of_draws_depends_on_nothing_but_seed_name_and_position() -> None:
    one, other = Draws(7, "network"), Draws(7, "network")
    Draws(7, "faults").word()
    assert [one.word() for _ in range(3)] == [other.word() for _ in range(3)]
    assert Draws(7, "network").word() == 17_955_579_248_594_643_462
    assert Draws(7, "faults").word() != Draws(7, "network").word() != Draws(8, "network").word()


def test_draws_are_spread() -> None:
    draws = Draws(1, "x")
    assert {draws.below(3) for _ in range(50)} == {0, 1, 2}
    assert 400 < sum(draws.chance(500) for _ in range(1_000)) < 600
    assert sorted(draws.shuffled((1, 2, 3))) == [1, 2, 3]
    mean = sum(exponential(draws.word(), 1_000) for _ in range(4_000)) // 4_000
    assert 900 < mean < 1_100


def order(seed: int) -> list[int]:
    engine, done = Engine(seed), list[int]()
    for number in range(6):
        engine.at(5 * SECOND_NS, done.append, number)
    engine.run_to(6 * SECOND_NS)
    return done


def test_what_is_due_at_one_time_comes_in_an_order_of_the_seeds() -> None:
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 5


def monotonic(clocks: Clocks, now: int) -> int:
    engine = Engine(1)
    engine.now = now
    return clocks.monotonic(engine)()


def test_clocks_drift_and_step_and_find_moments_again() -> None:
    clocks = Clocks(boot=5_000, day=10, millionths=300)
    for boot in (10_000, 123_456_789, 10**15):
        moment = clocks.moment(boot)
        assert clocks.boot(moment) >= boot > clocks.boot(moment - 1)
    day, boot_ns = clocks.day(10**9), clocks.boot(10**9)
    clocks.step(-SECOND_NS)
    clocks.suspended(0, SECOND_NS)
    assert clocks.day(10**9) == day - SECOND_NS
    assert clocks.boot(10**9) == boot_ns
    assert monotonic(clocks, 10**9) == boot_ns - SECOND_NS
    clocks.drift(10**9, -300)
    assert abs(clocks.boot(10**9) - boot_ns) <= 1


def test_a_clock_that_stands_still_twice_at_a_time_does_not_go_back() -> None:
    clocks, before = Clocks(), Clocks()
    clocks.stood(SECOND_NS, 20 * SECOND_NS)
    clocks.stood(3 * SECOND_NS, 20 * SECOND_NS)
    clocks.stood(4 * SECOND_NS, 2 * SECOND_NS)
    clocks.suspended(5 * SECOND_NS, 20 * SECOND_NS)
    goes_on = 25 * SECOND_NS
    assert clocks.boot(goes_on) == before.boot(3 * SECOND_NS), "two seconds it was suspended only"
    assert monotonic(clocks, goes_on) == clocks.day(goes_on) - 2 * SECOND_NS
    assert monotonic(clocks, goes_on) == monotonic(before, SECOND_NS)


def test_what_looks_at_the_machine_is_caught_in_the_simulated_thread_only() -> None:
    others: list[float] = []
    thread = threading.Thread(target=lambda: others.append(time.time()))
    with trap():
        for look in (time.time, time.monotonic_ns, random.random, lambda: open("x")):  # noqa: SIM115
            with pytest.raises(Trapped):
                look()
        with pytest.raises(Trapped):
            thread.start()
    thread.start()
    thread.join()
    assert others


def test_a_core_that_reads_a_clock_is_caught_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from mirrorfarm.actors.heartbeat.core import Heartbeat  # noqa: PLC0415

    honest = Heartbeat.handle

    def looking(self: Heartbeat, event: object, now: int) -> object:
        time.monotonic()
        return honest(self, event, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Heartbeat, "handle", looking)
    with pytest.raises(Trapped):
        sweep.play(1)


def test_the_same_seed_takes_the_same_steps_whatever_the_hash_seed() -> None:
    script = (
        "from mirrorfarm.sim import farm_sweep, swarm, sweep\n"
        "print(sweep.run(swarm.dense(5), digest=True).digest)\n"
        "plan = farm_sweep.draw(3, 0)\n"
        "world = farm_sweep.build(plan, digest=True)\n"
        "farm_sweep.play_out(world, plan)\n"
        "print(world.digest)\n"
    )
    printed = set()
    for number in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": number}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        printed.add(done.stdout)
    assert len(printed) == 1
    assert str(sweep.run(swarm.dense(5), digest=True).digest) in printed.pop().decode()


def test_another_seed_takes_other_steps() -> None:
    digests = {str(sweep.run(swarm.dense(seed), digest=True).digest) for seed in (5, 6)}
    assert len(digests) == 2


def test_writings_are_done_in_the_order_of_their_orders() -> None:
    """Whatever a machine that stands still makes of the moments at which they are to be done."""
    records = Records(Latency(MILLISECOND_NS))
    done: list[int] = []
    times = [
        records.order(0, Draws(1, "disk"), partial(done.append, number)) for number in range(3)
    ]
    assert times == sorted(times)
    for _ in times:
        records.done()
    assert done == [0, 1, 2]
