"""Runs that end as their seed says, importable by the workers of an engine."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mirrorfarm.sim.sweeps.result import Outcome, SeedResult
from mirrorfarm.sim.sweeps.run import build_id

KINDS: tuple[tuple[str, Outcome], ...] = (("S3", "violation"), ("L4", "no-convergence"))
HEAVY = 7  # Kills its worker, always.


def quick(options: str, seed: int) -> SeedResult:
    """Every tenth seed fails, in two classes."""
    result = SeedResult(
        seed,
        options,
        build_id(),
        "ok",
        signature="calm",
        simulated_ns=1_000_000_000,
        steps=100 - seed % 7,
        digest=f"{seed:032x}",
        faults={"crash": 1 + seed % 2},
        failover_ns=(10_000_000 * (1 + seed % 3),),
        states=(seed % 5, 100),
        cells={"mirror leading Tick": 2},
        fault_states={"crash leading": 1},
        sometimes={"a restart kept the role": 1},
        tricks={"mirror.offer_late": 1},
        wall_seconds=0.001,
    )
    if seed % 10 == 3:
        kind, outcome = KINDS[seed // 10 % 2]
        return replace(
            result,
            outcome=outcome,
            invariant=kind,
            signature="both lead",
            message=f"{kind}: <b>seed</b> & {seed}",
        )
    return result


def slow(options: str, seed: int) -> SeedResult:
    """One that takes a while, and says that it takes a second: two are a batch."""
    time.sleep(0.01)
    return replace(quick(options, seed), wall_seconds=1.0)


def deadly(options: str, seed: int) -> SeedResult:
    """One seed kills its worker."""
    if seed == HEAVY:
        os.kill(os.getpid(), signal.SIGKILL)
    return slow(options, seed)


def killed_once(options: str, seed: int) -> SeedResult:
    """One seed's worker is killed the first time; `options` is a file that remembers."""
    if seed == HEAVY and not Path(options).exists():
        Path(options).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return slow(options, seed)


def foreign(options: str, seed: int) -> SeedResult:
    """One that another build plays."""
    return replace(quick(options, seed), build="of another machine")


def raising(options: str, seed: int) -> SeedResult:
    """One that breaks a rule of our own."""
    assert seed != HEAVY, "seven"
    return quick(options, seed)


def endless(options: str, seed: int) -> SeedResult:
    """One seed never ends."""
    while seed == HEAVY:
        time.sleep(0.01)
    return quick(options, seed)


def deaf(options: str, seed: int) -> SeedResult:
    """One seed never ends, nor sees the first that interrupts it, as in a finalizer."""
    if seed == HEAVY:
        with suppress(Exception):
            endless(options, seed)
    return endless(options, seed)
