"""A simulated farm that begins as a recorded one was at a moment: as `world`, without data."""

from dataclasses import replace
from typing import Any

from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.module_cores import rules_digest
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.farm import FarmNode, FarmWorld
from mirrorfarm.sim.filters import SimFilter
from mirrorfarm.sim.fork import farm_clocks
from mirrorfarm.sim.fork.changes import Change
from mirrorfarm.sim.fork.farm_measure import FarmMeasure
from mirrorfarm.sim.fork.fork import Fork, fill
from mirrorfarm.sim.fork.models import fit_hands, latency
from mirrorfarm.sim.fork.recording import Recording
from mirrorfarm.sim.fork.resuming import FORK_NS, host_of
from mirrorfarm.sim.fork.settings import Settings, resettle
from mirrorfarm.sim.host import Host
from mirrorfarm.transport.address import MODULE_ACTOR


class ForkedFarm(Fork, FarmWorld):
    """The farm; `run_to` goes on from `FORK_NS`."""

    def __init__(
        self,
        recording: Recording,
        seed: int,
        settings: Settings,
        given: list[Change],
        *,
        keep_faults: bool = True,
    ) -> None:
        self._module = self._begin(recording, seed, settings, given, keep_faults=keep_faults)
        farm = self._module.farm
        self.watch.farm.timing = farm.timing
        self.timing, self.groups, self.machines = farm.timing, len(farm.groups), True
        self.drain_ns, self.next_flow = farm.drain_ns, 0
        self.names, self.measure = recording.module.nodes, FarmMeasure(self)
        self.nodes = {name: self._forked_node(name) for name in self.names}
        self.now = FORK_NS
        for (node, process), running in recording.processes.items():
            found = self.nodes[node]
            made = self._made(found.host, process, running, found.hands.doors)
            for actor, state in running.states.items():
                made.add(actor, self._resettled(state.restored(), found.host))
            self._fill(found)
        self._go_on()

    def _forked_node(self, name: str) -> FarmNode:
        host, draws = host_of(self, self.recording, name), Draws(self.seed, name)
        node = FarmNode(self, host, SimFilter(self, host, draws, self.groups), draws)
        node.hands = fit_hands(node.hands, self.recording, self.settings)
        node.watch_pictures()
        node.powers = (1,) * self.groups
        node.records.latency = latency(self.recording, self.settings, name, "Stored")
        node.records.record = self.recording.records[name]
        return node

    def _resettled(self, core: Any, host: Host) -> Any:
        """Return a core with the clocks that are set; none are: each node keeps its own."""
        if not self.settings.module:
            return core
        if isinstance(core, FarmFilter):
            farm_clocks.resettle(core, self.timing, host.clocks.boot(self.now))
        else:
            resettle(core, self._module)
        return core

    def _fill(self, node: FarmNode) -> None:
        """Have filter, addresses and application be as the recorded process left them."""
        doors, process = self.recording.doors[node.name], node.host.processes[self.module_name]
        fill(node.hands, doors)
        if doors.table is not None:
            node.filter.apply(process.actors[MODULE_ACTOR], doors.table)
        assert node.core is not None, "its process runs"
        node.filter.deadline_ns = node.core.state.lease_ns

    def module(self, node: FarmNode) -> Module:
        """Return a node's configuration."""
        del node
        return self._module

    def start(self, name: str, wish: str = "in", *, again: bool = False, **changes: Any) -> None:
        """Start the process of a node; what it compares with others is as recorded.

        A digest covers the clocks as well, and the others still say the recorded one.
        """
        FarmWorld.start(self, name, wish, again=again, **changes)
        core = self.nodes[name].core
        assert core is not None, "it was just started"
        rules = rules_digest(self.recording.module)
        core.state.settings = replace(core.state.settings, rules=rules)
