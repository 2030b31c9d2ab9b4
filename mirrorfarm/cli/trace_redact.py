"""`mirrorfarm trace redact`: copies of traces without names."""

import secrets
from collections.abc import Iterable
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
    for source in found:
        counts["processes"] += 1
        copy = Copy(source, folder / f"{counts['processes']:04d}", redactor, mode)
        counts["steps"] += copy.write(read_items(source, faults))
    click.echo(
        f"{counts['steps']} steps of {counts['processes']} processes are in {folder}, mode {mode}"
    )
    return faults.exit_code
