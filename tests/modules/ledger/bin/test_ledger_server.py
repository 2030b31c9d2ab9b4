"""The ledger, run for real on loopback by its own scripts: nothing acknowledged is ever lost."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.transport.bus import free_port

SCRIPTS = Path(__file__).parents[4] / "modules/ledger/bin"


@dataclass
class Service:
    """One node's ledger: a directory, a port, and the scripts."""

    folder: Path
    port: int

    def script(self, name: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        environment = {
            "PATH": "/usr/bin:/bin",
            "LEDGER_DIR": str(self.folder / "data"),
            "LEDGER_ADDRESS": "127.0.0.1",
            "LEDGER_PORT": str(self.port),
            "SAFEUSERVAR": str(self.folder),
        }
        return subprocess.run(
            [SCRIPTS / name, *words], env=environment, capture_output=True, check=False, timeout=30
        )

    @property
    def pid(self) -> int:
        return int((self.folder / "ledger.pid").read_text())

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content if body is not None else None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def add(self, number: int, text: str) -> int:
        return self.ask("POST", "/records", {"id": number, "text": text})[0]

    def kill(self) -> None:
        process = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "data").mkdir()
    ledger = Service(tmp_path, free_port())
    assert ledger.script("start_prim", "WAIT", "ALONE", "start").returncode == 0
    try:
        yield ledger
    finally:
        ledger.script("stop_prim", "force", "ALONE", "STOP", "stop")


def test_record_is_created_once_and_repeated_without_harm(service: Service) -> None:
    assert service.add(1, "one") == 201
    assert service.add(1, "one") == 200
    assert service.add(1, "another") == 409
    assert service.ask("GET", "/records/count") == (200, {"count": 1, "last": 1})
    assert service.ask("GET", "/records?after=0") == (
        200,
        {"records": [{"id": 1, "text": "one"}]},
    )


def test_records_after_a_number(service: Service) -> None:
    for number in (3, 1, 2):
        assert service.add(number, str(number)) == 201
    records = service.ask("GET", "/records?after=1&limit=1")[1]["records"]
    assert records == [{"id": 2, "text": "2"}]


def test_health_names_the_node_that_serves(service: Service) -> None:
    assert service.ask("GET", "/health") == (200, {"node": os.uname().nodename, "pid": service.pid})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"id": 1}',
        b'{"id": 0, "text": ""}',
        b'{"id": true, "text": ""}',
        b'{"id": 9223372036854775808, "text": ""}',
        b'{"id": 1, "text": "\\ud800"}',
        b'{"id": "1", "text": "x"}',
        b"[" * 60_000,
    ],
)
def test_what_is_no_record_is_refused(service: Service, body: bytes) -> None:
    assert service.ask("POST", "/records", body)[0] == 400
    assert service.ask("GET", "/records/count")[1]["count"] == 0


def test_long_bodies_and_unknown_paths_are_refused(service: Service) -> None:
    assert service.ask("POST", "/records", b" " * 65_537)[0] == 413
    assert service.ask("POST", "/other", b"{}")[0] == 404
    assert service.ask("GET", "/other")[0] == 404
    assert service.ask("GET", "/records?after=x")[0] == 400


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(service: Service) -> None:
    acknowledged: list[int] = []

    def write() -> None:
        for number in range(1, 100_000):
            try:
                if service.add(number, "x" * 100) == 201:
                    acknowledged.append(number)
            except (OSError, http.client.HTTPException, ValueError):
                return

    writer = threading.Thread(target=write)
    writer.start()
    deadline = time.monotonic() + 20
    while len(acknowledged) < 100 and time.monotonic() < deadline:
        time.sleep(0.001)
    service.kill()
    writer.join(20)
    assert len(acknowledged) >= 100
    assert service.script("start_prim", "ALONE", "ALONE", "restart").returncode == 0
    kept: list[int] = []
    while records := service.ask("GET", f"/records?after={kept[-1] if kept else 0}")[1]["records"]:
        kept += [record["id"] for record in records]
    assert set(acknowledged) <= set(kept)
    assert kept == list(range(1, len(kept) + 1))
    last = acknowledged[-1]
    assert service.add(last, "x" * 100) == 200


def test_graceful_stop_and_start_keep_everything(service: Service) -> None:
    service.add(1, "one")
    assert service.script("stop_prim", "ALONE", "STOP", "stop").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        service.ask("GET", "/health")
    assert not list((service.folder / "data").glob("*-wal"))
    assert service.script("start_prim", "WAIT", "ALONE", "start").returncode == 0
    assert service.add(1, "one") == 200


def test_stop_of_a_stopped_server_is_no_failure_even_if_its_number_is_reused(
    service: Service,
) -> None:
    for words in (("stop_prim",), ("stop_prim", "force"), ("prestart",), ("poststop",)):
        assert service.script(*words).returncode == 0
    with subprocess.Popen(["/bin/sleep", "60"]) as bystander:
        (service.folder / "ledger.pid").write_text(f"{bystander.pid}\n")
        assert service.script("stop_prim", "force").returncode == 0
        assert bystander.poll() is None
        bystander.kill()


def test_stop_of_a_dead_server_needs_no_python(tmp_path: Path) -> None:
    script = tmp_path / "stop_prim"  # Without the server beside it: starting that would fail.
    script.write_bytes((SCRIPTS / "stop_prim").read_bytes())
    file = tmp_path / "ledger.pid"
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        file.write_text(f"{process.pid}\n")
        argv, environment = ["/bin/bash", str(script)], {"LEDGER_PID_FILE": str(file)}
        assert subprocess.run(argv, env=environment, check=False).returncode != 0
        process.kill()
    assert subprocess.run(argv, env=environment, check=False).returncode == 0


def test_second_server_on_the_same_directory_is_refused(service: Service) -> None:
    again = service.script("start_prim", "WAIT", "ALONE", "start")
    assert again.returncode == 1
    assert b"it runs already" in again.stderr
    other = Service(service.folder / "other", free_port())
    other.folder.mkdir()
    (other.folder / "data").symlink_to(service.folder / "data")
    refused = other.script("start_prim", "WAIT", "ALONE", "start")
    assert (refused.returncode, b"database is locked" in refused.stderr) == (1, True)


def test_start_tells_why_it_fails(service: Service) -> None:
    service.script("stop_prim", "force")
    (service.folder / "data").rename(service.folder / "elsewhere")
    failed = service.script("start_prim", "WAIT", "ALONE", "start")
    assert (failed.returncode, b"unable to open database" in failed.stderr) == (1, True)
