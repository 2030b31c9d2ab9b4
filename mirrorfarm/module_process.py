"""The process of one module: its cores, their shells and doors."""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable

from mirrorfarm import __version__
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.client import WitnessClient
from mirrorfarm.actors.arbiter.loaded import RegisterSlots
from mirrorfarm.actors.arbiter.ping_door import PingDoor
from mirrorfarm.actors.cgroup import Cgroup, scope_of
from mirrorfarm.actors.checker.core import Checker
from mirrorfarm.actors.checker.processes import ProcessWatcher
from mirrorfarm.actors.doors import ModuleDoors, Recorder
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.actors.guard.core import Guard
from mirrorfarm.actors.heartbeat.core import Heartbeat
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.state import Settings
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.scripts.core import Scripts
from mirrorfarm.actors.scripts.runner import ScriptRunner
from mirrorfarm.actors.shell import Core
from mirrorfarm.actors.slots import SlotStore
from mirrorfarm.actors.supervisor import Supervisor
from mirrorfarm.actors.timers import Timers
from mirrorfarm.actors.vip.core import Vip
from mirrorfarm.actors.vip.door import VipDoor
from mirrorfarm.children import (
    end_holder,
    hold_lock,
    lock_path,
    os_boot_id,
    prefer_this_process,
    telling,
)
from mirrorfarm.errors import RecordInvalid, SystemUnsuitable
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modulelog import ModuleLog, read_log
from mirrorfarm.modules.install import load_module
from mirrorfarm.modules.settings import Module
from mirrorfarm.paths import Paths
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.attachment import Attachment, AttachmentSettings
from mirrorfarm.transport.keys import load_keys, next_incarnation
from mirrorfarm.transport.messages import (
    ANY_MESSAGE,
    Command,
    CommandResult,
    LogAnswer,
    LogQuery,
)
from mirrorfarm.transport.trace import Origin, TraceWriter

SHUTDOWN_SECONDS = 80.0  # Less than systemd waits before it kills (TimeoutStopSec=90s).


