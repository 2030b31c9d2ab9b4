"""Procedures: steps that follow one another, each waiting for its result.

A step is a short text, so that a trace shows it: a word that the state machine knows, and more
of it. `then NAME` goes on with a function of that name.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

# What a step of the end waits for, and what ends it: it may last, and nobody else would say why.
AWAITED: Final = {
    "kill": ("processes of the application still run although killed", "the kernel ends them"),
    "vip": ("the virtual addresses are not removed yet", "the kernel lets them go"),
}


class Progress(Protocol):
    """What a state machine remembers of the procedure under way."""

    steps: deque[str]  # Still to come.
    step: str  # Under way; "": none.
    token: int  # Of its order: a result with another one is of an older step.


S = TypeVar("S", bound=Progress)


class Procedures(Generic[S]):
    """The procedures of one kind of state machine; what is remembered is in its state."""

    def __init__(
        self,
        start: Callable[[S, int, str, str], None],
        is_over: Callable[[S, int], bool],
        holds: Callable[[S, int], str] = lambda _, __: "",
    ) -> None:
        """`start` begins a step by its word and the rest; one that is over at once is cleared.

        `is_over` tells of a step that nobody reports the end of. `holds` names what must be
        waited for before the next step, as if it were a step.
        """
        self._start, self._is_over, self._holds = start, is_over, holds
        self._continuations: dict[str, Callable[[S, int], None]] = {}

    def begin(self, s: S, now: int, *steps: str) -> None:
        """Start a procedure instead of whatever runs."""
        s.steps.clear()
        s.steps.extend(steps)
        s.step, s.token = "", 0
        self.advance(s, now)

    def advance(self, s: S, now: int) -> None:
        """Take the steps that can be taken now."""
        while True:
            if s.step:
                if not self._is_over(s, now):
                    return
                s.step = ""
            if not s.steps:
                return
            s.step = self._holds(s, now)
            if s.step:
                continue
            s.step = s.steps.popleft()
            word, _, rest = s.step.partition(" ")
            if word == "then":
                s.step = ""
                self._continuations[rest](s, now)
            else:
                self._start(s, now, word, rest)

    def complete(self, s: S, now: int, step: str, token: int) -> None:
        """Note the result of the step under way, if it is this one."""
        if s.step.startswith(step) and s.token == token:
            s.step = ""
            self.advance(s, now)

    def continuation(self, function: Callable[[S, int], None]) -> Callable[[S, int], None]:
        """Make a function known as `then NAME`."""
        self._continuations[function.__name__] = function
        return function
