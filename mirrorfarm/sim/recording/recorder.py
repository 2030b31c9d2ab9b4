"""Records a simulated cluster: one folder for each node, in it one for each start of a process.

What is written is what production writes, by the same encoder into the same files, but for the
queue and the thread before them: a simulation waits for its trace, so nothing is ever lost. What
only the simulation sees (writes of the application, faults) is recorded as a process of its own
on each node, `world`; cores know nothing of it.

A recorder only looks: the run is the same, step by step, as without one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mirrorfarm import __version__
from mirrorfarm.errors import SystemUnsuitable, UsageInvalid
from mirrorfarm.oserrors import told
from mirrorfarm.sim.cluster import CLUSTER, Cluster
from mirrorfarm.sim.host import Actor, Call, Host, Process
from mirrorfarm.sim.monitors import seen
from mirrorfarm.sim.recording.lane import Decisions, Lane
from mirrorfarm.sim.recording.workload import EXTENTS_MAX, Read, Refused, Workload
from mirrorfarm.sim.trap import untrapped
from mirrorfarm.sim.tricks import Tricks
from mirrorfarm.transport.trace_ring import FILE_BYTES, Origin, Ring, header_of

WORLD: Final = "world"
CLUSTER_WIDE: Final = "cluster"  # The actor that tells what is of no single node.
# No incarnation of a process is as high: node and incarnation are those of one process.
WORLD_INCARNATIONS: Final = 1 << 32
_FILES: Final = 1 << 30  # No bound: a run ends.
# Told by the cores' own steps; or of no use but to a monitor.
_LEFT_OUT: Final = (
    *(seen.Begun, seen.FilterIs, seen.Depths),
    *(seen.RecordDurable, seen.RegisterDurable),
)


class Recorder:
    """Hangs itself between a cluster and whoever watches it; `close` writes the rest."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Raise UsageInvalid if the folder holds traces: two runs in one are none."""
        if folder.exists() and any(folder.rglob("*.mft")):
            raise UsageInvalid(
                f"--trace {folder}: there are traces in it already; name another folder, "
                "or remove what is there"
            )
        self._cluster, self._folder = cluster, folder
        self._lanes: dict[Process, Lane] = {}
        self._worlds: dict[str, _World] = {}  # By machine: the present one.
        self._tricks: Tricks | None = None
        self._decisions: Decisions = []
        modules = getattr(cluster, "modules", {})
        self._workloads = {
            name: Workload(one.nodes, number * EXTENTS_MAX)
            for number, (name, one) in enumerate(modules.items())
        } or {cluster.module_name: Workload(getattr(cluster, "nodes", {}))}
        self._record, self._seen = cluster.record, cluster.seen
        cluster.record = self._on_step  # type: ignore[method-assign]
        cluster.seen = self._on_seen  # type: ignore[method-assign]
        with _writing():
            for host in cluster.hosts.values():
                for process in host.processes.values():
                    process.record = self._on_step
                    self._begin(process)

    def close(self) -> None:
        """Note what the application can read at the end, and write everything."""
        with _writing():
            for workload in self._workloads.values():
                for node, read in workload.at_the_end():
                    self._note(node, read)
            for lane in self._lanes.values():
                lane.close()
            for world in self._worlds.values():
                world.ring.flush(ends=True)

    # --- what happens ----------------------------------------------------------------------

    def _on_step(self, actor: Actor, now: int, event: Any, effects: list[Any]) -> None:
        decisions, self._decisions = self._decisions, []
        lane = self._lanes.get(actor.process)
        if lane is not None and event.__class__ is not Call:
            with _writing():
                lane.step(actor.name, now, event, effects, decisions)
        self._record(actor, now, event, effects)

    def _on_seen(self, node: str, observation: Any, module: str = "") -> None:
        with _writing():
            if observation.__class__ is seen.Begun:
                self._begin(self._cluster.hosts[node].processes[observation.process])
            elif observation.__class__ not in _LEFT_OUT:
                workload = self._workloads.get(module) or self._workloads[self._cluster.module_name]
                for told in workload.told(node, observation):
                    self._note(node, told)
        self._seen(node, observation, module)

    def _decided(self, name: str, fired: bool) -> None:
        self._decisions.append((name, fired))

    # --- lanes -----------------------------------------------------------------------------

    def _begin(self, process: Process) -> None:
        """A process begins; its namesake before has ended."""
        host = process.host
        if self._cluster.tricks is not self._tricks:
            self._tricks = self._cluster.tricks
            self._tricks.decided = self._decided
        world = self._worlds.get(host.name)
        if world is None or world.boot != host.boot:
            if world is not None:
                world.ring.flush(ends=True)
            self._worlds[host.name] = self._world(host)
        for before in [p for p in self._lanes if p.host is host and p.name == process.name]:
            self._lanes.pop(before).close()
        lane = Lane(self._ring(host, process.name, process.incarnation), process)
        self._lanes[process] = lane
        lane.begin(host.clocks.boot(self._cluster.now))

    def _world(self, host: Host) -> "_World":
        ring = self._ring(host, WORLD, WORLD_INCARNATIONS + host.boot, cores={})
        return _World(ring, host.boot)

    def _ring(self, host: Host, process: str, incarnation: int, **header: Any) -> Ring:
        now, clocks = self._cluster.now, host.clocks
        origin = Origin(__version__, CLUSTER, host.name, process, incarnation, host.boot_id)
        header |= {
            "seed": self._cluster.seed,
            "epoch_real_ns": clocks.day(now) - clocks.boot(now),
            "types": header_of(origin)["types"] | _TYPES,
        }
        folder = self._folder / host.name / f"{process}-{incarnation % WORLD_INCARNATIONS}"
        return Ring(folder, origin, FILE_BYTES, _FILES, header)

    def _note(self, node: str, observation: Any) -> None:
        """Write what the simulation saw; of the whole cluster, with the first machine."""
        hosts = self._cluster.hosts
        host = hosts[node] if node in hosts else next(iter(hosts.values()), None)
        if host is None:
            return  # Nothing is there yet.
        world = self._worlds.get(host.name)
        if world is None:
            world = self._worlds[host.name] = self._world(host)
        now = host.clocks.boot(self._cluster.now)
        world.step(WORLD if node in hosts else CLUSTER_WIDE, now, observation)


@contextmanager
def _writing() -> Iterator[None]:
    """Let a trace be written. What the disk refuses here must not be one of the simulation's."""
    with untrapped():
        try:
            yield
        except OSError as error:
            raise SystemUnsuitable(f"--trace: the run is not recorded: {told(error)}") from error


class _World:
    """What the simulation saw of a machine, from the first process of a boot to the next one's."""

    def __init__(self, ring: Ring, boot: int) -> None:
        self.ring, self.boot = ring, boot
        self._number = 0
        self._last = 0

    def step(self, actor: str, now: int, observation: Any) -> None:
        # While a machine stands still its clock is as far back already as it will be afterwards,
        # which no process sees.
        self._last = now = max(now, self._last)
        self._number += 1
        self.ring.ready(now, self._number)
        self.ring.encoder.step(actor, now, observation, (), ())


def _kinds(base: type[seen.Seen]) -> Iterator[type[seen.Seen]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


assert {Read, Refused} <= set(_kinds(seen.Seen)), "they are told as well"
_TYPES: Final = {kind.__name__: list(kind.__struct_fields__) for kind in _kinds(seen.Seen)}
