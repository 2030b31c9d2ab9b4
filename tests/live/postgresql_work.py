"""PostgreSQL in a mirror, and clients that insert rows all the time."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.configuration import mirror_xml

MODULE = "postgresql"
PORT = 5432
DATA = "/var/lib/postgresql/15/main"
BIN = Path("/usr/lib/postgresql/15/bin")
INITDB = (BIN / "initdb", "-D", DATA, "-A", "trust", "-U", "postgres", "--data-checksums")
QUICK = ("--no-sync", "--no-locale", "-E", "UTF8")
# Small, so that a test of seconds sees checkpoints, new segments and recycled ones.
SETTINGS = """
shared_buffers = 16MB
min_wal_size = 32MB
max_wal_size = 64MB
checkpoint_timeout = 30s
max_connections = 20
log_line_prefix = '%m [%p] '
"""
EXTRA = """\
    <user nicestoptimeout="15s" forcestoptimeout="5s" starttimeout="30s">
      <var name="PGDATA" value="{data}"/>
      <var name="PGPORT" value="{port}"/>
    </user>
    {errd}"""
BAD = re.compile(r"PANIC|invalid|could not|corrupt|checksum|missing contrecord", re.IGNORECASE)
# Said by every recovery at the end of its log, about a client that is gone, and about a disk
# that is gone: that of a node whose replica was killed.
NORMAL = re.compile(
    r"invalid (record length|magic number|resource manager|info bits|contrecord length)"
    r"|record with incorrect|unexpected pageaddr|could not (receive|send) data (from|to) client"
    r"|Transport endpoint is not connected$|Software caused connection abort$"
)
BUSY = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b"
ROW_BYTES = 300


class Lab(OneMachine):
    """A mirror with a database, made on n1 alone."""

    def __init__(self) -> None:
        super().__init__(profile="fast")

    def __enter__(self) -> "Lab":
        super().__enter__()
        try:
            self._install()
        except BaseException:
            self.close()
            raise
        return self

    def _install(self) -> None:
        self.module = MODULE
        shipped = Path(__file__).parents[2] / "modules" / MODULE / "conf/userconfig.xml"
        errd = re.search(r"<errd.*</errd>", shipped.read_text(encoding="utf-8"), re.DOTALL)
        assert errd, "the shipped configuration watches the database"
        watched = errd[0].replace("%PGDATA%", DATA)
        text = mirror_xml(
            networks=self.networks,
            vips=(self.vip,),
            directories=(DATA,),
            witness=self.witness,
            profile=self.profile,
            extra=EXTRA.format(data=DATA, port=PORT, errd=watched),
        )
        assert text.count("<heart>") == 1  # A disk that others use may take a second for a flush.
        text = text.replace("<heart>", '<heart replication_timeout="3000">')
        self.install(MODULE, text, folders=[DATA])
        for node in self.nodes:
            for folder in (DATA, str(Path(DATA).parent), str(Path(DATA).parents[1])):
                shutil.chown(self.machines[node].disk(folder), "postgres", "postgres")
        made = self.as_postgres("n1", *map(str, (*INITDB, *QUICK)))
        assert made.returncode == 0, made.stderr
        disk = self.machines["n1"].disk(DATA)
        with (disk / "postgresql.conf").open("a") as file:
            file.write(SETTINGS)
        with (disk / "pg_hba.conf").open("a") as file:
            file.write("host all all 198.18.0.0/15 trust\n")

    def as_postgres(self, node: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside a node as the database's user."""
        user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
        return self.run(node, [*user, *words])

    # --- what the nodes say ----------------------------------------------------------------

    def role(self, node: str) -> str:
        """Return state and status in words."""
        state = self.state(node)
        return f"{state.get('state')} {state.get('status')}"

    def primary(self) -> str:
        """Return the node that is PRIM or ALONE; raise when there is none."""
        return next(node for node in self.nodes if self.role(node)[:5] in {"PRIM ", "ALONE"})

    def pair(self, seconds: float) -> float:
        """Wait until one node is PRIM and the other SECOND; return how long it took."""
        return until(self.is_pair, seconds, self.story)

    def together(self) -> None:
        """Have n1 PRIM and n2 SECOND, whatever was before."""
        for node in (*self.nodes, "w"):
            self.mend(node)
            self.start_node(node)
        for node in self.nodes:
            if self.state(node).get("state") in {"STOP", None}:
                self.give(node, "start")
        self.pair(60)
        self.wait_arbiter(60)
        if self.role("n1") != "PRIM Ready":
            self.give("n1", "swap")
            self.pair(60)
        assert self.role("n1") == "PRIM Ready", self.story()

    def give(self, node: str, verb: str) -> None:
        """Give an order and wait for its end; fail with the story."""
        try:
            self.order(node, verb)
        except MirrorfarmError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def database_log(self, node: str) -> str:
        """Return what the database wrote on a node."""
        logs = self.machines[node].folder.glob("root/**/postgresql.log")
        return "".join(path.read_text(errors="replace") for path in logs)

    def complaints(self) -> list[str]:
        """Return the lines of the databases' logs that a healthy one never writes."""
        lines = [line for node in self.nodes for line in self.database_log(node).splitlines()]
        return [line for line in lines if BAD.search(line) and not NORMAL.search(line)]

    def module_log(self, node: str) -> list[str]:
        """Return the lines of the module's log."""
        path = self.paths(node).module_log(MODULE) / "log.jsonl"
        with contextlib.suppress(FileNotFoundError):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            return [f"{x['t']:.3f} {x['level']} {x['origin']} {x['text']}" for x in lines]
        return []

    def story(self) -> str:
        """Return everything that helps to understand a failure."""
        told = []
        words = ("state", "status", "phase", "reason", "would_change", "command", "resources")
        for node in self.nodes:
            state = self.state(node)
            told.append(f"{node}: { {word: state.get(word) for word in words} }")
            told += [f"   {line}" for line in self.module_log(node)[-60:]]
            log = self.database_log(node).splitlines()
            told += [f"   database: {line}" for line in log[-15:]]
            output = self.machines[node].log.read_text(errors="replace").splitlines()
            told += [f"   agent: {line}" for line in output[-15:]]
        return "\n".join(told)

    # --- processes -------------------------------------------------------------------------

    def postmaster(self, node: str) -> int:
        """Return the first process of the database, as the host numbers it; 0: none."""
        for pid in self.pids(node).get("application", []):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[0] == os.fsencode(BIN / "postgres") and b"-D" in words:
                    return pid
        return 0

    def kill(self, node: str, role: str) -> None:
        """Kill a process of a node and see that it is gone."""
        pid = self.postmaster(node) if role == "postmaster" else self.pids(node)[role][0]
        assert pid
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def until(check: Callable[[], bool], seconds: float, story: Callable[[], str] = str) -> float:
    """Wait for a condition; return how long it took, fail with the story."""
    start = time.monotonic()
    while not check():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"waited {seconds:g} s in vain\n{story()}")
        time.sleep(0.02)
    return time.monotonic() - start


