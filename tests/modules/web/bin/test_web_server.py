"""The web server of a farm, run for real on loopback by its own scripts, of both kinds."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrorfarm.actors.checker.matching import Matcher
from mirrorfarm.modules.catalog import template_files
from mirrorfarm.modules.settings import Cluster, Network, NodeOnNetwork, Process
from mirrorfarm.modules.userconfig import parse_userconfig
from tests.transport.bus import free_port

SCRIPTS = Path(__file__).parents[4] / "modules/web/bin"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
KINDS = [
    "python",
    pytest.param("nginx", marks=pytest.mark.skipif(not NGINX, reason="needs nginx")),
]


@dataclass
class Service:
    """One node's web server: a directory, a port, and the scripts."""

    folder: Path
    port: int
    kind: str

    def script(
        self, name: str, *words: str, files: int = 0, **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a script; `files`: how many it may open at first."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "MIRRORFARM_NODE": "n1",
            "WEB_ADDRESS": "127.0.0.1",
            "WEB_PORT": str(self.port),
            "WEB_SERVER": self.kind,
            "SAFEUSERVAR": str(self.folder),
        }
        limited = ["sh", "-c", f'ulimit -Sn {files}; exec "$@"', "sh"] if files else []
        return subprocess.run(
            [*limited, SCRIPTS / name, *words],
            env=environment | more,
            capture_output=True,
            check=False,
            timeout=30,
        )

    @property
    def pid(self) -> int:
        return int((self.folder / f"web-{self.port}.pid").read_text())

    def link(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, path: str, method: str = "GET") -> tuple[int, str, http.client.HTTPMessage]:
        link = self.link()
        try:
            link.request(method, path)
            answer = link.getresponse()
            return answer.status, answer.read().decode(), answer.msg
        finally:
            link.close()

    def processes(self) -> list[str]:
        """Return the command lines of the server's process group."""
        listed = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-g", str(self.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return listed.stdout.splitlines()


@pytest.fixture(params=KINDS)
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    web = Service(tmp_path, free_port(), request.param)
    started = web.script("start_both", "WAIT", "UP", "start")
    assert started.returncode == 0, started.stderr
    try:
        yield web
    finally:
        web.script("stop_both", "force", "UP", "STOP", "stop")


def test_tile_names_the_node_and_ends_the_connection(service: Service) -> None:
    status, text, head = service.ask("/tile")
    assert (status, text, head["Connection"]) == (200, "n1", "close")
    assert head["Cache-Control"] == "no-store"


def test_one_connection_may_ask_hold_many_times(service: Service) -> None:
    link = service.link()
    link.connect()
    sock = link.sock
    for _ in range(1_200):  # More than nginx answers on one connection by default.
        link.request("GET", "/hold")
        answer = link.getresponse()
        assert (answer.status, answer.read()) == (200, b"n1")
        assert link.sock is sock
    link.close()


@pytest.mark.parametrize("kind", KINDS)
def test_clients_beyond_the_first_limit_of_files_are_served(tmp_path: Path, kind: str) -> None:
    """As where a script begins with the 1,024 files that systems give at first."""
    web = Service(tmp_path, free_port(), kind)
    links = [web.link() for _ in range(80)]
    assert web.script("start_both", "WAIT", "UP", "start", files=64).returncode == 0
    try:
        for link in links:
            link.request("GET", "/hold")
            answer = link.getresponse()
            assert (answer.status, answer.read()) == (200, b"n1")
    finally:
        for link in links:
            link.close()
        web.script("stop_both", "force")


