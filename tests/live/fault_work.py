"""A cluster with a client that writes all the time, for tests that break things."""

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.lab.cluster import OneMachine
from tests.live.fault_disk import order

PORT = 8080
MODULE = "ledger"
OTHER = {"n1": "n2", "n2": "n1"}
# A disk that others use may take a second for one flush: nobody is to be left behind for that.
REPLICATION_MS = 3_000
DISK = Path(__file__).with_name("fault_disk.py")


class Lab(OneMachine):
    """A ledger whose scripts have little time."""

    def userconfig(self, *, vips: Any = None, service: str = "") -> str:
        text = super().userconfig(vips=vips, service=service)
        old = 'nicestoptimeout="30s" forcestoptimeout="10s"'
        assert old in text
        text = text.replace(
            old, 'nicestoptimeout="3s" forcestoptimeout="3s" starttimeout="3s" logging="userlog"'
        )
        assert text.count("<heart>") == 1
        return text.replace("<heart>", f'<heart replication_timeout="{REPLICATION_MS}">')

    # --- what the nodes say ----------------------------------------------------------------

    def role(self, node: str) -> str:
        state = self.state(node)
        return f"{state.get('state')} {state.get('status')}"

    def reason(self, node: str) -> str:
        return str(self.state(node).get("reason", ""))

    def why(self) -> str:
        return " ".join(self.mirrorfarm(self.alive(), "why", "-m", MODULE).split())

    def alive(self) -> str:
        return next(node for node in self.nodes if self.machines[node].init)

    def facts(self, node: str) -> str:
        return "; ".join(fact["text"] for fact in self.state(node).get("facts", []))

    def log_lines(self, node: str) -> str:
        """Return the texts of the module's log."""
        path = self.paths(node).module_log(MODULE) / "log.jsonl"
        with suppress(FileNotFoundError):
            whole, _, _ = path.read_text().rpartition("\n")  # The last line may be half written.
            return "\n".join(json.loads(line)["text"] for line in whole.splitlines() if line)
        return ""

    def await_words(self, node: str, words: str, seconds: float) -> str:
        """Return the reason of a node once it has the words."""
        until(lambda: words in self.reason(node), seconds, lambda: self.story(node, words))
        return self.reason(node)

    def story(self, node: str, wanted: str = "") -> str:
        """Return everything that helps to understand a failure."""
        told = [f"wanted of {node}: {wanted}"]
        for name in self.nodes:
            state = self.state(name)
            shown = {
                key: state.get(key)
                for key in ("state", "status", "phase", "reason", "would_change", "command")
            }
            told.append(f"{name}: {shown} session {state.get('session')} gate {state.get('gate')}")
            told.append(f"{name}: arbiter {state.get('arbiter')} record {state.get('record')}")
            told.append("   " + "\n   ".join(self.log_lines(name).splitlines()[-25:]))
        return "\n".join(told)

    def cut_power(self, *nodes: str) -> None:
        """Cut the power of several nodes in one moment: none sees that another is gone."""
        for node in nodes:
            os.kill(self.machines[node].init, signal.SIGKILL)
        for node in nodes:
            self.kill_node(node)

    # --- the cluster as every test finds it ------------------------------------------------

    def together(self) -> None:
        """Have n1 PRIM and n2 SECOND, whatever was before."""
        for node in (*self.nodes, "w"):
            self.mend(node)
            self.start_node(node)
        for node in self.nodes:
            if self.state(node).get("state") in {"STOP", None}:
                self.order(node, "start")
        self.pair(60)
        self.wait_arbiter(60)
        if self.role("n1") != "PRIM Ready":
            self.order("n1", "swap")
        self.wait_state("n2", "SECOND", 60)
        self.wait_state("n1", "PRIM", 60)

    def pair(self, seconds: float) -> None:
        """Wait until one node is PRIM and the other SECOND."""
        until(self.is_pair, seconds, lambda: self.story("both", "a pair"))

    def swap(self, node: str) -> None:
        """Have the primary `node` give its role to the other one, which must be ready for it."""
        self.pair(60)
        self.order(node, "swap")
        self.wait_state(OTHER[node], "PRIM", 60)

    def both(self, orders: dict[str, str], seconds: float = 120.0) -> dict[str, str]:
        """Give an order to each node at the same time; return the answers."""
        answers: dict[str, str] = {}

        def give(node: str) -> None:
            try:
                answers[node] = self.order(node, orders[node], seconds=seconds)
            except MirrorfarmError as error:
                answers[node] = f"{type(error).__name__}: {error}"

        threads = [threading.Thread(target=give, args=(node,)) for node in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers


def until(check: Callable[[], bool], seconds: float, story: Callable[[], str] = str) -> float:
    """Wait for a condition; return how long it took, fail with the story."""
    start = time.monotonic()
    while not check():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"waited {seconds:g} s in vain\n{story()}")
        time.sleep(0.02)
    return time.monotonic() - start


