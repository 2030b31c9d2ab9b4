"""What the application did as a history of operations, for checkers of consistency.

Jepsen's EDN, which Knossos and Elle read: https://jepsen-io.github.io/jepsen/jepsen.history.html;
and the events of Porcupine as JSON lines: https://pkg.go.dev/github.com/anishathalye/porcupine.
Recorded runs of the simulator hold such a workload; the cores of production see no writes.

A process of a history does one thing at a time, so an operation gets the first one that is free.
A write whose end is not known keeps it for ever: it may take effect at any later time.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from mirrorfarm.errors import TraceInvalid
from mirrorfarm.trace.export.format import Write, encode
from mirrorfarm.trace.facts import Fact
from mirrorfarm.trace.step import Placed

NO_WORKLOAD: Final = (
    "these traces hold no workload of writes: record a run of the simulator "
    "(`mirrorfarm sim run --trace FOLDER`)"
)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that was asked for."""

    number: int
    process: int
    key: int
    value: int  # What is written, or was read; 0: nothing was there.


@dataclass(slots=True)
class Operations:
    """Gives operations their processes."""

    count: int = 0
    reads: int = 0
    pending: dict[tuple[str, int], Operation] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)
    _processes: int = 0

    @property
    def writes(self) -> int:
        """How many there were."""
        return self.count - self.reads

    def begin(self, node: str, values: dict[str, Any]) -> Operation:
        """A write is asked for."""
        operation = self._next(values)
        self.pending[node, operation.value] = operation
        return operation

    def end(self, node: str, values: dict[str, Any]) -> Operation | None:
        """It ended; None: it was never asked for here."""
        operation = self.pending.pop((node, values["write"]), None)
        if operation is not None and values["op"] != "info":
            self._free.append(operation.process)
        return operation

    def read(self, values: dict[str, Any]) -> Operation:
        """Something was read, in no time."""
        self.reads += 1
        operation = self._next(values)
        self._free.append(operation.process)
        return operation

    def _next(self, values: dict[str, Any]) -> Operation:
        if self._free:
            process = min(self._free)
            self._free.remove(process)
        else:
            process, self._processes = self._processes, self._processes + 1
        operation = Operation(self.count, process, values["extent"], values["write"])
        self.count += 1
        return operation


def operations_of(facts: list[Fact]) -> list[dict[str, Any]]:
    """Return what the facts say of writes and reads; `op` is invoke, ok, fail, info or read."""
    return [{"op": "read", **fact.values} for fact in facts if fact.kind in {"write", "read"}]


@dataclass(slots=True)
class Jepsen:
    """One map of EDN for each invocation and completion."""

    write: Write
    _operations: Operations = field(default_factory=Operations)
    _index: int = 0

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Write the operations of a step."""
        node = placed.step.node
        for values in operations_of(facts):
            kind, operation = values["op"], None
            if kind == "read":
                operation = self._operations.read(values)
                self._line(operation, "invoke", ":read", None, placed)
                self._line(operation, "ok", ":read", operation.value or None, placed)
                continue
            if kind == "invoke":
                operation = self._operations.begin(node, values)
            else:
                operation = self._operations.end(node, values)
            if operation is not None:
                self._line(operation, kind, ":write", operation.value, placed)

    def close(self) -> str:
        """What has not ended is left open: that is what it means."""
        if not self._operations.count:
            raise TraceInvalid(NO_WORKLOAD)
        done = self._operations
        open_ = len(done.pending)
        return f"{done.writes} writes, {open_} of them without an end; {done.reads} reads"

    def _line(
        self, operation: Operation, kind: str, what: str, value: int | None, placed: Placed
    ) -> None:
        told = "nil" if value is None else value
        line = (
            f"{{:index {self._index}, :time {placed.at_ns}, :process {operation.process}, "
            f":type :{kind}, :f {what}, :value [{operation.key} {told}], "
            f':node "{placed.step.node}"}}\n'
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
        node = placed.step.node
        for values in operations_of(facts):
            if values["op"] == "read":
                operation: Operation | None = self._operations.read(values)
                assert operation is not None, "it begins and ends here"
                self._line(operation, {"op": "read"}, value=None)
                self._line(operation, {"ok": True}, returns=True, value=operation.value or None)
            elif values["op"] == "invoke":
                operation = self._operations.begin(node, values)
                self._line(operation, {"op": "write"}, value=operation.value)
            elif values["op"] != "info":
                operation = self._operations.end(node, values)
                if operation is not None:
                    told = {"ok": values["op"] == "ok"}
                    self._line(operation, told, returns=True, value=operation.value)

    def close(self) -> str:
        """Return from what has not ended."""
        if not self._operations.count:
            raise TraceInvalid(NO_WORKLOAD)
        done = self._operations
        for operation in done.pending.values():
            told = {"ok": False, "unknown": True}
            self._line(operation, told, returns=True, value=operation.value)
        unknown = len(done.pending)
        return f"{done.writes} writes, {unknown} of them of unknown outcome; {done.reads} reads"

    def _line(
        self,
        operation: Operation,
        about: dict[str, Any],
        *,
        value: int | None,
        returns: bool = False,
    ) -> None:
        told = {**about, "key": operation.key, "value": value}
        event = {"ClientId": operation.process, "Kind": returns, "Value": told}
        self.write(encode({**event, "Id": operation.number}) + b"\n")
