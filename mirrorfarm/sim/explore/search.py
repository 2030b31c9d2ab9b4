"""Walk all states, the nearest moments first.

A moment begins when time has passed, and ends when nothing is left that could arrive before it
passes again. Within a moment all orders are walked. Between moments there are few states, and
they alone are kept (`canonical`): two of them that can only do the same are walked once.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.sim.explore.canonical import Part, digest
from mirrorfarm.sim.explore.moves import ADVANCE, belated, chosen, moves, progress, words
from mirrorfarm.sim.explore.state import KINDS, World, begin
from mirrorfarm.sim.explore.step import Memory, Move, Step, part_of
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

    states: int = 0  # Of all moments together.
    moments: int = 0  # Distinct states at which one begins.
    transitions: int = 0
    depth: int = 0  # Moments on the longest shortest way.
    seconds: float = 0.0
    complete: bool = False  # Every state within the bound was seen.
    violation: str = ""
    story: tuple[str, ...] = ()


def name_of(w: World) -> bytes:
    """Return the same bytes for all states that can only do the same."""
    parts = [part_of(node) for node in w.nodes.values()]
    parts.append(part_of(w.witness))
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
    rest.add((w.disturbances, w.writes, w.ghost, tuple(sorted(w.cut))))
    parts.append(rest)
    return digest(parts, w.now)


@lru_cache(maxsize=100_000)
def _part_of_message(message: Any, owner: str = "") -> Part:
    part = Part()
    part.add(message, owner)
    return part


def _phase(w: World, name: str) -> Phase | None:
    node = w.nodes[name]
    return node.cores[MODULE_ACTOR].state.phase if node.up else None


# --- where a walk begins -----------------------------------------------------------------------


def _calmly(w: World, phase: dict[str, Phase]) -> World:
    """Let the first thing happen again and again until the nodes are in these phases."""
    for _ in range(CALM_MOVES_MAX):
        if all(_phase(w, name) is wanted for name, wanted in phase.items()):
            return w
        w = Step(w).take(next(moves(w)))
    raise AssertionError(f"the nodes do not come to {phase}")


def pair(disturbances: int, writes: int, kinds: tuple[str, ...] = KINDS) -> World:
    """Return a state in which n1 is primary and n2 its secondary."""
    w = joining(disturbances, writes, kinds)
    return _calmly(w, {"n1": Phase.LEADING, "n2": Phase.FOLLOWING})


def alone(disturbances: int, writes: int, kinds: tuple[str, ...] = KINDS) -> World:
    """Return a state in which n1 is primary and n2 was never started."""
    w = begin(disturbances, writes, kinds)
    for name in ("n1", "n2"):
        w = Step(w).take(("start", name, False))
    w = _calmly(w, {"n1": Phase.STOPPED, "n2": Phase.STOPPED})
    w = Step(w).take(("command", "n1", "prim"))
    return _calmly(w, {"n1": Phase.LEADING})


def joining(disturbances: int, writes: int, kinds: tuple[str, ...] = KINDS) -> World:
    """Return a state in which n1 is primary alone, and n2 was started just now."""
    w = alone(disturbances, writes, kinds)
    return Step(w).take(("command", "n2", "start"))


ROOTS = {"pair": pair, "joining": joining}


# --- all ways ----------------------------------------------------------------------------------


class Broken(Exception):
    """A move broke an invariant."""

    def __init__(self, text: str, path: tuple[Move, ...]) -> None:
        super().__init__(text)
        self.text, self.path = text, path


@dataclass(slots=True)
class Moment:
    """All orders of what can happen before time passes, from one state on."""

    first: World
    states: int = 1
    transitions: int = 0
    whole: bool = False  # All orders were walked.
    states_max: int = 1 << 62
    _memory: Memory = field(default_factory=Memory)
    _before: dict[Any, tuple[Any, Move] | None] = field(default_factory=dict)

    def ends(self) -> Iterator[tuple[World, Any]]:
        """Return the states in which time passes next, each with its key. Raises Broken."""
        start = self._key(self.first)
        self._before[start] = None
        left = deque([(self.first, start)])
        while left and self.states < self.states_max:
            world, key = left.popleft()
            for move in moves(world):
                if move == ADVANCE:
                    yield world, key
                    continue
                self.transitions += 1
                try:
                    after = Step(world, self._memory).take(move)
                except AssertionError as error:
                    raise Broken(_text(error), (*self.path(key), move)) from None
                there = self._key(after)
                if there not in self._before:
                    self._before[there] = (key, move)
                    self.states += 1
                    left.append((after, there))
        self.whole = not left

    def path(self, key: Any) -> tuple[Move, ...]:
        """Return the moves that lead to a state."""
        path = []
        step = self._before[key]
        while step is not None:
            path.append(step[1])
            step = self._before[step[0]]
        return tuple(reversed(path))

    @staticmethod
    def _key(w: World) -> Any:
        """Return what tells a state apart from others of its moment.

        Machines, messages and what invariants remember are there once (`Memory`): which object
        it is says it all.
        """
        return (
            *(id(node) for node in w.nodes.values()),
            id(w.witness),
            id(w.ghost),
            (w.disturbances, w.writes, w.cut, w.repairs, w.breaks),
            tuple((channel, id(message)) for channel, message in w.late),
            frozenset((channel, *map(id, waiting)) for channel, waiting in w.channels.items()),
        )


def explore(
    first: World,
    states_max: int,
    seconds_max: float,
    tell: Callable[[Result, int], None] = lambda result, left: None,
) -> Result:
    """Walk from `first`; stop at a violation, or when there are too many states.

    `tell` is called after each moment, with what was seen so far and how many moments are known
    that were not walked yet.
    """
    began = time.monotonic()
    result = Result(moments=1)
    start = name_of(first)
    before: dict[bytes, tuple[bytes, tuple[Move, ...]] | None] = {start: None}
    frontier = deque([(first, start, 0)])
    stopped = False
    while frontier and not result.violation and not stopped:
        world, known, result.depth = frontier.popleft()
        moment = Moment(world, states_max=states_max - result.states)
        try:
            for end, key in moment.ends():
                after = Step(end).take(ADVANCE)
                name = name_of(after)
                if name not in before:
                    before[name] = (known, (*moment.path(key), ADVANCE))
                    frontier.append((after, name, result.depth + 1))
        except Broken as broken:
            result.violation = broken.text
            result.story = _story(first, (*_way(before, known), *broken.path))
        result.states += moment.states
        result.transitions += moment.transitions
        late = result.states >= states_max or time.monotonic() - began > seconds_max
        stopped = not moment.whole or bool(frontier and late)
        result.moments = len(before)
        tell(result, len(frontier))
    result.complete = not stopped and not result.violation
    result.seconds = time.monotonic() - began
    return result


def _way(
    before: dict[bytes, tuple[bytes, tuple[Move, ...]] | None], name: bytes
) -> tuple[Move, ...]:
    """Return the moves from the first state to one at which a moment begins."""
    parts = []
    step = before[name]
    while step is not None:
        parts.append(step[1])
        step = before[step[0]]
    return tuple(move for part in reversed(parts) for move in part)


def _story(w: World, way: tuple[Move, ...]) -> tuple[str, ...]:
    """Return moves in words; the last one breaks an invariant."""
    told = []
    for number, move in enumerate(way, 1):
        told.append(words(w, move))
        if number < len(way):
            w = Step(w).take(move)
    return tuple(told)


def _text(error: AssertionError) -> str:
    return str(error) if isinstance(error, Violation) else f"assert: {error}"


# --- one way -----------------------------------------------------------------------------------


def walk(first: World, random: Random, moves_max: int) -> Result:
    """Walk one way at random, far beyond what can be walked completely."""
    began = time.monotonic()
    result, world, told = Result(), first, list[str]()
    for _ in range(moves_max):
        move = _any_move(world, random)
        told.append(words(world, move))
        try:
            world = Step(world).take(move)
        except AssertionError as error:
            result.violation, result.story = _text(error), tuple(told)
            break
    result.states = result.transitions = len(told)
    result.seconds = time.monotonic() - began
    return result


def _any_move(w: World, random: Random) -> Move:
    """Choose a move; a question to the arbiter is disturbed more often than others are."""
    free = [*belated(w), *chosen(w)] if random.random() < ASKED_SHARE else []
    asked = [one for one in free if _asks(w, one)]
    if asked and random.random() < CAS_SHARE:
        return random.choice(asked)
    if random.random() >= FREE_SHARE / ASKED_SHARE:
        free = []
    return random.choice(free or progress(w))


def _asks(w: World, move: Move) -> bool:
    """Return whether a move is about a question to the arbiter."""
    return "RegisterCas" in words(w, move)
