"""The process of one module: its cores, their shells and doors."""

import secrets
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from mirrorfarm import __version__
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.loaded import RegisterSlots
from mirrorfarm.actors.arbiter.ping_door import PingDoor
from mirrorfarm.actors.cgroup import Cgroup, scope_of
from mirrorfarm.actors.checker.processes import ProcessWatcher
from mirrorfarm.actors.doors import ModuleDoors, Recorder
from mirrorfarm.actors.farm_filter.door import FarmDoor
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.scripts.runner import ScriptRunner
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.actors.slots import SlotStore
from mirrorfarm.actors.supervisor import Supervisor
from mirrorfarm.actors.timers import Timers
from mirrorfarm.actors.vip.door import VipDoor
from mirrorfarm.descriptors import raise_descriptor_limit
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.log_desk import LogDesk
from mirrorfarm.module_cores import Here, cores
from mirrorfarm.modulelog import ModuleLog
from mirrorfarm.modules.install import load_module
from mirrorfarm.modules.settings import Module
from mirrorfarm.netfilter.choice import choose
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.own_record import Owner, read_own
from mirrorfarm.paths import Paths
from mirrorfarm.process import (
    await_end,
    end_holder,
    lock_path,
    os_boot_id,
    prefer_this_process,
    replica_lock_path,
    run_child,
)
from mirrorfarm.transport.address import MODULE_ACTOR, Address
from mirrorfarm.transport.attachment import Attachment, AttachmentSettings
from mirrorfarm.transport.keys import load_keys, next_incarnation
from mirrorfarm.transport.messages import (
    Command,
    CommandResult,
    Frame,
    LogAnswer,
    LogQuery,
)
from mirrorfarm.transport.trace import TraceWriter
from mirrorfarm.transport.trace_ring import Origin

SHUTDOWN_SECONDS = 80.0  # Less than systemd waits before it kills (TimeoutStopSec=90s).


def shutdown_limits(module: Module) -> tuple[float, float]:
    """Return for how many seconds a shutdown waits for connections, and then for the stop.

    The stop has all that is left: each of several scripts may take its whole limit, and whoever
    does not wait leaves the application running. Against connections that never end half of the
    whole at most is kept for the scripts: few need as long as they may.
    """
    if module.mode != "farm":
        return 0.0, SHUTDOWN_SECONDS
    scripts_s = (module.nice_stop_ns + module.force_stop_ns) / SECOND_NS
    kept_s = min(scripts_s, SHUTDOWN_SECONDS / 2)
    drain_s = min(module.farm.drain_ns / SECOND_NS, SHUTDOWN_SECONDS - kept_s)
    return drain_s, SHUTDOWN_SECONDS - drain_s


