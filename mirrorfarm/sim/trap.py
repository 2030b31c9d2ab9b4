"""A core that looks at the machine is caught: clocks, chance, threads, files and sockets raise.

While a simulation runs, on its thread. Other threads (of a test runner, say) are let through.
"""

import builtins
import contextlib
import os
import random
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

_TIMES = ("time", "monotonic", "perf_counter", "process_time", "clock_gettime")
_NAMES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (time, (*_TIMES, *(f"{name}_ns" for name in _TIMES), "sleep")),
    (random, ("random", "randint", "randrange", "choice", "shuffle", "getrandbits", "sample")),
    (os, ("urandom",)),
    (uuid, ("uuid1", "uuid4")),
    (secrets, ("randbits", "randbelow", "token_bytes", "token_hex", "choice")),
    (threading.Thread, ("start",)),
    (socket, ("socket", "create_connection")),
    (builtins, ("open",)),
)


_open = False  # Somebody beside the simulation, such as a recorder, has its turn.


class Trapped(AssertionError):
    """Simulated code looked at the machine that simulates it."""


@contextlib.contextmanager
def trap() -> Iterator[None]:
    """Have everything that is not determined by the seed raise Trapped inside of the block."""
    thread = threading.get_ident()
    before = [(place, name, getattr(place, name)) for place, names in _NAMES for name in names]
    for place, name, honest in before:
        setattr(place, name, _raiser(thread, f"{getattr(place, '__name__', place)}.{name}", honest))
    try:
        yield
    finally:
        for place, name, honest in before:
            setattr(place, name, honest)


@contextlib.contextmanager
def untrapped() -> Iterator[None]:
    """Let everything through inside of the block: for who watches, not for what is simulated."""
    global _open  # noqa: PLW0603 - one simulation at a time on this thread.
    before, _open = _open, True
    try:
        yield
    finally:
        _open = before


def _raiser(thread: int, what: str, honest: Any) -> Callable[..., Any]:
    def raiser(*arguments: Any, **named: Any) -> Any:
        if threading.get_ident() == thread and not _open:
            raise Trapped(f"{what} was called in a simulated run")
        return honest(*arguments, **named)

    return raiser
