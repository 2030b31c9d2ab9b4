"""A recorded cluster at the moment of a fork: everything that a simulated one begins with.

What no trace holds is modelled, and `Recording.modelled` says so: the contents of disks, and the
witness's register where its trace is not given.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mirrorfarm.actors.farm_filter.core import FarmFilter
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.durations import span
from mirrorfarm.errors import Refused, TraceInvalid, UsageInvalid
from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.fork import lives
from mirrorfarm.sim.fork.cores import (
    FARM_CORES,
    MODULE_CORES,
    State,
    doors_of,
    require_whole,
    states,
)
from mirrorfarm.sim.fork.incidents import Incident
from mirrorfarm.sim.fork.links import Cut, Samples
from mirrorfarm.sim.fork.moment import find
from mirrorfarm.sim.fork.reading import WITNESS_ACTOR, Arrival, Name, Reading
from mirrorfarm.sim.fork.waiting import Doors, Waiting
from mirrorfarm.sim.fork.watched import watch_of
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.sim.pair import REPLICATOR
from mirrorfarm.trace.decoder import Checkpoint
from mirrorfarm.trace.files import OnFault, Source, raise_fault
from mirrorfarm.trace.merge import Lane, Merge
from mirrorfarm.trace.modules import first_states, processes_of
from mirrorfarm.trace.steps import read_items
from mirrorfarm.trace.words import clock_time
from mirrorfarm.transport.address import MODULE_ACTOR, WITNESS_PROCESS
from mirrorfarm.transport.messages import Register

MODES: Final = ("mirror", "farm")
CERTAINTY: Final = 4  # A clock must be known better than this part of a silence.
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Running:
    """One process that ran at the fork."""

    incarnation: int
    waiting: Waiting
    states: dict[str, State]  # By actor.
    unstarted: tuple[str, ...] = ()  # Actors of a new process that nobody has told to start yet.


@dataclass(slots=True)
class Recording:
    """The cluster at the fork. Times of day, by the clock of the merge's reference."""

    module: Module
    cluster: str
    at_ns: int
    end_ns: int
    machines: dict[str, lives.Machine]
    processes: dict[Name, Running]
    records: dict[str, NodeRecord | None]  # Durable, by node.
    doors: dict[str, Doors]  # Of the module on each node, and of the witness; of one off, too.
    register: Register | None  # For a witness whose trace is not given.
    witness_off: bool
    arrivals: list[Arrival]
    incidents: list[Incident]
    cuts: list[Cut]
    losses: dict[tuple[str, str], int]
    network_losses: dict[tuple[str, str, str], int]
    delays: dict[tuple[str, str], Samples]
    durations: dict[tuple[str, str], Samples]
    missing: dict[str, set[str]]
    watch: Watch  # Has seen everything before the fork.
    steps: int = 0  # How many there are before the fork.
    modelled: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[Incident]:
        """Everything that came from outside behind the fork, cuts included, in its order."""
        cuts = [
            Incident(
                *(max(one.begin_ns, self.at_ns), "cut", one.source, one.to, one.end_ns),
                network=one.network,
            )
            for one in self.cuts
            if not one.end_ns or one.end_ns > self.at_ns
        ]
        return sorted([*self.incidents, *cuts], key=lambda one: one.at_ns)

    @property
    def told(self) -> list[Incident]:
        """The same, each order once: a command line repeats it until it is answered."""
        told: dict[tuple[str, str] | int, Incident] = {}
        for number, one in enumerate(self.outside):
            key = (one.node, one.event.message.request) if one.kind == "command" else number
            told.setdefault(key, one)
        return list(told.values())

    @property
    def witness(self) -> str:
        """The witness's name; "": the module has none."""
        arbiter = self.module.arbiter
        return arbiter.name if arbiter.kind == "witness" else ""


def read(
    paths: Iterable[Path],
    at: str,
    module: str = "",
    on_fault: OnFault = raise_fault,
    on_step: OnStep = lambda done, total: None,
) -> Recording:
    """Read the traces of all nodes of a module up to `at`, and what came from outside later.

    `at` is what `moment.find` understands. Raise UsageInvalid, TraceInvalid or Refused, with the
    cure, where nothing can go on from there.
    """
    merge = Merge(paths, on_fault)
    sources = {(one.node, one.incarnation): one for lane in merge.lanes for one in lane.starts}
    for source in sources.values():
        require_whole(source)
    settings = _module(merge.lanes, module)
    _require_nodes(merge.lanes, settings)
    moment = find(merge, at, settings.name, on_step)
    app = "prim" if settings.mode == "mirror" else "both"
    reading = Reading(merge, moment, settings.name, watch_of(settings), app)
    reading.run(on_step)
    for lane in merge.lanes:
        name = (lane.node, lane.process)
        if lane.process == settings.name and name not in reading.starts:
            raise TraceInvalid(
                f"{lane.starts[0].files[0]}: it holds no whole step of {lane.name}: take another "
                "copy, of the whole folder"
            )
    return _recording(reading, settings, sources, on_fault)


