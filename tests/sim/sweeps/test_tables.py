"""The Parquet file holds what the lines of JSON hold."""

import errno
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from mirrorfarm.sim.sweeps.result import SEED_END, SeedResult
from mirrorfarm.sim.sweeps.tables import GROUP_ROWS, schema, write_parquet
from tests.sim.sweeps.stand_in import quick

parquet = pytest.importorskip("pyarrow.parquet", reason="pip install -e '.[analysis]'")


def test_every_field_of_every_result_is_in_the_table(tmp_path: Path) -> None:
    results = [quick("mirror", seed) for seed in (*range(GROUP_ROWS + 5), SEED_END - 1)]
    assert write_parquet(iter(results), tmp_path / "r.parquet") == len(results)
    file = parquet.ParquetFile(tmp_path / "r.parquet")
    assert file.num_row_groups == 2
    rows = file.read().to_pylist()
    for row, result in zip(rows, results, strict=True):
        kept = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
        for name in ("faults", "cells", "fault_states", "sometimes", "tricks"):
            kept[name] = dict(row[name])
        assert kept == asdict(result)
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


def test_an_empty_sweep_has_a_table_with_columns(tmp_path: Path) -> None:
    assert write_parquet([], tmp_path / "r.parquet") == 0
    assert parquet.read_table(tmp_path / "r.parquet").schema.names == schema().names


def test_what_fails_leaves_the_table_before_it_and_what_lies_beside_it(tmp_path: Path) -> None:
    path, own = tmp_path / "r.parquet", tmp_path / "r.part"
    own.write_bytes(b"a user's own")
    write_parquet([quick("mirror", 1)], path)

    def torn() -> Iterator[SeedResult]:
        yield quick("mirror", 2)
        raise OSError(errno.EIO, "the disk fails")

    with pytest.raises(OSError, match="the disk fails"):
        write_parquet(torn(), path)
    assert parquet.read_table(path).to_pylist()[0]["seed"] == 1
    assert own.read_bytes() == b"a user's own"
    assert sorted(tmp_path.iterdir()) == [path, own]
