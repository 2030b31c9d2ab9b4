"""Questions to the target and their answers, for the thread that copies."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from mirrorfarm.actors.replicator import frames, questions
from mirrorfarm.actors.replicator.source import Source
from mirrorfarm.errors import FrameInvalid

_T = TypeVar("_T")
_AGAIN_S: Final = 2.0  # An answer may be lost with a connection: questions can be repeated.
_FLUSH_AGAIN_S: Final = 30.0
# Of what is under way when the copy sends more: live modifications wait behind it.
COPY_BYTES_MAX: Final = 4 * 1_048_576
COPY_FRAMES_MAX: Final = 512
_PACE_S: Final = 0.002
_encode: Final = msgspec.msgpack.Encoder().encode


class SessionLost(Exception):
    """The session ended while its copy ran."""


class Asker:
    """Sends questions of one session and waits for the answers; one thread asks."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._number = 0
        self._answer: tuple[int, bytes] | None = None
        self._changed = threading.Condition()
        self._one = threading.Lock()  # One question at a time.
        self._ended = False

    def list_directory(
        self, directory: int, node: int
    ) -> tuple[questions.Entry, dict[bytes, questions.Entry]]:
        """The target's directory: itself, and its entries by name."""
        entries: dict[bytes, questions.Entry] = {}
        after = b""
        while True:
            asked = after
            answer = self.ask(
                lambda number: questions.List(number, directory, node, asked),  # noqa: B023
                questions.Listing,
            )
            entries.update((entry.name, entry) for entry in answer.entries)
            if not answer.more or not answer.entries:
                return answer.this, entries
            after = answer.entries[-1].name

    def digests(self, directory: int, items: list[questions.HashItem]) -> list[list[bytes]]:
        """The target's digests of some zones; it may answer for the first ones only."""
        found: list[list[bytes]] = [[] for _ in items]
        place = 0
        while place < len(items):
            item, done = items[place], len(found[place])
            first = questions.HashItem(item.node, item.first + done, item.count - done)
            asked = [first, *items[place + 1 :]]
            answer = self.ask(
                lambda number: questions.Hashes(number, directory, asked),  # noqa: B023
                questions.Digests,
            )
            if not any(answer.items) or len(answer.items) > len(asked):
                raise FrameInvalid("digests of other files")
            for item, digests in zip(asked, answer.items, strict=False):
                found[place] += digests
                if len(digests) != item.count:
                    break
                place += 1
        return found

    def attributes(self, directory: int, node: int) -> list[bytes]:
        """Names of the extended attributes that an inode has at the target."""
        return self.ask(
            lambda number: questions.Attributes(number, directory, node), questions.Names
        ).names

    def flush(self, *, end: bool, timeout_s: float | None = None) -> None:
        """Wait until everything sent before is durable; `end`: and the copy is over."""
        kind = questions.End if end else questions.Flush
        self._ask(kind, _FLUSH_AGAIN_S, timeout_s)

    def ask(self, make: Callable[[int], questions.ANY_QUESTION], kind: type[_T]) -> _T:
        """Ask, wait, and return the answer as a `kind`."""
        record = self._ask(make, _AGAIN_S)
        try:
            return msgspec.msgpack.decode(record, type=kind)
        except msgspec.DecodeError as fault:
            raise FrameInvalid(f"answer: {fault}") from None

    def _ask(
        self,
        make: Callable[[int], questions.ANY_QUESTION],
        again_s: float,
        timeout_s: float | None = None,
    ) -> bytes:
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        # Another question may be one that is never answered.
        if not self._one.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise SessionLost
        try:
            return self._ask_alone(make, again_s, ends)
        finally:
            self._one.release()

    def _ask_alone(
        self,
        make: Callable[[int], questions.ANY_QUESTION],
        again_s: float,
        ends: float | None,
    ) -> bytes:
        self._number += 1
        number = self._number
        record = _encode(make(number))
        while True:
            if not self.source.send(frames.COPY, record) or (ends and time.monotonic() > ends):
                raise SessionLost
            deadline = time.monotonic() + again_s
            if ends is not None:
                deadline = min(deadline, ends)
            with self._changed:
                while self._answer is None or self._answer[0] != number:
                    if self._ended:
                        raise SessionLost
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                else:
                    return self._answer[1]

    def room(self) -> None:
        """Wait until the copy may send more."""
        if not self.source.wait_room(COPY_BYTES_MAX):
            raise SessionLost
        behind = self.source.last - COPY_FRAMES_MAX
        while self.source.acked < behind:
            self.wait(_PACE_S)

    def look(self) -> None:
        """Go on only in a session that has not ended."""
        if self._ended:
            raise SessionLost

    def wait(self, seconds: float) -> None:
        """Sleep, unless the session ends."""
        with self._changed:
            if self._changed.wait_for(lambda: self._ended, seconds):
                raise SessionLost

    def answered(self, number: int, record: bytes) -> None:
        """An answer came; by the stream's thread."""
        with self._changed:
            if number == self._number:
                self._answer = (number, record)
                self._changed.notify_all()

    def end(self) -> None:
        """The session is over: whoever waits gets SessionLost."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
