"""The process `replica NAME`: the data plane of one module. It survives the module's process.

If it is killed itself, the mounts die with it (ENOTCONN) and the mirror demotes the node. The next
process leaves them there until the mirror knows that the application has ended: it would write
past what is replicated. So it ends when its core or one of its threads breaks: nothing is
acknowledged from that moment on.
"""

import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrorfarm import __version__
from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.cgroup import scope_of
from mirrorfarm.actors.replicator.core import PlaneEnd, Replicator
from mirrorfarm.actors.replicator.plane import Plane, PlaneSettings
from mirrorfarm.actors.replicator.wire import StreamKeys
from mirrorfarm.actors.shell import Inbox, Shell
from mirrorfarm.actors.supervisor import BROKEN_EXIT_CODE
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.limits import REPLICATION_PORT_FIRST
from mirrorfarm.modulelog import ModuleLog
from mirrorfarm.modules.install import load_cluster, load_module
from mirrorfarm.modules.settings import Cluster, Module
from mirrorfarm.paths import Paths
from mirrorfarm.process import await_end, replica_lock_path, run_child
from mirrorfarm.transport.attachment import Attachment, AttachmentSettings
from mirrorfarm.transport.keys import Keys, load_keys, next_incarnation
from mirrorfarm.transport.messages import Frame
from mirrorfarm.transport.trace import BROKE_SECONDS, TraceWriter, loss_words
from mirrorfarm.transport.trace_ring import Origin

ACTOR = "replicator"
_EXIT_S = 20.0  # After this a clean end is given up; the next process clears what is left.


@dataclass(slots=True)
class ReplicaDoors:
    """Everything that the core of a replica's process can reach."""

    attachment: Attachment
    trace: TraceWriter
    log: ModuleLog
    plane: Plane | None = None

    def now(self) -> int:
        """Return the boot clock."""
        return boot_clock_ns()

    def record(self, actor: str, now: int, event: ev.Event, effects: list[fx.ANY_EFFECT]) -> None:
        """Write one step to the trace."""
        self.trace.step(actor, now, event, effects)

    def failed(self, actor: str, error: BaseException) -> None:
        """The core broke: end the process, and with it the mounts."""
        try:
            self._abort()
            self.log.write("C", actor, f"the core failed: {error!r}")
            self.trace.broke(actor, error)
        finally:
            os._exit(BROKEN_EXIT_CODE)

    def thread_failed(self, hook: threading.ExceptHookArgs) -> None:
        """A thread broke: nobody would do its work any more. As if the core had broken."""
        if hook.exc_type is SystemExit:
            return
        try:
            self._abort()
            name = hook.thread.name if hook.thread is not None else "?"
            self.log.write("C", ACTOR, f"the thread {name} failed: {hook.exc_value!r}")
            self.trace.close(BROKE_SECONDS)
        finally:
            os._exit(BROKEN_EXIT_CODE)

    def _abort(self) -> None:
        """Acknowledge nothing more; who waits gets an error."""
        if self.plane is not None:
            self.plane.abort()

    def perform(self, actor: str, effect: fx.ANY_EFFECT, inbox: Inbox) -> None:
        """Give the effect to its door."""
        del inbox
        match effect:
            case fx.Send(to, message, network):
                self.trace.sent(actor, self.attachment.send(to, actor, message, network))
            case fx.Log(level, text):
                self.log.write(level, actor, text)
            case fx.PlaneOrder(verb, arguments):
                assert self.plane is not None, "the plane is made before the shell"
                self.plane.order(verb, arguments)
            case _:
                raise AssertionError(f"no door for {type(effect).__name__}")


