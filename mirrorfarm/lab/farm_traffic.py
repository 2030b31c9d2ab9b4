"""The client of a farm: connections that stay, a steady flow of new ones, and who answers them.

One thread asks `/hold` on each of the connections that stay and `/tile` on the new ones. Every
connection has a source port of its own, never used again, and every frame that comes back is
looked at: a connection that two nodes answer is one with frames from two MAC addresses.
"""

import contextlib
import errno
import itertools
import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from mirrorfarm.errors import TimedOut
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.farm_web import ADDRESS, PORT, until
from mirrorfarm.netfilter.packet import TCP

STREAMS = 90
NEW_PER_SECOND = 50
ASK_SECONDS = 0.1  # Between an answer and the next question of a stream.
AGAIN_SECONDS = 0.05  # After a stream was reset.
UNANSWERED_SECONDS = 3.0  # A question, or a new connection, without an answer for so long.
LATE_SECONDS = 0.5  # Whoever waits so long has sent a second SYN: the first was for nobody.
TICK_SECONDS = 0.004
# Below those that the kernel gives away by itself; the first is free again when it is its turn.
PORTS = itertools.cycle(range(2_000, 32_000))
HANG_UP_SECONDS = 0.06  # Between two streams that the client ends.
TILES_MAX = 600

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_FRAMES = 3  # ETH_P_ALL
_PACKETS = 263  # SOL_PACKET
_STATISTICS = 6  # PACKET_STATISTICS: seen and dropped, 32 bits each.
_BUFFER_FORCED = 33  # SO_RCVBUFFORCE
_SYN = 2


@dataclass
class Count:
    """What became of the connections during one event."""

    title: str
    planned: bool
    begun: float
    done: float = 0.0  # When what was to be done had been done.
    streams: int = 0  # That were alive at its beginning.
    kept: int = 0  # Of these, those that still were at its end.
    hung_up: int = 0  # Ended by the client itself.
    reset: int = 0
    unanswered: int = 0  # Streams that got no answer in time.
    made: int = 0  # New connections.
    answered: int = 0
    failed: int = 0  # Reset, refused, or not answered in time.
    twice: int = 0  # Connections, of both kinds, that two nodes answered.
    wait: float = 0.0  # The longest that a stream waited for an answer, seconds.
    new_wait: float = 0.0  # The same of a new connection.
    resets: list[float] = field(default_factory=list)  # Since its beginning, seconds.
    hole: float = 0.0  # Since then: the last opening that was not answered at its first SYN.
    why: dict[str, int] = field(default_factory=dict)  # Failures of new connections.


@dataclass
class Link:
    """One connection. `count`: the event in which it was begun."""

    number: int  # Of the stream; -1: a new connection, for one question.
    count: Count
    sock: socket.socket
    port: int
    begun: float
    node: str = ""  # That answered last.
    first: str = ""  # That answered first.
    asked: float = 0.0  # When its question was sent, or it was begun; 0: it was answered.
    next: float = 0.0
    answered: float = 0.0
    connected: bool = False
    data: bytes = b""