class ModuleProcess:
    """Everything that runs in the process of one module."""

    def __init__(self, paths: Paths, name: str) -> None:
        self.paths = paths
        self.module = load_module(paths, name)
        self.keys = load_keys(paths)
        self.incarnation = next_incarnation(paths)
        self._log = ModuleLog(paths.module_log(name))
        self._stopped = threading.Event()
        self._orders: set[str] = set()  # Requests of our own.
        self._begun = False
        self.supervisor = Supervisor(lambda level, text: self._log.write(level, "agent", text))
        self._cgroup = Cgroup(scope_of(paths.root, self.keys.name, name))
        self._cgroup.create()
        # Made first: the attachment's thread may bring a question at once.
        self._logs = LogDesk(paths.module_log(name), self._answer_log)
        self._attachment = Attachment(
            AttachmentSettings(
                paths.bus_socket, self.keys.cluster, self.keys.name, name, self.incarnation
            ),
            self._on_receive,
        )
        farm = self.module.farm
        self._chosen = (
            choose(farm.filter, Delivery(farm.delivery)) if self.module.mode == "farm" else None
        )
        self._doors = self._open_doors()
        threading.excepthook = self._doors.thread_failed

    def _open_doors(self) -> ModuleDoors:
        paths, module, name = self.paths, self.module, self.module.name

        def plain(level: str, text: str) -> None:
            self._log.write(level, "scripts", text)

        def watcher(level: str, text: str) -> None:
            self._log.write(level, "checker", text)

        lib = paths.module_lib(name)
        origin = Origin(
            __version__, self.keys.cluster, self.keys.name, name, self.incarnation, os_boot_id()
        )
        self.registers = RegisterSlots(lib)
        guard = self._guard(plain) if module.mode == "mirror" else None
        return ModuleDoors(
            self.supervisor,
            self._attachment.send,
            self._log.write,
            Timers(),
            Recorder(),
            SlotStore(lib, "record", NodeRecord),
            TraceWriter(paths.module_log(name) / "trace", origin, on_loss=self._on_loss),
            ScriptRunner(module, self.keys.name, paths, self._cgroup, plain, guard=guard),
            self._address_door(guard),
            ProcessWatcher(module, self._cgroup, self._inbox("checker"), watcher),
            guard,
            PingDoor(),
            lambda: end_holder(replica_lock_path(paths, name)),
            self.registers.store,
        )

    def _on_loss(self, lost: int, reason: str) -> None:
        """The trace cannot be written, or is again: production goes on, `state -v` shows it."""
        value = "down" if reason else "up"
        text = f"({reason}; {lost} steps lost)" if reason else f"({lost} steps were lost)"
        self.supervisor.tell("module", ev.ResourceChanged("trace.record", value, reason=text))

    def _address_door(self, guard: GuardClient | None) -> VipDoor | FarmDoor:
        module, inbox = self.module, self._inbox(MODULE_ACTOR)
        if self._chosen is None:
            is_over = guard.is_over if guard is not None else lambda: False
            return VipDoor(module.vips, module.tcpreset, inbox, is_over)
        ledger = self.paths.run / "kernel-parameters.json"

        def log(level: str, text: str) -> None:
            self._log.write(level, "farm_filter", text)

        return FarmDoor(module, self._chosen.kind, ledger, inbox, log)

    def _guard(self, log: Callable[[str, str], None]) -> GuardClient:
        return GuardClient(
            self.module.name,
            self.paths,
            self._cgroup,
            addresses=tuple(vip.addr for vip in self.module.vips),
            inbox=self._inbox("guard"),
            log=log,
        )

    def _inbox(self, actor: str) -> Inbox:
        def give(event: Any) -> None:
            self.supervisor.tell(actor, event)

        return give

    def _on_receive(self, frame: Frame, network: str) -> None:
        actor, source, message = frame.to.actor, frame.source, frame.message
        if isinstance(message, CommandResult):  # Of our own order in `shut_down`, or nonsense.
            own = source.node == self.keys.name and message.request in self._orders
            if own and message.outcome != "accepted":
                self._stopped.set()
            return
        if isinstance(message, LogQuery):
            self._logs.ask(source, actor, message)
            return
        if self._begun:  # Before, a core does not know its past: the sender repeats it.
            event = ev.Received(source, message, network, frame.incarnation, frame.sequence)
            own = source.node == self.keys.name
            give = self.supervisor.tell if own else self.supervisor.offer
            give(actor, event)

    def _answer_log(self, to: Address, actor: str, answer: LogAnswer) -> None:
        self._attachment.send(to, actor, answer)

    def start(self) -> None:
        """Start every shell, the mirror last: it orders the others about."""
        record, fault = self._read_record()
        here = Here(
            self.keys.cluster,
            self.keys.name,
            self.module,
            self.incarnation,
            os_boot_id(),
            record,
            secrets.randbits(64),
            fault,
        )
        vip = self._doors.vip
        actors = cores(here, self._chosen, vip.mac if isinstance(vip, FarmDoor) else b"")
        for actor, core in actors.items():
            self._doors.trace.watch(actor, core, self._inbox(actor))
            self.supervisor.start(actor, core, self._doors)
        if self._doors.guard is not None:
            self._doors.guard.start()
        if "arbiter" in actors and self.module.arbiter.kind != "witness":
            self.supervisor.tell("arbiter", self.registers.load(self.keys.cluster, self.module))
        for actor in actors:
            self.supervisor.tell(actor, ev.Started())
        self._begun = True

    def _read_record(self) -> tuple[NodeRecord | None, str]:
        owner = Owner(self.keys.cluster, self.module.name, self.keys.name)
        return read_own(self._doors.records, owner)

    def shut_down(self) -> bool:
        """Have the module stop in good order, its role handed over; return whether it did."""
        drain_s, stop_s = shutdown_limits(self.module)
        self._order("shutdown")
        if drain_s:
            if self._stopped.wait(drain_s):
                return True
            self._order("shutdown", "nodrain")
        return self._stopped.wait(stop_s)

    def _order(self, verb: str, *words: str) -> None:
        own = Address(self.keys.name, self.module.name, "process")
        order = Command(secrets.token_hex(8), verb, "SYSTEM", words)
        self._orders.add(order.request)
        self.supervisor.tell(MODULE_ACTOR, ev.Received(own, order))

    def close(self) -> None:
        """End without a decision: what runs is left to the guard and to the next process."""
        self.supervisor.close()
        doors = self._doors
        if doors.guard is not None:
            doors.guard.close()
        doors.timers.close()
        doors.recorder.close()
        doors.scripts.close()
        doors.processes.close()
        doors.vip.close()
        doors.trace.close()
        self._attachment.close()
        self._logs.close()
        self._log.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the process of the module that is named by the first argument."""
    name = (arguments if arguments is not None else sys.argv[1:])[0]
    paths = Paths.from_environment()
    return run_child(lock_path(paths, name), f"module {name}", lambda: _run(paths, name))


def _run(paths: Paths, name: str) -> int:
    prefer_this_process()
    raise_descriptor_limit()
    ends = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ends.set())
    process = ModuleProcess(paths, name)
    process.start()
    await_end(ends, lock_path(paths, name))
    process.shut_down()
    threading.excepthook = threading.__excepthook__  # Threads may lose what they use, now.
    process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
