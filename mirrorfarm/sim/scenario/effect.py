"""What nothing would come of in a cluster: events that do nothing, expectations nobody looks at.

Each is a fault of its file: who wrote it believes that it counts, and reads "as expected". So is a
word that nothing is ever called: it would read as if the cluster had done something else.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.sim.acts.act import Act, arguments
from mirrorfarm.sim.acts.farm import Start, Wish
from mirrorfarm.sim.acts.phases import FarmCrashInPhase
from mirrorfarm.sim.coverage.machines import FILTER
from mirrorfarm.sim.monitors.all import MIRROR
from mirrorfarm.sim.monitors.farm import FARM
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.scenario.record import Expectation, Farm, Mirror

# Acts on a farm's module, its application and its record: filters alone have none of these.
OF_WHOLE_NODES: Final = (
    *("command", "command_in_phase", "failure_in_phase", "record_fails"),
    *("application_start_fails", "application_start_hangs"),
    *("application_stop_hangs", "application_exits"),
)
_WHOLE: Final = "write `farm: {whole: yes}`"
_PAST_THE_MODULE: Final = (
    "goes past the module of a whole node, which would not know: write `command` with "
    "`start`, `stop`, `drain` or `resume`"
)
# Keys of expectations: what they are of, and what to write of the other sort of cluster.
OF_A_MIRROR: Final = {
    "module": "a farm has only one",
    "is": "of a farm, expect how many `buckets` a node has, or which nodes are `settled`",
    "acknowledged": "a farm's clients write nothing; leave it out",
}
OF_A_FARM: Final = {
    "buckets": "of a mirror, expect what a node `is`",
    "settled": "of a mirror, expect what each node `is`",
}
WHEN: Final = ("at", "by")
# What a mirror's node may be, an order come to, and a run violate.
ROLES: Final = ("STOP", "WAIT", "SECOND", "PRIM", "ALONE")
STATUSES: Final = ("NotReady", "Transient", "Ready")
STATES: Final = ("down", *(f"{role} {status}" for role in ROLES for status in STATUSES))
ANSWERS: Final = ("done", "refused", "failed", "nothing")
OF_EVERY_RUN: Final = ("assert", "matrix", "L")  # Of cores, of their states, of a farm's calm.
VIOLATED: Final = tuple(dict.fromkeys((*(one.id for one in (*MIRROR, *FARM)), *OF_EVERY_RUN)))
# Nobody promises these without a witness: their monitors look away then; and this one with it.
WITH_A_WITNESS: Final = ("S1", "S2", "S3", "S4", "S6", "S11", "X1", "X2", "X5")
WITHOUT_ONE: Final = "S15"
# What is no expectation itself: it says whom others are about.
ABOUT: Final = {
    "node": ("is", "because", "buckets"),
    "module": ("is", "because", "acknowledged"),
}


def idle(act: Act, cluster: Mirror | Farm) -> str:
    """Return why an act does nothing sensible in a cluster, and the cure; "": it may do that."""
    if not isinstance(cluster, Farm):
        return ""
    if getattr(act, "process", "") == "replica":
        return "a farm has no replicator; leave out `process`"
    if cluster.whole:
        return _PAST_THE_MODULE if isinstance(act, Wish) else ""
    if act.name in OF_WHOLE_NODES:
        return f"does nothing in a farm of filters alone: {_WHOLE}, or leave it out"
    if isinstance(act, FarmCrashInPhase) and act.phase not in FILTER.states:
        phases = ", ".join(FILTER.states)
        return (
            f"filters alone are never {act.phase}, a phase of the module: {_WHOLE}, "
            f"or choose one of {phases}"
        )
    return ""


def unheeded(act: Act, cluster: Mirror | Farm) -> dict[str, str]:
    """Return the keys of an act which change nothing of it in a cluster, and why."""
    if isinstance(act, Start) and isinstance(cluster, Farm) and cluster.whole and act.wish != "in":
        return {
            "wish": "with `whole` a node starts to take part: leave it out, and write `command`"
        }
    return {}


def misplaced(keys: Collection[str], cluster: Mirror | Farm) -> Iterator[tuple[str, str]]:
    """Yield which of an expectation's keys nobody looks at, and why; "": it expects nothing."""
    of_a_farm = isinstance(cluster, Farm)
    others, kind = (OF_A_MIRROR, "mirror") if of_a_farm else (OF_A_FARM, "farm")
    for key in keys:
        if key in others:
            yield key, f"only of a {kind}: {others[key]}"
    expected = [key for key in keys if key not in (*WHEN, *ABOUT)]
    if not expected:
        known = {about.key for about in arguments(Expectation).values()}
        yield "", f"expects nothing; {suggestion('', known - {*others, *ABOUT})}"
        return
    for key, needed in ABOUT.items():
        if key in keys and key not in others and not set(needed) & set(expected):
            there = ", ".join(f"`{one}`" for one in needed if one not in others)
            yield key, f"is nothing without one of {there}: write what is expected, or leave it out"


def empty(values: dict[str, Any]) -> Iterator[str]:
    """Yield the keys of an expectation whose texts are empty: they would hold in any case."""
    for name, about in arguments(Expectation).items():
        value = values.get(name)
        if isinstance(value, str) and not value.strip():
            yield about.key


def unheard_of(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys of an expectation whose words nothing is ever called, and why."""
    for name, known in (("role", STATES), ("answer", ANSWERS)):
        word = values.get(name, "")
        if word.strip() and word not in known:
            yield arguments(Expectation)[name].key, not_known(word, known)


def unbroken(invariant: str, cluster: Mirror | Farm) -> str:
    """Return why a known invariant is never broken in a cluster, and the cure; "": it may be."""
    of_a_farm = isinstance(cluster, Farm)
    monitors: Collection[type[Monitor]] = FARM if of_a_farm else MIRROR
    if invariant not in {*(one.id for one in monitors), *OF_EVERY_RUN}:
        return f"{invariant} is only of a {'mirror' if of_a_farm else 'farm'}; leave it out"
    if isinstance(cluster, Farm):
        return ""
    if cluster.arbiter != "witness" and invariant in WITH_A_WITNESS:
        return (
            f"{invariant} is not watched with `arbiter: {cluster.arbiter}`, which promises nothing "
            "of the kind: play it with `arbiter: witness`, or expect what the nodes are"
        )
    if cluster.arbiter == "witness" and invariant == WITHOUT_ONE:
        return f"{invariant} is watched with `arbiter: ping` or `arbiter: none` only"
    return ""


def not_known(word: str, known: Collection[str]) -> str:
    """Return that a word is none of these, and the one that may be meant."""
    return f"{shown(word)} is not known; {suggestion(word, known)}"