class Client:
    """Writes numbered records, repeating each until it is acknowledged; remembers all."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.number = 0
        self.acknowledged: list[int] = []
        self.refused: list[str] = []

    @contextmanager
    def writing(self) -> Iterator["Client"]:
        """Write in the block."""
        ends = threading.Event()
        thread = threading.Thread(target=self._run, args=(ends,), name="client", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ends.set()
            thread.join(timeout=10)

    def _run(self, ends: threading.Event) -> None:
        with self.lab.as_client():
            while not ends.is_set():
                self.number += 1
                number = self.number
                while not ends.is_set() and self.post(number) not in {200, 201}:
                    time.sleep(0.01)
                time.sleep(0.01)

    def post(self, number: int, text: str = "", seconds: float = 0.5) -> int:
        """Post a record; return the status of the answer, 0 for none."""
        link = http.client.HTTPConnection(self.lab.vip, PORT, timeout=seconds)
        try:
            body = json.dumps({"id": number, "text": text or f"record {number}"})
            link.request("POST", "/records", body)
            answer = link.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            link.close()
        if answer.status in {200, 201}:
            self.acknowledged.append(number)
        return answer.status

    def go_on(self, seconds: float, more: int = 10) -> float:
        """Wait until more records are acknowledged; return how long that took."""
        wanted = len(self.acknowledged) + more
        return until(
            lambda: len(self.acknowledged) >= wanted,
            seconds,
            lambda: self.lab.story("client", f"{more} more records"),
        )

    def check(self) -> None:
        """Fail if a record that was acknowledged is not there any more, or altered."""
        kept: dict[int, str] = {}
        with self.lab.as_client():
            while records := self.read(max(kept, default=0)):
                kept |= {record["id"]: record["text"] for record in records}
        lost = [number for number in self.acknowledged if number not in kept]
        assert not lost, f"lost: {lost[:20]} of {len(self.acknowledged)}"

    def read(self, after: int, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Return the records with higher numbers; ask again while nobody answers."""
        deadline = time.monotonic() + seconds
        while True:
            link = http.client.HTTPConnection(self.lab.vip, PORT, timeout=10)
            try:
                link.request("GET", f"/records?after={after}&limit=1000")
                records: list[dict[str, Any]] = json.loads(link.getresponse().read())["records"]
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{error!r}\n{self.lab.story('client')}") from None
                time.sleep(0.05)
            else:
                return records
            finally:
                link.close()


def rss_kilobytes(pid: int) -> int:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def move_data(lab: Lab, node: str) -> None:
    """Tell a node, as an administrator does, that its data are on another disk from now on."""
    (lab.paths(node).module_lib(MODULE) / "disks").unlink(missing_ok=True)


def lose_disk(lab: Lab, node: str) -> None:
    """Cut the power of a node whose disk goes with it; its data are elsewhere from now on."""
    lab.kill_node(node)
    move_data(lab, node)


@contextmanager
def faulty(lab: Lab, node: str, folder: str) -> Iterator[Path]:
    """Put a disk that can fail under a folder of a node; give its control file."""
    control = lab.machines[node].folder / "faults"
    order(control, "")
    lab.order(node, "stop")
    script = 'setsid "$@" >/run/faulty 2>&1 </dev/null & for i in $(seq 1000); do ' + (
        "grep -q mounted /run/faulty && exit 0; sleep 0.05; done; cat /run/faulty; exit 1"
    )
    argv = [sys.executable, str(DISK), folder, str(control)]
    done = lab.run(node, ["sh", "-c", script, "sh", *argv])
    assert not done.returncode, done.stdout
    move_data(lab, node)
    try:
        lab.order(node, "start")
        lab.pair(60)
        if lab.role("n1") != "PRIM Ready":
            lab.order("n1", "swap")
            lab.pair(60)
        yield control
    finally:
        order(control, "")
        lose_disk(lab, node)
