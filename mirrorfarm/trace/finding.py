"""Which step somebody means: by its id, or by words such as `n2 PRIM` or `12:00:27 ledger`."""

import re
from dataclasses import dataclass, field
from typing import Final

from mirrorfarm.actors.events import Received
from mirrorfarm.trace.facts import Fact, name_of, said
from mirrorfarm.trace.step import Placed, Step
from mirrorfarm.trace.words import clock_time, day, main_fact

CANDIDATES_MAX: Final = 20
_ID: Final = re.compile(r"([^/\s]+)/([^/\s]+)/(\d+)[.](\d+)")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_TIME: Final = re.compile(r"\d\d:\d\d(:\d\d([.]\d{1,9})?)?")


def step_id(step: Step) -> str:
    """Return what names a step among all traces: node/process/start.number."""
    return f"{step.node}/{step.process}/{step.incarnation}.{step.number}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A step that may be meant."""

    number: int
    at_ns: int
    id: str
    text: str
    fact: Fact | None  # That the words are about.

    def __str__(self) -> str:
        return f"{clock_time(self.at_ns)}  {self.id}  {self.text}"


@dataclass(slots=True)
class Search:
    """Looks at one step after the other; the best kind of match that there was counts.

    A role that was taken is better than another fact, a fact better than what was only logged,
    and that better than the name of an event.
    """

    wanted: str
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    found: list[list[Candidate]] = field(default_factory=lambda: [[], [], [], []])
    near: list[Candidate] = field(default_factory=list)  # Roles that were taken: to suggest.
    _exact: bool = False
    _words: list[str] = field(default_factory=list)
    _dates: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._exact = _ID.fullmatch(self.wanted.strip()) is not None
        words = re.sub(r"(\d)T(\d)", r"\1 \2", self.wanted).split()
        self._words = [word.casefold() for word in words if not _DATE.fullmatch(word)]
        self._dates = [word for word in words if _DATE.fullmatch(word)]

    def look(self, placed: Placed, facts: list[Fact]) -> None:
        """Look at the next step."""
        step = placed.step
        if self._exact:
            if step_id(step) == self.wanted.strip():
                self._take(0, placed, main_fact(facts))
            return
        role = next((fact for fact in facts if fact.kind == "role"), None)
        if role is not None and len(self.near) < CANDIDATES_MAX:
            self.near.append(_candidate(placed, role))
        rest = self._unmet(placed)
        if rest is None:
            return
        for fact in sorted(facts, key=_tier):
            if all(_in_fact(word, fact) for word in rest):
                self._take(_tier(fact), placed, fact)
                return
        names = {name_of(step.event).casefold(), name_of(said(step.event)).casefold()}
        names |= {name_of(said(effect)).casefold() for effect in step.effects}
        if all(word in names for word in rest):
            self._take(3, placed, main_fact(facts))

    def _unmet(self, placed: Placed) -> list[str] | None:
        """Return the words that time, node, process and actor do not meet; None: it is another.

        A time is that of the merged traces, or the node's own, as `trace show` tells it.
        """
        step = placed.step
        times = (placed.at_ns, step.real_ns)
        if not all(any(day(at).startswith(date) for at in times) for date in self._dates):
            return None
        own = {step.node, step.process, step.actor, f"{step.node}/{step.process}"}
        own = {word.casefold() for word in own}
        rest = []
        for word in self._words:
            if _TIME.fullmatch(word):
                if not any(clock_time(at, 9).startswith(word) for at in times):
                    return None
            elif word not in own:
                rest.append(word)
        return rest

    def _take(self, tier: int, placed: Placed, fact: Fact | None) -> None:
        self.counts[tier] += 1
        if len(self.found[tier]) < CANDIDATES_MAX:
            self.found[tier].append(_candidate(placed, fact))

    def best(self) -> tuple[int, list[Candidate]]:
        """Return how many steps may be meant, and the first of them."""
        for count, found in zip(self.counts, self.found, strict=True):
            if count:
                return count, found
        return 0, self.near


def _tier(fact: Fact) -> int:
    return 0 if fact.kind == "role" else 2 if fact.kind == "log" else 1


def _candidate(placed: Placed, fact: Fact | None) -> Candidate:
    step = placed.step
    text = f"{step.node} {fact.text}" if fact is not None else f"{step.actor}: {_given(step)}"
    return Candidate(placed.number, placed.at_ns, step_id(step), text, fact)


def _given(step: Step) -> str:
    event = step.event
    if isinstance(event, Received):
        return f"{name_of(event.message)} from {event.source.node}"
    return name_of(event)


def _in_fact(word: str, fact: Fact) -> bool:
    """Return whether a fact is about a word: its kind, a word of its text, or a part of it."""
    if word == fact.kind:
        return True
    if fact.kind == "role":
        return word == str(fact.values["role"]).casefold() or word in {"became", "began"}
    text = fact.text.casefold()
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