def _module(lanes: list[Lane], wanted: str) -> Module:
    """Return the settings of the one module that is meant."""
    found: dict[str, tuple[str, Any, Source]] = {}
    for lane in lanes:
        for source in lane.starts:
            first = _checkpoint(source)
            if first is not None and lane.process not in found:
                found[lane.process] = (first.kind, first.state, source)
    if not found and any(_is_only_a_filter(source) for lane in lanes for source in lane.starts):
        raise UsageInvalid(
            "these traces are of a simulated farm of which only the filters ran, without the state "
            "machines that decide what its nodes do: record it anew, with sim run --options "
            "farm-swarm, or with a scenario whose farm has whole: yes"
        )
    if wanted and wanted not in found:
        raise UsageInvalid(
            f"--module {shown(wanted)}: not in these traces; {suggestion(wanted, found)}"
        )
    names = [wanted] if wanted else list(found)
    if len(names) != 1:
        what = f"{len(names)} modules: {', '.join(names)}; name one with --module"
        if not names:
            what = "no module's process; name the folders of both nodes, as var/log/mirrorfarm"
        raise UsageInvalid(f"these traces are of {what}")
    kind, state, source = found[names[0]]
    try:
        made: Module = State(kind, state).restored().state.settings.module
    except (ValueError, AttributeError, KeyError) as error:
        raise TraceInvalid(
            f"{source.files[0]}: a state of {names[0]} that this build does not understand "
            f"({error}): use the version that recorded it"
        ) from error
    if made.mode not in MODES:
        raise Refused(
            f"{source.files[0]}: {made.name} is a {made.mode} module: only mirrors and farms can "
            "go on, whose nodes decide together"
        )
    return made


def _checkpoint(source: Source) -> Checkpoint | None:
    """Return the first state of the state machine of a module's process; None: it is none."""
    if source.process == WITNESS_PROCESS or source.process.endswith(".replica"):
        return None
    return _first(source, MODULE_ACTOR)


def _is_only_a_filter(source: Source) -> bool:
    """Return whether of a farm's module nothing ran but the filter's core."""
    actors = {state.kind: state.actor for state in first_states(source)}
    return FarmFilter.__name__ in actors and MODULE_ACTOR not in actors.values()


def _first(source: Source, actor: str = "") -> Checkpoint | None:
    """Return the first state of an actor, or of any."""
    for item in read_items(source, lambda _: None):
        if isinstance(item, Checkpoint) and (not actor or item.actor == actor):
            return item
    return None


def _starts_by_itself(source: Source) -> bool:
    """Return whether a module's process was begun so that its module starts without an order."""
    first = _checkpoint(source)
    if first is None:
        return False
    start: bool = State(first.kind, first.state).restored().state.settings.start
    return start


def _require_births(reading: Reading, sources: dict[tuple[str, int], Source]) -> None:
    """Refuse a fork before the oldest file of a process that ran already."""
    late = []
    for name, starts in reading.starts.items():
        if name not in reading.open:
            source = sources[name[0], starts[0].incarnation]
            first = _first(source)
            if first is not None and not first.birth:
                late.append((starts[0].begin_ns, source))
    if late:
        begin_ns, source = max(late, key=lambda one: one[0])
        raise UsageInvalid(
            f"--at: {source.files[0]}: what {source.node}/{source.process} did before "
            f"{clock_time(begin_ns)} is not in its trace: fork later"
        )


def _require_nodes(lanes: list[Lane], module: Module) -> None:
    wanted = processes_of(module)
    have = {(lane.node, lane.process) for lane in lanes}
    missing = [f"{node}/{process}" for node, process in wanted if (node, process) not in have]
    if missing:
        raise TraceInvalid(
            f"no trace of {', '.join(missing)}: a cluster goes on only if all its processes are "
            f"known; copy var/log/mirrorfarm/modules/{module.name} of that node as well"
        )


