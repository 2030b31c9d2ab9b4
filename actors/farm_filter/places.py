"""At which interfaces a farm's filter is, and whether it should be elsewhere by now."""

import contextlib
import socket
from collections.abc import Callable

from mirrorfarm.actors.vip.cables import number_of, without_cable
from mirrorfarm.actors.vip.routes import News
from mirrorfarm.errors import MirrorfarmError

_EVERY = 4  # Looks between two questions to which interfaces the addresses belong: a second.
_ANSWERS = 3  # Some programs set a node's own address anew; it may be at another one meanwhile.


class Places:
    """The interfaces of one filter. Only `are_left` may be called by another thread."""

    def __init__(self, find: Callable[[], tuple[str, ...]]) -> None:
        """`find` returns the interfaces to which the addresses belong, or raises."""
        self._find = find
        self._news = News()
        self._numbers: dict[str, int] = {}
        self._looks = 0
        self._answers = 0  # In a row, that they belong elsewhere.

    @property
    def names(self) -> tuple[str, ...]:
        """Return the interfaces, by the names that they had."""
        return tuple(self._numbers)

    def take(self, interfaces: tuple[str, ...]) -> None:
        """The filter is at these now; at none: it is closed."""
        self._numbers, self._answers = {name: number_of(name) for name in interfaces}, 0

    def are_gone(self) -> bool:
        """Return whether none is there: what went with them is raised at new ones."""
        return all(number_of(name) != number for name, number in self._numbers.items())

    def are_left(self) -> bool:
        """Return whether the filter has to be raised anew, at interfaces that receive.

        One was removed and made anew, or has another name; or the node's own address is at another
        one, as when a bridge or a bond was put over it.
        """
        numbers = self._numbers
        anew = tuple(name for name in numbers if number_of(name) not in (0, numbers[name]))
        if set(anew).difference(without_cable(anew)):
            return True
        if any(not number_of(name) and _exists(number) for name, number in numbers.items()):
            return True
        self._looks += 1
        return self._looks % _EVERY == 0 and bool(numbers) and self._belong_elsewhere(numbers)

    def close(self) -> None:
        """Close the socket."""
        self._news.close()

    def _belong_elsewhere(self, numbers: dict[str, int]) -> bool:
        found: tuple[str, ...] = ()
        with contextlib.suppress(OSError, MirrorfarmError):  # Nowhere: it serves where it is.
            if not self._news.heard() and not self._answers:
                return False
            found = self._find()
        if not found or set(found) == set(numbers) or without_cable(found):
            self._answers = 0
            return False
        self._answers += 1
        return self._answers >= _ANSWERS


def _exists(number: int) -> bool:
    try:
        return bool(socket.if_indextoname(number))
    except OSError:
        return False