class Traffic:
    """Asks all the time, in a thread of its own, from the client's network."""

    def __init__(
        self,
        lab: OneMachine,
        streams: int = STREAMS,
        new_per_second: int = NEW_PER_SECOND,
        patience: float = UNANSWERED_SECONDS,
    ) -> None:
        """`patience`: seconds after which a question counts as not answered."""
        self.target = (ADDRESS, PORT)
        self.count = Count("begin", True, time.monotonic())
        self.counts = [self.count]
        self.streams: dict[int, Link | None] = dict.fromkeys(range(streams))
        self.tiles: deque[str] = deque(maxlen=TILES_MAX)  # Who answered; "": nobody.
        self.failure = ""
        self.lost_frames = 0  # That could not be looked at: must be 0.
        self._lab = lab
        self._patience = patience
        self._pause = 1 / new_per_second
        self._links: dict[int, Link] = {}  # By file descriptor.
        self._poll = select.epoll()
        self._open_at: dict[int, float] = {}  # By stream: not to try again before.
        self._macs: dict[int, bytes] = {}  # By port of ours: who answered.
        self._twice: set[int] = set()
        self._hang_up: deque[int] = deque()
        self._hang_up_at = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)

    # --- for the director ------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Begin, and wait until every stream is answered. Raises TimedOut."""
        self._thread.start()
        try:
            until(lambda: all(self.holders()), 60, f"{len(self.streams)} connections")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End, after the questions under way. Raises TimedOut if not everything was seen."""
        self._stop()
        if kind is None and self.failure:
            raise TimedOut(f"the client failed: {self.failure}")
        if kind is None and self.lost_frames:
            raise TimedOut(f"{self.lost_frames} frames were not looked at")

    def _stop(self) -> None:
        self._ending.set()
        self._thread.join(timeout=self._patience + 10)

    def begin(self, title: str, planned: bool) -> Count:
        """Count for another event from now on; the one before must have been finished."""
        now = time.monotonic()
        count = Count(title, planned, now)
        count.streams = sum(link is not None and link.answered > 0 for link in self._all())
        self.counts.append(count)
        self.count = count
        return count

    def finish(self, count: Count, settle: float) -> None:
        """Wait `settle` seconds, and until each stream has been asked and answered since.

        A stream that is not answered at all ends the wait by being given up.
        """
        count.done = time.monotonic()
        until = count.done + settle
        while time.monotonic() < until or not all(
            link is not None and link.answered > count.done for link in self._all()
        ):
            if self.failure or time.monotonic() > until + 3 * self._patience:
                break
            time.sleep(0.02)
        count.kept = sum(
            link is not None and link.begun < count.begun and link.answered > count.done
            for link in self._all()
        )

    def hang_up(self, node: str) -> int:
        """Have the client end its streams on a node, one after the other, as clients do."""
        found = [link.number for link in self._all() if link is not None and link.node == node]
        self._hang_up.extend(found)
        return len(found)

    def holders(self) -> list[str]:
        """Return which node each stream is at; "": none at the moment."""
        return [link.node if link is not None else "" for link in self._all()]

    def _all(self) -> list[Link | None]:
        return list(self.streams.values())

    # --- the client's thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            with self._lab.as_client():
                self._ask_all_the_time()
        except Exception as error:  # Shown by the main thread; it must not end silently.
            self.failure = repr(error)
        finally:
            for link in list(self._links.values()):
                link.sock.close()
            self._poll.close()

    def _ask_all_the_time(self) -> None:
        with self._watch() as frames:
            new_at = time.monotonic()
            while True:
                for number, _ in self._poll.poll(TICK_SECONDS):
                    if number == frames.fileno():
                        self._look(frames)
                    elif number in self._links:
                        self._ready(self._links[number])
                now = time.monotonic()
                if self._ending.is_set():
                    if not any(link.asked for link in self._links.values()):
                        break
                    self._give_up(now)
                    continue
                self._ask_streams(now)
                self._give_up(now)
                while new_at <= now:
                    self._open(-1, now)
                    new_at += self._pause
            self._look(frames)
            dropped = frames.getsockopt(_PACKETS, _STATISTICS, 8)[4:]
            self.lost_frames = int.from_bytes(dropped, "little")

    def _ask_streams(self, now: float) -> None:
        # Only what is between two questions: nothing is lost by it.
        if self._hang_up and now >= self._hang_up_at:
            link = self.streams[self._hang_up[0]]
            if link is None or not link.asked:
                self._hang_up.popleft()
                self._hang_up_at = now + HANG_UP_SECONDS
                if link is not None:
                    self.count.hung_up += link.begun < self.count.begun
                    self._close(link)
        for number, link in self.streams.items():
            if link is None:
                if now >= self._open_at.get(number, 0.0):
                    self._open(number, now)
            elif not link.asked and now >= link.next:
                self._ask(link, now)

    def _open(self, number: int, now: float) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = next(PORTS)
        sock.bind(("", port))
        link = Link(number, self.count, sock, port, now, asked=now)
        self._links[sock.fileno()] = link
        if number >= 0:
            self.streams[number] = link
        else:
            self.count.made += 1
        self._poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        failed = sock.connect_ex(self.target)
        if failed not in {0, errno.EINPROGRESS}:
            self._broken(link, errno.errorcode.get(failed, str(failed)))

    def _ask(self, link: Link, now: float) -> None:
        path = "/hold" if link.number >= 0 else "/tile"
        link.asked = link.asked or now
        link.data = b""
        try:
            link.sock.send(f"GET {path} HTTP/1.1\r\nHost: {self.target[0]}\r\n\r\n".encode())
        except OSError as error:
            self._broken(link, errno.errorcode.get(error.errno or 0, str(error)))

    def _ready(self, link: Link) -> None:
        if not link.connected:
            failed = link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                self._broken(link, errno.errorcode.get(failed, str(failed)))
                return
            link.connected = True
            self._poll.modify(link.sock.fileno(), select.EPOLLIN)
            self._ask(link, time.monotonic())
            return
        try:
            data = link.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(link, errno.errorcode.get(error.errno or 0, str(error)))
            return
        if not data:
            self._broken(link, "closed by the server")
            return
        link.data += data
        head, found, body = link.data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if found and length and len(body) >= int(length[1]):
            self._answer(link, body.decode("latin-1").strip())

    def _answer(self, link: Link, node: str) -> None:
        now = time.monotonic()
        waited, link.asked, link.answered, link.node = now - link.asked, 0.0, now, node
        if link.number >= 0:
            if link.first and link.first != node:
                self.failure = f"stream {link.number} went from {link.first} to {node}"
            link.first = link.first or node
            link.next = now + ASK_SECONDS
            self.count.wait = max(self.count.wait, waited)
            return
        link.count.answered += 1
        link.count.new_wait = max(link.count.new_wait, waited)
        if waited > LATE_SECONDS:
            link.count.hole = max(link.count.hole, link.begun - link.count.begun)
        self.tiles.append(node)
        self._close(link)

    def _give_up(self, now: float) -> None:
        for link in list(self._links.values()):
            if link.asked and now - link.asked > self._patience:
                self._broken(link, "no answer")

    def _broken(self, link: Link, why: str) -> None:
        self._close(link)
        if link.number < 0:
            link.count.failed += 1
            link.count.why[why] = link.count.why.get(why, 0) + 1
            self.tiles.append("")
        elif why == "no answer":
            self.count.unanswered += 1
        elif link.first:
            self.count.reset += 1
            self.count.resets.append(time.monotonic() - self.count.begun)
        else:  # A stream's new connection, refused: tried again, and counted as one.
            self.count.failed += 1
            self.count.why[why] = self.count.why.get(why, 0) + 1

    def _close(self, link: Link) -> None:
        self._links.pop(link.sock.fileno(), None)
        with contextlib.suppress(OSError):
            self._poll.unregister(link.sock.fileno())
        link.sock.close()
        if link.number >= 0:
            self.streams[link.number] = None
            self._open_at[link.number] = time.monotonic() + AGAIN_SECONDS

    # --- what is on the wire ---------------------------------------------------------------

    @contextlib.contextmanager
    def _watch(self) -> Iterator[socket.socket]:
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_FRAMES))
        with frames:
            frames.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCED, 32 << 20)
            frames.bind(("eth0", _FRAMES))
            frames.setblocking(False)
            self._poll.register(frames.fileno(), select.EPOLLIN)
            yield frames

    def _look(self, frames: socket.socket) -> None:
        """Note from which MAC each of our connections is answered: by SYN, or with data."""
        address, port = socket.inet_aton(self.target[0]), self.target[1]
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, (_, _, kind, *_) = frames.recvfrom(256)
                if kind == socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x00":
                    continue
                start = 14 + (frame[14] & 15) * 4
                if frame[23] != TCP or frame[26:30] != address:
                    continue
                if int.from_bytes(frame[start : start + 2], "big") != port:
                    continue
                length = int.from_bytes(frame[16:18], "big") + 14 - start
                if frame[start + 13] & _SYN or length > (frame[start + 12] >> 4) * 4:
                    self._note(int.from_bytes(frame[start + 2 : start + 4], "big"), frame[6:12])

    def _note(self, port: int, mac: bytes) -> None:
        if self._macs.setdefault(port, mac) != mac and port not in self._twice:
            self._twice.add(port)
            self.count.twice += 1
