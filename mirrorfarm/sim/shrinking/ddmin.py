"""Delta debugging: which of many things are needed for something to happen.

Source: A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def ddmin(items: Sequence[T], happens: Callable[[list[T]], bool]) -> list[T]:
    """Return a part of `items`, in their order, without a piece of which it happens no more.

    It is assumed to happen with all of them. A piece is a single item at the end.
    """
    kept = list(items)
    if kept and happens([]):
        return []
    pieces = 2
    while len(kept) > 1:
        size = -(-len(kept) // pieces)
        for begin in range(0, len(kept), size):
            rest = kept[:begin] + kept[begin + size :]
            if rest and happens(rest):
                kept = rest
                pieces = max(pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            pieces = min(pieces * 2, len(kept))
    return kept
