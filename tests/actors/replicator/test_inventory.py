"""What a disk says of what lies on it, however deep."""

import errno
import os
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.disks import is_failure

LEVELS = 30  # Of long names: more than one path can hold.


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO])
def test_an_error_deeper_than_a_path_reaches_is_told_as_what_it_is(
    tmp_path: Path, error: int
) -> None:
    fd = inventory.open_directory(bytes(tmp_path))
    for _ in range(LEVELS):
        os.mkdir("d" * 200, dir_fd=fd)
        deeper = inventory.open_directory("d" * 200, fd)
        os.close(fd)
        fd = deeper
    with pytest.raises(OSError, match="name of it") as told, inventory.placing(fd):
        raise OSError(error, os.strerror(error), "name of it")
    os.close(fd)
    assert told.value.errno == error
    assert is_failure(told.value) == (error == errno.EIO)