@pytest.mark.parametrize("python", ["/usr/bin/python3", "python3.9", "python3.10"])
def test_connections_that_wait_too_long_make_room(tmp_path: Path, python: str) -> None:
    """Of the system's own Python, which may be older than mirrorfarm's."""
    found = shutil.which(python)
    # What is found may only say which version to choose.
    if not found or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"needs {python}")
    program, pid_file, port = tmp_path / "server.py", tmp_path / "pid", free_port()
    text = (SCRIPTS / "web_server.py").read_text()
    text = text.replace("CONNECTIONS_MAX = 4_096", "CONNECTIONS_MAX = 1")
    program.write_text(text.replace("IDLE_SECONDS_MAX = 65", "IDLE_SECONDS_MAX = 0.2"))
    words = ["--port", str(port), "--address", "127.0.0.1", "--node", "n1"]
    words += ["--page", str(SCRIPTS / "mosaic.html"), "--pid-file", str(pid_file)]
    subprocess.run([found, "-IS", program, "start", *words], check=True, timeout=30)
    try:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as waiting:
                assert waiting.recv(1) == b""
        web = Service(tmp_path, port, "python")
        assert web.ask("/tile")[0] == 200
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_page_is_one_file_that_asks_for_tiles(service: Service) -> None:
    status, text, head = service.ask("/")
    assert (status, head["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert text.encode().strip() == (SCRIPTS / "mosaic.html").read_bytes().strip()
    assert "fetch('/tile'" in text
    assert not re.search(r"https?:|//[a-z]|src=|href=|@import|url\(", text)


def test_nginx_can_read_the_page_as_one_word_in_quotes() -> None:
    page = (SCRIPTS / "mosaic.html").read_text(encoding="utf-8")
    assert not set('"$\\') & set(page)
    assert len(page.encode()) < 4_000  # It reads words of up to 4096 bytes.


def test_health_names_the_node(service: Service) -> None:
    assert service.ask("/health")[:2] == (200, '{"node": "n1"}')


def test_other_paths_and_absurd_requests_are_refused(service: Service) -> None:
    assert service.ask("/tile/../etc/passwd")[0] == 404
    assert service.ask("/other")[0] == 404
    assert service.ask("/hold", "HEAD")[:2] == (200, "")
    for request in (b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"x" * 70_000, b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
            try:
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(65_536)
            except ConnectionError:
                answer = b""  # Closed while it was still being sent: refused as well.
        assert b" 200 " not in answer
    assert service.ask("/tile")[0] == 200


def test_graceful_stop_closes_connections_that_wait_and_ends_every_process(
    service: Service,
) -> None:
    link = service.link()
    link.request("GET", "/hold")
    link.getresponse().read()
    assert service.script("stop_both", "UP", "WAIT", "stop").returncode == 0
    assert link.sock.recv(1) == b""
    link.close()
    with pytest.raises(ConnectionRefusedError):
        service.ask("/tile")
    assert service.script("start_both", "WAIT", "UP", "start").returncode == 0
    assert service.ask("/tile")[1] == "n1"


def test_server_that_is_frozen_does_not_stop_until_it_is_forced(service: Service) -> None:
    os.killpg(service.pid, signal.SIGSTOP)
    lines = len(service.processes())
    assert lines >= 1
    assert service.script("stop_both", "force", "UP", "STOP", "stop").returncode == 0
    assert service.script("stop_both", "force", "UP", "STOP", "stop").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        service.ask("/tile")


def test_what_a_killed_server_leaves_is_ended_before_another_starts(service: Service) -> None:
    os.kill(service.pid, signal.SIGKILL)
    for words in (("stop_both", "UP", "UP", "restart"), ("stop_both", "force", "UP", "UP")):
        stopped = service.script(*words)
    assert stopped.returncode == 0, stopped.stderr
    assert service.script("start_both", "UP", "UP", "restart").returncode == 0
    assert service.ask("/tile")[1] == "n1"


def test_second_server_at_the_same_port_is_refused(service: Service) -> None:
    again = service.script("start_both", "WAIT", "UP", "start")
    assert (again.returncode, b"runs already" in again.stderr) == (1, True)
    other = Service(service.folder / "other", service.port, service.kind)
    other.folder.mkdir()
    refused = other.script("start_both", "WAIT", "UP", "start")
    assert (refused.returncode, b"ddress already in use" in refused.stderr) == (1, True)


def test_stop_of_a_stopped_server_harms_nobody_whose_number_is_the_same(service: Service) -> None:
    assert service.script("stop_both").returncode == 0
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as bystander:
        (service.folder / f"web-{service.port}.pid").write_text(f"{bystander.pid}\n")
        for words in (("stop_both",), ("stop_both", "force"), ("prestart",), ("poststop",)):
            assert service.script(*words).returncode == 0
        assert bystander.poll() is None
        bystander.kill()


def test_unknown_server_and_unreadable_names_are_refused(tmp_path: Path) -> None:
    web = Service(tmp_path, free_port(), "apache")
    assert b"only nginx and python" in web.script("start_both").stderr
    web.kind = "nginx"
    refused = web.script("start_both", MIRRORFARM_NODE='"; include /etc/passwd; "')
    assert (refused.returncode, b"a character that nginx" in refused.stderr) == (1, True)


def test_watcher_finds_the_server_of_this_port_and_no_other(service: Service) -> None:
    nodes = (NodeOnNetwork("n1", "198.18.0.1"), NodeOnNetwork("n2", "198.18.0.2"))
    text = template_files("web")["conf/userconfig.xml"]
    text = text.replace(b'value="8080"', f'value="{service.port}"'.encode())
    cluster = Cluster((Network("default", nodes),))
    module = parse_userconfig(text, "web", name="web", id=1, cluster=cluster, environment={})
    (entry,) = module.processes
    deadline = time.monotonic() + 10
    while True:  # A worker has the name of the first process until it gives itself another.
        lines = service.processes()
        found = [line for line in lines if fits(entry, line)]
        if len(found) == 1:
            break
        assert time.monotonic() < deadline, lines
    assert not fits(entry, found[0].replace(str(service.port), f"{service.port}1"))


def fits(entry: Process, line: str) -> bool:
    return Matcher(entry).fits("", lambda: line, str)