class Writer:
    """One connection that inserts numbered rows; remembers what was acknowledged."""

    def __init__(self, lab: Lab, writer: int, rows: int) -> None:
        """Insert `rows` rows in each transaction, under the name of `writer`."""
        self.lab, self.writer, self.rows = lab, writer, rows
        self.number = 0
        self.acknowledged: list[int] = []
        self.errors: dict[str, int] = {}
        self.ends = threading.Event()
        self.silent = threading.Event()
        self.resting = threading.Event()
        self.link: psycopg.Connection[Any] | None = None
        self.thread = threading.Thread(target=self.run, name=f"writer-{writer}", daemon=True)

    def run(self) -> None:
        """Insert until told to end, repeating what was not acknowledged."""
        with self.lab.as_client():
            while not self.ends.is_set():
                batch = range(self.number + 1, self.number + 1 + self.rows)
                self.number = batch[-1]
                while not self.ends.is_set():
                    self.leave_silent()
                    try:
                        self.insert(batch)
                    except (psycopg.Error, OSError) as error:
                        words = f"{type(error).__name__}: {error}".splitlines()[0][:120]
                        self.errors[words] = self.errors.get(words, 0) + 1
                        self.leave()
                        time.sleep(0.02)
                    else:
                        self.acknowledged += batch
                        break
                time.sleep(0.002)
        self.leave()

    def leave_silent(self) -> None:
        """Wait, without a connection, as long as nobody may write."""
        while self.silent.is_set() and not self.ends.is_set():
            self.leave()
            self.resting.set()
            time.sleep(0.02)
        self.resting.clear()

    def insert(self, batch: range) -> None:
        """Commit one transaction; a repeated one inserts only what is not there yet."""
        if self.link is None:
            self.link = connect(self.lab.vip)
        with self.link.transaction(), self.link.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO rows VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [(self.writer, number, text_of(number)) for number in batch],
            )
            cursor.execute("UPDATE counts SET rows = rows + 1 WHERE writer = %s", (self.writer,))

    def leave(self) -> None:
        """Give the connection up."""
        if self.link is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                self.link.close()
            self.link = None


