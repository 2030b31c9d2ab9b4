"""Answer who asks for the log of a module, on a thread of its own.

Two full files take a fifth of a second to read. Whoever takes the module's messages from the bus
must not spend it: a heartbeat may wait among them.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mirrorfarm.modulelog import read_log
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import LogAnswer, LogQuery

WAITING_MAX: Final = 8  # Then the oldest question is left out: who asked it asks again.

Send = Callable[[Address, str, LogAnswer], object]  # To whom, from which actor.


class LogDesk:
    """One question at a time; a question that is repeated while it waits is answered once."""

    def __init__(self, folder: Path, send: Send) -> None:
        self._folder = folder
        self._send = send
        self._waiting: dict[tuple[Address, str], tuple[str, LogQuery]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log desk", daemon=True)
        self._thread.start()

    def ask(self, source: Address, actor: str, query: LogQuery) -> None:
        """Have a question answered in the name of `actor`. Returns at once."""
        with self._changed:
            self._waiting[source, query.request] = (actor, query)
            while len(self._waiting) > WAITING_MAX:
                self._waiting.pop(next(iter(self._waiting)))
            self._changed.notify()

    def close(self) -> None:
        """End the thread; what waits is not answered."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                (source, request), (actor, query) = next(iter(self._waiting.items()))
                del self._waiting[source, request]
            # A file that cannot be read gives no answer: the asker says so after a while. What it
            # holds, perhaps changed by hand, must not end who answers, nor the module.
            with suppress(Exception):
                lines, last = read_log(self._folder, query.after, query.count)
                self._send(source, actor, LogAnswer(request, tuple(lines), last))
