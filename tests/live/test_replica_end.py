"""A replica that cannot end as cleanly as it should, on a disk that is full."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.fuse import mount
from tests.live.replicas import lead_alone, replicas

pytestmark = pytest.mark.live


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB below the directory of the replica `one`."""
    directory = tmp_path / "one/data"
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_what_cannot_be_written_back_at_a_clean_end_is_told_and_nothing_stays_mounted(
    small: Path, tmp_path: Path
) -> None:
    with replicas(tmp_path) as (one, _):
        lead_alone(one)
        with contextlib.suppress(
            OSError
        ):  # The application's last write is told of it when it ends.
            (small / "file").write_bytes(bytes(8 << 20))
        answer = one.wish("off", clean=True)
        assert "No space left on device" in answer["failure"]
        point = mount.topmost(os.path.realpath(os.fsencode(small)))
        assert point is not None
        assert point.kind == b"tmpfs"
        (small / "file").unlink()
        assert not lead_alone(one, term=2)["failure"]
        (small / "later").write_bytes(b"later")
        assert not one.wish("off", clean=True)["failure"]
        assert (small / "later").read_bytes() == b"later"
