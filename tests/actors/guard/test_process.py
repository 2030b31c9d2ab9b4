import ast
import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirrorfarm.actors.guard import process


def imported() -> set[str]:
    tree = ast.parse(Path(process.__file__).read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_guard_needs_the_standard_library_alone() -> None:
    assert imported() <= sys.stdlib_module_names


def test_addresses_of_both_families_are_packed_as_the_kernel_has_them() -> None:
    assert process.packed("198.18.0.1") == bytes([198, 18, 0, 1])
    assert process.packed("2001:db8::1")[-1] == 1
    assert len(process.packed("2001:db8::1")) == 16


class Refusing:
    """In place of the node's addresses: the kernel refuses at first."""

    def __init__(self) -> None:
        self.news = process.News()
        self.asked = 0

    def watch(self, order: int) -> None:
        del order

    def remove(self, unwanted: frozenset[bytes], still: Callable[[], bool]) -> None:
        assert still()
        assert unwanted == {bytes([198, 18, 0, 1])}
        self.asked += 1
        if self.asked < 3:
            raise OSError(errno.ENOBUFS, "No buffer space available")


def test_an_address_that_the_kernel_did_not_let_go_is_taken_away_later(tmp_path: Path) -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory = os.open(tmp_path, os.O_RDONLY)
    guard, addresses = process.Guard(its, directory), Refusing()
    at_first: Any = guard._addresses
    guard._addresses = addresses  # type: ignore[assignment]
    ours.send(b"addresses 198.18.0.1")
    ours.send(b"arm 1")
    ours.close()
    guard.run()  # Until no address is left, for nobody is there to give an order.
    assert addresses.asked == 3
    for thing in (addresses.news, at_first, its):
        thing.close()
    os.close(directory)
    os.close(guard._timer)
