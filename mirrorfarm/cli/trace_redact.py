"""`mirrorfarm trace redact`: copies of traces without names."""

import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from mirrorfarm.cli.trace_show import Faults
from mirrorfarm.errors import Refused
from mirrorfarm.trace.copying import Copy
from mirrorfarm.trace.files import require_single, sources
from mirrorfarm.trace.redact import KEY_BYTES, Redactor, vocabulary
from mirrorfarm.trace.steps import read_items


def redact_traces(paths: Iterable[Path], folder: Path, mode: str) -> int:
    """Copy every process's trace into a folder of its own; return the exit code."""
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty: name a new folder, so that nothing is mixed")
    faults = Faults()
    redactor = Redactor(mode, secrets.token_bytes(KEY_BYTES), vocabulary())
    counts: dict[str, Any] = {"processes": 0, "steps": 0}
    found = sources(paths, faults)
    require_single(found)
    with _all_or_nothing(folder) as folders:
        for source in found:
            counts["processes"] += 1
            folders.append(folder / f"{counts['processes']:04d}")
            copy = Copy(source, folders[-1], redactor, mode)
            counts["steps"] += copy.write(read_items(source, faults))
    click.echo(
        f"{counts['steps']} steps of {counts['processes']} processes are in {folder}, mode {mode}"
    )
    return faults.exit_code


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[list[Path]]:
    """Remove what is in the given list if not all can be copied: a part looks like a whole."""
    made = not folder.exists()
    folders: list[Path] = []
    try:
        yield folders
    except BaseException:
        for one in folders:
            shutil.rmtree(one, ignore_errors=True)
        with suppress(OSError):
            if made:
                folder.rmdir()
        raise
