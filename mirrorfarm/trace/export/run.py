"""Export: which formats there are, and one pass over merged traces that writes one of them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import xxhash

from mirrorfarm.errors import TraceInvalid, UsageInvalid
from mirrorfarm.extras import installing
from mirrorfarm.oserrors import naming
from mirrorfarm.trace.clocks import NodeClock
from mirrorfarm.trace.export.format import Format, Subject
from mirrorfarm.trace.export.history import Jepsen, Porcupine
from mirrorfarm.trace.export.jsonl import Jsonl, Tla
from mirrorfarm.trace.export.mermaid import Mermaid
from mirrorfarm.trace.export.pcapng import Pcapng
from mirrorfarm.trace.export.perfetto import Perfetto
from mirrorfarm.trace.export.shiviz import EVENTS_MAX, Shiviz
from mirrorfarm.trace.facts import Facts
from mirrorfarm.trace.files import OnFault, files_in, raise_fault
from mirrorfarm.trace.merge import Merge
from mirrorfarm.unfinished import unfinished

_RUN: Final = re.compile(r"\w[\w.-]{0,99}")
_ANOTHER: Final = "choose another name"
PART_BYTES: Final = 1 << 20
PARQUET: Final = "parquet"  # The only one that is a folder, and needs a library of its own.

# What is written to a file, by the name of the format.
FORMATS: Final[dict[str, Callable[[Subject, Any], Format]]] = {
    "jsonl": Jsonl,
    "tla": lambda subject, write: Tla(write),
    "shiviz": Shiviz,
    "tsviz": lambda subject, write: Shiviz(subject, write, timed=True),
    "perfetto": Perfetto,
    "mermaid": lambda subject, write: Mermaid(write),
    "pcapng": Pcapng,
    "jepsen": lambda subject, write: Jepsen(write),
    "porcupine": lambda subject, write: Porcupine(write),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What to export, and how much of it."""

    to: str  # A format's name.
    output: Path  # A file; of parquet, a folder.
    run: str = ""  # Its name among others; "": see `_run_name`.
    limit: int = EVENTS_MAX


@dataclass(frozen=True, slots=True)
class Report:
    """What was exported."""

    steps: int
    message: str  # Of the format.
    clocks: list[NodeClock]
    joined: int
    gaps: int
    unordered: int


def export(
    paths: Iterable[Path],
    options: Options,
    on_fault: OnFault = raise_fault,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write merged traces in another format; the output appears when it is whole.

    `on_step` is told how many steps are done, and how many there are. Raise UsageInvalid if the
    output is a trace or otherwise no name for one, TraceInvalid if there is nothing to write or a
    library is missing, OSError if the output cannot be written.
    """
    read = list(paths)
    _require_output(options)
    if options.to != PARQUET:
        _require_replaceable(options.output, read)
    merge = Merge(read, on_fault)
    subject = Subject(merge, options.run or _run_name(merge), options.limit)
    if options.to == PARQUET:
        return _parquet(subject, options, on_step)
    output = options.output.resolve()  # What a link leads to is replaced, not the link.
    with naming(options.output):
        part, file = _begun(output)
        try:
            with file:
                format_ = FORMATS[options.to](subject, file.write)
                report = _written(subject, format_, on_step)
            part.replace(output)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return report


def _require_output(options: Options) -> None:
    """Raise UsageInvalid unless this is what an output, and a run, can be named."""
    if options.run and not _RUN.fullmatch(options.run):
        raise UsageInvalid(f"--run {options.run}: letters, digits, dots, dashes and _ alone")
    if options.output.exists() and options.output.is_dir() != (options.to == PARQUET):
        kind, wanted = ("folder", "file") if options.to != PARQUET else ("file", "folder")
        raise UsageInvalid(
            f"-o {options.output}: there is a {kind} of this name, and {options.to} writes a "
            f"{wanted}: {_ANOTHER}"
        )
    other = options.output.exists() and not (options.output.is_file() or options.output.is_dir())
    if other or str(options.output) == "-":  # It would be replaced.
        raise UsageInvalid(
            f"-o {options.output}: neither a file nor a folder: write to a file, and send that on"
        )


def _require_replaceable(output: Path, read: list[Path]) -> None:
    """Raise UsageInvalid if the output would take the place of a trace: that is evidence."""
    if not output.exists():
        return
    place = output.resolve()
    if ".mft" in {output.suffix, place.suffix}:
        raise UsageInvalid(f"-o {output}: that is a trace, and would be replaced: {_ANOTHER}")
    if place in {path.resolve() for path in files_in(read, lambda _: None)}:
        raise UsageInvalid(f"-o {output}: that is to be read, and would be replaced: {_ANOTHER}")


def _begun(output: Path) -> tuple[Path, IO[bytes]]:
    try:
        return unfinished(output)
    except FileNotFoundError as error:
        if output.parent.is_dir():
            raise
        raise TraceInvalid(f"{output.parent}: there is no such folder; make it first") from error


def _written(subject: Subject, format_: Format, on_step: Callable[[int, int], None]) -> Report:
    merge, facts = subject.merge, Facts()
    steps = 0
    for placed in merge.steps():
        format_.add(placed, facts.of(placed.step))
        steps += 1
        on_step(steps, merge.total)
    message = format_.close()
    return Report(steps, message, merge.clocks, merge.joined, merge.gaps, merge.unordered)


def _parquet(subject: Subject, options: Options, on_step: Callable[[int, int], None]) -> Report:
    try:
        from mirrorfarm.trace.export.parquet import Parquet  # noqa: PLC0415 - it is optional.
    except ImportError as error:
        raise TraceInvalid(
            f"parquet needs pyarrow: {installing('analysis')}, or choose another format"
        ) from error
    with naming(options.output):
        format_ = Parquet(subject, options.output)
        try:
            report = _written(subject, format_, on_step)
        except BaseException:
            format_.discard()
            raise
        format_.publish()
    return report


def _run_name(merge: Merge) -> str:
    """Return what tells this run from others: the cluster, and when its traces begin.

    Simulated runs share both: there, what the files hold as well. It becomes a folder's name, so of
    what a header calls its cluster only what `--run` allows.
    """
    cluster = re.sub(r"[^\w.-]", "", merge.cluster).lstrip(".-")
    name = f"{cluster[:8] or 'run'}-{merge.begin_ns // 10**9}"
    return name if merge.seed is None else f"{name}-{_contents(merge.files)}"


def _contents(files: Iterable[Path]) -> str:
    """Return what tells the contents of files from others."""
    hasher = xxhash.xxh3_64()
    for path in files:
        with path.open("rb") as file:
            while part := file.read(PART_BYTES):
                hasher.update(part)
    return hasher.hexdigest()[:8]
