"""One run of a seed, told: its options, what came out, and the digest of all its steps."""

import shlex
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.build import build_id
from mirrorfarm.sim.cluster import DOWN, Cluster, Story
from mirrorfarm.sim.coverage.collector import Collector, watching
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.asserted import asserted
from mirrorfarm.sim.monitors.seen import Died, Fault, PowerLost
from mirrorfarm.sim.monitors.watch import STEPS_KEPT
from mirrorfarm.sim.plans import Plan, plan_of, prepare
from mirrorfarm.sim.recording.recorder import Recorder

# Nearly every run holds: it keeps few steps, which stay in the processor's cache.
FEW_STEPS = 8
PHASE, VIEW = "phase ", "farm membership: "  # How a log tells of a new state.


@dataclass(frozen=True, slots=True)
class Moment:
    """Something worth a mark on the time line of one run."""

    time_ns: int
    node: str  # "": of the whole cluster.
    kind: Literal["state", "fault", "violation"]
    text: str  # Of a state: its name, which holds until the node's next one.


@dataclass(slots=True)
class Played:
    """A run that is over; whole also after a violation."""

    plan: Plan
    world: Cluster
    tell: Callable[..., None]
    violation: Violation | None = None
    faults: Counter[str] = field(default_factory=Counter)
    moments: list[Moment] = field(default_factory=list)
    coverage: Collector = field(default_factory=Collector)
    cpu_s: float = 0.0

    def see(self, node: str, observation: Any, module: str = "") -> None:
        """Note what the world does to a node, and go on telling it to the monitors."""
        if observation.__class__ is Fault:
            self.faults[observation.kind] += 1
            self.coverage.fault(observation.kind, node, self._down())
            text = f"{observation.kind} {observation.what}".strip()
            self.moments.append(Moment(self.world.now, node, "fault", text))
        elif _ends(observation, module):  # What is gone can log nothing.
            place = self.world.place(node, module)
            self.moments.append(Moment(self.world.now, place, "state", DOWN))
        self.tell(node, observation, module)

    def _down(self) -> frozenset[str]:
        """Return the machines on which no process of the module runs."""
        name = self.world.module_name
        hosts = self.world.hosts.values()
        running = [h.name for h in hosts if (p := h.processes.get(name)) is not None and p.alive]
        return frozenset(self.world.hosts).difference(running)


def _ends(observation: Any, module: str) -> bool:
    """Return whether the process of a module's state machine is gone after this."""
    if observation.__class__ is Died:
        return bool(observation.process == module)  # Not only its replicator's.
    return observation.__class__ is PowerLost


class _States(Story):
    """Keeps of all that is noted the new states of nodes."""

    def __init__(self, moments: list[Moment]) -> None:
        super().__init__()
        self._moments = moments

    def add(self, now: int, node: str, sign: str, what: object) -> None:
        """Note something, if it is a new state."""
        if sign != ">" or not isinstance(what, str):
            return
        if what.startswith(PHASE):
            state = what.removeprefix(PHASE).partition(":")[0]
            self._moments.append(Moment(now, node, "state", state))
        elif what.startswith(VIEW):
            state = f"with {what.removeprefix(VIEW).partition(' (')[0]}"
            self._moments.append(Moment(now, node, "state", state))
        elif what == DOWN:
            self._moments.append(Moment(now, node, "state", DOWN))


class Outcome(msgspec.Struct, frozen=True):
    """What came out of a run."""

    seed: int
    build: str
    options: str
    described: str
    outcome: str  # "ok", or the violation.
    digest: str
    steps: int
    simulated_s: float
    cpu_s: float
    faults: dict[str, int]
    bugs: dict[str, int]  # How often each site that plays tricks did.
    story: list[str]  # What led to the violation.

    @property
    def command(self) -> str:
        """The line that makes the same run again."""
        return command_of(self.options, self.seed)


def command_of(options: str, seed: int) -> str:
    """Return the command that plays a seed again."""
    return f"mirrorfarm sim run --seed {seed:#x} --options {shlex.quote(options)}"


def play(plan: Plan, trace: Path | None = None, *, keeps: int = FEW_STEPS) -> Played:
    """Play a plan to its end, or to the first violation; record it in the folder `trace`.

    An assertion of a core is a violation of the invariant `assert`.

    `keeps`: of so many of its last steps the story of a violation is made.
    """
    began = time.process_time()
    world, play_out = prepare(plan)
    world.watch.keep(keeps)
    recorder = Recorder(world, trace) if trace is not None else None
    played = Played(plan, world, world.seen)
    world.seen = played.see  # type: ignore[method-assign]
    world.story = _States(played.moments)
    try:
        with watching(played.coverage):
            play_out()
    except Violation as violation:
        played.violation = violation
    except AssertionError as error:  # A core's own: it is wrong.
        played.violation = asserted(error)
    finally:
        if recorder is not None:
            recorder.close()
    if played.violation is not None:
        played.moments.append(Moment(world.now, "", "violation", str(played.violation)))
    played.cpu_s = time.process_time() - began
    return played


def run(seed: int, options: str = "swarm", trace: Path | None = None) -> Outcome:
    """Run one seed, recorded in the folder `trace`.

    Raises UsageInvalid if the options are not understood, or the folder holds traces.
    """
    plan = plan_of(options, seed)
    played = play(plan, trace)
    world, violation = played.world, played.violation
    if violation is not None:  # Again, for its whole story.
        told = play(plan, keeps=STEPS_KEPT).violation
        assert str(told) == str(violation), "a seed plays the same run each time"
        violation = told
    assert world.digest is not None
    return Outcome(
        seed=seed,
        build=build_id(),
        options=options,
        described=played.plan.describe(),
        outcome="ok" if violation is None else str(violation),
        digest=str(world.digest),
        steps=world.digest.steps,
        simulated_s=world.now / SECOND_NS,
        cpu_s=played.cpu_s,
        faults=dict(sorted(played.faults.items())),
        bugs=dict(sorted(world.tricks.fired.items())),
        story=[] if violation is None else violation.story,
    )