def endpoints(cluster: Cluster, module: Module, node: str) -> tuple[str, str]:
    """Where this node's target listens, and where the peer's does."""
    flows = [heartbeat.name for heartbeat in module.heartbeats if heartbeat.flow]
    wanted = flows or [heartbeat.name for heartbeat in module.heartbeats]
    network = next((n for n in cluster.networks if n.name in wanted[:1]), cluster.networks[0])
    port = REPLICATION_PORT_FIRST + 4 * (module.id - 1)
    here = next(one for one in network.nodes if one.name == node)
    there = next(one for one in network.nodes if one.name in module.nodes and one.name != node)
    return (
        f"tcp://{_bracketed(here.laddr or here.addr)}:{port}",
        f"tcp://{_bracketed(there.addr)}:{port}",
    )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def plane_settings(paths: Paths, cluster: Cluster, module: Module, keys: Keys) -> PlaneSettings:
    """Return what the plane of a module on this node is made from."""
    listen, peer = endpoints(cluster, module, keys.name)
    name = next(node for node in module.nodes if node != keys.name)
    return PlaneSettings(
        module.replication,
        module.timing.replication_timeout_ns,
        listen,
        peer,
        StreamKeys(keys.public.encode(), keys.secret.encode(), keys.peers[name].encode()),
        paths.module_lib(module.name) / "changes",
        Path(module.replication.quarantine or paths.module_lib(module.name) / "quarantine"),
        scope_of(paths.root, keys.name, module.name),
        (module.name, *(one.dir for one in module.replication.directories)),
    )


class ReplicaProcess:
    """Everything that runs in the process."""

    def __init__(self, paths: Paths, name: str, ends: threading.Event) -> None:
        """`ends` is set when the process must end: by us, too, when the plane is taken down."""
        module, keys = load_module(paths, name), load_keys(paths)
        settings = plane_settings(paths, load_cluster(paths), module, keys)
        incarnation = next_incarnation(paths)
        self.ends = ends
        log = ModuleLog(paths.module_log(name) / "replica")
        folder = paths.module_log(name) / "replica" / "trace"
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        origin = Origin(__version__, keys.cluster, keys.name, f"{name}.replica", incarnation, boot)
        self._attachment = Attachment(
            AttachmentSettings(
                paths.bus_socket, keys.cluster, keys.name, f"{name}.replica", incarnation
            ),
            self._received,
        )
        self._doors = ReplicaDoors(
            self._attachment,
            TraceWriter(folder, origin, on_loss=self._on_loss),
            log,
        )
        threading.excepthook = self._doors.thread_failed
        self._plane = Plane(
            settings, self.tell, lambda text: log.write("E", ACTOR, text), self.ends.set
        )
        self._doors.plane = self._plane
        core = Replicator(keys.name, name, incarnation)
        self._doors.trace.watch(ACTOR, core, self.tell)
        self._shell = Shell.start(ACTOR, core, self._doors)
        self.tell(ev.Started())

    def tell(self, event: Any) -> None:
        """Give an event to the core."""
        if self._shell.is_alive():
            self._shell.tell(event)

    def _received(self, frame: Frame, network: str) -> None:
        if frame.to.actor == ACTOR:
            self.tell(
                ev.Received(frame.source, frame.message, network, frame.incarnation, frame.sequence)
            )

    def _on_loss(self, lost: int, reason: str) -> None:
        """The trace cannot be written, or is again; nothing waits for it."""
        self._doors.log.write("C" if reason else "E", ACTOR, loss_words(lost, reason))

    def close(self) -> None:
        """Take the plane down, and end."""
        self.ends.clear()
        self.tell(PlaneEnd())
        self.ends.wait(_EXIT_S)
        threading.excepthook = threading.__excepthook__  # Threads may lose what they use, now.
        self._shell.stop()
        self._plane.close()
        self._doors.trace.close()
        self._attachment.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the replica of the module that is named by the first argument."""
    name = (arguments if arguments is not None else sys.argv[1:])[0]
    paths = Paths.from_environment()
    return run_child(replica_lock_path(paths, name), f"replica {name}", lambda: _run(paths, name))


def _run(paths: Paths, name: str) -> int:
    ends = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ends.set())
    process = ReplicaProcess(paths, name, ends)
    await_end(ends, replica_lock_path(paths, name))
    process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