def text_of(number: int) -> str:
    """Return the text of a row: it can be checked later."""
    return (f"row {number} " * ROW_BYTES)[:ROW_BYTES]


def connect(address: str, seconds: int = 2) -> psycopg.Connection[Any]:
    """Connect, or fail soon: what was the server may be silent."""
    with socket.create_connection((address, PORT), timeout=max(0.3, seconds - 2)):
        pass
    return psycopg.connect(
        host=address,
        port=PORT,
        user="postgres",
        dbname="postgres",
        autocommit=True,
        connect_timeout=seconds,
        tcp_user_timeout=seconds * 250,
        keepalives_idle=1,
        keepalives_interval=1,
        keepalives_count=1,
    )


class Clients:
    """Three writers: one row at a time, a few, many."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.writers = [Writer(lab, number, rows) for number, rows in enumerate((1, 5, 40))]

    def prepare(self) -> None:
        """Make the tables."""
        with self.lab.as_client(), self.connect() as link:
            link.execute(
                "CREATE TABLE rows (writer int, number int, text text,"
                " PRIMARY KEY (writer, number))"
            )
            link.execute("CREATE TABLE counts (writer int PRIMARY KEY, rows bigint)")
            link.execute("INSERT INTO counts SELECT n, 0 FROM generate_series(0, 2) n")
            link.execute("CREATE EXTENSION amcheck")

    def connect(self) -> "psycopg.Connection[Any]":
        """Connect to a server that is there, and may be busy; only in `lab.as_client()`."""
        return connect(self.lab.vip, 60)

    @contextlib.contextmanager
    def writing(self) -> Iterator["Clients"]:
        """Write in the block."""
        for writer in self.writers:
            writer.thread.start()
        try:
            yield self
        finally:
            for writer in self.writers:
                writer.ends.set()
            for writer in self.writers:
                writer.thread.join(timeout=60)

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Have nobody connected in the block."""
        for writer in self.writers:
            writer.silent.set()
        try:
            until(lambda: all(w.resting.is_set() for w in self.writers), 60, self.lab.story)
            yield
        finally:
            for writer in self.writers:
                writer.silent.clear()

    def go_on(self, seconds: float, more: int = 5) -> float:
        """Wait until every writer had more transactions acknowledged; return how long."""
        wanted = [(w, len(w.acknowledged) + more * w.rows) for w in self.writers]
        return until(
            lambda: all(len(writer.acknowledged) >= rows for writer, rows in wanted),
            seconds,
            lambda: f"{[w.errors for w in self.writers]}\n{self.lab.story()}",
        )

    def check(self, *, deep: bool = False) -> int:
        """Fail if an acknowledged row is missing or altered; return how many there were."""
        known = [(w.writer, list(w.acknowledged)) for w in self.writers]
        found, counted = self.read_back(90, deep)
        for writer, numbers in known:
            lost = [number for number in numbers if (writer, number) not in found]
            assert not lost, f"lost of {writer}: {lost[:20]}\n{self.lab.story()}"
            transactions = len(numbers) // self.writers[writer].rows
            assert counted[writer] >= transactions, (writer, counted, transactions)
        wrong = [key for key, text in found.items() if text != text_of(key[1])]
        assert not wrong, wrong[:20]
        return sum(len(numbers) for _, numbers in known)

    def read_back(
        self, seconds: float, deep: bool
    ) -> tuple[dict[tuple[int, int], str], dict[int, int]]:
        """Return every row and the counts; repeat while no database can be reached."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with self.lab.as_client(), connect(self.lab.vip) as link:
                    rows = link.execute("SELECT * FROM rows").fetchall()
                    counted = dict(link.execute("SELECT writer, rows FROM counts").fetchall())
                    if deep:
                        link.execute("SELECT bt_index_check('rows_pkey', true)")
                        damage = link.execute("SELECT * FROM verify_heapam('rows')").fetchall()
                        assert not damage, damage
                    return {(row[0], row[1]): row[2] for row in rows}, counted
            except (psycopg.OperationalError, OSError) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{error}\n{self.lab.story()}") from None
                time.sleep(0.05)


__all__ = ["DATA", "MODULE", "Clients", "Lab", "MirrorfarmError", "connect", "until"]
