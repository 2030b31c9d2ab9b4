"""Ctrl-C, or SIGTERM of a batch system.

While seeds are played, once is to end in order, twice to leave at once. A report ends at once.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The user wants this to end: not an error, nor what ends only a part of the work."""


@contextmanager
def until_interrupted(say: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether to stop; `say` is called at the first signal.

    The second signal raises KeyboardInterrupt in the block.
    """
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say()

    with _handled_by(ask):
        yield lambda: asked


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in the block at the first signal; those after it have nothing to end."""
    asked = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise Interrupted

    with _handled_by(end):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
