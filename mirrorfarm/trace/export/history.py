"""The write workload as a history of operations, for checkers of consistency.

Jepsen's EDN, which Knossos and Elle read: https://jepsen-io.github.io/jepsen/jepsen.history.html;
and the events of Porcupine as JSON lines: https://pkg.go.dev/github.com/anishathalye/porcupine.
Recorded runs of the simulator hold such a workload; the cores of production see no writes.

A process of a history does one thing at a time, so a write gets the first one that is free. One
whose end is not known keeps it for ever: the write may take effect at any later time.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.errors import TraceInvalid
from mirrorfarm.trace.export.format import Write, encode
from mirrorfarm.trace.facts import Fact
from mirrorfarm.trace.merge import Placed

NO_WORKLOAD: Final = (
    "these traces hold no workload of writes: record a run of the simulator that has one "
    "(`mirrorfarm sim run --help`)"
)


@dataclass(frozen=True, slots=True)
class Operation:
    """A write that was asked for and has not ended."""

    number: int
    process: int
    key: int
    value: int


@dataclass(slots=True)
class Operations:
    """Gives writes their processes."""

    count: int = 0
    pending: dict[tuple[str, int], Operation] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)
    _processes: int = 0

    def begin(self, node: str, values: dict[str, Any]) -> Operation:
        """A write is asked for."""
        if self._free:
            process = min(self._free)
            self._free.remove(process)
        else:
            process, self._processes = self._processes, self._processes + 1
        operation = Operation(self.count, process, values["extent"], values["write"])
        self.count += 1
        self.pending[node, operation.value] = operation
        return operation

    def end(self, node: str, values: dict[str, Any]) -> Operation | None:
        """It ended; None: it was never asked for here."""
        operation = self.pending.pop((node, values["write"]), None)
        if operation is not None and values["op"] == "ok":
            self._free.append(operation.process)
        return operation


def writes_of(facts: list[Fact]) -> list[dict[str, Any]]:
    """Return what the facts say of writes."""
    return [fact.values for fact in facts if fact.kind == "write"]


@dataclass(slots=True)
class Jepsen:
    """One map of EDN for each invocation and completion."""

    write: Write
    _operations: Operations = field(default_factory=Operations)
    _index: int = 0

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Write the operations of a step."""
        for values in writes_of(facts):
            node = placed.step.node
            if values["op"] == "invoke":
                operation: Operation | None = self._operations.begin(node, values)
            else:
                operation = self._operations.end(node, values)
            if operation is not None:
                self._line(operation, values["op"], placed.at_ns, node)

    def close(self) -> str:
        """What has not ended is left open: that is what it means."""
        if not self._operations.count:
            raise TraceInvalid(NO_WORKLOAD)
        pending = len(self._operations.pending)
        return f"{self._operations.count} writes, {pending} of them without an end"

    def _line(self, operation: Operation, kind: str, at_ns: int, node: str) -> None:
        line = (
            f"{{:index {self._index}, :time {at_ns}, :process {operation.process}, "
            f":type :{kind}, :f :write, :value [{operation.key} {operation.value}], "
            f':node "{node}"}}\n'
        )
        self._index += 1
        self.write(line.encode())


@dataclass(slots=True)
class Porcupine:
    """One JSON object for each call and return; `Kind` is false for a call."""

    write: Write
    _operations: Operations = field(default_factory=Operations)

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Write the calls and returns of a step; a return whose outcome is unknown comes last."""
        for values in writes_of(facts):
            node = placed.step.node
            if values["op"] == "invoke":
                self._line(self._operations.begin(node, values), {"op": "write"})
            elif values["op"] == "ok":
                operation = self._operations.end(node, values)
                if operation is not None:
                    self._line(operation, {"ok": True}, returns=True)

    def close(self) -> str:
        """Return from what has not ended."""
        if not self._operations.count:
            raise TraceInvalid(NO_WORKLOAD)
        pending = self._operations.pending.values()
        for operation in pending:
            self._line(operation, {"ok": False, "unknown": True}, returns=True)
        return f"{self._operations.count} writes, {len(pending)} of them of unknown outcome"

    def _line(self, operation: Operation, value: dict[str, Any], returns: bool = False) -> None:
        told = {**value, "key": operation.key, "value": operation.value}
        event = {"ClientId": operation.process, "Kind": returns, "Value": told}
        self.write(encode({**event, "Id": operation.number}) + b"\n")
