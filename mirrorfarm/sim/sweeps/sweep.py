"""A sweep from its order to its file of results."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mirrorfarm.errors import Refused
from mirrorfarm.sim.sweeps.drive import drive
from mirrorfarm.sim.sweeps.engines import Wanted, load_engine
from mirrorfarm.sim.sweeps.outputs import require_folder
from mirrorfarm.sim.sweeps.plan import Finished, Plan
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.results import Appender, Header
from mirrorfarm.sim.sweeps.run import build_id, run_seed
from mirrorfarm.sim.sweeps.seeds import Shard, count_missing
from mirrorfarm.sim.sweeps.work import RunSeed, Work


@dataclass(frozen=True, slots=True)
class Order:
    """What to play, with what, and where the results go."""

    seeds: range
    options: str
    file: Path
    folder: Path
    engine: str = "processes"
    wanted: Wanted = field(default_factory=lambda: Wanted(1))
    shard: Shard = field(default_factory=Shard)
    seed_seconds: float = 0.0

    def own_seeds(self) -> range:
        """Return the seeds of this shard."""
        return self.shard.of(self.seeds)

    def command_to_resume(self) -> str:
        """Return the command that plays what is missing."""
        words = ["mirrorfarm", "sim", "sweep", "--seeds", f"{self.seeds.start}..{self.seeds.stop}"]
        words += ["--options", self.options, "--engine", self.engine]
        words += ["--workers", str(self.wanted.workers)]
        if self.wanted.address:
            words += ["--scheduler", self.wanted.address]
        if self.shard.count > 1:
            words += ["--shard", str(self.shard)]
        words += ["--seed-seconds", f"{self.seed_seconds:.10g}"]
        return shlex.join([*words, "--resume", str(self.file), "-o", str(self.folder)])

    def command_to_report(self) -> str:
        """Return the command that makes the report of what was played."""
        return command_to_report([self.file], self.folder)


def command_to_report(files: Sequence[Path], folder: Path, seeds: str = "") -> str:
    """Return the command that joins results in a report; `seeds`: which were wanted."""
    wanted = ["--seeds", seeds] if seeds else []
    words = [*wanted, *map(str, files), "-o", str(folder)]
    return shlex.join(["mirrorfarm", "sim", "report", *words])


class Watcher(Protocol):
    """Whoever wants to see how a sweep goes on."""

    def began(self, appender: Appender, missing: int) -> None:
        """The file is open; so many seeds have no result."""

    def kept(self, results: Sequence[SeedResult]) -> None:
        """These results are in the file."""

    def died(self, finished: Finished[SeedResult]) -> None:
        """A worker died; its seeds will be played again."""


def play(
    order: Order, watcher: Watcher, stopped: Callable[[], bool], run: RunSeed = run_seed
) -> None:
    """Play the seeds that have no result yet, and append their results to the order's file.

    Raises UsageInvalid for an unknown engine, Refused if the file is another sweep's, OSError if
    the report will have no place.
    """
    begin_engine = load_engine(order.engine)
    require_folder(order.folder)
    header = Header(options=order.options, build=build_id())
    with closing(Appender(order.file, header)) as appender:
        done = appender.results.seeds()
        missing = count_missing(order.own_seeds(), done)
        watcher.began(appender, missing)
        if not missing:
            return
        left = (seed for seed in order.own_seeds() if seed not in done)
        work = Work(run, header.options, header.build, order.seed_seconds)
        plan = Plan(left, work.lost)
        with closing(begin_engine(work, order.wanted)) as engine:
            for results in drive(engine, plan, stopped, watcher.died):
                _same_build(results, header)
                appender.append(results)
                watcher.kept(results)


def _same_build(results: Sequence[SeedResult], header: Header) -> None:
    foreign = {result.build for result in results} - {header.build}
    if foreign:
        raise Refused(
            f"a worker plays build {', '.join(sorted(foreign))}, this is build {header.build}: "
            "install the same version of mirrorfarm on every machine"
        )
