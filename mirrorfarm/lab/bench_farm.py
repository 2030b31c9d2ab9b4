"""What changes and failures of a whole farm cost its clients, and what a large farm uses.

    python -m mirrorfarm.lab.bench_farm [--only TEXT] [--json FILE]

Nodes and a client are namespaces of this machine; the module is `web`. The client keeps 90
connections, asks on each ten times a second, and makes new ones all the time.
"""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator

from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.errors import TimedOut
from mirrorfarm.lab import farm_web
from mirrorfarm.lab.bench_mirror import OURS, Part, Row, measure_parts, processor_seconds
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.farm_events import FarmEvents
from mirrorfarm.lab.farm_traffic import STREAMS, Traffic
from mirrorfarm.limits import BUCKETS, SECOND_NS

NODES = ("n1", "n2", "n3")
ROUNDS = 5
CUTS = 10
DEATHS = 2  # Of a farm; three nodes must not become none.
NEW_PER_SECOND = 200
SETTLE_SECONDS = 1.5
IDLE_SECONDS = 30.0
THIRD = range(BUCKETS // 3, BUCKETS // 3 + 2)


@contextlib.contextmanager
def under_load(kind: str) -> Iterator[FarmEvents]:
    """Start three nodes with this filter and a client; check at the end that it saw everything."""
    with OneMachine(nodes=NODES, witness=False) as lab:
        farm_web.start(lab, f'filter="{kind}"')
        with Traffic(lab, new_per_second=NEW_PER_SECOND) as traffic:
            yield FarmEvents(lab, traffic, SETTLE_SECONDS)


def planned(kind: str) -> Part:
    """Return what counts failures at planned changes."""

    def measure(rows: list[Row]) -> None:
        with under_load(kind) as farm:
            for title, act in _changes(farm):
                counts = [farm.event(title, act) for _ in range(ROUNDS)]
                lost = [float(c.reset + c.unanswered + c.failed + c.twice) for c in counts]
                made = sum(count.made for count in counts)
                note = f"{STREAMS} connections, {made} new ones, each also answered once"
                rows.append(Row(f"{kind}: {title}: failed", 0, "", lost, note))
                waits = [1000 * max(c.wait, c.new_wait) for c in counts]
                rows.append(Row(f"{kind}: {title}: longest wait", float("inf"), "ms", waits))

    return measure


def _changes(farm: FarmEvents) -> tuple[tuple[str, Callable[[], None]], ...]:
    def drain() -> None:
        farm.share("n2", "drain", buckets=range(1))
        farm.share("n2", "resume", buckets=THIRD)

    def power() -> None:
        farm.share("n3", "power", "2", buckets=range(BUCKETS // 2, BUCKETS // 2 + 1))
        farm.share("n3", "power", "1", buckets=THIRD)

    turns = itertools.cycle(NODES)

    def rejoin() -> None:
        node = next(turns)
        farm.leave(node)
        farm.join(node)

    return (
        ("drain, resume", drain),
        ("power 2, power 1", power),
        ("stop while clients leave, join", rejoin),
    )


def cut(rows: list[Row]) -> None:
    """Measure what clients of a node notice whose cable is cut."""
    ended = Row("cable cut: the last of its clients is reset or answered", 1, "s")
    hole = Row("cable cut: from then on every new SYN is answered", 1, "s")
    twice = Row("cable cut and back: answered twice", 0, "")
    back = Row("cable back: failed", 0, "")
    silent = Row("cable cut: its clients that heard nothing for 3 s", float("inf"), "")
    rows += [ended, hole, twice, back, silent]
    with under_load("bpf") as farm:
        for number in range(CUTS):
            node = NODES[number % len(NODES)]
            if node not in farm.traffic.holders():
                farm.traffic.hang_up(max(NODES, key=farm.traffic.holders().count))
                farm_web.until(lambda at=node: at in farm.traffic.holders(), 5, "a client there")  # type: ignore[misc]
            count = farm.event("cut", lambda at=node: farm.cable(at, cut=True))  # type: ignore[misc]
            ended.values.append(max(count.resets, default=0.0))
            hole.values.append(count.hole)
            silent.values.append(float(count.unanswered))
            after = farm.event("back", lambda at=node: farm.cable(at, cut=False))  # type: ignore[misc]
            back.values.append(float(after.reset + after.unanswered + after.failed))
            twice.values.append(float(count.twice + after.twice))
            sys.stderr.write(f"cut of {node}: {ended.values[-1]:.3f} s, {count.hole:.3f} s\n")


def many(nodes: int) -> Part:
    """Return what measures a farm of so many nodes: idle, and when one of them dies."""

    def measure(rows: list[Row]) -> None:
        names = tuple(f"n{number}" for number in range(1, nodes + 1))
        processor = Row(f"{nodes} nodes, idle: processor of all together", 40, "% of a core")
        death = Row(f"{nodes} nodes: from a death to the new view everywhere", 1, "s")
        rows += [processor, death]
        with OneMachine(nodes=names, witness=False) as lab:
            farm_web.start(lab)
            processor.values.append(_idle(lab))
            for number in range(DEATHS):
                dead, left = names[-1 - number], names[: -1 - number]
                begun_ns = boot_clock_ns()
                lab.kill_node(dead)
                time.sleep(SETTLE_SECONDS)  # Asking all of them at once would slow them down.
                farm_web.await_members(lab, left, 20)
                told = [seen_ns(lab, node, dead, begun_ns) for node in left]
                death.values.append((max(told) - begun_ns) / SECOND_NS)
                sys.stderr.write(f"death of {dead}: {death.values[-1]:.3f} s\n")

    return measure


def _idle(lab: OneMachine) -> float:
    """Return the processor time of all nodes together, in per cent of a core."""
    time.sleep(5)
    pids = [pid for node in lab.nodes for role in OURS for pid in lab.pids(node).get(role, ())]
    before, start = sum(map(processor_seconds, pids)), time.monotonic()
    time.sleep(IDLE_SECONDS)
    used = sum(map(processor_seconds, pids)) - before
    return 100 * used / (time.monotonic() - start)


def seen_ns(lab: OneMachine, node: str, dead: str, begun_ns: int) -> int:
    """Return when a node had the first view without the dead one, on the clock of them all."""
    for fact in lab.state(node, seconds=3)["facts"]:
        text = str(fact["text"])
        known = fact["at_ns"] > begun_ns and text.startswith("farm membership")
        if known and dead not in text.split():
            return int(fact["at_ns"])
    raise TimedOut(f"{node} does not say when it left {dead} out")


PARTS: dict[str, Part] = {
    "planned bpf": planned("bpf"),
    "planned nft": planned("nft"),
    "cut": cut,
    "3 nodes": many(3),
    "8 nodes": many(8),
    "16 nodes": many(16),
}


def main() -> int:
    """Measure a farm."""
    return measure_parts(str(__doc__).partition("\n")[0], PARTS)


if __name__ == "__main__":
    sys.exit(main())
