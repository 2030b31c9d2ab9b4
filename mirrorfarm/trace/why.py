"""Why something happened: the chain of causes of one step, in words and as a diagram.

The chain goes backwards from the step: to the step that sent the message it received, told the
event, gave the order that was answered. A timer only says when: there the chain goes on with what
the same actor had learnt last. A silence has no cause in a message; there it says what the silent
side did meanwhile. (Backward slicing: M. Weiser, Program Slicing, 1981.)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrorfarm.durations import span
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.trace.causes import LINKS, NONE, TIMER, Absence, Causes
from mirrorfarm.trace.clocks import NodeClock
from mirrorfarm.trace.diagram import Diagram
from mirrorfarm.trace.facts import Fact, Facts, name_of, said
from mirrorfarm.trace.files import OnFault, raise_fault
from mirrorfarm.trace.finding import Candidate, Search, step_id
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.silences import Silence, Silences
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.words import clock_time, given, main_fact

LINKS_MAX: Final = 40  # Of a chain.
CLAUSES_MAX: Final = 14  # Of a paragraph.
PULSE: Final = "PulseDue"  # A heartbeat is sent whatever happened.
_ROOTS: Final = frozenset(("Started", "Command", PULSE))  # Nobody inside led to these.

OnStep = Callable[[int, int], None]  # How many steps have been read, and of how many.


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain."""

    placed: Placed
    facts: list[Fact]
    link: str  # How it is tied to the one after it: message told timer answer none.
    silence: Silence | None
    waited_ns: int = 0  # By a timer.


@dataclass(frozen=True, slots=True)
class Answer:
    """Why it happened; the chain begins with what happened and ends with its first cause."""

    what: Candidate
    chain: list[Link]
    clocks: list[NodeClock]

    @property
    def paragraph(self) -> str:
        """The chain in words."""
        clauses = _clauses(self.what, self.chain)
        if len(clauses) > CLAUSES_MAX:
            middle = CLAUSES_MAX // 2
            left = len(clauses) - 2 * middle
            clauses = [*clauses[:middle], f"of {left} more steps", *clauses[-middle:]]
        told = f"{clauses[0]}."
        if len(clauses) == 1:
            return told + " What led to it is not in the traces, or came from outside the cores."
        told = f"{clauses[0]}, because {clauses[1]}."
        for at in range(2, len(clauses), 2):
            told += " That was because " + ", because ".join(clauses[at : at + 2]) + "."
        return told

    @property
    def diagram(self) -> str:
        """The chain as a Mermaid sequence diagram."""
        return str(_drawn(self.chain))

    def plain(self) -> dict[str, object]:
        """Return the answer for `--json`."""
        return {
            "event": {"id": self.what.id, "at_ns": self.what.at_ns, "text": self.what.text},
            "why": self.paragraph,
            "diagram": self.diagram,
            "chain": [
                {
                    "id": step_id(link.placed.step),
                    "at_ns": link.placed.at_ns,
                    "node": link.placed.step.node,
                    "actor": link.placed.step.actor,
                    "event": name_of(said(link.placed.step.event)),
                    "link": link.link,
                    "facts": [fact.text for fact in link.facts],
                }
                for link in self.chain
            ],
        }


def why(
    paths: Iterable[Path],
    wanted: str,
    on_fault: OnFault = raise_fault,
    on_step: OnStep = lambda done, total: None,
) -> Answer:
    """Explain the one step that `wanted` names; raise UsageInvalid unless there is exactly one."""
    merge = Merge(paths, on_fault)
    search, facts = Search(wanted), Facts()
    causes = Causes(merge.lanes)
    for placed in merge.steps():
        known = facts.of(placed.step)
        causes.add(placed, known)
        search.look(placed, known)
        on_step(placed.number, 2 * merge.total)
    what = _one(wanted, search)
    numbers = _slice(causes, what.number)
    return Answer(what, _fetched(merge, causes, numbers, on_step), merge.clocks)


def _one(wanted: str, search: Search) -> Candidate:
    """Return the one candidate."""
    count, found = search.best()
    if count == 1:
        return found[0]
    lines = "\n".join(f"  {candidate}" for candidate in found)
    if count:
        more = f" (the first {len(found)} of them)" if count > len(found) else ""
        raise UsageInvalid(
            f"{wanted!r} may mean {count} events{more}; name one by its id, or add its time:\n"
            f"{lines}"
        )
    hint = f"; roles that were taken:\n{lines}" if found else ""
    raise UsageInvalid(
        f"{wanted!r}: no event of these traces is that. Name it by its id, or by words: node, "
        f"process, actor, time of day, and a role, an event or a message{hint}"
    )


