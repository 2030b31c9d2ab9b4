"""One session of a leading plane: its stream, its copy, its checkpoints."""

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from mirrorfarm.actors.replicator.asking import Asker, SessionLost
from mirrorfarm.actors.replicator.carrier import Carrier
from mirrorfarm.actors.replicator.changes import ChangeMap
from mirrorfarm.actors.replicator.core import (
    PlaneProgress,
    PlaneSessionBroken,
    PlaneSessionUp,
)
from mirrorfarm.actors.replicator.disks import is_failure
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.resync import Copy
from mirrorfarm.actors.replicator.source import Source
from mirrorfarm.actors.replicator.wire import Link
from mirrorfarm.errors import FrameInvalid
from mirrorfarm.oserrors import located, told

CHECKPOINT_S: Final = 5.0  # How long a change stays marked, once the secondary has flushed it.

Inbox = Callable[[Any], None]


class Session:
    """Implements `source.SourceListener`."""

    def __init__(
        self,
        carrier: Carrier,
        link: Link,
        stream: tuple[int, int, int],
        inbox: Inbox,
        copied: Callable[[], None],
    ) -> None:
        """`copied`: the target has flushed the whole copy."""
        self.term, self.sid, _ = stream
        self._carrier = carrier
        self._inbox = inbox
        self._roots: list[int] = []
        self._exclusions: Sequence[Exclusions] = ()
        self._copied = copied
        self._changes: ChangeMap | None = None
        self._started = False
        self._began_ns = self._moved_ns = time.monotonic_ns()
        self._acked = 0
        self._timeout_ns = link.timeout_ns
        self.source = Source(link, stream, self)
        self.source.patient = True
        self._asker = Asker(self.source)
        self._thread = threading.Thread(
            target=self._run, name=f"copy {self.term}.{self.sid}", daemon=True
        )

    def start(self, plan: str, roots: list[int], exclusions: Sequence[Exclusions]) -> None:
        """Send all modifications from now on, and copy by `plan` (none map full).

        Also by the plan `none` everything marked is copied: it is nothing, or it is needed.
        Without a complete map the plan `map` is done as `full`.
        """
        self._roots, self._exclusions = roots, exclusions
        trusted = self._carrier.marks.complete
        changes = self._carrier.open(self.source)
        full = plan == "full" or changes.overflowed or (plan == "map" and not trusted)
        self._changes = None if full else changes
        self.source.start()

    # --- the stream's news -----------------------------------------------------------------

    def session_up(self) -> None:
        """The target answers: copy."""
        if not self._started:
            self._started = True
            self._inbox(PlaneSessionUp(self.term, self.sid))
            self._thread.start()

    def acknowledged(self) -> None:
        """Let go what waited."""
        if self.source.patient:
            self._spare_application()
        self._carrier.gate.look_again()

    def _spare_application(self) -> None:
        """A target that is busy with one order of the copy lives; the application can do without.

        With so much under way that modifications wait, the session ends as after silence.
        """
        now, acked = time.monotonic_ns(), self.source.acked
        if acked != self._acked or not self.source.full:
            self._acked, self._moved_ns = acked, now
        elif now - self._moved_ns > self._timeout_ns:
            limit = self._timeout_ns // 1_000_000
            self.source.give_up(f"the application waits for the copy longer than {limit} ms")

    def session_broken(self, reason: str) -> None:
        """What the stream did not carry is marked; tell."""
        self._asker.end()
        self._carrier.close(self.source)
        self._inbox(PlaneSessionBroken(self.term, self.sid, reason))

    def answered(self, question: int, record: bytes, payload: bytes) -> None:
        """An answer for the copy."""
        del payload
        self._asker.answered(question, record)

    # --- the copy --------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(SessionLost):
            try:
                self._copy()
                self._checkpoints()
            except OSError as fault:
                if is_failure(fault):
                    self._carrier.local_failed(fault.errno or errno.EIO, located(fault))
                self.source.give_up(f"the copy failed: {told(fault)}")
            except FrameInvalid as fault:
                self.source.give_up(f"the copy got a senseless answer: {fault}")
            except SessionLost:
                raise
            except Exception as fault:  # Of our own. Nobody would hear of a thread that ended.
                self.source.give_up(f"the copy failed: {fault!r}")

    def _copy(self) -> None:
        copy = Copy(self._carrier, self._asker, self._roots, self._changes, self._exclusions)
        copy.contents.tell = lambda: self._tell(copy)
        copy.run()
        self._tell(copy)
        self._changes = None
        self._carrier.end_copy()
        self.source.patient = False
        self._copied()
        self._carrier.synced(self.source)

    def _tell(self, copy: Copy) -> None:
        contents = copy.contents
        spent_ns = max(time.monotonic_ns() - self._began_ns, 1)
        rate = contents.bytes_done * 1_000_000_000 // spent_ns
        left = max(contents.bytes_total - contents.bytes_done, 0)
        self._inbox(
            PlaneProgress(
                self.term,
                self.sid,
                contents.files_done,
                contents.files_total,
                contents.bytes_done,
                contents.bytes_total,
                rate,
                left * 1_000_000_000 // rate if rate else 0,
            )
        )

    def _checkpoints(self) -> None:
        """Have the target flush now and then, so that the map stays small."""
        while True:
            self._asker.wait(CHECKPOINT_S)
            if self._carrier.begin_checkpoint():
                self._asker.flush(end=False)
                self._carrier.end_checkpoint(self.source)

    def flush(self, timeout_s: float) -> bool:
        """Have the target flush everything sent so far; return whether it did."""
        try:
            self._asker.flush(end=False, timeout_s=timeout_s)
        except (SessionLost, FrameInvalid):
            return False
        return True

    def close(self) -> None:
        """End without a word; what was not carried is marked."""
        self._carrier.close(self.source)
        self._asker.end()
        self.source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5)
