"""What the file system tells of every modification, and what it asks before and after.

The file system owns order and locality: it applies a modification to the local disk first,
then hands it over, both under one lock, so that the stream has the order of the disk and a
modification that failed here (ENOSPC) was never sent. It answers the application when the
journal says that it may. The journal owns session, gate, change map and the stream.

Locks, outermost first: gate (`enter` .. `leave`), the inode's order lock, the directory's
namespace lock (`Places.lock`, reentrant). A journal may take its own locks inside these and
must not call the file system with them held, except `Places.introductions`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from mirrorfarm.actors.replicator.operations import (
    CHANGE_OPERATION,
    NAMESPACE_OPERATION,
    Fsync,
    Introduce,
    Write,
)

Answer = Callable[[int], None]  # Given an errno; 0: the application may be told of success.


class Places(Protocol):
    """Where the inodes of one mounted directory are, as the journal may ask."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held while names change on disk and in the stream; reentrant."""

    def introductions(self, node: int) -> tuple[Introduce, ...] | None:
        """All that leads to `node`, root first, itself last; () for the root.

        To be called, and its result sent, with `lock` held. None: the inode has no name any
        more, so operations on it need not be sent.
        """


class Journal(Protocol):
    """The receiver of every modification; one per module, shared by its directories.

    Every method may raise OSError, which the application gets as the result of its call.
    """

    @property
    def frozen(self) -> bool:
        """Whether `enter` would block now; a hint that lets another server thread be started."""

    def attach(self, directory: int, places: Places) -> None:
        """Hear that a file system begins to serve `directory`, before its first request."""

    def detach(self, directory: int) -> None:
        """Hear that the file system of `directory` serves no more."""

    def enter(self) -> None:
        """Wait at the gate before a modification. OSError EROFS: secondary; EIO: aborted."""

    def leave(self) -> None:
        """End what `enter` began: handed over, or refused by the local disk."""

    def opened(self, directory: int, node: int) -> None:
        """Prepare for the first writing handle of an existing regular file; inside the gate.

        Before it returns, whatever must be durable before the first write is durable.
        """

    def closed(self, directory: int, node: int) -> None:
        """Hear that the last writing handle of a file (also of one just created) is gone."""

    def namespace(
        self,
        operation: NAMESPACE_OPERATION,
        touched: tuple[int, ...],
        several: tuple[int, ...] = (),
    ) -> int:
        """Take a change of names, just made on the local disk; inside the gate, `Places.lock` held.

        `touched` are the inodes whose names changed (created, linked, removed, moved,
        replaced); the parents are in the operation. `several`: those of them that are no
        directory and had, or have now, more than one name. `Places` still answers as before the
        operation. Returns a ticket; 0: nothing to wait for.
        """

    def write(self, operation: Write, data: memoryview) -> int:
        """Take bytes just written to the local page cache; inside the gate, order lock held.

        `data` is reused when this returns. Returns a ticket in every mode: whether the write
        itself waits for it is the file system's affair (`each`); a close always does.
        """

    def change(self, operation: CHANGE_OPERATION) -> int:
        """Take a change just made to an inode; inside the gate, order lock held. A ticket."""

    def fsync(self, operation: Fsync) -> int:
        """Start the secondary's flush; the local one runs meanwhile. Outside of the gate.

        The ticket is safe when all earlier operations and this flush are acknowledged.
        """

    def when_safe(self, ticket: int, answer: Answer) -> None:
        """Call `answer` once, now or from any thread, when the application may be told.

        That is: the secondary acknowledged the ticket, or the gate no longer needs that; with
        an errno if neither can be any more (aborted, fenced). Never raises. Ticket 0 is safe
        as soon as the gate is not frozen.
        """

    def forgotten(self, directory: int, node: int) -> None:
        """Hear that the inode left the file system's table: Forget may be sent."""

    def local_failed(self, error: int, text: str) -> None:
        """Hear that the local disk lost data (EIO, a failed flush): distrust this copy.

        `text`: at which path, and why.
        """


class LocalJournal:
    """A journal that does nothing: a file system that is not replicated."""

    frozen = False

    def attach(self, directory: int, places: Places) -> None:
        """Do nothing."""

    def detach(self, directory: int) -> None:
        """Do nothing."""

    def enter(self) -> None:
        """Do nothing: always open."""

    def leave(self) -> None:
        """Do nothing: always open."""

    def opened(self, directory: int, node: int) -> None:
        """Do nothing: no change map."""

    def closed(self, directory: int, node: int) -> None:
        """Do nothing: no change map."""

    def namespace(
        self,
        operation: NAMESPACE_OPERATION,
        touched: tuple[int, ...],
        several: tuple[int, ...] = (),
    ) -> int:
        """Give nothing to wait for."""
        return 0

    def write(self, operation: Write, data: memoryview) -> int:
        """Give nothing to wait for."""
        return 0

    def change(self, operation: CHANGE_OPERATION) -> int:
        """Give nothing to wait for."""
        return 0

    def fsync(self, operation: Fsync) -> int:
        """Give nothing to wait for."""
        return 0

    def when_safe(self, ticket: int, answer: Answer) -> None:
        """Answer at once."""
        answer(0)

    def forgotten(self, directory: int, node: int) -> None:
        """Do nothing: nothing was introduced."""

    def local_failed(self, error: int, text: str) -> None:
        """Do nothing: the application gets the error."""
