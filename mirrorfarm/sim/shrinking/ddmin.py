"""Delta debugging: which of many things are needed for something to happen.

Source: A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002. As
there, complements are tried; but after one that is kept the next piece is, not again the first,
and the last piece comes first: of events, it changes least of what happens.
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
    size = -(-len(kept) // 2)
    while len(kept) > 1:
        before = end = len(kept)
        while end > 0:
            begin = max(end - size, 0)
            rest = kept[:begin] + kept[end:]
            if rest and happens(rest):
                kept = rest
            end = begin
        if size > 1:
            size = -(-min(size, len(kept)) // 2)
        elif len(kept) == before:
            break
    return kept
