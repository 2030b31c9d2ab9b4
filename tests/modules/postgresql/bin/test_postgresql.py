"""PostgreSQL, run for real by the scripts of its template, without systemd."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.transport.bus import free_port

SCRIPTS = Path(__file__).parents[4] / "modules/postgresql/bin"
BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("/nonexistent"))
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]


def _available() -> bool:
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return False
    return os.geteuid() == 0 and (BINARIES / "initdb").exists()


pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not _available(), reason="needs root and PostgreSQL"),
]


@dataclass
class Service:
    """One node's PostgreSQL."""

    folder: Path
    port: int

    def script(self, name: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PGDATA": str(self.folder / "data"),
            "PGPORT": str(self.port),
            "PGLISTEN": "127.0.0.1",
            "PGSOCKETS": str(self.folder / "sockets"),
            "SAFEUSERVAR": str(self.folder),
        }
        return subprocess.run(
            [SCRIPTS / name, *words], env=environment, capture_output=True, check=False, timeout=120
        )

    def sql(self, text: str) -> str:
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return subprocess.run(
            [BINARIES / "psql", *address, "-XAtc", text], capture_output=True, check=True, text=True
        ).stdout.strip()

    @property
    def pid_file(self) -> Path:
        return self.folder / "data/postmaster.pid"


@pytest.fixture(scope="module")
def empty() -> Iterator[Path]:
    """A new database, to be copied: where the user postgres may go, and no other run tidies up."""
    with tempfile.TemporaryDirectory(prefix="mfpg-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.chown(folder, "postgres", "postgres")
        initdb = [str(BINARIES / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-N"]
        subprocess.run([*AS_POSTGRES, *initdb], check=True, capture_output=True, cwd="/")
        yield folder


@pytest.fixture
def service(empty: Path) -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="mfpg-") as name:
        subprocess.run(["cp", "-a", f"{empty}/.", name], check=True)
        postgresql = Service(Path(name), free_port())
        try:
            yield postgresql
        finally:
            postgresql.script("stop_prim", "force", "ALONE", "STOP", "stop")


def test_life_of_a_primary(service: Service) -> None:
    assert service.script("prestart", "STOP", "WAIT", "start").returncode == 0
    started = service.script("start_prim", "WAIT", "ALONE", "start")
    assert started.returncode == 0, started.stderr
    service.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    assert b"runs already" in service.script("start_prim", "WAIT", "ALONE", "start").stderr
    assert service.script("stop_prim", "ALONE", "STOP", "stop").returncode == 0
    assert not service.pid_file.exists()
    assert service.script("stop_prim", "force", "ALONE", "STOP", "stop").returncode == 0


def test_starts_over_what_a_killed_server_left(service: Service) -> None:
    assert service.script("start_prim", "WAIT", "ALONE", "start").returncode == 0
    service.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    os.kill(int(service.pid_file.read_text().split()[0]), signal.SIGKILL)
    assert service.script("stop_prim", "force", "ALONE", "ALONE", "restart").returncode == 0
    assert service.pid_file.exists()
    started = service.script("start_prim", "ALONE", "ALONE", "restart")
    assert started.returncode == 0, started.stderr
    assert service.sql("SELECT count(*) FROM t") == "1"


def test_what_was_never_replicated_to_this_node_is_made_anew(service: Service) -> None:
    shutil.rmtree(service.folder / "data/pg_stat_tmp")
    started = service.script("start_prim", "WAIT", "ALONE", "start")
    assert started.returncode == 0, started.stderr
    made = (service.folder / "data/pg_stat_tmp").stat()
    assert (made.st_uid, made.st_mode & 0o777) == (pwd.getpwnam("postgres").pw_uid, 0o700)


def test_number_in_the_file_of_the_other_node_means_nothing_here(service: Service) -> None:
    with subprocess.Popen([*AS_POSTGRES, "/bin/sleep", "60"]) as bystander:
        text = f"{bystander.pid}\n{service.folder}/data\n0\n{service.port}\n\n\n\n"
        service.pid_file.write_text(text)
        shutil.chown(service.pid_file, "postgres", "postgres")
        assert service.script("prestart", "STOP", "WAIT", "start").returncode == 0
        assert bystander.poll() is None
        assert service.script("start_prim", "WAIT", "ALONE", "start").returncode == 0
        bystander.kill()


def test_large_log_is_put_aside_at_the_next_start(service: Service) -> None:
    log = service.folder / "postgresql.log"
    log.write_bytes(b"old\n")
    os.truncate(log, 16 << 20)
    started = service.script("start_prim", "WAIT", "ALONE", "start")
    assert started.returncode == 0, started.stderr
    assert (service.folder / "postgresql.log.1").stat().st_size == 16 << 20
    assert 0 < log.stat().st_size < 1 << 20
    assert log.stat().st_mode & 0o777 == 0o600


def test_empty_directory_is_no_database(service: Service) -> None:
    (service.folder / "data").rename(service.folder / "elsewhere")
    (service.folder / "data").mkdir()
    failed = service.script("start_prim", "WAIT", "ALONE", "start")
    assert failed.returncode == 1
