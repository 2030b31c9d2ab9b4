#!/usr/bin/python3
"""A web server that says which node of a farm answers, for nodes without nginx.

    GET /        the mosaic: a page that asks for many tiles and colours them by their node
    GET /tile    the node's name, and the connection is closed: the next may go elsewhere
    GET /hold    the node's name, on a connection that may stay open for hours
    GET /health  {"node": "n1"}

Needs nothing but Python's standard library. The command returns when connections are accepted;
SIGQUIT ends the server after the answers under way. `start_both` makes nginx answer the same.
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress

HEAD_BYTES_MAX = 8_192
CONNECTIONS_MAX = 4_096
OTHER_FILES_MAX = 32  # What else the server has open.
WAITING_MAX = 1_024  # Connections that the kernel keeps until they are accepted.
IDLE_SECONDS_MAX = 65
HOLD_SECONDS_MAX = 12 * 3_600
STOP_SECONDS_MAX = 10
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}
TEXT = "text/plain; charset=utf-8"


class Site:
    """What is answered, and the connections that wait for a request."""

    def __init__(self, node: str, page: bytes, connections_max: int) -> None:
        name = node.encode()
        self.connections_max = connections_max
        self.answers = {
            "/": ("text/html; charset=utf-8", page),
            "/tile": (TEXT, name),
            "/hold": (TEXT, name),
            "/health": ("application/json", json.dumps({"node": node}).encode()),
        }
        self.ending = False
        self.tasks: dict[asyncio.Task[None], bool] = {}  # Whether it waits for a request.

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends; close it at once if there are too many."""
        task = asyncio.current_task()
        assert task
        if len(self.tasks) < self.connections_max:
            self.tasks[task] = True
            try:
                with suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
                    await self.serve(reader, writer, task)
            finally:
                del self.tasks[task]
                writer.close()
        else:
            writer.close()

    async def serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        """Answer one request after the other."""
        idle = IDLE_SECONDS_MAX
        while not self.ending:
            self.tasks[task] = True
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), idle)
            # Before Python 3.11, which a system's own may be, this is not the other TimeoutError.
            except (asyncio.LimitOverrunError, asyncio.TimeoutError):  # noqa: UP041
                return
            self.tasks[task] = False
            status, path, close = self.read(head)
            kind, body = self.answers[path] if status == 200 else (TEXT, REASONS[status].encode())
            close = close or self.ending or path == "/tile"
            answer = self.head(status, kind, len(body), close)
            writer.write(answer if head.startswith(b"HEAD ") else answer + body)
            await writer.drain()
            if close:
                return
            idle = HOLD_SECONDS_MAX if path == "/hold" else IDLE_SECONDS_MAX

    def read(self, head: bytes) -> tuple[int, str, bool]:
        """Return the status of the answer, the path, and whether no other request follows."""
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.partition(" ")
        path = target.partition("?")[0]
        named = {name.strip().lower(): text for name, _, text in (f.partition(":") for f in fields)}
        close = version != "HTTP/1.1" or "close" in named.get("connection", "").lower()
        if not version.startswith("HTTP/1."):
            return 400, path, True
        if method not in {"GET", "HEAD"}:
            return 405, path, True  # Its body is not read.
        if named.get("content-length", "0").strip() != "0" or "transfer-encoding" in named:
            return 400, path, True
        return (200 if path in self.answers else 404), path, close

    @staticmethod
    def head(status: int, kind: str, length: int, close: bool) -> bytes:
        """Return the head of an answer."""
        lines = [
            f"HTTP/1.1 {status} {REASONS[status]}",
            f"Content-Type: {kind}",
            f"Content-Length: {length}",
            "Cache-Control: no-store",
            f"Connection: {'close' if close else 'keep-alive'}",
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def end(self) -> None:
        """Let answers under way end, cancel what waits for a request."""
        self.ending = True
        for task, waits in list(self.tasks.items()):
            if waits:
                task.cancel()
        if self.tasks:
            await asyncio.wait(list(self.tasks), timeout=STOP_SECONDS_MAX)


def allow_connections() -> int:
    """Return how many there may be, each with a file; a module's scripts begin with 1,024."""
    wanted = CONNECTIONS_MAX + OTHER_FILES_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        wanted = soft
    return wanted - OTHER_FILES_MAX


def listener(address: str, port: int) -> socket.socket:
    """Return a socket that accepts at `address`; "": at every one, of IPv4 and IPv6."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    both = not address and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else family
    made = socket.create_server(
        (address, port), family=family, backlog=WAITING_MAX, dualstack_ipv6=both
    )
    # Connections inherit it: a client that is gone without a word is found out.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


async def run(site: Site, accepting: socket.socket, ready: int) -> None:
    """Serve until SIGQUIT."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, end.set)
    server = await asyncio.start_server(site.connected, sock=accepting, limit=HEAD_BYTES_MAX)
    os.write(ready, b"ready\n")
    os.close(ready)
    await end.wait()
    server.close()
    await site.end()


def begin(options: argparse.Namespace, ready: int) -> None:
    """Become a process of its own, leader of its group, whose number is in a file."""
    os.setsid()
    with open(options.page, "rb") as file:
        site = Site(options.node, file.read(), allow_connections())
    accepting = listener(options.address, options.port)
    with open(options.pid_file, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream, target in ((0, null), (1, null), (2, errors)):
        os.dup2(target, stream)
    asyncio.run(run(site, accepting, ready))


def start(options: argparse.Namespace) -> int:
    """Start the server in the background; return when it accepts connections."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            begin(options, writer)
        except BaseException as error:  # Whatever it is, the parent tells it.
            with suppress(OSError):
                os.write(writer, f"the web server does not start: {error}\n".encode()[:4_096])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        text = answer.read(4_096).decode("utf-8", "replace")
    if text != "ready\n":
        sys.stderr.write(text or "the web server ended while it started\n")
        return 1
    return 0


def main() -> int:
    """Read the words of the command and do it."""
    parser = argparse.ArgumentParser(description="A web server that names its node.")
    starting = parser.add_subparsers(dest="command", required=True).add_parser("start")
    starting.add_argument("--port", type=int, required=True)
    starting.add_argument("--address", default="")
    starting.add_argument("--node", default=os.uname().nodename)
    starting.add_argument("--page", required=True)
    starting.add_argument("--log", default=os.devnull)
    starting.add_argument("--pid-file", required=True)
    return start(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
