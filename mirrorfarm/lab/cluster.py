"""`OneMachine`: two nodes, a witness and a client on this machine, and the power to break them.

with OneMachine(module="ledger") as lab:
    lab.begin("n1", "n2")
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 10)
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from mirrorfarm.cli.client import Client
from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable, TimedOut
from mirrorfarm.lab import network
from mirrorfarm.lab.configuration import LEDGER_EXTRA, cluster_xml, mirror_xml
from mirrorfarm.lab.machine import PRIVATE, Machine, hierarchies, remove_group
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.paths import Paths
from mirrorfarm.trace.steps import read_steps
from mirrorfarm.transport.trace import FLUSH_SECONDS

CLIENT_HOST = 200
WITNESS_HOST = 101
VIP_HOST = 50
POLL_SECONDS = 0.02
NEEDED = ("ip", "bridge", "unshare", "nsenter")
FOLDER = Path("/tmp")  # Short: a Unix socket's path has at most 107 characters.


def sweep() -> None:
    """Delete what labs left whose process was killed before it could tidy up."""
    for place in (FOLDER, network.NAMESPACES, *hierarchies()):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            found = network.PREFIX.match(path.name)
            if not found or Path("/proc", found[1]).exists():
                continue
            if place == FOLDER:
                shutil.rmtree(path, ignore_errors=True)
            elif place == network.NAMESPACES:
                with contextlib.suppress(SystemUnsuitable):
                    network.order("ip", "netns", "del", path.name)
            else:
                with contextlib.suppress(FileNotFoundError):  # Another lab sweeps as well.
                    remove_group(path)


def at_once(work: Callable[[str], object], names: Iterable[str]) -> None:
    """Do something for each name, all at the same time; raise the first error when all ended."""
    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(work, name) for name in names]:
            done.result()


class OneMachine:
    """A cluster on one machine. Use it as a context manager: leaving removes everything.

    Every node has the folders `private` to itself and MIRRORFARM_ROOT in `lab.paths(node)`.
    """

    def __init__(
        self,
        nodes: Sequence[str] = ("n1", "n2"),
        networks: Sequence[str] = ("default",),
        *,
        witness: bool = True,
        profile: str = "fast",
        module: str = "",
        private: Sequence[str] = PRIVATE,
    ) -> None:
        """Remember what to build; `module`, a shipped one, is installed and configured."""
        self.nodes = tuple(nodes)
        self.networks = tuple(networks)
        self.profile = profile
        self.module = module
        self.witness = "w" if witness else ""
        self.vip = f"198.18.0.{VIP_HOST}"
        self.machines: dict[str, Machine] = {}
        self._private = tuple(private)
        self._folder = Path()
        self._handler: Any = None
        hosts = {node: number for number, node in enumerate(self.nodes, 1)}
        hosts |= {"w": WITNESS_HOST, "c": CLIENT_HOST}
        names = (*self.nodes, *(["w"] if witness else []), "c")
        self.wiring = network.Wiring(network.unique_prefix(), names, self.networks, hosts)

    # --- life ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build(self) -> None:
        if os.geteuid() != 0:
            raise SystemUnsuitable("a lab makes namespaces and mounts: run as root")
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing:
            raise SystemUnsuitable(f"{', '.join(missing)} missing: install iproute2, util-linux")
        sweep()
        with contextlib.suppress(ValueError):  # Not the main thread: no handler, no harm.
            self._handler = signal.signal(signal.SIGTERM, self._terminated)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.wiring.prefix}-", dir=FOLDER))
        self.wiring.build()
        for name in (*self.nodes, *([self.witness] if self.witness else [])):
            daemon = "witness" if name == self.witness else "agent"
            folder = self._folder / name
            folder.mkdir()
            argv = (sys.executable, "-m", "mirrorfarm.cli.main", daemon)
            space = self.wiring.namespace(name)
            self.machines[name] = Machine(name, space, folder, argv, self._private)
        at_once(lambda name: self.machines[name].start(daemon=False), self.machines)
        self._make_cluster()
        if self.witness:
            self.machines[self.witness].signal(signal.SIGUSR2)
        if self.module:
            self.install(self.module, self.userconfig(), folders=[f"/var/lib/{self.module}"])

    @staticmethod
    def _terminated(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    def close(self) -> None:
        """Remove everything: processes, mounts, namespaces, control groups, folders."""
        errors: list[Exception] = []
        for machine in self.machines.values():
            try:
                machine.kill()
            except MirrorfarmError as error:
                errors.append(error)
        self.machines = {}
        self.wiring.remove()
        if self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = Path()
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None
        if errors:
            raise errors[0]

    def _make_cluster(self) -> None:
        first, *others = self.machines
        networks = {
            name: {node: self.wiring.address(node, name) for node in self.nodes}
            for name in self.networks
        }
        witness = self.wiring.address("w", self.networks[0]) if self.witness else ""
        file, bundles = self._folder / "cluster.xml", self._folder / "bundles"
        file.write_text(cluster_xml(networks, self.witness, witness), encoding="utf-8")
        words = ["--node", first, "--bundles", str(bundles)]
        self.mirrorfarm(first, "cluster", "init", str(file), *words)

        def join(name: str) -> None:
            self.mirrorfarm(name, "cluster", "join", str(bundles / f"{name}.join"))

        at_once(join, others)
        shutil.rmtree(bundles)

    # --- modules ---------------------------------------------------------------------------

    def userconfig(self, *, vips: Sequence[str] | None = None, service: str = "") -> str:
        """Return a userconfig.xml for the ledger with this lab's networks, VIP and witness."""
        return mirror_xml(
            networks=self.networks,
            vips=(self.vip,) if vips is None else vips,
            directories=("/var/lib/ledger",),
            witness=self.witness,
            profile=self.profile,
            service=service,
            extra=LEDGER_EXTRA,
        )

    def install(
        self, module: str, userconfig: str = "", *, source: str = "", folders: Sequence[str] = ()
    ) -> None:
        """Install and configure a module on every node; `folders` are made on each first."""

        def install(node: str) -> None:
            for folder in folders:
                self.machines[node].disk(folder).mkdir(parents=True, exist_ok=True)
            self.mirrorfarm(node, "module", "install", module, *(["--from", source] * bool(source)))
            if userconfig:
                path = self.paths(node).module_etc(module) / "conf/userconfig.xml"
                path.write_text(userconfig, encoding="utf-8")
            self.mirrorfarm(node, "module", "config", module)

        at_once(install, self.nodes)

    def begin(self, primary: str, secondary: str = "", *, seconds: float = 60.0) -> None:
        """Start the agents; make `primary` PRIM with the good data and `secondary` SECOND.

        Without `secondary` the primary ends up ALONE.
        """
        at_once(self.start_node, (primary, secondary) if secondary else (primary,))
        self.order(primary, "prim", seconds=seconds)
        self.wait_state(primary, "ALONE", seconds)
        if secondary:
            self.order(secondary, "start", seconds=seconds)
            self.wait_state(secondary, "SECOND", seconds)
            self.wait_state(primary, "PRIM", seconds)

    # --- power, cables, processes ----------------------------------------------------------

    def start_node(self, node: str, seconds: float = 60.0) -> None:
        """Switch a node (or the witness) on, wait until its agent answers. Harmless when on."""
        machine = self.machines[node]
        if not machine.on:
            self.wiring.power(node, on=True)
        machine.start()
        machine.signal(signal.SIGUSR2)
        if node == self.witness:
            return
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(MirrorfarmError), self._ask(node) as client:
                client.agent(node, "modules", seconds=1.0)
                return
            if time.monotonic() > deadline:
                tail = machine.log.read_text(errors="replace")[-1500:]
                raise TimedOut(f"the agent of {node} does not answer; its output:\n{tail}")
            time.sleep(POLL_SECONDS)

    def kill_node(self, node: str) -> None:
        """Cut the power of a node or the witness; its disk stays."""
        self.wiring.power(node, on=False)
        self.machines[node].kill()

    def stop_agent(self, node: str) -> None:
        """Tell the node's first process to end the agent and not to start it again."""
        self.machines[node].signal(signal.SIGUSR1)

    def cut(self, machine: str, on: str | None = None, *, carrier: bool = False) -> None:
        """Pull the cables of a machine, or one; with `carrier` its interfaces stay up."""
        self.wiring.plug(machine, on, up=False, carrier=carrier)

    def mend(self, machine: str, on: str | None = None, *, carrier: bool = False) -> None:
        """Push the cables back in; `carrier` as it was given to `cut`."""
        self.wiring.plug(machine, on, up=True, carrier=carrier)

    def pids(self, node: str) -> dict[str, list[int]]:
        """Return the processes of a node by role: agent module replica guard application."""
        return self.machines[node].pids()

    # --- commands --------------------------------------------------------------------------

    def run(
        self, node: str, argv: Sequence[str], seconds: float = 120.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside a node and return its outcome."""
        return self.machines[node].run(list(argv), seconds)

    def mirrorfarm(self, node: str, *words: str, seconds: float = 120.0) -> str:
        """Run a `mirrorfarm` command inside a node; return its output, raise if it fails."""
        argv = [sys.executable, "-m", "mirrorfarm.cli.main", *words]
        done = self.run(node, argv, seconds)
        if done.returncode:
            raise MirrorfarmError(f"{node}: `mirrorfarm {' '.join(words)}`: {done.stderr.strip()}")
        return done.stdout

    def client(
        self, argv: Sequence[str], seconds: float = 120.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on the client's machine and return its outcome."""
        space = f"--net=/run/netns/{self.wiring.namespace('c')}"
        words = ["nsenter", space, "--", *argv]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)

    @contextlib.contextmanager
    def as_client(self) -> Iterator[None]:
        """Let this thread use the client's network in the block."""
        with network.inside(self.wiring.namespace("c")):
            yield

    def keep_traces(self, folder: Path, seconds: float = 60.0) -> None:
        """Copy all traces to `folder`/NAME once those of the nodes that run tell of this moment."""
        # Each process writes what it recorded once a second, and one of them may write nothing
        # new: when another tells of two writings later, it has written what came before.
        begun = time.time_ns() + int(2 * FLUSH_SECONDS * SECOND_NS)
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            log = self.paths(node).log
            while self.machines[node].on:
                if any(step.real_ns > begun for step in read_steps([log])):
                    break
                if time.monotonic() > deadline:
                    raise TimedOut(f"{node} has written no trace for {seconds:g} s")
                time.sleep(POLL_SECONDS)
        for name in self.machines:
            log = self.paths(name).log
            for file in sorted(log.rglob("*.mft")):
                copy = folder / name / file.relative_to(log)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)

    # --- states ----------------------------------------------------------------------------

    def paths(self, node: str) -> Paths:
        """Return where the files of a node are, as this process sees them."""
        return Paths(self.machines[node].root)

    def _ask(self, node: str) -> Client:
        return Client(self.paths(node), who="SYSTEM/lab")

    def order(self, node: str, verb: str, module: str = "", *, seconds: float = 60.0) -> str:
        """Give an order to a module through the agent of its node; return the answer."""
        with self._ask(node) as client:
            return client.command(node, module or self.module, verb, seconds=seconds)

    def state(self, node: str, module: str = "", seconds: float = 5.0) -> dict[str, Any]:
        """Return the state of a module on a node; empty when the node does not answer."""
        with contextlib.suppress(MirrorfarmError, OSError), self._ask(node) as client:
            return client.state(node, module or self.module, seconds)
        return {}

    def wait_state(
        self,
        node: str,
        wanted: str,
        seconds: float,
        *,
        status: str = "Ready",
        module: str = "",
    ) -> dict[str, Any]:
        """Return the state once it is `wanted` and `status`; raise TimedOut with the last one."""
        deadline = time.monotonic() + seconds
        last: dict[str, Any] = {}
        while True:
            last = self.state(node, module) or last
            if last.get("state") == wanted and (not status or last.get("status") == status):
                return last
            if time.monotonic() > deadline:
                words = ("state", "status", "phase", "reason")
                now = " ".join(str(last.get(word)) for word in words) if last else "silent"
                tail = self.machines[node].log.read_text(errors="replace")[-1500:]
                told = f"{node} is {now}, not {wanted} {status}, after {seconds:g} s"
                raise TimedOut(f"{told}; output of its agent:\n{tail}")
            time.sleep(POLL_SECONDS)

    def is_pair(self, module: str = "") -> bool:
        """Return whether one node is PRIM, the other SECOND, and each has heard so of the other.

        Until it has, the primary refuses to swap.
        """
        roles = []
        for node in self.nodes:
            state = self.state(node, module)
            both = (state, state.get("peer", {}))
            roles.append([f"{of.get('state')} {of.get('status')}" for of in both])
        return sorted(roles) == [["PRIM Ready", "SECOND Ready"], ["SECOND Ready", "PRIM Ready"]]

    def wait_arbiter(self, seconds: float) -> None:
        """Return once every node hears the arbiter, without which none swaps; else TimedOut."""
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            while not self.state(node).get("arbiter", {}).get("reachable"):
                if time.monotonic() > deadline:
                    raise TimedOut(f"{node} does not hear the arbiter after {seconds:g} s")
                time.sleep(POLL_SECONDS)
