"""Output that is not whole yet: it is written beside its place, under a name that is nobody's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from mirrorfarm.oserrors import naming

BUFFER_BYTES: Final = 1 << 20


def unfinished(output: Path) -> tuple[Path, IO[bytes]]:
    """Make a file in the folder of `output`, and return its name, and itself open for writing.

    What is there already is never written to, so whoever makes it may remove it. Raise OSError.
    """
    number = 1
    while True:
        path = output.with_name(f"{output.name}.{number}.part")
        try:
            return path, path.open("xb", buffering=BUFFER_BYTES)
        except FileExistsError:  # A user's own, or of what was killed or still runs.
            number += 1


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write to, which takes its place at the end of the block, or is removed.

    Two at a time do not spoil each other: the later one stays. Raise OSError, with its name.
    """
    with naming(path):
        part, file = unfinished(path)
        try:
            with file:
                yield file
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def write_whole(path: Path, text: str) -> None:
    """Write a file whole, or not at all. Raise OSError, with its name."""
    with whole(path) as file:
        file.write(text.encode())
