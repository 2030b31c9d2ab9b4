"""Which recorded processes ran at a fork, when they ended later, and what their clocks showed.

A process that is killed records nothing of it, and its last second is lost: that it ended is known
from a later start, or because its peer heard nothing more of it. It ended after the last message of
it that anybody received.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim.fork.incidents import Incident
from mirrorfarm.sim.fork.links import Start
from mirrorfarm.sim.fork.reading import Name, Reading
from mirrorfarm.sim.fork.waiting import Waiting
from mirrorfarm.trace.files import Source
from mirrorfarm.trace.words import clock_time
from mirrorfarm.transport.address import WITNESS_PROCESS

INCIDENTS_MAX = 10_000
_TOGETHER_NS = 1_000 * MILLISECOND_NS  # Processes of one node that a loss of power ends.
_AWAY_NS = 250 * MILLISECOND_NS  # For so long at most, as far as anybody knows.


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine at the fork."""

    boot_ns: int  # What its boot clock shows.
    day_ns: int  # The time of day, by its own clock.
    fast_millionths: int
    boot_id: str
    incarnation: int  # The highest so far.


def machine(reading: Reading, node: str, sources: dict[tuple[str, int], Source]) -> Machine:
    """Return what is known of a machine's clocks, and of its kernel."""
    own = {inc: source for (name, inc), source in sources.items() if name == node}
    open_ = [waiting.incarnation for (name, _), waiting in reading.open.items() if name == node]
    incarnation = max(open_, default=min(own))
    source, at_ns = own[incarnation], reading.moment.at_ns
    boot_ns = at_ns - source.epoch_ns
    for _ in range(2):  # Clocks run at nearly the same rate.
        boot_ns += at_ns - reading.merge.at(node, incarnation, boot_ns)
    boot_id = str(source.header.get("os_boot", ""))
    # Where clocks cannot be compared well, as around a machine that stood still with its clock,
    # its own steps say more: else its timers, and its guard, would be late at the fork.
    same = {inc for inc, one in own.items() if str(one.header.get("os_boot", "")) == boot_id}
    before = [
        waiting.now_ns
        for (name, _), waiting in reading.open.items()
        if name == node and waiting.incarnation in same
    ]
    behind = [reading.next_clock.get((node, inc), boot_ns) for inc in same]
    boot_ns = max([*before, min([boot_ns, *behind])])
    clocks = [one for one in reading.merge.clocks if (one.node, one.boot) == (node, boot_id)]
    fast = round(clocks[0].fast_ppm) if clocks else 0
    return Machine(boot_ns, source.epoch_ns + boot_ns, fast, boot_id, max(open_, default=0))


def alive(reading: Reading, module: Module) -> list[Name]:
    """Return the processes that ran at the fork."""
    found: list[Name] = []
    at_ns = reading.moment.at_ns
    for node in module.nodes:
        name = (node, module.name)
        if name not in reading.open or 0 < _ended(reading, name, _start(reading, name)) < at_ns:
            continue
        found.append(name)
        replica = (node, f"{module.name}.replica")
        if replica in reading.open:
            found.append(replica)
    witness = (module.arbiter.name, WITNESS_PROCESS)
    if witness in reading.open:
        ended_ns = _witness_ended(reading, witness, _start(reading, witness))
        if not 0 < ended_ns < at_ns:
            found.append(witness)
    return found


def require_known(reading: Reading, name: Name, waiting: Waiting) -> None:
    """Refuse a fork behind the last step of a process that went on without recording."""
    lost_ns, _ = reading.tails.get((name[0], waiting.incarnation), (0, 0))
    if 0 < lost_ns < reading.moment.at_ns:
        last_ns = reading.merge.at(name[0], waiting.incarnation, waiting.now_ns)
        raise UsageInvalid(
            f"--at: {name[0]}/{name[1]} recorded nothing after {clock_time(last_ns)}, though it "
            "ran on (what a process did in its last second before it was killed is in no trace): "
            f"fork at {clock_time(last_ns)} or before"
        )


def _start(reading: Reading, name: Name) -> Start:
    """Return the start of a process that was the present one at the fork."""
    incarnation = reading.open[name].incarnation
    return next(one for one in reading.starts[name] if one.incarnation == incarnation)


def _last(reading: Reading, name: Name, start: Start) -> int:
    """Return when a start of a process was there last: before the next one, whoever hears of it.

    What it sent may come later, as to a node that stands still.
    """
    last_ns = max(start.end_ns, reading.heard_of.get((name[0], start.incarnation), 0))
    starts = reading.starts[name]
    later = starts[starts.index(start) + 1 :]
    return min(last_ns, later[0].begin_ns - 1) if later else last_ns


