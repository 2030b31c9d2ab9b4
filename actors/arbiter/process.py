"""The process of a witness: `mirrorfarm witness` on a third machine."""

import os
import secrets
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pykka

from mirrorfarm import __version__
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.arbiter.loaded import RegisterSlots
from mirrorfarm.actors.arbiter.witness import WitnessCore
from mirrorfarm.actors.effects import ANY_EFFECT, Log, RegisterStore, Send
from mirrorfarm.actors.shell import Inbox
from mirrorfarm.actors.slots import store_failed
from mirrorfarm.actors.supervisor import Supervisor
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.descriptors import raise_descriptor_limit
from mirrorfarm.errors import ConfigInvalid, MirrorfarmError, SystemUnsuitable
from mirrorfarm.modules.cluster import parse_cluster
from mirrorfarm.modules.settings import Witness
from mirrorfarm.oserrors import reason_of
from mirrorfarm.paths import Paths
from mirrorfarm.process import (
    await_end,
    hold_lock,
    keep_streams,
    os_boot_id,
    require_assertions,
    say,
)
from mirrorfarm.transport.keys import load_keys, next_incarnation
from mirrorfarm.transport.messages import Frame
from mirrorfarm.transport.sockets import Bind, endpoint
from mirrorfarm.transport.trace import TraceWriter, loss_words
from mirrorfarm.transport.trace_ring import Origin
from mirrorfarm.transport.zmq import Hub, HubSettings

NETWORK = "witness"
WRITERS = 4  # Modules that fail over together share the flushes of the disk.


class WitnessDoors:
    """What the core of a witness can reach: its bus and its disk."""

    def __init__(self, hub: Hub, slots: RegisterSlots, trace: TraceWriter) -> None:
        self._hub = hub
        self._trace = trace
        self._slots = slots
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self.ended = threading.Event()  # The core broke.

    def now(self) -> int:
        """Return the boot clock."""
        return boot_clock_ns()

    def perform(self, actor: str, effect: ANY_EFFECT, inbox: Inbox) -> None:
        """Send, store or log."""
        match effect:
            case Send(to, message, network):
                number = self._hub.send(to, actor, message, network, module=to.module)
                self._trace.sent(actor, number)
            case RegisterStore():
                self._writers.submit(self._store, effect, inbox)
            case Log(_, text):
                say(text)
            case _:
                raise AssertionError(f"a witness cannot do {effect}")

    def record(self, actor: str, now: int, event: ev.Event, effects: list[ANY_EFFECT]) -> None:
        """Write one step to the trace."""
        self._trace.step(actor, now, event, effects)

    def failed(self, actor: str, error: BaseException) -> None:
        """End the process: the next one begins with what the disk has."""
        self._trace.broke(actor, error)
        say(f"{actor} failed: {error!r}")
        self.ended.set()

    def close(self) -> None:
        """Finish the writings under way."""
        self._writers.shutdown(wait=True)
        self._trace.close()

    def _store(self, effect: RegisterStore, inbox: Inbox) -> None:
        event: ev.Event = ev.RegisterStored(effect.counter)
        try:
            self._slots.store(effect)
        except Exception as error:  # The register would stay pending, and nobody would know.
            event = store_failed(effect.counter, error)
        try:
            inbox(event)
        except pykka.ActorDeadError:
            return  # We are ending; the node will ask again.


class WitnessProcess:
    """A witness that runs."""

    def __init__(self, paths: Paths) -> None:
        """Read settings and registers; raise MirrorfarmError if they are not usable."""
        keys = load_keys(paths)
        own = _own(paths, keys.name)
        slots = RegisterSlots(paths.witness_lib() / keys.cluster)
        try:
            registers = slots.load_all(keys.cluster)
        except OSError as error:
            raise SystemUnsuitable(
                f"{paths.witness_lib()}: {reason_of(error)}: the disk must be writable; "
                "mend it and start again"
            ) from error
        where = endpoint(own.addr, own.port)
        incarnation = next_incarnation(paths)
        self.hub = Hub(HubSettings(keys, incarnation, (Bind(NETWORK, where),)))
        origin = Origin(__version__, keys.cluster, keys.name, "witness", incarnation, os_boot_id())
        trace = TraceWriter(paths.log / "witness" / "trace", origin, on_loss=_say_loss)
        self.doors = WitnessDoors(self.hub, slots, trace)
        core = WitnessCore(keys.cluster, secrets.randbits(64))
        now = self.doors.now()
        for event in registers:
            core.handle(event, now)
        self.supervisor = Supervisor(lambda _, text: say(text))
        trace.watch("register", core, self.supervisor.start("register", core, self.doors))
        self.name, self.where, self.modules = keys.name, where, len(registers)

    def start(self) -> None:
        """Open the bus."""
        self.hub.register("", "register", self.take)
        self.hub.start()
        for bind in self.hub.unbound():
            say(f"{bind.endpoint} cannot be bound yet; retrying (is the network up?)")

    def close(self) -> None:
        """End: what is being written is finished, what waits is dropped and asked again."""
        self.hub.close()
        self.doors.close()
        self.supervisor.close()

    def take(self, frame: Frame, network: str) -> None:
        """Take a request from the hub's thread, unless too many wait already."""
        asked = ev.Received(frame.source, frame.message, network, frame.incarnation, frame.sequence)
        self.supervisor.offer("register", asked)


def _say_loss(lost: int, reason: str) -> None:
    """The trace cannot be written, or is again; nothing waits for it."""
    say(loss_words(lost, reason))


def _own(paths: Paths, name: str) -> Witness:
    """Return what cluster.xml says of this witness."""
    path = paths.cluster_xml
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(
            (f"{path}: {error.strerror}: run `mirrorfarm cluster join` first",)
        ) from error
    cluster = parse_cluster(text, str(path))
    for witness in cluster.witnesses:
        if witness.name == name:
            return witness
    raise ConfigInvalid(
        (f"{path}: witness: {name} is not a witness of this cluster; a node runs an agent",)
    )


def main() -> int:
    """Run the witness until SIGTERM; return the exit code of the process."""
    require_assertions()
    keep_streams()
    raise_descriptor_limit()  # A connection of each node by each network, and of strangers.
    paths = Paths.from_environment()
    paths.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        lock = hold_lock(paths.run / "witness.lock")
    except BlockingIOError as error:
        raise SystemUnsuitable(
            f"another witness runs on this machine already (it holds {paths.run}/witness.lock)"
        ) from error
    process = WitnessProcess(paths)
    signals: list[int] = []

    def end(number: int, _: Any) -> None:
        signals.append(number)
        process.doors.ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    process.start()
    say(f"witness {process.name} at {process.where} keeps {process.modules} registers")
    await_end(process.doors.ended, paths.run / "witness.lock")
    process.close()
    os.close(lock)
    return 0 if signals else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MirrorfarmError as failure:
        say(str(failure))
        sys.exit(failure.exit_code)
