"""Replicas of two nodes over loopback, each in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq

from mirrorfarm.actors.replicator.fuse import mount
from tests.transport.bus import free_port

WORK = Path(__file__).with_name("replica_work.py")
# After which a peer is taken for gone. A busy disk may take seconds for one flush: no session is
# to end for that.
TIMEOUT_NS = 5_000_000_000
PATIENCE_SECONDS = 90.0


def until(
    condition: Callable[[], Any],
    what: str | Callable[[], str] = "condition",
    seconds: float = PATIENCE_SECONDS,
) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"{text}: not within {seconds} s")
        time.sleep(0.01)
    return result


class Replica:
    """One node's replica, in a process of its own."""

    def __init__(self, root: Path, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.settings = settings
        self.root = root
        self.said: list[dict[str, Any]] = []
        self.number = 0
        self.directory.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def directory(self) -> Path:
        return self.root / "data"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORK), json.dumps(self.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.listener = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.listener.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                self.said.append(json.loads(line))

    def wish(self, role: str, answered: bool = True, **fields: Any) -> dict[str, Any]:
        self.number += 1
        number = self.number
        assert self.process.stdin is not None
        text = json.dumps({"number": number, "role": role, **fields})
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        if not answered:
            return {}
        return self.heard("PlaneIs", number=number)

    def heard(self, kind: str, **fields: Any) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            for message in list(self.said):
                if message["kind"] == kind and all(message[k] == v for k, v in fields.items()):
                    return message
            return None

        found: dict[str, Any] = until(
            find, lambda: f"{self.name}: {kind} {fields}; said {self.said[-8:]}"
        )
        return found

    def has_said(self, kind: str, **fields: Any) -> bool:
        return any(
            m["kind"] == kind and all(m[k] == v for k, v in fields.items()) for m in self.said
        )

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it stand still in the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.die()
        mount.clear_leftover(os.path.realpath(os.fsencode(self.directory)))

    def die(self) -> None:
        """Be killed, and leave a dead mount."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        self._close()

    def _close(self) -> None:
        self.listener.join(5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def end(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.process.send_signal(signal.SIGCONT)
            assert self.process.stdin is not None
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self._close()
        mount.clear_leftover(os.path.realpath(os.fsencode(self.directory)))


@contextlib.contextmanager
def replicas(folder: Path, **options: Any) -> Iterator[tuple[Replica, Replica]]:
    """Start two, and see to it that they end."""
    keys = [zmq.curve_keypair() for _ in range(2)]
    ports = [free_port(), free_port()]
    made: list[Replica] = []
    try:
        for here, there, name in ((0, 1, "one"), (1, 0, "two")):
            root = folder / name
            settings = {
                "node": name,
                "directories": [str(root / "data")],
                "timeout_ns": TIMEOUT_NS,
                "listen": f"tcp://127.0.0.1:{ports[here]}",
                "peer": f"tcp://127.0.0.1:{ports[there]}",
                "public": keys[here][0].decode(),
                "secret": keys[here][1].decode(),
                "peer_public": keys[there][0].decode(),
                "map_file": str(root / "lib/changes"),
                **options,
            }
            made.append(Replica(root, name, settings))
        yield made[0], made[1]
    finally:
        for replica in made:
            replica.end()
            for message in replica.said[-30:]:
                sys.stderr.write(f"{replica.name}: {message}\n")


def lead_alone(replica: Replica, term: int = 1, **fields: Any) -> dict[str, Any]:
    replica.wish("lead", term=term)
    return replica.wish("lead", term=term, gate="self", **fields)
