"""The clusters that scenarios are played on: what a mirror and a farm have in common."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.settings import PROFILES, FarmTiming
from mirrorfarm.sim import farm_sweep, sweep
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.farm import FarmWorld
from mirrorfarm.sim.farm_clients import Clients
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.scenario.agenda import Agenda, Do
from mirrorfarm.sim.scenario.record import Event, Expectation, Farm, Mirror, Scenario
from mirrorfarm.sim.world import World

FARM_TIMINGS: Final = {
    "default": FarmTiming(),
    "brisk": farm_sweep.TIMING,
    "slow-start": farm_sweep.SLOW,
    "large": farm_sweep.LARGE,
}
CLIENTS_EVERY_NS: Final = 20 * MILLISECOND_NS
SETTLE_MS: Final = 12_000


class Stage(Protocol):
    """A cluster that a scenario is played on."""

    @property
    def cluster(self) -> Cluster:
        """The simulation."""

    def begin(self) -> None:
        """Bring it to where the scenario begins."""

    def schedule(self, events: Sequence[Event], do: Do) -> None:
        """Have the events happen at their times, counted from now."""

    def advance(self, end: int) -> None:
        """Let time pass."""

    def end(self) -> None:
        """Mend everything, and see that all are in service. Raises Violation if not."""

    def states(self) -> dict[str, str]:
        """Return what each node is, in a few words."""

    def missing(self, wanted: Expectation) -> str:
        """Return what of an expectation does not hold now; "" if it holds."""


def stage_of(scenario: Scenario) -> Stage:
    """Return the cluster of a scenario."""
    if isinstance(scenario.cluster, Farm):
        return FarmStage(scenario, scenario.cluster)
    return MirrorStage(scenario, scenario.cluster)


def _told(cluster: Cluster, wanted: Expectation) -> str:
    if wanted.told and not any(wanted.told in line for line in cluster.story):
        return f"the story says nowhere “{wanted.told}”"
    answer = cluster.results[-1][2] if cluster.results else "nothing"
    if wanted.answer and answer != wanted.answer:
        return f"the last order came to {answer}, not {wanted.answer}"
    return ""


class MirrorStage:
    """A mirror."""

    def __init__(self, scenario: Scenario, mirror: Mirror) -> None:
        self._scenario = scenario
        self._events = Agenda([], lambda event: None, 0)
        self.cluster = World(scenario.seed, PROFILES[mirror.profile], **options(mirror))
        self.cluster.network.quality = scenario.wires.quality()

    def begin(self) -> None:  # noqa: D102
        if self._scenario.begin != "off":
            sweep.first_start(self.cluster)

    def schedule(self, events: Sequence[Event], do: Do) -> None:  # noqa: D102
        self._events = Agenda(events, do, self.cluster.now)
        self._events.do_due(self.cluster.now)

    def advance(self, end: int) -> None:  # noqa: D102
        world, events = self.cluster, self._events
        while world.now < end:
            world.run_to(min(end, events.next_ns(end)))
            events.do_due(world.now)

    def end(self) -> None:  # noqa: D102
        sweep.heal_core(self.cluster, self._scenario.core)
        self.cluster.tricks.end()
        sweep.calm(self.cluster)

    def states(self) -> dict[str, str]:  # noqa: D102
        return {
            self.cluster.place(name, module.name): module.role(name)
            for module in self.cluster.modules.values()
            for name in module.nodes
        }

    def missing(self, wanted: Expectation) -> str:  # noqa: D102
        world = self.cluster
        module = world.modules[wanted.module or world.module_name]
        place = world.place(wanted.node, module.name)
        role = module.role(wanted.node) if wanted.node else ""
        if wanted.role and role != wanted.role:
            return f"{place} is {role}, not {wanted.role}"
        reason = module.reason(wanted.node) if wanted.node else ""
        if wanted.because not in reason:
            return f"the reason of {place} is “{reason}”, without “{wanted.because}”"
        count = len(module.monitors.acked)
        if wanted.acknowledged not in {-1, count}:
            return f"{count} writes are acknowledged, not {wanted.acknowledged}"
        return _told(world, wanted)


def options(mirror: Mirror) -> dict[str, Any]:
    """Return the fields of `world.Options`."""
    names = (
        *("arbiter", "failover", "directories", "divergence", "ack_mode"),
        *("networks", "apart", "extents", "modules", "defaultprim", "shorter"),
    )
    found: dict[str, Any] = {name: getattr(mirror, name) for name in names}
    return found | {"checked": "" if mirror.checked == "none" else mirror.checked}


class FarmStage:
    """A farm with its clients."""

    def __init__(self, scenario: Scenario, farm: Farm) -> None:
        self._scenario, self._farm = scenario, farm
        self.cluster = FarmWorld(
            scenario.seed,
            farm.nodes,
            FARM_TIMINGS[farm.profile],
            farm.groups,
            machines=farm.whole,
            networks=farm.networks,
            drain_ns=farm.drain_ns,
        )
        self._clients = Clients(self.cluster)
        self._events = Agenda([], lambda event: None, 0)
        self._next_clients = 0

    def begin(self) -> None:  # noqa: D102
        world = self.cluster
        if self._scenario.begin != "off":
            for name in world.names:
                world.start(name, again=world.machines)
            if not world.run_until(lambda: world.settled(*world.names), SETTLE_MS):
                raise Violation("L: the first start does not end")
            world.run(200)

    def schedule(self, events: Sequence[Event], do: Do) -> None:  # noqa: D102
        self._events = Agenda(events, do, self.cluster.now)
        self._next_clients = self.cluster.now + CLIENTS_EVERY_NS
        self._events.do_due(self.cluster.now)

    def advance(self, end: int) -> None:
        """Between two events of the simulation: clients first, as in a sweep."""
        world = self.cluster
        while world.now < end:
            world.run_to(min(end, self._next_clients, self._events.next_ns(end)))
            if world.now == self._next_clients:
                self._next_clients += CLIENTS_EVERY_NS
                if self._farm.clients:
                    self._clients.go_on()
            self._events.do_due(world.now)

    def end(self) -> None:  # noqa: D102
        farm_sweep.calm(self.cluster, self._clients)

    def states(self) -> dict[str, str]:  # noqa: D102
        world, found = self.cluster, {}
        for name, share in world.shares().items():
            runs = world.nodes[name].process is not None
            found[name] = f"{share} buckets" if runs or share else "off"
        return found

    def missing(self, wanted: Expectation) -> str:  # noqa: D102
        world = self.cluster
        if wanted.buckets >= 0:
            share = world.shares()[wanted.node]
            if share != wanted.buckets:
                return f"{wanted.node} has {share} buckets open, not {wanted.buckets}"
        if wanted.because:
            picture = world.nodes[wanted.node].picture
            reason = picture.reason if picture else ""
            if wanted.because not in reason:
                return f"the reason of {wanted.node} is “{reason}”, without “{wanted.because}”"
        if wanted.settled and not world.settled(*wanted.settled):
            return f"{', '.join(wanted.settled)} are not in one view of just these"
        return _told(world, wanted)
