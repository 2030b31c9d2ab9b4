"""What the demonstrations show while they play, and how they end.

An example subclasses `Stage` with the picture that it draws, and runs all it does within `ending`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console, RenderableType
from rich.live import Live

from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.lab.cluster import OneMachine

_LOOK_SECONDS = 0.15
_ANSWER_SECONDS = 0.3  # A node that does not answer by then is shown without an answer.


class Stage:
    """The nodes' states and what happens now, as a live display or as lines."""

    def __init__(self, lab: OneMachine, *, plain: bool, lines: int) -> None:
        """`plain`: print lines, draw nothing; `lines`: how many the display keeps."""
        self.lab, self.plain = lab, plain
        self.lines: deque[str] = deque(maxlen=lines)
        self.console = Console(highlight=False)
        self.begun = time.monotonic()
        self.states: dict[str, dict[str, Any]] = {}
        self._end = threading.Event()
        self._live = None if plain else Live(console=self.console, refresh_per_second=8)
        self._thread = threading.Thread(target=self._watch, name="stage", daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        if self._live:
            self._thread.join(timeout=5)
            self._live.update(self.picture(), refresh=True)
            self._live.stop()

    def say(self, text: str) -> None:
        """Tell what happens."""
        line = f"{time.monotonic() - self.begun:6.2f} s  {text}"
        self.lines.append(line)
        if self.plain:
            click.echo(line)

    def picture(self) -> RenderableType:
        """Draw the present; called from the stage's thread, several times a second."""
        raise NotImplementedError

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            for node in self.lab.nodes:
                self.states[node] = self.lab.state(node, seconds=_ANSWER_SECONDS)
            if self._live:
                self._live.update(self.picture())


def ending(play: Callable[[], int]) -> int:
    """Play; return the exit code, and tell why it ended before its time."""
    try:
        return play()
    except MirrorfarmError as error:
        click.echo(f"mirrorfarm: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("interrupted; everything is removed", err=True)
        return 130
