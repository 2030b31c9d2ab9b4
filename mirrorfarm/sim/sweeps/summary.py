"""What a whole sweep came to: counts, classes of failures, distributions. A pure core.

Results are given in the order of their seeds, so that the same results make the same summary
whatever engine and shards they came from.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import Any

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.coverage.counts import SEEDS_ENOUGH, Coverage
from mirrorfarm.sim.sweeps.result import SeedResult

CLASSES_MAX = 1_000
SEEDS_TOLD = 5  # Of each class.
GROWTH_POINTS = 200
PERCENTILES = (50, 90, 99, 100)
MORE = ("various", "(more classes than are told apart)", "")


@dataclass(slots=True)
class FailureClass:
    """Failures that share outcome, invariant and abstract state: probably one fault.

    The class `MORE` has all that came when there were too many classes: they share nothing.
    """

    key: tuple[str, str, str]  # Outcome, invariant, signature.
    example: SeedResult  # The one with the fewest steps.
    count: int = 0
    seeds: list[int] = field(default_factory=list)  # The first few.

    def add(self, result: SeedResult) -> None:
        """Count one more."""
        self.count += 1
        if len(self.seeds) < SEEDS_TOLD:
            self.seeds.append(result.seed)
        if result.steps < self.example.steps:
            self.example = result

    @property
    def name(self) -> str:
        """Return what a person calls it."""
        outcome, invariant, _ = self.key
        return invariant or outcome

    @property
    def signature(self) -> str:
        """Return the abstract state at the end of all of them."""
        return self.key[2]


@dataclass(slots=True)
class Summary:
    """Everything that is told of a sweep; in bounded memory but for states and failovers."""

    options: str
    build: str
    seeds: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    classes: dict[tuple[str, str, str], FailureClass] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    seeds_with_fault: Counter[str] = field(default_factory=Counter)
    failover_ns: "array[int]" = field(default_factory=lambda: array("Q"))
    growth: list[tuple[int, int]] = field(default_factory=list)  # Seeds, distinct states so far.
    simulated_ns: int = 0
    steps: int = 0
    wall_seconds: float = 0.0  # Of all workers together.
    worst: SeedResult | None = None
    coverage: Coverage = field(default_factory=Coverage)
    _states: set[int] = field(default_factory=set)

    @property
    def failed(self) -> int:
        """Return how many seeds failed."""
        return self.seeds - self.outcomes["ok"]

    @property
    def missed(self) -> list[str]:
        """Return what never happened although there were enough seeds for it."""
        return self.coverage.missed() if self.seeds >= SEEDS_ENOUGH else []

    def sorted_classes(self) -> list[FailureClass]:
        """Return the classes of failures, the most frequent first."""
        return [one for _, one in sorted(self.classes.items(), key=lambda c: (-c[1].count, c[0]))]

    def add(self, result: SeedResult, total: int) -> None:
        """Take note of one seed of `total`."""
        self.seeds += 1
        self.outcomes[result.outcome] += 1
        self.faults.update(result.faults)
        self.seeds_with_fault.update(kind for kind, count in result.faults.items() if count)
        self.failover_ns.extend(result.failover_ns)
        self.simulated_ns += result.simulated_ns
        self.steps += result.steps
        self.wall_seconds += result.wall_seconds
        self.coverage.add(result.cells, result.fault_states, result.sometimes, result.tricks)
        self._states.update(result.states)
        if self.seeds % max(1, total // GROWTH_POINTS) == 0 or self.seeds == total:
            self.growth.append((self.seeds, len(self._states)))
        if result.failed:
            self._fail(result)
        self.worst = _worse(self.worst, result)

    def _fail(self, result: SeedResult) -> None:
        key: tuple[str, str, str] = (result.outcome, result.invariant, result.signature)
        if key not in self.classes and len(self.classes) >= CLASSES_MAX:
            key = MORE
        self.classes.setdefault(key, FailureClass(key, result)).add(result)

    def as_object(self) -> dict[str, Any]:
        """Return it as plain values, for `--json`."""
        return {
            "options": self.options,
            "build": self.build,
            "seeds": self.seeds,
            "failed": self.failed,
            "outcomes": dict(sorted(self.outcomes.items())),
            "classes": [
                {
                    "outcome": one.key[0],
                    "invariant": one.key[1],
                    "signature": one.signature,
                    "count": one.count,
                    "seeds": one.seeds,
                    "example_seed": one.example.seed,
                    "message": one.example.message,
                }
                for one in self.sorted_classes()
            ],
            "faults": {
                kind: {"injected": count, "seeds": self.seeds_with_fault[kind]}
                for kind, count in sorted(self.faults.items())
            },
            "failover_ms": {
                f"p{percent}" if percent < 100 else "max": value / MILLISECOND_NS
                for percent, value in percentiles(self.failover_ns).items()
            },
            "failovers": len(self.failover_ns),
            "distinct_states": len(self._states),
            "coverage": self.coverage.as_object(),
            "growth": [list(point) for point in self.growth],
            "simulated_seconds": self.simulated_ns / SECOND_NS,
            "steps": self.steps,
            "worker_seconds": self.wall_seconds,
            "worst_seed": self.worst.seed if self.worst else None,
        }


def summarize(results: Iterable[SeedResult], total: int, options: str, build: str) -> Summary:
    """Return what `total` results come to."""
    summary = Summary(options, build)
    for result in results:
        summary.add(result, total)
    return summary


def percentiles(values: Sequence[int]) -> dict[int, int]:
    """Return percent -> the smallest value that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {percent: ordered[ceil(percent / 100 * len(ordered)) - 1] for percent in PERCENTILES}


def histogram(values: Iterable[int], edges: Sequence[int]) -> list[int]:
    """Return how many values lie in each [edge, next edge); the last bin has no end."""
    counts = [0] * len(edges)
    bins = [*pairwise(edges), (edges[-1], 1 << 64)]
    for value in values:
        for number, (begin, end) in enumerate(bins):
            if begin <= value < end:
                counts[number] += 1
                break
    return counts


def _worse(known: SeedResult | None, new: SeedResult) -> SeedResult | None:
    """Return the run to look at first: a failure with few steps, or else a long failover.

    A run that broke off with an error is not played again: it may take this process with it.
    """
    if new.outcome == "error" or (not new.failed and not new.failover_ns):
        return known
    if known is None:
        return new
    return max(known, new, key=_badness)


def _badness(result: SeedResult) -> tuple[bool, int]:
    if result.failed:
        return True, -result.steps
    return False, max(result.failover_ns)
