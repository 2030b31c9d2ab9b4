"""What a process waits for, as its steps say."""

from typing import Any

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.replicator.core import PlaneCopied, PlaneDone
from mirrorfarm.actors.scripts.core import MISSING
from mirrorfarm.sim.fork.waiting import Answered, Waiting
from mirrorfarm.trace.step import Step
from mirrorfarm.transport.messages import Register

STEP_NS = 100_000_000


class Process:
    """Gives steps to a `Waiting`, one each 100 ms."""

    def __init__(self, app: str = "prim") -> None:
        self.waiting = Waiting(1, app)
        self.now = 0

    def step(self, actor: str, event: Any, *effects: Any) -> Answered | None:
        self.now += STEP_NS
        step = Step("n1", actor, self.now, event, list(effects), number=self.now // STEP_NS)
        return self.waiting.take(step, self.now)


def test_a_timer_is_waited_for_until_it_goes_off() -> None:
    one = Process()
    early, late = fx.Later(3 * STEP_NS, ev.ArbiterTick()), fx.Later(9**19, ev.ArbiterTick())
    one.step("arbiter", ev.Started(), late, early)
    assert one.waiting.due() == [("arbiter", late), ("arbiter", early)]
    one.step("module", ev.Started())
    one.step("arbiter", ev.ArbiterTick())
    assert one.waiting.due() == [("arbiter", late)]


def test_what_was_told_lies_in_an_inbox_until_it_is_handled() -> None:
    one = Process()
    tell = fx.Tell("vip", ev.VipUp(7))
    one.step("module", ev.Started(), tell, fx.Publish("proc.app", "up"))
    up = ev.ResourceChanged("proc.app", "up")
    assert one.waiting.inboxes() == [("vip", ev.VipUp(7)), ("module", up)]
    kept = one.waiting.copied()
    one.step("vip", ev.VipUp(7))
    assert one.waiting.inboxes() == [("module", up)]
    assert kept.inboxes() == [("vip", ev.VipUp(7)), ("module", up)]
    for _ in range(10):
        one.step("vip", ev.Started())
    assert one.waiting.inboxes() == []  # Nothing lies there for a second: its step was lost.


def test_an_order_is_open_until_its_answer_tells_how_long_it_took() -> None:
    one = Process()
    record = NodeRecord(counter=4)
    one.step("module", ev.Started(), fx.Store(record))
    assert [order.effect.record for order in one.waiting.orders.values()] == [record]
    assert one.waiting.doors.record is None
    assert one.step("module", ev.Stored(3)) is None
    assert one.step("module", ev.Stored(4)) == Answered("Stored", 2 * STEP_NS)
    assert one.waiting.doors.record == record
    assert not one.waiting.orders


def test_scripts_say_whether_the_application_runs() -> None:
    one = Process()
    one.step("scripts", ev.Started(), fx.StartScript(1, "transition", (), 10))
    missing = ev.ScriptEnded(1, "transition", 0, failure=MISSING)
    found = one.step("scripts", missing, fx.StartScript(1, "start_prim", (), 10))
    assert found == Answered("", STEP_NS)
    assert one.waiting.doors.runs
    ended = one.step("scripts", ev.ScriptEnded(1, "start_prim", 0))
    assert ended == Answered("start_prim", STEP_NS)
    one.step("checker", ev.ProcessGone(0, 0))
    assert (one.waiting.doors.runs, one.waiting.doors.exits) == (False, 1)


def test_addresses_guard_and_sessions_are_remembered() -> None:
    one = Process()
    one.step("vip", ev.Started(), fx.AddressAdd(1))
    one.step("guard", ev.Started(), fx.GuardOrder(77))
    one.step("replicator", ev.Started(), fx.PlaneOrder("mount_follow", (5, 1)))
    one.step("replicator", PlaneCopied(1, 2))
    doors = one.waiting.doors
    assert (doors.vip, doors.guard_ns) == (True, 77)
    assert doors.sessions == {("PlaneCopied", 1, 2)}
    assert one.step("replicator", PlaneDone(5)) == Answered("PlaneDone", 2 * STEP_NS)
    one.step("guard", ev.GuardActed(77))
    assert (doors.vip, doors.guard_ns) == (False, 0)


@pytest.mark.parametrize("app", ["prim", "both"])
def test_an_application_that_was_not_ended_has_ended_by_itself(app: str) -> None:
    one = Process(app)
    gone = ev.ProcessGone(0, 0, 1)
    one.step("scripts", ev.Started(), fx.StartScript(1, f"start_{app}", (), 10**9))
    one.step("checker", gone)
    assert one.waiting.doors.exits == 0  # Its script still runs.
    one.step("scripts", ev.ScriptEnded(1, f"start_{app}", 0), fx.KillScripts(2))
    one.step("checker", gone)
    assert one.waiting.doors.exits == 0  # Whatever runs is being ended.
    one.step("scripts", ev.ApplicationGone(2), fx.StartScript(3, f"start_{app}", (), 10**9))
    one.step("scripts", ev.ScriptEnded(3, f"start_{app}", 0))
    one.step("checker", gone)
    one.step("checker", gone)
    assert one.waiting.doors.exits == 1
    one.step("scripts", ev.Started(), fx.StartScript(4, f"start_{app}", (), 10**9))
    one.step("scripts", ev.ScriptEnded(4, f"start_{app}", 0))
    one.step("scripts", ev.ScriptEnded(5, f"stop_{app}", 0))
    one.step("checker", gone)
    assert one.waiting.doors.exits == 1


def test_a_register_that_could_not_be_written_is_waited_for_no_more() -> None:
    one = Process()
    store = fx.RegisterStore("c", "m", Register(1, 1, "n1", ("n1",), "g", "i"), 7)
    one.step("register", ev.Started(), store)
    assert one.step("register", ev.StoreFailed(7, 28, "full")) == Answered("StoreFailed", STEP_NS)
    assert one.waiting.orders == {}
    assert one.waiting.doors.registers == {}
