"""The gate: where modifications wait before they happen, and answers before they are given.

Opened and closed by the plane's orders alone. `frozen` holds both; `self` answers at once;
`both` answers when the secondary acknowledged. A held answer is never lost: it is given when
the gate allows it, or as an error when the gate is ended.
"""

import errno
import threading
from collections.abc import Callable
from typing import Final

from mirrorfarm.actors.replicator.condition import Condition
from mirrorfarm.actors.replicator.journal import Answer

OFF, FROZEN, SELF, BOTH, ENDED = "off", "frozen", "self", "both", "ended"
_CLOSED: Final = frozenset((OFF, ENDED))


class Gate:
    """Thread-safe; `is_safe` and `is_full` are asked with the gate's lock held, and must be quick.

    `held` is called once for each freeze, when the first modification or answer waits at it.
    """

    def __init__(
        self,
        is_safe: Callable[[int], bool],
        is_full: Callable[[], bool],
        held: Callable[[], None],
    ) -> None:
        self._is_safe = is_safe
        self._is_full = is_full
        self._held = held
        self._lock = threading.RLock()  # Entered itself: a Condition's own entry is slow.
        self._changed = Condition(self._lock)
        self._mode = OFF
        self._poisoned = False
        self._told = False
        self._active = 0
        self._entering = 0
        self._waiting: list[tuple[int, Answer]] = []

    @property
    def mode(self) -> str:
        """One of OFF FROZEN SELF BOTH ENDED."""
        return self._mode

    @property
    def frozen(self) -> bool:
        """Whether `enter` would wait now."""
        return self._mode == FROZEN or self._poisoned or self._is_full()

    @property
    def waiting(self) -> int:
        """How many modifications and answers wait."""
        return len(self._waiting) + self._entering

    # --- the file system's side ------------------------------------------------------------

    def enter(self) -> None:
        """Wait until a modification may begin. OSError: EROFS never led, EIO ended."""
        with self._lock:
            self._entering += 1
            try:
                self._changed.wait_for(self.try_enter)
            finally:
                self._entering -= 1

    def try_enter(self) -> bool:
        """Begin a modification if it may begin now; else as `enter` would have waited."""
        with self._lock:
            if self._mode in _CLOSED:
                error = errno.EROFS if self._mode == OFF else errno.EIO
                raise OSError(error, "the data plane does not lead here")
            frozen = self._mode == FROZEN or self._poisoned
            if not frozen and not self._is_full():
                self._active += 1
                return True
            if frozen:
                self._tell_held()
            return False

    def leave(self) -> None:
        """End what `enter` began."""
        with self._lock:
            self._active -= 1
            assert self._active >= 0
            if not self._active:
                self._changed.notify_all()

    def when_safe(self, ticket: int, answer: Answer) -> None:
        """Call `answer` once, when the gate and the acknowledgements allow it."""
        with self._lock:
            verdict = self._verdict(ticket)
            if verdict is None:
                self._waiting.append((ticket, answer))
                if self._mode == FROZEN or self._poisoned:
                    self._tell_held()
                return
        answer(verdict)

    # --- the plane's side ------------------------------------------------------------------

    def set(self, mode: str) -> None:
        """Change the mode; what it now allows is let go."""
        assert mode in {OFF, FROZEN, SELF, BOTH}
        with self._lock:
            self._mode = mode
            self._told = False
            if mode == OFF:
                self._poisoned = False
            elif mode == FROZEN and self._waiting:
                self._tell_held()
        self.look_again()

    def end(self) -> None:
        """Give every waiting and later modification an error, for good."""
        with self._lock:
            self._mode = ENDED
        self.look_again()

    def poison(self) -> None:
        """Hold everything, whatever the mode: the local disk lost data."""
        with self._lock:
            self._poisoned = True

    def look_again(self) -> None:
        """Acknowledgements came, or room was made: let go what may go."""
        ready: list[tuple[int, Answer]] = []
        with self._lock:
            if self._waiting:
                still: list[tuple[int, Answer]] = []
                for ticket, answer in self._waiting:
                    verdict = self._verdict(ticket)
                    if verdict is None:
                        still.append((ticket, answer))
                    else:
                        ready.append((verdict, answer))
                self._waiting = still
            self._changed.notify_all()
        for verdict, answer in ready:
            answer(verdict)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no modification is between `enter` and `leave`; False: not in time."""
        with self._lock:
            return self._changed.wait_for(lambda: not self._active, timeout_s)

    # --- inside ----------------------------------------------------------------------------

    def _verdict(self, ticket: int) -> int | None:
        """Errno for the application, or None: it must wait."""
        if self._mode in _CLOSED:
            return errno.EIO
        if self._mode == FROZEN or self._poisoned:
            return None
        if self._mode == SELF or not ticket or self._is_safe(ticket):
            return 0
        return None

    def _tell_held(self) -> None:
        if not self._told:
            self._told = True
            self._held()
