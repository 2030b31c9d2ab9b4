"""The cases of a walk, and how one is played."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.sim.cells.ground import Ground, Way
from mirrorfarm.sim.cells.probe import Aim, Probe
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.coverage.collector import Collector, watching
from mirrorfarm.sim.host import Actor
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.sweep import uncollected
from mirrorfarm.sim.trap import trap

PATIENCE_MS: Final = 3_000  # For a node to enter the phase.


@dataclass(frozen=True, slots=True)
class Case:
    """What is given, in which phase, at which of its steps."""

    ground: Ground
    way: Way
    event: str
    step: int

    @property
    def row(self) -> str:
        """The row of the matrix, if it is one: an event may come in several variants."""
        words = self.event.removeprefix("old ").split()
        return " ".join(words[: 2 if words[0] == "Command" else 1])

    @property
    def possible(self) -> bool:
        """Whether the machine can be given such an event in this phase at all."""
        return not self.ground.machine.impossible(self.way.phase, self.row)

    def __str__(self) -> str:
        way = self.way
        return f"{way.node} {way.phase} ({way.name}) +{self.step}: {self.event}"


@dataclass(slots=True)
class Tried:
    """What came of a case."""

    case: Case
    given: bool = False  # The phase lasted long enough, and there was something to give.
    fault: str = ""
    story: list[str] = field(default_factory=list)


def cases(ground: Ground, steps: Iterable[int]) -> Iterator[Case]:
    """Return the cases of a walk that gives each event at each of these steps."""
    for way in ground.ways:
        for event in ground.events:
            for step in steps:
                case = Case(ground, way, event, step)
                if case.possible:
                    yield case


def attempt(case: Case, collector: Collector, seed: int = 1) -> Tried:
    """Play one case."""
    tried = Tried(case)
    try:
        with uncollected(), trap(), watching(collector):
            _play(case, case.ground.build(seed), tried)
    except (Violation, AssertionError) as fault:
        tried.fault = str(fault) or repr(fault)
        tried.story = list(getattr(fault, "story", ()))
    return tried


def _play(case: Case, world: Cluster, tried: Tried) -> None:
    ground, way = case.ground, case.way
    probe = Probe(world)

    def act(actor: Actor) -> None:
        tried.given = ground.events[case.event](probe, actor)

    ground.begin(world)
    way.before(world)
    aim = probe.aim = Aim(way.node, way.phase, case.step, act)
    way.go(world)
    world.run_until(lambda: aim.over, PATIENCE_MS)
    if tried.given:
        world.run(500)
        ground.end(world)
