"""A promise binds the next process as well: the record says that there may be one (row 19)."""

from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror import promises
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import SECOND_NS
from tests.actors.module.mirror.building import core, state


def given(s: State) -> list[Any]:
    told = [effect.event for effect in s.out if isinstance(effect, fx.Tell)]
    return [event for event in told if isinstance(event, ev.Promise)]


def stored(s: State) -> list[NodeRecord]:
    return [effect.record for effect in s.out if isinstance(effect, fx.Store)]


def test_the_first_promise_waits_for_the_record() -> None:
    s = state(NodeRecord(promises=False))
    s.promises = False
    for number in range(3):
        promises.give(s, "lan", 1, number)
    assert not given(s)
    assert [record.promises for record in stored(s)] == [True]
    s.stores.clear()
    promises.on_stored(s)
    promises.give(s, "lan", 1, SECOND_NS)
    assert len(given(s)) == 1
    assert s.promise_until_ns > SECOND_NS + s.lease.lease_ns


def test_a_record_that_fails_is_not_tried_with_every_heartbeat() -> None:
    s = state(NodeRecord(promises=False))
    s.promises, s.failed = False, "no space"
    promises.give(s, "lan", 1, 1)
    assert not s.out


def begun(record: NodeRecord | None, fault: str = "") -> int:
    mirror = Mirror.build(core().state.settings, record, fault)
    mirror.handle(ev.Started(), 100 * SECOND_NS)
    return mirror.state.promise_until_ns


def test_only_a_process_whose_predecessor_may_have_promised_waits() -> None:
    assert begun(None) == 0  # A new node.
    assert begun(NodeRecord(promises=False)) == 0
    for record, fault in ((NodeRecord(), ""), (None, "the durable record is damaged")):
        assert begun(record, fault) > 100 * SECOND_NS
