"""What a disk says of what lies on it, however deep."""

import errno
import os
from pathlib import Path

import pytest
import xxhash

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.disks import is_failure
from mirrorfarm.limits import ZONE_BYTES

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


def test_of_holes_little_is_read(tmp_path: Path) -> None:
    size = 20 * ZONE_BYTES + 1_000
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, size)
    for at in (0, 5 * ZONE_BYTES + 70, 5 * ZONE_BYTES + 65_530, 12 * ZONE_BYTES):
        os.pwrite(file, b"something", at)
    os.pwrite(file, bytes(2 * ZONE_BYTES), 15 * ZONE_BYTES)
    zones = inventory.Zones(file)
    read = [zones.read(zone) for zone in range(23)]
    assert read == [os.pread(file, ZONE_BYTES, zone * ZONE_BYTES) for zone in range(23)]
    assert sum(zone is inventory.ZEROS for zone in read) > 8
    digests = [inventory.digest(zone) for zone in read]
    assert digests == [xxhash.xxh3_128_digest(zone) if zone else b"" for zone in read]
    os.close(file)


def test_what_a_hole_became_is_seen_when_it_is_looked_at_again(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 10 * ZONE_BYTES)
    zones = inventory.Zones(file)
    assert zones.read(0) == inventory.ZEROS
    os.pwrite(file, b"something", 5 * ZONE_BYTES)
    zones.look_again()
    assert zones.read(5).startswith(b"something")
    os.close(file)
