"""A module's process begins with its own record, or with none: never with an unknown one."""

import errno
import os
import queue
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors.doors import Recorder
from mirrorfarm.actors.events import Stored
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.slots import SlotStore
from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.own_record import Owner, read_own

OWNER = Owner("c", "m", "n1")
OWN = NodeRecord(cluster="c", module="m", node="n1", counter=57)


def opened(folder: Path) -> SlotStore[NodeRecord]:
    return SlotStore(folder, "record", NodeRecord)


def written(folder: Path, record: NodeRecord = OWN) -> SlotStore[NodeRecord]:
    opened(folder).write(record, record.counter)
    return opened(folder)


def counted(counter: int) -> NodeRecord:
    return msgspec.structs.replace(OWN, counter=counter)


def can_store(store: SlotStore[NodeRecord], record: NodeRecord) -> bool:
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    recorder = Recorder()
    recorder.store(
        lambda: store.write(record, record.counter),
        record.counter,
        Stored(record.counter),
        told.put,
    )
    recorder.close()
    return bool(told.get(timeout=10) == Stored(record.counter))


def test_the_own_record_is_used_and_counted_on(tmp_path: Path) -> None:
    store = written(tmp_path)
    assert read_own(store, OWNER) == (counted(58), "")
    assert can_store(store, counted(59))


def test_where_none_was_written_nothing_is_wrong(tmp_path: Path) -> None:
    assert read_own(opened(tmp_path), OWNER) == (None, "")


@pytest.mark.parametrize(
    "foreign", [{"node": "n2"}, {"module": "other"}, {"cluster": "other"}], ids=str
)
def test_the_record_of_somebody_else_is_set_aside(tmp_path: Path, foreign: dict[str, str]) -> None:
    other = msgspec.structs.replace(OWN, **foreign)
    store = written(tmp_path, other)
    record, fault = read_own(store, OWNER)
    assert record is None
    assert "set aside as record.0.damaged, record.1.damaged" in fault
    assert all(value in fault for value in foreign.values())
    assert can_store(store, msgspec.structs.replace(OWN, counter=1))
    aside = {path.name for path in tmp_path.glob("*.damaged")}
    assert aside == {"record.0.damaged", "record.1.damaged"}


def test_a_damaged_record_is_set_aside(tmp_path: Path) -> None:
    store = written(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"garbage")
    record, fault = read_own(store, OWNER)
    assert record is None
    assert "damaged" in fault
    assert can_store(store, msgspec.structs.replace(OWN, counter=1))


def test_that_a_record_is_damaged_is_known_until_there_is_another(tmp_path: Path) -> None:
    written(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"garbage")
    for _ in range(2):  # The first process ends before it has anything to write down.
        record, fault = read_own(store := opened(tmp_path), OWNER)
        assert record is None
        assert "damaged" in fault
    assert can_store(store, counted(1))
    assert read_own(opened(tmp_path), OWNER) == (counted(2), "")


def test_nothing_begins_with_a_record_that_the_disk_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = written(tmp_path)

    def fail(*_: Any) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", fail)
        with pytest.raises(SystemUnsuitable, match="Input/output error"):
            read_own(store, OWNER)
    # The next process finds what this one could not read.
    assert read_own(opened(tmp_path), OWNER) == (counted(58), "")


def test_a_record_that_may_be_in_memory_only_is_durable_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = written(tmp_path)
    store.write(counted(58), 58)
    on_disk = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            store.write(msgspec.structs.replace(OWN, counter=59, term=7), 59)
    believed, _ = read_own(opened(tmp_path), OWNER)  # Of the next process, from the cache.
    assert believed is not None
    # Power fails: what was not flushed is as it was before.
    unflushed = tmp_path / "record.0"
    assert unflushed.read_bytes() != on_disk[unflushed]
    unflushed.write_bytes(on_disk[unflushed])
    record, fault = read_own(opened(tmp_path), OWNER)
    assert not fault
    assert record is not None
    assert record.term == believed.term


def test_nothing_begins_with_a_record_that_cannot_be_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = written(tmp_path)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(SystemUnsuitable, match="Input/output error"):
        read_own(store, OWNER)
