"""A file is written whole or not at all, also by two at a time."""

import errno
from pathlib import Path

import pytest

from mirrorfarm.unfinished import whole, write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "page"
    write_whole(path, "\u00e4")
    assert path.read_text(encoding="utf-8") == "\u00e4"
    full = OSError(errno.ENOSPC, "full")
    with pytest.raises(OSError, match="full") as caught, whole(path):
        raise full
    assert caught.value.filename == str(path)
    assert path.read_text(encoding="utf-8") == "\u00e4"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "page"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_one_file_at_a_time_do_not_spoil_each_other(tmp_path: Path) -> None:
    path, own = tmp_path / "page", tmp_path / "page.part"
    own.write_bytes(b"a user's own")
    with whole(path) as earlier:
        earlier.write(b"earl")
        with whole(path) as later:
            later.write(b"later")
        assert path.read_bytes() == b"later"
        earlier.write(b"ier")
    assert path.read_bytes() == b"earlier"
    assert own.read_bytes() == b"a user's own"
    assert sorted(tmp_path.iterdir()) == [path, own]
