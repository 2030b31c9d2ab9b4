#!/usr/bin/python3
"""A ledger: records with a number and a text, kept in SQLite, reached over HTTP.

    POST /records  {"id": 7, "text": "…"}   201 once it is durable, 200 if it already was,
                                             409 if the number has another text
    GET  /records/count                      {"count": 7, "last": 7}
    GET  /records?after=0&limit=100          {"records": [{"id": 1, "text": "…"}, …]}
    GET  /health                             {"node": "n1", "pid": 4711}

Whoever gets no answer repeats the request: the same number is never kept twice. Needs nothing
but Python's standard library. `start` returns when connections are accepted, `stop` when the
process is gone.
"""

import argparse
import fcntl
import json
import os
import select
import signal
import socket
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BODY_BYTES_MAX = 65_536
RECORDS_PER_ANSWER_MAX = 1_000
CONNECTIONS_MAX = 256
IDLE_SECONDS_MAX = 30
STOP_SECONDS_MAX = 20
ID_MAX = 2**63 - 1


class Ledger:
    """The database. One connection holds it exclusively: two servers can never share it."""

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, "ledger.sqlite3")
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=5
        )
        # Exclusive before WAL: the index of the log is then in memory, not in a shared file.
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            self._database.execute(f"PRAGMA {pragma}").fetchall()
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"
        )

    def add(self, number: int, text: str) -> int:
        """Keep a record and return the status of the answer; 201 and 200 say: it is durable."""
        with self._lock:
            found = self._database.execute(
                "SELECT text FROM records WHERE id = ?", (number,)
            ).fetchone()
            if found is not None:
                return 200 if found[0] == text else 409
            self._database.execute("INSERT INTO records VALUES (?, ?)", (number, text))
            return 201

    def count(self) -> tuple[int, int]:
        """Return how many records there are, and the highest number."""
        with self._lock:
            row = self._database.execute(
                "SELECT count(*), coalesce(max(id), 0) FROM records"
            ).fetchone()
        return int(row[0]), int(row[1])

    def after(self, number: int, limit: int) -> list[dict[str, object]]:
        """Return the records above `number`, lowest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT id, text FROM records WHERE id > ? ORDER BY id LIMIT ?", (number, limit)
            ).fetchall()
        return [{"id": row[0], "text": row[1]} for row in rows]

    def close(self) -> None:
        """Wait for the write under way, then close."""
        with self._lock:
            self._database.close()


class Server(ThreadingHTTPServer):
    """One thread for each connection, up to a bound."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, ledger: Ledger, node: str) -> None:
        if ":" in address:
            self.address_family = socket.AF_INET6
        self.ledger = ledger
        self.node = node
        self._connections = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)

    def serve_until(self, end: int) -> None:
        """Accept connections until the descriptor `end` can be read."""
        awaited: list[Any] = [self.socket, end]
        while end not in select.select(awaited, [], [])[0]:
            self.handle_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, or close it if there are too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A database that fails has unknown content: end, and let the client ask again."""
        error = sys.exc_info()[1]
        if isinstance(error, sqlite3.Error):
            sys.stderr.write(f"the database fails: {error}\n")
            sys.stderr.flush()
            os._exit(1)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS_MAX
    disable_nagle_algorithm = True
    wbufsize = -1  # An answer leaves in one piece.

    def do_POST(self) -> None:
        """Keep a record."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= BODY_BYTES_MAX):
            self.close_connection = True
            self._answer(413, {"error": f"send up to {BODY_BYTES_MAX} bytes, with their length"})
            return
        body = self.rfile.read(int(length))
        if self.path != "/records":
            self._answer(404, {"error": "POST /records"})
            return
        try:
            record = json.loads(body)
            number, text = record["id"], record["text"]
            text.encode()  # No lone surrogate: SQLite could not keep it.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            number, text = None, None
        if type(number) is not int or not 0 < number <= ID_MAX or not isinstance(text, str):
            self._answer(400, {"error": 'expected {"id": a number from 1, "text": a string}'})
            return
        status = self.server.ledger.add(number, text)
        self._answer(status, {"id": number, "node": self.server.node})

    def do_GET(self) -> None:
        """Answer a question."""
        url = urlsplit(self.path)
        if url.path == "/health":
            self._answer(200, {"node": self.server.node, "pid": os.getpid()})
        elif url.path == "/records/count":
            count, last = self.server.ledger.count()
            self._answer(200, {"count": count, "last": last})
        elif url.path == "/records":
            try:
                words = parse_qs(url.query, max_num_fields=8)
                after = min(max(int(words.get("after", ["0"])[0]), 0), ID_MAX)
                limit = int(words.get("limit", [str(RECORDS_PER_ANSWER_MAX)])[0])
            except ValueError:
                self._answer(400, {"error": "after and limit are numbers"})
                return
            limit = min(max(limit, 1), RECORDS_PER_ANSWER_MAX)
            self._answer(200, {"records": self.server.ledger.after(after, limit)})
        else:
            self._answer(404, {"error": "GET /records /records/count /health"})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Stay silent: a log of every request would be the larger ledger."""


def start(options: argparse.Namespace) -> int:
    """Start the server in the background; return when it accepts connections."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            run(options, writer)
        except BaseException as error:  # Whatever it is, the parent tells it.
            os.write(writer, f"the ledger does not start: {error}\n".encode()[:4_096])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        text = answer.read(4_096).decode("utf-8", "replace")
    if text != "ready\n":
        sys.stderr.write(text or "the ledger ended while it started\n")
        return 1
    return 0


def run(options: argparse.Namespace, writer: int) -> None:
    """Serve until SIGTERM. The lock on the file of the process id says that we live."""
    os.setsid()
    lock = os.open(options.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("it runs already") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    ledger = Ledger(options.dir)
    server = Server(options.address, options.port, ledger, options.node)
    end, wake = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(wake, b"x"))
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    errors = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(errors, 2)
    os.write(writer, b"ready\n")
    os.close(writer)
    server.serve_until(end)
    server.server_close()
    ledger.close()


def stop(options: argparse.Namespace) -> int:
    """End the server, gracefully or not; return when it is gone."""
    try:
        lock = os.open(options.pid_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        process = os.pidfd_open(int(os.pread(lock, 32, 0)))
    except (ValueError, OSError):
        return 0
    try:
        # Whoever holds the lock wrote the number: it is not that of another process.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        return 0
    signal.pidfd_send_signal(process, signal.SIGKILL if options.force else signal.SIGTERM)
    if not select.select([process], [], [], STOP_SECONDS_MAX)[0]:
        sys.stderr.write(f"the ledger does not stop within {STOP_SECONDS_MAX} s\n")
        return 1
    return 0


def main() -> int:
    """Read the words of the command and do it."""
    parser = argparse.ArgumentParser(description="A ledger over HTTP.")
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start")
    starting.add_argument("--dir", required=True)
    starting.add_argument("--address", default="0.0.0.0")
    starting.add_argument("--port", type=int, default=8080)
    starting.add_argument("--node", default=os.uname().nodename)
    starting.add_argument("--log", default=os.devnull)
    stopping = commands.add_parser("stop")
    stopping.add_argument("--force", action="store_true")
    for command in (starting, stopping):
        command.add_argument("--pid-file", required=True)
    options = parser.parse_args()
    return start(options) if options.command == "start" else stop(options)


if __name__ == "__main__":
    sys.exit(main())
