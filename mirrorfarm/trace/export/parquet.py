"""Parquet: tables for pandas, Polars and DuckDB.

A folder with a table in each folder of it, and one file in that for each run, so that many runs
can be exported into one: `events/run=NAME/part-0.parquet`, and so on. Needs pyarrow (the extra
`analysis`).

events    one row for each event and each effect
messages  the sending of a message joined with its receipt, by receiver; not received: it was
          lost, or its receiver's trace is not among those exported; not sent: it came, and its
          sending is in no trace, as what a command line sends
roles     how long a node was what, by module; at most until the last step of its process
writes    the workload of writes, if there is one: from the invocation to the answer
facts     what steps mean: `mirrorfarm.trace.facts`
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mirrorfarm.actors.effects import Send
from mirrorfarm.actors.events import Received
from mirrorfarm.trace.export.format import Subject, encode
from mirrorfarm.trace.export.lives import Lives
from mirrorfarm.trace.facts import Fact, module_of, name_of, said
from mirrorfarm.trace.merge import UNDER_WAY_MAX
from mirrorfarm.trace.step import MessageId, Placed
from mirrorfarm.trace.text import as_json
from mirrorfarm.unfinished import unfinished

ROWS: Final = 20_000  # Of one row group.

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("ns", tz="UTC")
_RUN: Final = [("seed", pa.uint64()), ("node", _TEXT)]
TABLES: Final[dict[str, Any]] = {
    "events": pa.schema(
        [
            *_RUN,
            *(("process", _TEXT), ("incarnation", pa.int64()), ("actor", _TEXT)),
            *(("number", pa.int64()), ("place", pa.int32()), ("kind", _TEXT)),
            *(("name", _TEXT), ("about", _TEXT), ("t", _TIME), ("now_ns", pa.int64())),
            *(("lam", pa.int64()), ("sent_by", pa.int64()), ("fields", pa.string())),
        ]
    ),
    "messages": pa.schema(
        [
            *_RUN,
            *(("actor", _TEXT), ("peer", _TEXT), ("name", _TEXT), ("network", _TEXT)),
            *(("sent", pa.int64()), ("received", pa.int64()), ("t_sent", _TIME)),
            *(("t_received", _TIME), ("latency_ns", pa.int64())),
        ]
    ),
    "roles": pa.schema(
        [
            *_RUN,
            *(("module", _TEXT), ("role", _TEXT), ("status", _TEXT), ("term", pa.int64())),
            *(("t_from", _TIME), ("t_to", _TIME)),
        ]
    ),
    "writes": pa.schema(
        [
            *_RUN,
            *(("write", pa.int64()), ("extent", pa.int64()), ("t_invoked", _TIME)),
            *(("t_ended", _TIME), ("outcome", _TEXT), ("term", pa.int64())),
        ]
    ),
    "facts": pa.schema(
        [
            *_RUN,
            *(("module", _TEXT), ("kind", _TEXT), ("text", pa.string()), ("number", pa.int64())),
            *(("t", _TIME), ("fields", pa.string())),
        ]
    ),
}


class Table:
    """One table, written in groups of rows."""

    def __init__(self, name: str, folder: Path, run: str) -> None:
        place = folder / name / f"run={run}"
        place.mkdir(parents=True, exist_ok=True)
        self.path = place / "part-0.parquet"
        self.part, file = unfinished(self.path)
        file.close()
        self._schema = TABLES[name]
        self._writer = pq.ParquetWriter(self.part, self._schema, compression="zstd")
        self._columns: list[list[Any]] = [[] for _ in self._schema.names]
        self._appends: list[Callable[[Any], None]] = [one.append for one in self._columns]
        self.rows = 0

    def add(self, *values: Any) -> None:
        """Add one row."""
        for append, value in zip(self._appends, values, strict=True):
            append(value)
        self.rows += 1
        if len(self._columns[0]) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        pairs = zip(self._columns, self._schema.types, strict=True)
        arrays = [_array(column, kind) for column, kind in pairs]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        for column in self._columns:
            column.clear()

    def close(self) -> None:
        """Write the rest."""
        self._flush()
        self._writer.close()


def _array(column: list[Any], kind: Any) -> Any:
    if kind == _TEXT:
        return pa.array(column, pa.string()).dictionary_encode()
    try:
        return pa.array(column, kind)
    except (pa.ArrowInvalid, OverflowError):  # A number that only a forged trace can hold.
        fits = range(-(1 << 63), 1 << 63)
        return pa.array([one if one is None or one in fits else None for one in column], kind)


@dataclass(slots=True)
class _Role:
    node: str
    module: str
    values: dict[str, Any]
    since_ns: int


@dataclass(slots=True)
class Parquet:
    """All tables."""

    subject: Subject
    folder: Path
    tables: dict[str, Table] = field(init=False)
    _seed: int | None = None
    _lives: Lives = field(default_factory=Lives)
    # By message: those that have not got it yet.
    _sent: dict[MessageId, tuple[Placed, Send, list[str]]] = field(default_factory=dict)
    _roles: dict[int, _Role] = field(default_factory=dict)  # By lane.
    _writes: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tables = {}
        try:
            for name in TABLES:
                self.tables[name] = Table(name, self.folder, self.subject.run)
        except BaseException:
            self.discard()
            raise
        self._seed = self.subject.merge.seed

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Add the rows of one step."""
        ended_ns = self._lives.add(placed)
        if ended_ns is not None:
            self._role_ends(placed.lane, ended_ns)
        self._events(placed)
        self._messages(placed)
        for fact in facts:
            self._fact(placed, fact)

    def close(self) -> str:
        """Write what has no end yet."""
        for placed, effect, nodes in self._sent.values():
            self._lost(placed, effect, nodes)
        for lane in list(self._roles):
            self._role_ends(lane, self._lives.end_ns(lane))
        for (node, write), (extent, at_ns) in self._writes.items():
            self.tables["writes"].add(self._seed, node, write, extent, at_ns, None, "open", None)
        for table in self.tables.values():
            table.close()
        return ", ".join(f"{table.rows} {name}" for name, table in self.tables.items())

    def publish(self) -> None:
        """Give the files their names, once they are whole."""
        for table in self.tables.values():
            table.part.replace(table.path)

    def discard(self) -> None:
        """Remove what was written."""
        for table in self.tables.values():
            table.part.unlink(missing_ok=True)

    def _events(self, placed: Placed) -> None:
        step, add = placed.step, self.tables["events"].add
        sent_by = placed.sending.number if placed.sending is not None else None
        for place, value in enumerate((step.event, *step.effects)):
            content = said(value)
            add(
                *(self._seed, step.node, step.process, step.incarnation, step.actor),
                *(placed.number, place, "effect" if place else "input", name_of(value)),
                *(None if content is value else name_of(content), placed.at_ns, step.now_ns),
                *(placed.lamport, None if place else sent_by, encode(as_json(value)).decode()),
            )

    # --- messages --------------------------------------------------------------------------

    def _messages(self, placed: Placed) -> None:
        step, event, sending = placed.step, placed.step.event, placed.sending
        if sending is not None:
            key = step.received_id
            assert key is not None, "it was joined by this"
            sent = self._sent.get(key)
            if sent is not None:
                nodes = [node for node in sent[2] if node != step.node]
                self._sent[key] = (sent[0], sent[1], nodes)
                if not nodes:
                    del self._sent[key]
        if isinstance(event, Received):
            number = sent_ns = latency_ns = None
            if sending is not None:
                number, sent_ns = sending.number, sending.at_ns
                latency_ns = placed.at_ns - sent_ns
            self.tables["messages"].add(
                *(self._seed, event.source.node, event.source.actor, step.node),
                *(name_of(event.message), event.network, number, placed.number),
                *(sent_ns, placed.at_ns, latency_ns),
            )
        sends = (effect for effect in step.effects if type(effect) is Send)
        for effect, message in zip(sends, step.sent_ids, strict=False):
            if message is not None:
                self._sent[message] = (placed, effect, list(effect.to.nodes))
        while len(self._sent) > UNDER_WAY_MAX:
            self._lost(*self._sent.pop(next(iter(self._sent))))

    def _lost(self, placed: Placed, effect: Send, nodes: list[str]) -> None:
        for peer in nodes:
            self.tables["messages"].add(
                *(self._seed, placed.step.node, placed.step.actor, peer),
                *(name_of(effect.message), effect.network, placed.number, None),
                *(placed.at_ns, None, None),
            )

    # --- facts -----------------------------------------------------------------------------

    def _fact(self, placed: Placed, fact: Fact) -> None:
        step = placed.step
        module = str(fact.values.get("module", module_of(step)))
        self.tables["facts"].add(
            *(self._seed, step.node, module, fact.kind, fact.text, placed.number),
            *(placed.at_ns, encode(fact.values).decode()),
        )
        if fact.kind in {"role", "status"}:
            self._role_ends(placed.lane, placed.at_ns)
            self._roles[placed.lane] = _Role(step.node, module, fact.values, placed.at_ns)
        elif fact.kind == "write":
            self._write(placed, fact.values)

    def _role_ends(self, lane: int, end_ns: int) -> None:
        role = self._roles.pop(lane, None)
        if role is None:
            return
        values = role.values
        self.tables["roles"].add(
            *(self._seed, role.node, role.module, values["role"], values["status"]),
            *(values["term"], role.since_ns, end_ns),
        )

    def _write(self, placed: Placed, values: dict[str, Any]) -> None:
        key = (placed.step.node, values["write"])
        if values["op"] == "invoke":
            self._writes[key] = (values["extent"], placed.at_ns)
            return
        extent, begin_ns = self._writes.pop(key, (values["extent"], None))
        self.tables["writes"].add(
            *(self._seed, *key, extent, begin_ns, placed.at_ns, values["op"], values.get("term"))
        )
