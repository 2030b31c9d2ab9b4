"""Output that is not whole yet: it is written beside its place, under a name that is nobody's."""

from pathlib import Path
from typing import IO, Final

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
        except FileExistsError:  # A user's own, or of an export that was killed or still runs.
            number += 1
