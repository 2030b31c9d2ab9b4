"""Many runs of a forked cluster, changed and unchanged, and what came of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.fork.measure import NOBODY, Result
from mirrorfarm.sim.fork.recording import Recording
from mirrorfarm.sim.fork.runs import Died, Runs, Tell, Variant, play_all
from mirrorfarm.sim.fork.settings import changed
from mirrorfarm.sim.fork.unserved import Says
from mirrorfarm.sim.sweeps.summary import percentiles

SEEDS_MAX: Final = 100_000
AFTER_NS: Final = 10 * SECOND_NS  # What is played at least, behind the last silence.


@dataclass(slots=True)
class Summary:
    """What came of one variant, over all seeds; times in nanoseconds."""

    variant: Variant
    results: list[Result] = field(default_factory=list)

    @property
    def took_over(self) -> int:
        """In how many runs another node began to serve."""
        return sum(bool(one.takeovers) for one in self.results)

    @property
    def needless(self) -> int:
        """In how many of them that was not needed."""
        return sum(any(each.needless for each in one.takeovers) for one in self.results)

    @property
    def at_end(self) -> dict[str, int]:
        """Who served at the end, in how many runs."""
        counts = Counter(one.at_end for one in self.results)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def unserved(self) -> list[tuple[tuple[Says, ...], int]]:
        """What the living nodes said when nobody served at the end, in how many runs."""
        counts = Counter(one.unserved for one in self.results if one.at_end == NOBODY)
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    @property
    def failover_ns(self) -> list[int]:
        """How long each takeover took."""
        return sorted(each.took_ns for one in self.results for each in one.takeovers)

    @property
    def without_ns(self) -> list[int]:
        """In each run, how long nobody served."""
        return sorted(one.without_ns for one in self.results)

    @property
    def stall_ns(self) -> list[int]:
        """In each run, the longest time in which no write ended well."""
        return sorted(one.stall_ns for one in self.results if one.stall_ns is not None)

    @property
    def violations(self) -> dict[str, int]:
        """Which invariants did not hold, in how many runs."""
        return dict(sorted(Counter(v for one in self.results for v in one.violations).items()))

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "variant": self.variant.name,
            "settings": self.variant.settings.plain(),
            "changes": [str(change) for change in self.variant.changes],
            "runs": len(self.results),
            "took_over": self.took_over,
            "needless": self.needless,
            "at_end": self.at_end,
            "unserved": [
                {"runs": runs, "nodes": [one._asdict() for one in said]}
                for said, runs in self.unserved
            ],
            "failover_ns": spread(self.failover_ns),
            "without_primary_ns": spread(self.without_ns),
            "write_stall_ns": spread(self.stall_ns),
            "violations": self.violations,
        }


def spread(values: Sequence[int]) -> dict[str, int | None]:
    """Return the least, the median and the 99th percentile of sorted values, and the greatest.

    As in a sweep: the smallest value that so many percent do not exceed.
    """
    if not values:
        return dict.fromkeys(("min", "median", "p99", "max"))
    shares = percentiles(values)
    return {"min": values[0], "median": shares[50], "p99": shares[99], "max": values[-1]}


def horizon_ns(recording: Recording, variants: Iterable[Variant]) -> int:
    """Return how long is played, unless somebody says: as recorded, and some silences at least."""
    modules = [changed(recording.module, one.settings) for one in variants]
    longest = max(_patience_ns(module) for module in modules)
    late = max((c.after_ns + c.for_ns for one in variants for c in one.changes), default=0)
    return max(recording.end_ns - recording.at_ns, 0) + longest + late + AFTER_NS


def _patience_ns(module: Module) -> int:
    """Return how long a node that fell silent is waited for at most."""
    if module.mode == "mirror":
        return module.timing.detection_ns + module.timing.lease_ns
    return module.farm.timing.silent_ns + module.farm.timing.lease_ns


def compare(
    recording: Recording,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    for_ns: int,
    *,
    keep_faults: bool = True,
    workers: int = 1,
    tell: Tell = lambda done, total: None,
    died: Died = lambda finished: None,
) -> list[Summary]:
    """Run every seed of every variant, in several processes if that is worth it.

    The same seed draws the same in each variant. The results do not depend on `workers`.
    """
    runs = Runs(recording, tuple(variants), tuple(seeds), for_ns, keep_faults)
    results = play_all(runs, workers, tell, died)
    many = len(runs.seeds)
    return [
        Summary(variant, results[place * many : (place + 1) * many])
        for place, variant in enumerate(variants)
    ]
