"""JSON Lines: one object for each step, with full names.

With `tla`, only what a specification of the mirror speaks of, as etcd's raft writes it for TLC:
`{"tag":"trace","event":{"name":…,"nid":…,"state":{…}}}`. What a node ordered of its data plane, and
what it has on its disk, are variables of their own: `plane`, `durable` and, without a witness,
`register`. A process that starts anew has only what is on its disk.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.actors.effects import Send
from mirrorfarm.actors.events import Received
from mirrorfarm.trace.export.format import Subject, Write, encode
from mirrorfarm.trace.facts import Fact, module_of, name_of
from mirrorfarm.trace.finding import step_id
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.text import as_json
from mirrorfarm.trace.words import iso_time
from mirrorfarm.transport.address import WITNESS_PROCESS, Address


@dataclass(slots=True)
class Jsonl:
    """One object for each step."""

    subject: Subject
    write: Write

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Write one line."""
        step = placed.step
        record: dict[str, Any] = {
            "number": placed.number,
            "time": iso_time(placed.at_ns),
            "at_ns": placed.at_ns,
            "lamport": placed.lamport,
            "id": step_id(step),
            "node": step.node,
            "process": step.process,
            "actor": step.actor,
            "now_ns": step.now_ns,
            "sent_by": placed.sending.number if placed.sending is not None else None,
            "event": as_json(step.event),
            "effects": [as_json(effect) for effect in step.effects],
        }
        if placed.vector:
            lanes = self.subject.merge.lanes
            record["vector"] = {
                lane.name: count for lane, count in zip(lanes, placed.vector, strict=True) if count
            }
        if facts:
            record["facts"] = [
                {"kind": fact.kind, "text": fact.text, **fact.values} for fact in facts
            ]
        self.write(encode(record) + b"\n")

    def close(self) -> str:
        """Nothing is left."""
        return ""


# Facts that are actions of the specification, and what these are called.
_ACTIONS: Final = {
    "role": "Become",
    "status": "Become",
    "register": "Install",
    "durable": "Durable",
    "gate": "Gate",
    "view": "View",
    "command": "Command",
    "write": "Write",
    "read": "Read",
    "fault": "Fault",
    "guard": "Fence",
    "app": "Application",
}
# Messages of the protocol, and the variables in them.
_MESSAGES: Final = {
    "RegisterCas": ("expected_ver", "register"),
    "RegisterAnswer": ("outcome", "register"),
    "SyncOffer": ("term", "sid", "plan"),
    "SyncAccepted": ("term", "sid"),
    "SyncRefused": ("term", "sid"),
    "Synced": ("term", "sid"),
    "RegisterNews": ("register",),
    "SessionUp": ("term", "sid"),
    "SessionBroken": ("term", "sid"),
    "CopyComplete": ("term", "sid"),
    "Leave": ("term",),
    "ViewProposal": ("number", "members"),
    "ViewAck": ("number",),
    "ViewCommit": ("number",),
}
_STATE: Final = ("role", "status", "term", "sid", "ver", "cons", "gate", "holder", "isr")
REGISTER: Final = "register"
# Facts that are not of the state machine's own variables, and under which name theirs are.
_PARTS: Final = {"gate": "plane", "durable": "durable", REGISTER: REGISTER}
_ON_DISK: Final = {"durable", REGISTER}


@dataclass(slots=True)
class Tla:
    """Only actions of the specification, and the variables after them."""

    write: Write
    _states: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _starts: dict[int, int] = field(default_factory=dict)  # By lane: the present one.

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Write a line for each action of the step, in their order."""
        self._begin(placed)
        event = placed.step.event
        if isinstance(event, Received):
            self._message(placed, "Receive", event.source, event.message)
        for fact in facts:
            if fact.kind in _ACTIONS:
                self._action(placed, fact)
        for effect in placed.step.effects:
            if isinstance(effect, Send):
                self._message(placed, "Send", effect.to, effect.message)

    def close(self) -> str:
        """Nothing is left."""
        return ""

    def _begin(self, placed: Placed) -> None:
        """Forget what an earlier start of a module's process was, but for what is on its disk."""
        step = placed.step
        before = self._starts.get(placed.lane, step.incarnation)
        self._starts[placed.lane] = step.incarnation
        state = self._states.get((step.node, step.process))
        if before != step.incarnation and state is not None:
            for name in state.keys() - _ON_DISK:
                del state[name]

    def _action(self, placed: Placed, fact: Fact) -> None:
        module = str(fact.values.get("module", module_of(placed.step)))
        state = self._state(placed, module)
        new = {key: one for key, one in fact.values.items() if key in _STATE}
        more = {key: one for key, one in fact.values.items() if key not in _STATE}
        part = _PARTS.get(fact.kind)
        if part is None or (part == REGISTER and placed.step.process == WITNESS_PROCESS):
            state |= new
        else:
            if "gate" in new:
                state["gate"] = new.pop("gate")
            state[part] = new
        self._line(placed, _ACTIONS[fact.kind], module, state, more)

    def _message(self, placed: Placed, action: str, other: Address, message: Any) -> None:
        fields = _MESSAGES.get(name_of(message))
        if fields is None or isinstance(message, list):
            return
        told = {"type": name_of(message), "with": other.node}
        told |= {name: as_json(getattr(message, name)) for name in fields}
        own = module_of(placed.step)
        module = other.module if own == WITNESS_PROCESS else own  # It serves many.
        self._line(placed, action, module, self._state(placed, module), {"msg": told})

    def _state(self, placed: Placed, module: str) -> dict[str, Any]:
        return self._states.setdefault((placed.step.node, module), {})

    def _line(
        self, placed: Placed, name: str, module: str, state: dict[str, Any], more: dict[str, Any]
    ) -> None:
        event = {
            "name": name,
            "nid": placed.step.node,
            "module": module,
            "at_ns": placed.at_ns,
            "lamport": placed.lamport,
            "state": state,
            **more,
        }
        self.write(encode({"tag": "trace", "event": event}) + b"\n")
