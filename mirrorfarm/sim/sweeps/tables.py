"""Results as a Parquet file, for DuckDB, pandas and Polars."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from mirrorfarm.extras import installing
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.unfinished import whole

try:
    import pyarrow
    from pyarrow import parquet
except ImportError:  # The lines of JSON hold the same.
    pyarrow = None

GROUP_ROWS = 10_000  # In memory at a time.
NAME = "results.parquet"
CURE = f"pyarrow is not installed; {installing('analysis')} gives Parquet"


def can_write() -> bool:
    """Return whether pyarrow is there."""
    return pyarrow is not None


def schema() -> Any:
    """Return the columns, in the order of `SeedResult`; times in nanoseconds."""
    text, counts = pyarrow.string(), pyarrow.map_(pyarrow.string(), pyarrow.int64())
    category = pyarrow.dictionary(pyarrow.int32(), text)
    columns = {
        "seed": pyarrow.uint64(),
        "options": category,
        "build": category,
        "outcome": category,
        "invariant": category,
        "signature": text,
        "simulated_ns": pyarrow.int64(),
        "steps": pyarrow.int64(),
        "digest": text,
        "faults": counts,
        "failover_ns": pyarrow.list_(pyarrow.int64()),
        "states": pyarrow.list_(pyarrow.uint32()),
        "cells": counts,
        "fault_states": counts,
        "sometimes": counts,
        "tricks": counts,
        "wall_seconds": pyarrow.float64(),
        "message": text,
    }
    return pyarrow.schema(list(columns.items()))


def write_parquet(results: Iterable[SeedResult], path: Path) -> int:
    """Write results, a group of rows after the other; return how many. Needs pyarrow."""
    rows = 0
    left = iter(results)
    with whole(path) as file, parquet.ParquetWriter(file, schema(), compression="zstd") as writer:
        while group := [asdict(result) for result in islice(left, GROUP_ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema()))
            rows += len(group)
    return rows
