"""Perfetto and chrome://tracing: the JSON trace-event format, which both read.

A process is a node, a track an actor; slices are the steps of actors and, on a track of its own,
the roles of a module; arrows are messages that came. A step has no duration in a trace: it is
drawn one microsecond long, or as long as there is until the next one. A role ends with the last
step of its process at the latest. Times are microseconds since the first step. The format: Trace
Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.actors.events import Received
from mirrorfarm.trace.export.format import Subject, Write, encode
from mirrorfarm.trace.export.lives import Lives
from mirrorfarm.trace.facts import Fact, module_of, name_of, said
from mirrorfarm.trace.finding import step_id
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.words import iso_time, main_fact
from mirrorfarm.transport.messages import SyncProgress

STEP_NS: Final = 1_000

Track = tuple[str, str, str]  # Node, process, actor.


@dataclass(slots=True)
class Perfetto:
    """Writes one event after the other."""

    subject: Subject
    write: Write
    _begin_ns: int = -1
    _last_ns: int = 0
    _tracks: dict[Track, tuple[int, int]] = field(default_factory=dict)
    _nodes: dict[str, int] = field(default_factory=dict)
    _open: dict[Track, tuple[int, dict[str, Any]]] = field(default_factory=dict)  # Last steps.
    _lives: Lives = field(default_factory=Lives)
    _states: dict[int, Track] = field(default_factory=dict)  # By lane: a slice that has not ended.
    _first: bool = True

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Write the step before this one of the same actor, arrows and roles of this one."""
        if self._begin_ns < 0:
            self._begin_ns = placed.at_ns
        self._last_ns = placed.at_ns
        ended_ns = self._lives.add(placed)
        if ended_ns is not None:
            self._state_ends(placed.lane, ended_ns)
        step = placed.step
        track = (step.node, step.process, step.actor)
        self._end(track, placed.at_ns)
        args: dict[str, Any] = {"id": step_id(step), "lamport": placed.lamport}
        fact = main_fact(facts)
        if fact is not None:
            args["fact"] = fact.text
        args["effects"] = [_effect(effect) for effect in step.effects]
        name = name_of(said(step.event))
        slice_ = {"name": name, "cat": "step", "ph": "X", **self._at(track, placed.at_ns)}
        self._open[track] = (placed.at_ns, {**slice_, "args": args})
        if placed.sending is not None:
            self._arrow(placed, track)
        for one in facts:
            # Who commits a view does not answer by it yet, and perhaps never will.
            if one.kind in {"role", "status"} or (one.kind == "view" and "open" in one.values):
                self._state(placed, one)
        if isinstance(step.event, Received) and isinstance(step.event.message, SyncProgress):
            done = {"bytes": step.event.message.bytes_done}
            counter = {"name": "resynchronised", "ph": "C", **self._at(track, placed.at_ns)}
            self._event({**counter, "args": done})

    def close(self) -> str:
        """End what is open, and the file."""
        for track in list(self._open):
            self._end(track, self._last_ns + STEP_NS)
        for lane in list(self._states):
            self._state_ends(lane, self._lives.end_ns(lane))
        begin = iso_time(max(self._begin_ns, 0))
        if self._first:
            self.write(b'{"traceEvents":[')
        self.write(b'],"displayTimeUnit":"ns","otherData":' + encode({"begin": begin}) + b"}\n")
        return f"time 0 is {begin}; open it at https://ui.perfetto.dev"

    def _end(self, track: Track, now_ns: int) -> None:
        """Write the last step of a track, which lasts at most until now."""
        at_ns, slice_ = self._open.pop(track, (0, None))
        if slice_ is not None:
            self._event({**slice_, "dur": min(STEP_NS, now_ns - at_ns) / 1_000})

    def _arrow(self, placed: Placed, track: Track) -> None:
        sending = placed.sending
        assert sending is not None, "it was looked at"
        lane = self.subject.merge.lanes[sending.lane]
        source = (lane.node, lane.process, sending.actor)
        name = name_of(sending.effect.message)
        common = {"name": name, "cat": "message", "id": placed.number}
        self._event({**common, "ph": "s", **self._at(source, sending.at_ns)})
        self._event({**common, "ph": "f", "bp": "e", **self._at(track, placed.at_ns)})

    def _state(self, placed: Placed, fact: Fact) -> None:
        step = placed.step
        track = (step.node, step.process, f"{module_of(step)} is")
        self._state_ends(placed.lane, placed.at_ns)
        values = fact.values
        name = _view(values) if fact.kind == "view" else _role(values)
        self._states[placed.lane] = track
        begin = {"name": name, "cat": "state", "ph": "B", **self._at(track, placed.at_ns)}
        self._event({**begin, "args": values})

    def _state_ends(self, lane: int, end_ns: int) -> None:
        track = self._states.pop(lane, None)
        if track is not None:
            self._event({"ph": "E", **self._at(track, end_ns)})

    def _at(self, track: Track, at_ns: int) -> dict[str, Any]:
        """Return where and when an event is; name the track if it is the first one there."""
        place = self._tracks.get(track)
        if place is None:
            node, process, actor = track
            pid = self._nodes.get(node)
            if pid is None:
                pid = self._nodes[node] = len(self._nodes) + 1
                self._name("process_name", pid, 0, node)
            place = self._tracks[track] = (pid, len(self._tracks) + 1)
            self._name("thread_name", *place, f"{process}/{actor}")
        pid, tid = place
        return {"pid": pid, "tid": tid, "ts": (at_ns - self._begin_ns) / 1_000}

    def _name(self, what: str, pid: int, tid: int, name: str) -> None:
        self._event({"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}})

    def _event(self, event: dict[str, Any]) -> None:
        self.write((b'{"traceEvents":[\n' if self._first else b",\n") + encode(event))
        self._first = False


def _view(values: dict[str, Any]) -> str:
    return f"view {values['view']}" if values["open"] else "answers nobody"


def _role(values: dict[str, Any]) -> str:
    return f"{values['role']} {values['status']}".strip()


def _effect(effect: Any) -> str:
    content = said(effect)
    return name_of(effect) if content is effect else f"{name_of(effect)} {name_of(content)}"
