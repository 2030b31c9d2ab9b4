"""What forked mirrors and forked farms have in common: how they begin, and who watches."""

import copy
from collections.abc import Callable
from typing import Any

from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.fork.changes import Change
from mirrorfarm.sim.fork.environment import Environment
from mirrorfarm.sim.fork.recording import Recording, Running
from mirrorfarm.sim.fork.resuming import arrive, network_of, resume
from mirrorfarm.sim.fork.settings import Settings, changed
from mirrorfarm.sim.fork.waiting import Doors
from mirrorfarm.sim.hands import Hands
from mirrorfarm.sim.host import Actor, Host, Process
from mirrorfarm.sim.host import Doors as ProcessDoors


class Fork(Cluster):
    """A cluster that goes on from a recording; comes before the class of its kind."""

    measure: Any  # `Measure`, or `FarmMeasure`.

    def _begin(
        self,
        recording: Recording,
        seed: int,
        settings: Settings,
        given: list[Change],
        *,
        keep_faults: bool,
    ) -> Module:
        """Begin without a machine; return the module, with the settings changed."""
        Cluster.__init__(self, seed, copy.deepcopy(recording.watch))
        self.recording, self.settings = recording, settings
        self.module_name, self.identity = recording.module.name, recording.cluster
        self.tells_story = False
        self.environment = Environment(self, given, keep_faults=keep_faults)
        module = changed(recording.module, settings)
        networks = module.farm.networks if module.mode == "farm" else None
        self.network = network_of(self, networks or tuple(one.name for one in module.heartbeats))
        return module

    def _made(
        self,
        host: Host,
        name: str,
        running: Running,
        doors: ProcessDoors,
        died: Callable[[Process], None] = lambda process: None,
    ) -> Process:
        """Return a process that is as recorded, but for its cores; its machine is on now."""
        host.up = True
        made = Process(host, name, running.incarnation, doors, self.record, died)
        made.sequence = running.waiting.sequence
        host.processes[name] = made
        return made

    def _go_on(self) -> None:
        """Put in what processes wait for, and what is under way: from now on everything runs."""
        for (machine, process), running in self.recording.processes.items():
            resume(self.hosts[machine].processes[process], running)
        arrive(self, self.recording)
        self.environment.begin()
        self.measure.begin()

    def seen(self, node: str, observation: Any, module: str = "") -> None:
        """Tell nobody: recorded traces have no observations, and these monitors want none."""

    def record(self, actor: Actor, now: int, event: Any, effects: list[Any]) -> None:
        """Note one step, for whoever watches."""
        Cluster.record(self, actor, now, event, effects)


def fill(hands: Hands, doors: Doors) -> None:
    """Have address and application of a node be as the recorded process left them."""
    hands.vip, hands.app.runs = bool(doors.vip), bool(doors.runs)
    hands.app.number_run += bool(doors.runs)
    if doors.watch is not None:
        hands.watched, hands.watch_number = doors.watch.entries, doors.watch.number
