"""Walk all states, the nearest first, so that the first violation has the shortest story."""

import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.sim.explore.canonical import Part, digest
from mirrorfarm.sim.explore.moves import Move, belated, chosen, moves, progress
from mirrorfarm.sim.explore.state import Arbitration, Machine, World, begin
from mirrorfarm.sim.explore.step import Step
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.transport.address import MODULE_ACTOR

CALM_MOVES_MAX = 2_000
# Of moves that need not happen, in a walk at random; and of disturbed questions to the arbiter.
FREE_SHARE = 0.04
ASKED_SHARE = 0.2
CAS_SHARE = 0.5


@dataclass(slots=True)
class Result:
    """What a walk saw."""

    states: int = 0
    transitions: int = 0
    depth: int = 0  # Of the longest shortest way to a state.
    seconds: float = 0.0
    complete: bool = False  # Every state within the bound was seen.
    violation: str = ""
    story: tuple[str, ...] = ()


def name_of(w: World) -> bytes:
    """Return the same bytes for all states that can only do the same."""
    parts = [_part_of_node(node) for node in w.nodes.values()]
    parts.append(_part_of_witness(w.witness))
    for channel in sorted(w.channels):
        for message in w.channels[channel]:
            parts += (_part_of_message(channel), _part_of_message(message, channel[1]))
    rest = Part()
    for channel, message in w.late:
        rest.add(channel)
        rest.add(message, channel[1])
    for at, name, term, sid in w.breaks:
        rest.time(at)
        rest.add((name, term, sid))
    for at, what in w.repairs:
        rest.time(at)
        rest.add(what)
    rest.add((w.left, w.ghost, tuple(sorted(w.cut))))
    parts.append(rest)
    return digest(parts, w.now)


def _part_of_node(node: Machine) -> Part:
    if node.part is None:
        part, name = Part(node.behind_ns), node.name
        part.add(tuple(node.cores.values()), name)
        part.add((node.plane, node.record, node.writing, node.application), name)
        part.add((node.incarnation, node.asleep))
        for at, actor, event in sorted(node.wakes, key=lambda wake: wake[:2]):
            part.time(at)
            part.add(actor)
            part.add(event, name)
        node.part = part
    assert isinstance(node.part, Part)
    return node.part


def _part_of_witness(witness: Arbitration) -> Part:
    if witness.part is None:
        part = Part()
        part.add((witness.core, witness.disk, witness.writing))
        witness.part = part
    assert isinstance(witness.part, Part)
    return witness.part


@lru_cache(maxsize=100_000)
def _part_of_message(message: Any, owner: str = "") -> Part:
    part = Part()
    part.add(message, owner)
    return part


def _phase(w: World, name: str) -> Phase | None:
    node = w.nodes[name]
    return node.cores[MODULE_ACTOR].state.phase if node.up else None


def _calmly(w: World, phase: dict[str, Phase]) -> World:
    """Let the first thing happen again and again until the nodes are in these phases."""
    for _ in range(CALM_MOVES_MAX):
        if all(_phase(w, name) is wanted for name, wanted in phase.items()):
            return w
        _, move = next(moves(w))
        w = Step(w).take(move)
    raise AssertionError(f"the nodes do not come to {phase}")


def pair(disturbances: int, writes: int) -> World:
    """Return a state in which n1 is primary and n2 its secondary."""
    w = joining(disturbances, writes)
    return _calmly(w, {"n1": Phase.LEADING, "n2": Phase.FOLLOWING})


def alone(disturbances: int, writes: int) -> World:
    """Return a state in which n1 is primary and n2 was never started."""
    w = begin(disturbances, writes)
    w = Step(w).take(lambda s: s.start("n1", again=False))
    w = Step(w).take(lambda s: s.start("n2", again=False))
    w = _calmly(w, {"n1": Phase.STOPPED, "n2": Phase.STOPPED})
    w = Step(w).take(lambda s: s.command("n1", "prim"))
    return _calmly(w, {"n1": Phase.LEADING})


def joining(disturbances: int, writes: int) -> World:
    """Return a state in which n1 is primary alone, and n2 was started just now."""
    w = alone(disturbances, writes)
    return Step(w).take(lambda s: s.command("n2", "start"))


ROOTS = {"pair": pair, "joining": joining}


def explore(first: World, states_max: int, seconds_max: float) -> Result:
    """Walk from `first`; stop at a violation, or when there are too many states."""
    began = time.monotonic()
    result = Result(states=1)
    start = name_of(first)
    before: dict[bytes, tuple[bytes, str] | None] = {start: None}
    frontier = deque([(first, start, 0)])
    while frontier:
        if result.states >= states_max or time.monotonic() - began > seconds_max:
            break
        world, known, depth = frontier.popleft()
        result.depth = depth
        for words, move in moves(world):
            result.transitions += 1
            try:
                after = Step(world).take(move)
            except AssertionError as error:
                result.violation = _text(error)
                result.story = (*_story(before, known), words)
                result.seconds = time.monotonic() - began
                return result
            name = name_of(after)
            if name not in before:
                before[name] = (known, words)
                result.states += 1
                frontier.append((after, name, depth + 1))
    result.complete = not frontier
    result.seconds = time.monotonic() - began
    return result


def walk(first: World, random: Random, moves_max: int) -> Result:
    """Walk one way at random, far beyond what can be walked completely."""
    began = time.monotonic()
    world, words = first, list[str]()
    for _ in range(moves_max):
        said, move = _any_move(world, random)
        words.append(said)
        try:
            world = Step(world).take(move)
        except AssertionError as error:
            text = _text(error)
            seconds = time.monotonic() - began
            return Result(len(words), len(words), 0, seconds, False, text, tuple(words))
    return Result(len(words), len(words), 0, time.monotonic() - began)


def _any_move(w: World, random: Random) -> Move:
    """Choose a move; a question to the arbiter is disturbed more often than others are."""
    free = [*belated(w), *chosen(w)] if random.random() < ASKED_SHARE else []
    asked = [one for one in free if "RegisterCas" in one[0]]
    if asked and random.random() < CAS_SHARE:
        return random.choice(asked)
    if random.random() >= FREE_SHARE / ASKED_SHARE:
        free = []
    return random.choice(free or list(progress(w)))


def _text(error: AssertionError) -> str:
    return str(error) if isinstance(error, Violation) else f"assert: {error}"


def _story(before: dict[bytes, tuple[bytes, str] | None], name: bytes) -> tuple[str, ...]:
    words = []
    step = before[name]
    while step is not None:
        words.append(step[1])
        step = before[step[0]]
    return tuple(reversed(words))
