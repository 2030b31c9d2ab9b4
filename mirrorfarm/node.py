"""The agent: the bus of a node, and the processes of its modules. Nothing heavy runs here."""

import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from mirrorfarm import leftovers
from mirrorfarm.absence import NOT_RUNNING, Absence
from mirrorfarm.children import Children
from mirrorfarm.descriptors import raise_descriptor_limit
from mirrorfarm.errors import ConfigInvalid, MirrorfarmError, Refused, SystemUnsuitable
from mirrorfarm.modules import install
from mirrorfarm.modules.settings import Cluster
from mirrorfarm.order_desk import Desk
from mirrorfarm.oserrors import told
from mirrorfarm.paths import Paths
from mirrorfarm.process import (
    await_end,
    hold_lock,
    keep_streams,
    lock_holder,
    lock_path,
    prefer_this_process,
    replica_lock_path,
    require_assertions,
    say,
)
from mirrorfarm.transport.address import AGENT, MODULE_ACTOR, Address
from mirrorfarm.transport.keys import load_keys, next_incarnation
from mirrorfarm.transport.messages import (
    ANY_MESSAGE,
    AgentCommand,
    AgentResult,
    Command,
    CommandResult,
    Frame,
    StateAnswer,
    StateQuery,
)
from mirrorfarm.transport.topology import node_settings
from mirrorfarm.transport.zmq import Hub

if TYPE_CHECKING:
    from mirrorfarm.farm_check import FarmChecks

ORDERS_MAX = 16  # Of one node, at once; who asked says it again.
LOOKS = frozenset(("modules", "stats"))  # They change nothing, and wait for no order.
STATE_SECONDS = 2.0
REPEAT_SECONDS = 0.25  # What a process is asked before it has begun is lost.
START_SECONDS = 15.0  # Whoever was started, or found, so short a time ago may still be beginning.
STOPPED = "STOP"
HUNG_SECONDS = 3.0  # For each process, or whoever gave the order would have no answer in time.
CHECK_PREFIX = "farm-check-"


def _not_a_node(paths: Paths, name: str, cluster: Cluster) -> str:
    """Return why this machine cannot run an agent: it would hear nobody, and start nothing."""
    reason = f"{name}, which this machine is by its keys, is no node there"
    if name in {witness.name for witness in cluster.witnesses}:
        cure = "it is a witness: run `mirrorfarm witness` here"
    else:
        cure = f"name it there again (nodes: {', '.join(cluster.nodes)}), or join with new keys"
    return f"{paths.cluster_xml}: node: {reason}; {cure}"