class ModuleProcess:
    """Everything that runs in the process of one module."""

    def __init__(self, paths: Paths, name: str) -> None:
        self.paths = paths
        self.module = load_module(paths, name)
        self.keys = load_keys(paths)
        self.incarnation = next_incarnation(paths)
        self._log = ModuleLog(paths.module_log(name))
        self._stopped = threading.Event()
        self.supervisor = Supervisor(lambda level, text: self._log.write(level, "agent", text))
        self._cgroup = Cgroup(scope_of(paths.root, self.keys.name, name))
        self._cgroup.create()
        self._attachment = Attachment(
            AttachmentSettings(
                paths.bus_socket, self.keys.cluster, self.keys.name, name, self.incarnation
            ),
            self._on_receive,
        )
        self._doors = self._open_doors()

    def _open_doors(self) -> ModuleDoors:
        paths, module, name = self.paths, self.module, self.module.name

        def plain(level: str, text: str) -> None:
            self._log.write(level, "scripts", text)

        lib = paths.module_lib(name)
        origin = Origin(
            __version__, self.keys.cluster, self.keys.name, name, self.incarnation, os_boot_id()
        )
        self.registers = RegisterSlots(lib)
        return ModuleDoors(
            self.supervisor,
            self._attachment.send,
            self._log.write,
            Timers(),
            Recorder(),
            SlotStore(lib, "record", NodeRecord),
            TraceWriter(paths.module_log(name) / "trace", origin),
            ScriptRunner(module, paths, self._cgroup, plain),
            VipDoor(module.vips, module.tcpreset),
            ProcessWatcher(module, self._cgroup, self._inbox("checker")),
            GuardClient(
                name,
                paths,
                self._cgroup,
                addresses=tuple(vip.addr for vip in module.vips),
                inbox=self._inbox("guard"),
                log=plain,
            ),
            PingDoor(),
            lambda: end_holder(paths.run / f"{name}.replica.lock"),
            self.registers.store,
        )

    def _inbox(self, actor: str) -> Callable[[ev.Event], None]:
        def give(event: ev.Event) -> None:
            self.supervisor.tell(actor, event)

        return give

    def _on_receive(self, actor: str, source: Address, message: ANY_MESSAGE, network: str) -> None:
        if isinstance(message, CommandResult):  # Of our own order in `shut_down`.
            if message.outcome != "accepted":
                self._stopped.set()
            return
        if isinstance(message, LogQuery):
            folder = self.paths.module_log(self.module.name)
            lines, last = read_log(folder, message.after, message.count)
            self._attachment.send(source, actor, LogAnswer(message.request, tuple(lines), last))
            return
        self.supervisor.tell(actor, ev.Received(source, message, network))

    def start(self) -> None:
        """Start every shell, the mirror last: it orders the others about."""
        record, fault = self._read_record()
        for actor, core in self._cores(record, fault).items():
            self.supervisor.start(actor, core, self._doors)
        self._doors.guard.start()
        if self.module.arbiter.kind != "witness":
            self.supervisor.tell("arbiter", self.registers.load(self.keys.cluster, self.module))
        for actor in ("heartbeat", "arbiter", "scripts", "vip", "checker", "guard", "mirror"):
            self.supervisor.tell(actor, ev.Started())

    def _cores(self, record: NodeRecord | None, fault: str) -> dict[str, Core]:
        module, node = self.module, self.keys.name
        peer = next(name for name in module.nodes if name != node)
        found = record or NodeRecord()
        settings = Settings(
            self.keys.cluster,
            node,
            peer,
            module,
            self.incarnation,
            os_boot_id(),
            secrets.randbits(64),
            start=starts_by_itself(module, found, os_boot_id()),
        )
        arbiter: Core
        if module.arbiter.kind == "witness":
            arbiter = WitnessClient(node, module.arbiter.name, module)
        else:
            from mirrorfarm.actors.arbiter.ping import PingArbiter  # noqa: PLC0415 - rarely needed

            arbiter = PingArbiter(node, peer, self.keys.cluster, module)
        return {
            "heartbeat": Heartbeat(
                node, peer, module.name, module.heartbeats, module.timing.detection_ns
            ),
            "arbiter": arbiter,
            "scripts": Scripts(module),
            "vip": Vip(module.vips),
            "checker": Checker(module),
            "guard": Guard(),
            "mirror": Mirror.build(settings, record, fault),
        }

    def _read_record(self) -> tuple[NodeRecord | None, str]:
        """Return the durable record, or why it cannot be used: then no data here are trusted."""
        try:
            record = self._doors.records.read()
        except RecordInvalid as error:
            aside = self._doors.records.set_aside()
            names = ", ".join(path.name for path in aside)
            return None, f"the durable record is damaged ({error}); it was set aside as {names}"
        except OSError as error:
            return None, f"the durable record cannot be read: {error}"
        owner = (self.keys.cluster, self.module.name, self.keys.name)
        if record is not None and (record.cluster, record.module, record.node) != owner:
            return None, f"the durable record belongs to {record.node}/{record.module}, not to us"
        return record, ""

    def shut_down(self) -> bool:
        """Have the module stop in good order, its role handed over; return whether it did."""
        own = Address(self.keys.name, self.module.name, "process")
        order = Command(secrets.token_hex(8), "shutdown", "SYSTEM")
        self.supervisor.tell("mirror", ev.Received(own, order))
        longest = self.module.nice_stop_ns + self.module.force_stop_ns
        return self._stopped.wait(min(longest / SECOND_NS, SHUTDOWN_SECONDS))

    def close(self) -> None:
        """End without a decision: what runs is left to the guard and to the next process."""
        self.supervisor.close()
        doors = self._doors
        doors.guard.close()
        doors.timers.close()
        doors.recorder.close()
        doors.scripts.close()
        doors.processes.close()
        doors.vip.close()
        doors.trace.close()
        self._attachment.close()
        self._log.close()


def starts_by_itself(module: Module, record: NodeRecord, boot: str) -> bool:
    """Return whether a module begins to run when its process starts."""
    if module.boot == "on":
        return True
    same_boot = record.os_boot in {"", boot}
    return record.wanted and (same_boot or module.boot == "auto")


def main(arguments: list[str] | None = None) -> int:
    """Run the process of the module that is named by the first argument."""
    if not __debug__:
        raise SystemUnsuitable("mirrorfarm does not run without its assertions (python -O)")
    name = (arguments if arguments is not None else sys.argv[1:])[0]
    paths = Paths.from_environment()
    try:
        lock = hold_lock(lock_path(paths, name))
    except BlockingIOError:
        return 0  # It runs already.
    code = telling(lock_path(paths, name), f"module {name}", lambda: _run(paths, name))
    os.close(lock)
    return code


def _run(paths: Paths, name: str) -> int:
    prefer_this_process()
    ends = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ends.set())
    process = ModuleProcess(paths, name)
    process.start()
    ends.wait()
    process.shut_down()
    process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