def _recording(
    reading: Reading,
    module: Module,
    sources: dict[tuple[str, int], Source],
    on_fault: OnFault,
) -> Recording:
    _require_births(reading, sources)
    alive = lives.alive(reading, module)
    module = _present(reading, module, sources, alive)
    processes = {name: _running(reading, name, module, sources, on_fault) for name in alive}
    links = reading.links.judge(reading.starts, reading.pauses)
    machines = [*module.nodes, *({module.arbiter.name} & {node for node, _ in sources})]
    own = {node: (node, module.name) for node in module.nodes}
    witness = (module.arbiter.name, WITNESS_PROCESS)
    return Recording(
        module=module,
        cluster=reading.merge.cluster,
        at_ns=reading.moment.at_ns,
        end_ns=reading.end_ns,
        machines={node: lives.machine(reading, node, sources) for node in machines},
        processes=processes,
        records={node: _record(reading, name, sources) for node, name in own.items()},
        doors={
            node: reading.open[name].doors
            for node, name in (*own.items(), (witness[0], witness))
            if name in reading.open
        },
        register=reading.register,
        witness_off=witness in reading.open and witness not in processes,
        arrivals=reading.arrivals,
        incidents=lives.incidents(
            reading, module, alive, lambda start: _starts_by_itself(sources[start])
        ),
        cuts=links.cuts,
        losses=links.losses,
        network_losses=links.network_losses,
        delays=links.delays,
        durations=reading.durations,
        missing=reading.missing,
        watch=reading.watch,
        steps=reading.moment.number,
        modelled=_modelled(module, reading),
    )


def _present(
    reading: Reading, module: Module, sources: dict[tuple[str, int], Source], alive: list[Name]
) -> Module:
    """Return the settings at the fork: a module may have been given others since it was recorded.

    Those of a node that runs, if any does.
    """
    names = [(node, module.name) for node in module.nodes]
    for name in sorted(names, key=lambda one: one not in alive):
        waiting = reading.open.get(name)
        if waiting is None:
            continue
        first = _checkpoint(sources[name[0], waiting.incarnation])
        if first is not None:
            present: Module = State(first.kind, first.state).restored().state.settings.module
            return present
    return module


def _running(
    reading: Reading,
    name: Name,
    module: Module,
    sources: dict[tuple[str, int], Source],
    on_fault: OnFault,
) -> Running:
    """Return a process that ran at the fork, with its cores replayed to there."""
    waiting = reading.open[name]
    source = sources[name[0], waiting.incarnation]
    lives.require_known(reading, name, waiting)
    found = states(source, waiting.number, _actors(name[1], module), on_fault)
    if name[1] == module.name:
        waiting.doors = doors_of(waiting.doors, found)
    first = _first(source)
    new = first is not None and first.birth
    unstarted = tuple(actor for actor in found if new and actor not in waiting.begun)
    return Running(waiting.incarnation, waiting, found, unstarted)


def _actors(process: str, module: Module) -> tuple[str, ...]:
    if process == WITNESS_PROCESS:
        return (WITNESS_ACTOR,)
    if module.mode != "mirror":
        return FARM_CORES
    return MODULE_CORES if process == module.name else (REPLICATOR,)


def _record(
    reading: Reading, name: Name, sources: dict[tuple[str, int], Source]
) -> NodeRecord | None:
    """Return the durable record of a node: the last one stored, or the one that it began with."""
    waiting = reading.open.get(name)
    if waiting is not None and waiting.doors.record is not None:
        return waiting.doors.record
    incarnation = waiting.incarnation if waiting else reading.starts[name][0].incarnation
    first = _checkpoint(sources[name[0], incarnation])
    if first is None:
        return None
    record: NodeRecord = State(first.kind, first.state).restored().state.record
    return record


def _uncertain(module: Module, reading: Reading) -> Iterator[str]:
    """Tell of clocks that are so uncertain that what links took is no better than a guess."""
    is_mirror = module.mode == "mirror"
    silence_ns = module.timing.detection_ns if is_mirror else module.farm.timing.silent_ns
    errors: dict[str, int] = {}
    for clock in reading.merge.clocks:
        if clock.node in module.nodes and clock.error_ns is not None:
            errors[clock.node] = max(errors.get(clock.node, 0), clock.error_ns)
    for node, error_ns in errors.items():
        if error_ns * CERTAINTY > silence_ns:
            yield (
                f"what links took: the clock of {node} may be {span(error_ns)} wrong in these "
                "traces, as of a machine that stood still; name those of another time"
            )


def _modelled(module: Module, reading: Reading) -> list[str]:
    """Return what is not from the recording."""
    found = list(_uncertain(module, reading))
    if module.replication.directories:
        found += [
            "a client that writes ten times a second: no trace says what applications write",
            "the contents of the disks: equal where both nodes were in sync",
        ]
    if (
        module.mode == "mirror"
        and module.has_scripts
        and not any(what == "start_prim" for _, what in reading.durations)
    ):
        found.append("start_prim takes 2 ms: it did not run; --set n2.start_prim=5s says otherwise")
    witness = module.arbiter.name
    if module.arbiter.kind == "witness" and (witness, WITNESS_PROCESS) not in reading.starts:
        found.append(
            f"the witness {witness}, whose trace is not given: it has the last register that a "
            "node knew, and its lease begins anew"
        )
    return found
