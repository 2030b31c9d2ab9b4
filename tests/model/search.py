"""Walk every state of the model, the nearest first.

`python -m tests.model.search` walks it at its full bounds, and then with each rule left out.
"""

import sys
import time
from collections import deque
from typing import Final, NamedTuple

from tests.model.protocol import BROKEN, START, Bounds, State, moves, violated

# What some rule forbids takes more messages than the others; with one write it is found sooner.
OTHER_BOUNDS: Final = {"no-op keeps its version": Bounds(writes=1, messages=12)}


class Walked(NamedTuple):
    """What was found: nothing, or the shortest way to a violation."""

    states: int
    violation: str = ""
    story: tuple[str, ...] = ()


def walk(broken: str, bounds: Bounds) -> Walked:
    """Visit all states within the bounds, or stop at a violation."""
    before: dict[State, tuple[State, str] | None] = {START: None}
    frontier = deque([START])
    while frontier:
        state = frontier.popleft()
        for words, after in moves(state, broken, bounds):
            if after in before or len(after.messages) > bounds.messages:
                continue
            before[after] = (state, words)
            if text := violated(after):
                return Walked(len(before), text, _story(before, after))
            frontier.append(after)
    return Walked(len(before))


def _story(before: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    words = []
    step = before[state]
    while step is not None:
        words.append(step[1])
        step = before[step[0]]
    return tuple(reversed(words))


def main() -> int:
    """Walk everything; return 1 if a rule could be left out, or the whole protocol is unsound."""
    failed = 0
    for broken in ("", *BROKEN):
        began = time.process_time()
        walked = walk(broken, OTHER_BOUNDS.get(broken, Bounds()))
        failed += bool(walked.violation) is not bool(broken)
        spent = time.process_time() - began
        end = f"{walked.violation} after {len(walked.story)} steps" if walked.story else "complete"
        sys.stdout.write(
            f"{broken or 'all rules':28} {walked.states:8} states {spent:6.1f} s  {end}\n"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
