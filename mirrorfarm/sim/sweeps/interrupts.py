"""Ctrl-C, or SIGTERM of a batch system: once to end in order, twice to leave at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