def _slice(causes: Causes, number: int) -> list[int]:
    """Return the numbers of the chain's steps, from the effect to its first cause."""
    chain = [number]
    while len(chain) < LINKS_MAX and number not in causes.absences:
        link, cause = causes.links[number], causes.causes[number]
        if link == TIMER:
            cause = max(causes.earlier[number], -1)
            if cause < 0:
                break
        if link == NONE or cause < 0 or cause >= number:
            break
        number = cause
        chain.append(number)
    return chain


def _fetched(merge: Merge, causes: Causes, numbers: list[int], on_step: OnStep) -> list[Link]:
    """Read the steps of the chain once more."""
    wanted, facts, silences = set(numbers), Facts(), Silences()
    silent: dict[int, Silence] = {}
    known: dict[int, tuple[Placed, list[Fact]]] = {}
    times: dict[int, int] = {}
    setters = {causes.causes[number] for number in numbers if causes.links[number] == TIMER}
    for placed in merge.steps():
        told = facts.of(placed.step)
        silences.add(placed)
        if placed.number in wanted:
            known[placed.number] = (placed, told)
            if placed.number in causes.absences:
                silent[placed.number] = silences.seen(placed, causes.absences[placed.number])
        if placed.number in setters:
            times[placed.number] = placed.at_ns
        on_step(merge.total + placed.number, 2 * merge.total)
        if placed.number >= numbers[0]:
            break
    chain = []
    for number in numbers:
        placed, told = known[number]
        link = causes.links[number]
        since = times.get(causes.causes[number], 0) if link == TIMER else 0
        waited = placed.at_ns - since if since else 0
        chain.append(Link(placed, told, LINKS[link], silent.get(number), waited))
        if link == TIMER and name_of(placed.step.event) == PULSE:
            break
    return chain


# --- in words ------------------------------------------------------------------------------


def _clauses(what: Candidate, chain: list[Link]) -> list[str]:
    """Return the clauses of the paragraph, each the reason for the one before."""
    clauses = [f"{what.text} at {clock_time(what.at_ns)}"]
    texts = {what.text}
    for place, link in enumerate(chain):
        step = link.placed.step
        text = given(step, link.facts)
        if link.link == "timer":
            text = "" if link.silence else f"{step.node}'s {step.actor} had waited"
            if text and link.waited_ns:
                text += f" {span(link.waited_ns)}"
        elif place and not text and place == len(chain) - 1:
            text = f"{step.node}'s {step.actor} was given {name_of(said(step.event))}"
        if text and text not in texts:
            texts.add(text)
            clauses.append(f"{text} ({clock_time(link.placed.at_ns)})")
        if link.silence is not None:
            clauses.append(str(link.silence))
    last = chain[-1]
    if last.silence is None and name_of(said(last.placed.step.event)) not in _ROOTS:
        if last.link in {"none", "timer"} and len(clauses) > 1:
            clauses[-1] += ", and what led to that came from outside the cores or was not recorded"
    return clauses


# --- as a diagram --------------------------------------------------------------------------


def _drawn(chain: list[Link]) -> Diagram:
    diagram = Diagram()
    before: Link | None = None
    for link in reversed(chain):
        step = link.placed.step
        here = f"{step.node} {step.actor}"
        if link.silence is not None and not link.silence.ran:
            _draw_absence(diagram, link.silence.absence, here)
        name = name_of(said(step.event))
        at = clock_time(link.placed.at_ns)
        if before is None:
            diagram.note(here, f"{at} {name}")
        else:
            source = f"{before.placed.step.node} {before.placed.step.actor}"
            waited = f" after {span(link.waited_ns)}" if link.waited_ns else ""
            text = f"{at} {name}{waited}"
            diagram.arrow(source, here, text)
        fact = main_fact([fact for fact in link.facts if fact.kind != "log"])
        if fact is not None:
            diagram.note(here, fact.text)
        before = link
    return diagram


def _draw_absence(diagram: Diagram, absence: Absence, here: str) -> None:
    if not absence.peer:
        return
    there = f"{absence.peer} {here.split(' ', 1)[1]}"
    if absence.unheard:
        diagram.arrow(there, here, f"{absence.unheard} messages lost", lost=True)
    elif absence.last >= 0 and not absence.next_ns:
        diagram.note(there, f"nothing recorded after {clock_time(absence.last_ns)}")
    elif absence.last >= 0:
        begin, end = clock_time(absence.last_ns), clock_time(absence.next_ns)
        diagram.note(there, f"nothing recorded from {begin} to {end}")
