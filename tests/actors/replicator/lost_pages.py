"""Who hears of pages that a file system lost: the rules of the kernel's errseq and syncfs(2)."""

import errno
import os
from typing import Any

import pytest

from mirrorfarm.actors.replicator import libc


class LostPages:
    """Stands for the one file system that all directories of a test are on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._errors = 0
        self._seen = True  # By whoever it may be: a descriptor that is opened later is not told.
        self._told: dict[int, list[int]] = {}  # By descriptor; duplicates share one.
        self._open, self._dup = os.open, os.dup
        patch.setattr(os, "open", self._opened)
        patch.setattr(os, "dup", self._duplicated)
        patch.setattr(libc, "syncfs", self.syncfs)

    def lose(self) -> None:
        """The disk refuses a page that is written back."""
        self._errors += self._seen
        self._seen = False

    def tell_somebody(self) -> None:
        """Somebody else flushes the file system."""
        fd = os.open("/", os.O_RDONLY)
        try:
            self.syncfs(fd)
        except OSError:
            pass
        finally:
            os.close(fd)

    def syncfs(self, fd: int) -> None:
        told = self._told[fd]
        if told[0] != self._errors:
            told[0], self._seen = self._errors, True
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _opened(self, *arguments: Any, **more: Any) -> int:
        fd = self._open(*arguments, **more)
        self._told[fd] = [self._errors if self._seen else -1]
        return fd

    def _duplicated(self, fd: int) -> int:
        twin = self._dup(fd)
        self._told[twin] = self._told[fd]
        return twin
