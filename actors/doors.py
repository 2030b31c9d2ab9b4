"""The doors of a module's process: each effect goes to the one door that performs it."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.ping_door import PingDoor
from mirrorfarm.actors.checker.processes import ProcessWatcher
from mirrorfarm.actors.farm_filter.door import FarmDoor
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.scripts.runner import ScriptRunner
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.actors.slots import SlotStore, store_failed
from mirrorfarm.actors.supervisor import Supervisor
from mirrorfarm.actors.timers import Timers, boot_clock_ns
from mirrorfarm.actors.vip.door import VipDoor
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.messages import ANY_MESSAGE
from mirrorfarm.transport.trace import BROKE_SECONDS, TraceWriter

Send = Callable[[Address, str, ANY_MESSAGE, str], int]  # Returns the number of the frame.
LogLine = Callable[[str, str, str], None]  # level, origin, text


class Recorder:
    """Makes records durable in their order, on a thread of its own."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def store(self, write: Callable[[], None], counter: int, stored: Any, inbox: Inbox) -> None:
        """Call `write`; then give `stored`, or StoreFailed, to `inbox`."""

        def work() -> None:
            try:
                write()
            except Exception as error:  # Nothing would be stored any more without this thread.
                inbox(store_failed(counter, error))
            else:
                inbox(stored)

        self._queue.put(work)

    def close(self) -> None:
        """Finish what was ordered."""
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


@dataclass(slots=True)
class ModuleDoors:
    """Everything that the cores of one module's process can reach."""

    supervisor: Supervisor
    send: Send
    log: LogLine
    timers: Timers
    recorder: Recorder
    records: SlotStore[NodeRecord]
    trace: TraceWriter
    scripts: ScriptRunner
    vip: VipDoor | FarmDoor
    processes: ProcessWatcher
    guard: GuardClient | None  # Of a mirror.
    ping: PingDoor
    end_replica: Callable[[], None]
    registers: Callable[[fx.RegisterStore], None]

    def now(self) -> int:
        """Return the boot clock."""
        return boot_clock_ns()

    def record(self, actor: str, now: int, event: Any, effects: list[fx.ANY_EFFECT]) -> None:
        """Write one step to the trace."""
        self.trace.step(actor, now, event, effects)

    def failed(self, actor: str, error: BaseException) -> None:
        """A core broke."""
        self.trace.broke(actor, error)
        self.supervisor.failed(actor, error)

    def thread_failed(self, hook: threading.ExceptHookArgs) -> None:
        """A thread of a door broke: nobody would do its work any more. As if a core had broken."""
        if hook.exc_type is SystemExit:
            return
        self.trace.close(BROKE_SECONDS)
        self.supervisor.thread_failed(hook.thread.name if hook.thread else "?", hook.exc_value)

    def perform(self, actor: str, effect: fx.ANY_EFFECT, inbox: Inbox) -> None:
        """Give the effect to its door; no door blocks this thread for long."""
        match effect:
            case fx.Send(to, message, network):
                self.trace.sent(actor, self.send(to, actor, message, network))
            case fx.Tell(target, event):
                self.supervisor.tell(target, event)
            case fx.Later(at_ns, event):
                self.timers.later(at_ns, event, inbox)
            case fx.Store(record):
                self.recorder.store(
                    lambda: self.records.write(record, record.counter),
                    record.counter,
                    ev.Stored(record.counter),
                    inbox,
                )
            case fx.RegisterStore():
                self.recorder.store(
                    lambda: self.registers(effect),
                    effect.counter,
                    ev.RegisterStored(effect.counter),
                    inbox,
                )
            case fx.Log(level, text):
                self.log(level, actor, text)
            case fx.Publish(resource, value):
                self.supervisor.tell(MODULE_ACTOR, ev.ResourceChanged(resource, value))
            case _:
                self._perform_outside(effect, inbox)

    def _perform_outside(self, effect: Any, inbox: Inbox) -> None:
        match effect:
            case fx.StartScript():
                self.scripts.start(effect, inbox)
            case fx.EndScript():
                self.scripts.end(effect)
            case fx.KillScripts():
                self.scripts.kill(effect, inbox)
            case fx.AddressProbe(run):
                assert isinstance(self.vip, VipDoor), "the addresses of a farm are everybody's"
                self.vip.probe(run, inbox)
            case fx.ApplyTable() | fx.RenewLease() | fx.CountSockets():
                self._filter(effect, inbox)
            case fx.AddressAdd(run):
                self.vip.add(run, inbox)
            case fx.AddressAnnounce():
                self.vip.announce()
            case fx.AddressRemove(run):
                self.vip.remove(run, inbox)
            case fx.Watch():
                self.processes.watch(effect)
            case fx.GuardOrder():
                assert self.guard is not None, "only a mirror has a guard"
                self.guard.order(effect)
            case fx.PingProbe():
                self.ping.probe(effect, inbox)
            case fx.EndReplica():
                self.end_replica()
            case fx.PlaneOrder():
                raise AssertionError("the data plane has a process of its own")
            case _:
                assert_never(effect)

    def _filter(
        self, effect: fx.ApplyTable | fx.RenewLease | fx.CountSockets, inbox: Inbox
    ) -> None:
        """Give an order to a farm's filter; what is said afterwards rests on the first two."""
        assert isinstance(self.vip, FarmDoor), "only a farm has a filter"
        match effect:
            case fx.ApplyTable():
                self.vip.apply(effect, inbox)
            case fx.RenewLease():
                self.vip.renew(effect, inbox)
            case fx.CountSockets():
                self.vip.count(effect, inbox)