class Agent:
    """One node of the cluster."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.keys = load_keys(paths)
        self.cluster = install.load_cluster(paths)
        if self.keys.name not in self.cluster.nodes:
            raise ConfigInvalid((_not_a_node(paths, self.keys.name, self.cluster),))
        paths.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.hub = Hub(node_settings(self.cluster, self.keys, next_incarnation(paths), paths))
        self.children = Children(say)
        self._desk = Desk(self._perform)
        self._checks = Desk(self._check)  # They last: no other order waits for them.
        self._looks = Desk(self._perform)
        self._under_way: dict[tuple[str, str], None] = {}  # Node and request of each order.
        self._farm_checks: FarmChecks | None = None
        self._asked = ""  # The request whose answers are waited for.
        self._states: queue.Queue[StateAnswer] = queue.Queue()
        self._unstartable: dict[str, str] = {}  # Module -> why no process was ever started.
        self.hub.register(AGENT, "agent", self._on_message)
        self.hub.register_stand_in(self._on_unattached)

    def start(self) -> None:
        """Open the bus, then start every configured module."""
        self.hub.start()
        for bind in self.hub.unbound():
            say(f"{bind.endpoint} cannot be bound yet; retrying (is the network up?)")
        self.children.start()
        for name in install.configured(self.paths):
            with suppress(MirrorfarmError, OSError):  # The other modules run all the same.
                self._start_or_tell(name)

    def _start_or_tell(self, name: str) -> None:
        """Start a module; why it cannot be started is told whoever asks for it, and raised."""
        try:
            self._start_module(name)
        except (MirrorfarmError, OSError) as error:
            why = told(error) if isinstance(error, OSError) else str(error)
            say(f"{name}: {why}")
            self._unstartable[name] = why
            raise

    def _start_module(self, name: str) -> None:
        self._unstartable.pop(name, None)
        of_replica = replica_lock_path(self.paths, name)
        of_module = lock_path(self.paths, name)
        try:
            module = install.load_module(self.paths, name)
        except (MirrorfarmError, OSError):
            # What serves by the configuration that it began with is watched, and can be stopped.
            if lock_holder(of_replica):
                self._want_replica(name)
            if lock_holder(of_module):
                self._want_module(name)
            raise
        if self.keys.name not in module.nodes:
            return
        if module.replication.directories:
            self._want_replica(name)
        self._want_module(name)

    def _want_replica(self, name: str) -> None:
        words = ("mirrorfarm.actors.replicator.process", name)
        self.children.want(f"{name}.replica", words, replica_lock_path(self.paths, name))

    def _want_module(self, name: str) -> None:
        words = ("mirrorfarm.module_process", name)
        self.children.want(name, words, lock_path(self.paths, name))

    def _stop_module(self, name: str, state: str) -> None:
        """End the processes of a module, whose state is as `_require_stopped` tells it.

        One that hangs would not end by itself, and the replicator of what is stopped holds nothing.
        """
        brief = {"timeout_seconds": HUNG_SECONDS}
        self.children.unwant(name, **({} if state else brief))
        self.children.unwant(f"{name}.replica", **(brief if state in {"", STOPPED} else {}))

    # --- instead of a module that does not run -----------------------------------------------

    def _on_unattached(self, frame: Frame) -> None:
        """Answer for a module whose process does not come to run; else the asker asks again."""
        absence = self._absence(frame.to.module)
        if absence is None or frame.to.actor != MODULE_ACTOR:
            return
        answer: ANY_MESSAGE
        match frame.message:
            case StateQuery(request):
                answer = StateAnswer(request, msgspec.json.encode(absence.state()))
            case Command(request):
                answer = CommandResult(request, "refused", absence.refusal())
            case _:
                return
        # In its own name: the numbers of the module's frames are the module's.
        self.hub.send(frame.source, "agent", answer)

    def _absence(self, module: str) -> Absence | None:
        node, mono = self.keys.name, time.monotonic_ns()
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if module in self._unstartable:
            return Absence(node, module, self._unstartable[module], now_ns, now_ns, 0)
        trouble = self.children.trouble(module)
        if trouble is None:
            return None
        since_ns = now_ns - (mono - trouble.since_ns)
        return Absence(node, module, str(trouble), now_ns, since_ns, trouble.delay_ns)

    def _troubles(self, module: str) -> str:
        """Return which processes of a module do not come to run, and why; empty: none."""
        absence = self._absence(module)
        told = [absence.reason] if absence is not None else []
        replica = self.children.trouble(f"{module}.replica")
        return "; ".join([*told, f"replicator: {replica}"] if replica is not None else told)

    # --- orders of administrators ----------------------------------------------------------

    def _on_message(self, frame: Frame, network: str) -> None:
        del network
        source, message = frame.source, frame.message
        if isinstance(message, StateAnswer):
            if message.request == self._asked and source.node == self.keys.name:
                self._states.put(message)
        elif isinstance(message, AgentCommand):
            self._take(source, message)

    def _take(self, source: Address, command: AgentCommand) -> None:
        """Have an order obeyed by a thread, unless one does so already, or too many do."""
        order = (source.node, command.request)
        of_node = sum(node == source.node for node, _ in tuple(self._under_way))
        if order in self._under_way or of_node >= ORDERS_MAX:
            return
        self._under_way[order] = None
        # Installing and stopping take seconds: the bus must not wait for them.
        thread = threading.Thread(target=self._obey, args=(source, command), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # No thread to be had.
            del self._under_way[order]
            raise

    def _obey(self, source: Address, command: AgentCommand) -> None:
        desk = self._looks if command.verb in LOOKS else self._desk
        if command.verb.startswith(CHECK_PREFIX):
            desk = self._checks
        try:
            self.hub.send(source, "agent", desk.answer(command))
        finally:
            self._under_way.pop((source.node, command.request), None)

    def _check(self, command: AgentCommand) -> AgentResult:
        from mirrorfarm.farm_check import FarmChecks  # noqa: PLC0415  # Few nodes ever need it.

        if self._farm_checks is None:
            self._farm_checks = FarmChecks(self.paths, self.keys.name)
        return self._farm_checks.perform(command)

    def _perform(self, command: AgentCommand) -> AgentResult:
        verbs: dict[str, Callable[[AgentCommand], AgentResult]] = {
            "modules": self._list,
            "install": self._install,
            "config": self._config,
            "deconfig": self._deconfig,
            "uninstall": self._uninstall,
            "stats": self._stats,
        }
        perform = verbs.get(command.verb)
        if perform is None:
            raise Refused(f"unknown order {command.verb!r}")
        return perform(command)

    def _list(self, command: AgentCommand) -> AgentResult:
        active = install.configured(self.paths)
        rows = [
            {
                "module": name,
                "id": number,
                "configured": name in active,
                "trouble": fault or self._troubles(name),
            }
            for name, number, fault in install.listed(self.paths)
        ]
        return AgentResult(command.request, "done", "", msgspec.json.encode(rows))

    def _install(self, command: AgentCommand) -> AgentResult:
        name, number, force = (*command.arguments, "", "", "")[:3]
        wanted = int(number) if number.isdigit() else None
        source: str | bytes = command.package or name
        forced = force == "force"
        renumbered = forced and install.changes_id(self.paths, name, wanted)
        state = self._require_renumberable(name) if renumbered else ""
        got = install.install(self.paths, name, source=source, module_id=wanted, force=forced)
        if renumbered:  # What runs by the old id would meet nobody, until it starts anew.
            self._stop_module(name, state)
            if name in install.configured(self.paths):
                with suppress(MirrorfarmError, OSError):  # Why is told by `state`.
                    self._start_or_tell(name)
        text = f"module {name} is installed with id {got}; next: mirrorfarm module config {name}"
        return AgentResult(command.request, "done", text)

    def _config(self, command: AgentCommand) -> AgentResult:
        (name,) = command.arguments[:1]
        notes: list[str] = []
        state = self._require_stopped(name)
        install.configure(self.paths, name, notes=notes)
        self._stop_module(name, state)
        self._start_or_tell(name)
        return AgentResult(command.request, "done", "\n".join([f"{name} is configured", *notes]))

    def _deconfig(self, command: AgentCommand) -> AgentResult:
        (name,) = command.arguments[:1]
        state = self._require_ended(name)
        self._stop_module(name, state)
        try:
            if state != STOPPED:
                leftovers.clear(self.paths, name)
            install.deconfigure(self.paths, name)
        except (MirrorfarmError, OSError):
            with suppress(MirrorfarmError, OSError):
                self._start_or_tell(name)
            raise
        self._unstartable.pop(name, None)
        leftovers.give_back(self.paths, self.keys.name, name)
        return AgentResult(command.request, "done", f"{name} is not configured any more")

    def _uninstall(self, command: AgentCommand) -> AgentResult:
        (name,) = command.arguments[:1]
        state = self._require_ended(name)
        install.uninstall(self.paths, name)  # Refused while it is configured: it runs on.
        self._stop_module(name, state)
        return AgentResult(command.request, "done", f"{name} is removed")

    def _require_renumberable(self, name: str) -> str:
        try:
            return self._require_ended(name)
        except Refused as error:
            reason = f"{name} keeps its id as long as it runs, for its ports are made from that"
            raise Refused(f"{reason}: {error}") from None

    def _require_ended(self, name: str) -> str:
        """Raise Refused unless nothing of the module goes on here; return as `_require_stopped`."""
        state = self._require_stopped(name)
        if state != STOPPED:
            why = self._troubles(name) or "it has no process"
            if not state:
                pid = self.children.pids().get(name, 0)
                why = f"its process does not answer: `kill -9 {pid}` has it started anew"
            leftovers.require_none(self.paths, self.keys.name, name, why)
        return state

    def _require_stopped(self, name: str) -> str:
        """Raise Refused if the module runs here; return STOP, NOT RUNNING, or "": it hangs."""
        if name not in self.children.pids():
            return NOT_RUNNING
        state = self._await_state(name)  # "": then its process may be replaced.
        if state not in {"", STOPPED, NOT_RUNNING}:
            raise Refused(
                f"{name} is {state} on {self.keys.name}: stop it first with "
                f"`mirrorfarm -H {self.keys.name} stop -m {name}`"
            )
        return state

    def _await_state(self, name: str) -> str:
        """Ask a module until it tells a state that lasts, or has had the time; "": none."""
        question, request = Address(self.keys.name, name, MODULE_ACTOR), secrets.token_hex(8)
        patience = max(STATE_SECONDS, START_SECONDS - self.children.age_seconds(name))
        deadline, self._asked, state = time.monotonic() + patience, request, ""
        while (now := time.monotonic()) < deadline:
            self.hub.send(question, "agent", StateQuery(request))
            repeat = min(deadline, now + REPEAT_SECONDS)
            while (left := repeat - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    answer = self._states.get(timeout=left)
                    if answer.request == request:  # Not that to an earlier question.
                        found = msgspec.json.decode(answer.json)
                        state = str(found.get("state"))
                        if (state, found.get("status")) != (STOPPED, "Transient"):
                            return state  # Else it may have just begun, and go on as before.
        return state

    def _stats(self, command: AgentCommand) -> AgentResult:
        stats = {"bus": self.hub.counters(), "processes": self.children.pids(), "pid": os.getpid()}
        return AgentResult(command.request, "done", "", msgspec.json.encode(stats))

    def close(self, *, children: bool) -> None:
        """End; with `children`, the processes of the modules as well."""
        if children:
            self.children.close()
        if self._farm_checks is not None:
            self._farm_checks.close()
        self.hub.close()


def main() -> int:
    """Run the agent until SIGTERM."""
    require_assertions()
    keep_streams()
    paths = Paths.from_environment()
    deadline = time.monotonic() + 2
    while True:
        try:
            lock = hold_lock(paths.run / "agent.lock")
            break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise SystemUnsuitable(
                    f"another agent runs on this node already (it holds {paths.run}/agent.lock)"
                ) from error
            time.sleep(0.05)
    prefer_this_process()
    raise_descriptor_limit()
    ends = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ends.set())
    agent = Agent(paths)
    agent.start()
    say(f"agent of {agent.keys.name} runs")
    await_end(ends, paths.run / "agent.lock")
    agent.close(children=True)
    os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
