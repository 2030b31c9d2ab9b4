"""The durable record of a module as its process finds it: its own, or none that is used."""

from dataclasses import dataclass

import msgspec

from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.slots import SlotStore
from mirrorfarm.errors import RecordInvalid, SystemUnsuitable
from mirrorfarm.oserrors import told


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a record is."""

    cluster: str
    module: str
    node: str

    def __str__(self) -> str:
        return f"module {self.module} on node {self.node} of cluster {self.cluster}"


def read_own(store: SlotStore[NodeRecord], owner: Owner) -> tuple[NodeRecord | None, str]:
    """Return the record, or why it cannot be used: then no data here are trusted.

    One that cannot be used is set aside: the core counts its records from 1 on, and a store that
    knows a higher number would take none of them. For the same reason nothing begins with a
    record that the disk did not give (SystemUnsuitable): it may have been a good one. Nor with
    one that it does not take: what is read may be in the cache only, left there by a writing
    that failed, so it is written again before it is believed.
    """
    try:
        return _read_own(store, owner)
    except OSError as error:
        text = "the durable record cannot be read, or made durable again"
        raise SystemUnsuitable(f"{text}: {told(error)}") from error


def _read_own(store: SlotStore[NodeRecord], owner: Owner) -> tuple[NodeRecord | None, str]:
    try:
        record = store.read()
    except RecordInvalid as error:
        return None, f"the durable record is damaged ({error}); {_set_aside(store)}"
    if record is None:
        return None, ""
    found = Owner(record.cluster, record.module, record.node)
    if found != owner:
        return None, f"the durable record is that of {found}, not of {owner}; {_set_aside(store)}"
    again = msgspec.structs.replace(record, counter=record.counter + 1)
    store.write(again, again.counter)
    return again, ""


def _set_aside(store: SlotStore[NodeRecord]) -> str:
    names = ", ".join(path.name for path in store.set_aside())
    return f"it was set aside as {names}"
