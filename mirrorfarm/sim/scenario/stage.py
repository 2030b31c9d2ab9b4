"""The clusters that scenarios are played on: what a mirror and a farm have in common."""

from dataclasses import replace
from typing import Any, Protocol

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.settings import PROFILES, FarmTiming
from mirrorfarm.sim import farm_sweep, sweep
from mirrorfarm.sim.acts.act import Act, words
from mirrorfarm.sim.acts.mirror import perform
from mirrorfarm.sim.budget import allowed
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.scenario.record import Expectation, Farm, Mirror, Scenario
from mirrorfarm.sim.world import World

FARM_TIMINGS = {
    "default": FarmTiming(),
    "brisk": farm_sweep.TIMING,
    "slow-start": farm_sweep.SLOW,
    "large": farm_sweep.LARGE,
}
CLIENTS_EVERY_NS = 20 * MILLISECOND_NS
SETTLE_MS = 12_000


class Stage(Protocol):
    """A cluster that a scenario is played on."""

    world: Any

    def begin(self) -> None:
        """Bring it to where the scenario begins."""

    def end(self) -> None:
        """Mend everything, and see that all are in service. Raises Violation if not."""

    def perform(self, act: Act) -> None:
        """Do one act."""

    def states(self) -> dict[str, str]:
        """Return what each node is, in a few words."""

    def missing(self, wanted: Expectation) -> str:
        """Return what of an expectation does not hold now; "" if it holds."""


def stage_of(scenario: Scenario, *, tells_story: bool) -> Stage:
    """Return the cluster of a scenario."""
    if isinstance(scenario.cluster, Farm):
        return FarmStage(scenario, scenario.cluster)
    return MirrorStage(scenario, scenario.cluster, tells_story=tells_story)


class MirrorStage:
    """A mirror."""

    def __init__(self, scenario: Scenario, mirror: Mirror, *, tells_story: bool) -> None:
        self._scenario = scenario
        self.world = world = World(
            scenario.seed, PROFILES[mirror.profile], **options(mirror)
        )
        world.tells_story = tells_story
        world.network.quality = scenario.wires.quality()
        world.watch.allowed = allowed(event.act.name for event in scenario.events)

    def begin(self) -> None:  # noqa: D102
        if self._scenario.begin != "off":
            sweep.first_start(self.world)

    def end(self) -> None:  # noqa: D102
        sweep.heal_core(self.world, self._scenario.core)
        sweep.calm(self.world)

    def perform(self, act: Act) -> None:  # noqa: D102
        perform(self.world, act)

    def states(self) -> dict[str, str]:  # noqa: D102
        return {name: self.world.role(name) for name in self.world.nodes}

    def missing(self, wanted: Expectation) -> str:  # noqa: D102
        world = self.world
        role = world.role(wanted.node) if wanted.node else ""
        if wanted.role and role != wanted.role:
            return f"{wanted.node} is {role}, not {wanted.role}"
        reason = world.reason(wanted.node) if wanted.node else ""
        if wanted.because not in reason:
            return f"the reason of {wanted.node} is “{reason}”, without “{wanted.because}”"
        count = len(world.monitors.acked)
        if wanted.acknowledged not in {-1, count}:
            return f"{count} writes are acknowledged, not {wanted.acknowledged}"
        answer = world.results[-1][2] if world.results else "none"
        if wanted.answer and answer != wanted.answer:
            return f"the last order came to {answer}, not {wanted.answer}"
        if wanted.told and not any(wanted.told in line for line in world.story):
            return f"the story says nowhere “{wanted.told}”"
        return ""


def options(mirror: Mirror) -> dict[str, Any]:
    """Return the fields of `world.Options`."""
    names = (
        *("arbiter", "failover", "directories", "divergence", "ack_mode"),
        *("networks", "apart", "extents"),
    )
    found: dict[str, Any] = {name: getattr(mirror, name) for name in names}
    return found | {"checked": "" if mirror.checked == "none" else mirror.checked}


class FarmStage:
    """A farm with its clients."""

    def __init__(self, scenario: Scenario, farm: Farm) -> None:
        self._scenario = scenario
        timing = FARM_TIMINGS[farm.profile]
        self.world = FarmWorld(scenario.seed, farm.nodes, timing, farm.groups)
        self._clients = Clients(self.world)
        self._wants_clients = farm.clients

    def begin(self) -> None:  # noqa: D102
        world = self.world
        if self._scenario.begin != "off":
            for name in world.names:
                world.start(name)
            if not world.run_until(lambda: world.settled(*world.names), SETTLE_MS):
                raise Violation("L: the first start does not end")
            world.run(200)
        if self._wants_clients:
            self._clients_come()

    def _clients_come(self) -> None:
        self._clients.go_on()
        self.world.at(self.world.now + CLIENTS_EVERY_NS, self._clients_come)

    def end(self) -> None:  # noqa: D102
        farm_sweep.calm(self.world, self._clients)

    def perform(self, act: Act) -> None:  # noqa: D102
        self.world.story.append(f"{self.world.now // 1_000} {act.about} ! {words(act)}")
        act.do(self.world)

    def states(self) -> dict[str, str]:  # noqa: D102
        world = self.world
        shares = world.shares()
        return {
            name: "off" if world.nodes[name].core is None and not shares[name]
            else f"{shares[name]} buckets"
            for name in world.names
        }

    def missing(self, wanted: Expectation) -> str:  # noqa: D102
        world = self.world
        if wanted.buckets >= 0:
            open_now = world.shares()[wanted.node]
            if open_now != wanted.buckets:
                return f"{wanted.node} has {open_now} buckets open, not {wanted.buckets}"
        if wanted.because:
            picture = world.nodes[wanted.node].picture
            reason = picture.reason if picture else ""
            if wanted.because not in reason:
                return f"the reason of {wanted.node} is “{reason}”, without “{wanted.because}”"
        if wanted.settled and not world.settled(*wanted.settled):
            return f"{', '.join(wanted.settled)} are not in one view of just these"
        if wanted.told and not any(wanted.told in line for line in world.story):
            return f"the story says nowhere “{wanted.told}”"
        return ""


def simpler(scenario: Scenario, **changes: Any) -> Scenario:
    """Return a scenario with changes to its cluster."""
    return replace(scenario, cluster=replace(scenario.cluster, **changes))