def _ended(reading: Reading, name: Name, start: Start) -> int:
    """Return when the process of a module ended; 0: it did not, as far as is known."""
    node, last_ns = name[0], _last(reading, name, start)
    if start is not reading.starts[name][-1]:
        return last_ns
    if not reading.silent and not reading.heard:  # A farm: whoever runs beats all the time.
        return last_ns if last_ns < reading.end_ns - 2 * _TOGETHER_NS else 0
    silent_ns = [at for other, at in reading.silent.items() if other != node]
    heard_ns = [at for other, at in reading.heard.items() if other != node]
    for_good = max(silent_ns, default=0) > max([last_ns, *heard_ns])
    return last_ns if for_good else 0


def _witness_ended(reading: Reading, name: Name, start: Start) -> int:
    """Return when a start of the witness ended; 0: it did not, as far as is known."""
    last_ns = _last(reading, name, start)
    replaced = start is not reading.starts[name][-1]
    return last_ns if replaced or reading.arbiter_silent_ns > last_ns else 0


def incidents(
    reading: Reading,
    module: Module,
    running: list[Name],
    by_itself: Callable[[tuple[str, int]], bool],
) -> list[Incident]:
    """Return everything that came from outside after the fork, in its order.

    `by_itself`: of a node and incarnation, whether the module started without an order then.
    """
    found = list(reading.incidents)
    for node in module.nodes:
        up = (node, module.name) in running
        for one in _of_node(reading, module, node, up=up):
            alone = one.kind == "start" and by_itself((node, one.incarnation))
            found.append(replace(one, again=alone))
        found += _of_replica(reading, module, node)
    witness = (module.arbiter.name, WITNESS_PROCESS)
    if witness in reading.open:
        found += _of_witness(reading, witness, up=witness in running)
    return sorted(found, key=lambda one: one.at_ns)[:INCIDENTS_MAX]


def _of_node(reading: Reading, module: Module, node: str, *, up: bool) -> list[Incident]:
    """Return how the processes of a node ended and started after the fork."""
    name, at_ns = (node, module.name), reading.moment.at_ns
    found: list[Incident] = []
    starts = reading.starts[name]
    replicas = reading.starts.get((node, f"{module.name}.replica"), [])
    present = reading.open[name].incarnation if up else -1
    for place, start in enumerate(starts):
        if start.incarnation == present or start.begin_ns > at_ns:
            restarted = module.mode == "mirror" and found and found[-1].kind == "process"
            if start.incarnation != present and not restarted:
                found.append(Incident(start.begin_ns, "start", node, incarnation=start.incarnation))
            ended_ns = _ended(reading, name, start)
            if ended_ns:
                later = starts[place + 1].begin_ns if place + 1 < len(starts) else 0
                alone = later and not any(ended_ns < one.begin_ns < later for one in replicas)
                alone = alone and not any(
                    later <= one.begin_ns < later + _TOGETHER_NS for one in replicas
                )
                kind = "process" if alone and later - ended_ns < 2 * _TOGETHER_NS else "power"
                back_ns = later if kind == "process" and module.mode == "mirror" else 0
                found.append(Incident(max(ended_ns, at_ns), kind, node, until_ns=back_ns))
    return found


def _of_replica(reading: Reading, module: Module, node: str) -> list[Incident]:
    """Return how the process of a node's replicator ended alone after the fork.

    It may have had nothing to say for long before: it is taken to have been away for a moment.
    """
    at_ns = reading.moment.at_ns
    together = [one.begin_ns for one in reading.starts[node, module.name]]
    found: list[Incident] = []
    for start, later in pairwise(reading.starts.get((node, f"{module.name}.replica"), [])):
        back_ns = later.begin_ns
        if back_ns <= at_ns or any(abs(back_ns - one) < _TOGETHER_NS for one in together):
            continue
        heard_ns = reading.heard_of.get((node, start.incarnation), 0)
        ended_ns = max(start.end_ns, min(heard_ns, back_ns - 1), back_ns - _AWAY_NS, at_ns)
        found.append(Incident(ended_ns, "replica", node, until_ns=back_ns))
    return found


def _of_witness(reading: Reading, name: Name, *, up: bool) -> list[Incident]:
    """Return how the process of the witness ended and started after the fork, however often."""
    node, at_ns = name[0], reading.moment.at_ns
    found: list[Incident] = []
    present = reading.open[name].incarnation if up else -1
    for start in reading.starts[name]:
        if start.incarnation != present and start.begin_ns <= at_ns:
            continue
        if start.incarnation != present:
            found.append(Incident(start.begin_ns, "witness_starts", node))
        ended_ns = _witness_ended(reading, name, start)
        if ended_ns:
            found.append(Incident(max(ended_ns, at_ns), "witness_ends", node))
    return found
