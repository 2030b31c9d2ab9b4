"""Stories of a durable record: torn writings, full disks, damaged slots."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.slots import BODY_BYTES_MAX, SLOT_BYTES, SlotStore
from mirrorfarm.errors import RecordInvalid


class Note(msgspec.Struct, frozen=True, array_like=True):
    text: str


class Count(msgspec.Struct, frozen=True, array_like=True):
    value: int


def opened(folder: Path) -> SlotStore[Note]:
    return SlotStore(folder, "note", Note)


def written(folder: Path, count: int) -> SlotStore[Note]:
    store = opened(folder)
    for counter in range(1, count + 1):
        store.write(Note(f"number {counter}"), counter)
    return store


def test_a_record_never_written_is_none(tmp_path: Path) -> None:
    assert opened(tmp_path / "absent").read() is None


def test_the_newest_writing_is_read_back_by_the_next_process(tmp_path: Path) -> None:
    for count in (1, 2, 3, 4):
        folder = tmp_path / str(count)
        written(folder, count)
        store = opened(folder)
        assert store.read() == Note(f"number {count}")
        assert store.counter == count


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    written(folder, 3)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["note.0", "note.1"]
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_size == SLOT_BYTES


def test_a_writing_torn_at_any_byte_leaves_the_one_before_or_itself(tmp_path: Path) -> None:
    written(tmp_path, 3)
    before = (tmp_path / "note.1").read_bytes()  # Counter 2: the slot that writing 4 replaces.
    written_4 = opened(tmp_path)
    written_4.write(Note("number 4"), 4)
    after = (tmp_path / "note.1").read_bytes()
    seen = set()
    for torn in dict.fromkeys(after[:end] + before[end:] for end in range(SLOT_BYTES + 1)):
        (tmp_path / "note.1").write_bytes(torn)
        record = opened(tmp_path).read()
        assert record is not None
        seen.add(record.text)
    assert seen == {"number 3", "number 4"}


def test_a_slot_cut_short_at_any_byte_is_ignored(tmp_path: Path) -> None:
    written(tmp_path, 4)
    whole = (tmp_path / "note.1").read_bytes()
    filled = len(whole.rstrip(b"\0")) + 2  # What follows is empty: some places stand for all.
    for offset in (*range(filled), *range(filled, SLOT_BYTES, 64), SLOT_BYTES - 1):
        (tmp_path / "note.1").write_bytes(whole[:offset])
        assert opened(tmp_path).read() == Note("number 3")


@given(garbage=st.binary(max_size=SLOT_BYTES + 8), at=st.integers(0, SLOT_BYTES - 1))
def test_garbage_in_one_slot_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("slots")
    written(folder, 2)
    whole = (folder / "note.1").read_bytes()
    spoilt = whole[:at] + garbage + whole[at + len(garbage) :]
    (folder / "note.1").write_bytes(spoilt)
    used = len(whole.rstrip(b"\0"))  # What follows is padding, which means nothing.
    intact = len(spoilt) == SLOT_BYTES and spoilt[:used] == whole[:used]
    expected = "number 2" if intact else "number 1"
    assert opened(folder).read() == Note(expected)


def test_the_next_writing_replaces_the_damaged_slot_not_the_good_one(tmp_path: Path) -> None:
    written(tmp_path, 4)
    (tmp_path / "note.1").write_bytes(b"torn")
    store = opened(tmp_path)
    assert store.read() == Note("number 3")
    good = (tmp_path / "note.0").read_bytes()
    store.write(Note("again"), 4)
    assert (tmp_path / "note.0").read_bytes() == good
    assert opened(tmp_path).read() == Note("again")


def test_two_damaged_slots_are_an_error_and_can_be_set_aside(tmp_path: Path) -> None:
    written(tmp_path, 2)
    (tmp_path / "note.0").write_bytes(b"torn")
    (tmp_path / "note.1").write_bytes(b"torn")
    store = opened(tmp_path)
    with pytest.raises(RecordInvalid, match=r"note\.0"):
        store.read()
    with pytest.raises(RecordInvalid):
        store.write(Note("over it"), 3)
    assert [path.name for path in store.set_aside()] == ["note.0.damaged", "note.1.damaged"]
    with pytest.raises(RecordInvalid):  # As long as nothing has taken their place.
        opened(tmp_path).read()
    assert [path.name for path in store.set_aside()] == ["note.0.damaged", "note.1.damaged"]
    store.write(Note("anew"), 1)
    assert (tmp_path / "note.0.damaged").read_bytes() == b"torn"
    assert opened(tmp_path).read() == Note("anew")


def test_one_damaged_slot_without_a_good_one_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, 1)
    (tmp_path / "note.0").write_bytes(b"torn")
    with pytest.raises(RecordInvalid):
        opened(tmp_path).read()
    (tmp_path / "note.1").unlink()
    with pytest.raises(RecordInvalid):
        opened(tmp_path).read()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_record_of_which_nothing_but_zeroes_is_left_is_damaged(
    tmp_path: Path, count: int
) -> None:
    written(tmp_path, count)
    for path in tmp_path.iterdir():
        path.write_bytes(bytes(SLOT_BYTES))
    with pytest.raises(RecordInvalid):
        opened(tmp_path).read()


def test_a_crash_while_the_first_record_is_created_leaves_none(tmp_path: Path) -> None:
    written(tmp_path, 1)
    os.rename(tmp_path / "note.0", tmp_path / "note.0.new")
    assert opened(tmp_path).read() is None


def test_a_whole_slot_of_another_kind_is_an_error_not_an_older_record(tmp_path: Path) -> None:
    written(tmp_path, 1)
    other = SlotStore(tmp_path, "note", Count)
    with pytest.raises(RecordInvalid, match="not the record expected"):
        other.read()


def test_a_lost_slot_file_is_made_again(tmp_path: Path) -> None:
    written(tmp_path, 3)
    (tmp_path / "note.1").unlink()
    store = opened(tmp_path)
    assert store.read() == Note("number 3")
    store.write(Note("number 4"), 4)
    (tmp_path / "note.0").write_bytes(b"torn")
    assert opened(tmp_path).read() == Note("number 4")


def test_a_slot_that_is_a_link_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere", 1)
    os.symlink(tmp_path / "elsewhere" / "note.0", tmp_path / "note.0")
    with pytest.raises(OSError, match="symbolic links"):
        opened(tmp_path).read()


def test_a_record_too_large_is_refused_before_the_disk_is_touched(tmp_path: Path) -> None:
    store = written(tmp_path, 1)
    with pytest.raises(OSError, match="exceeds") as caught:
        store.write(Note("x" * BODY_BYTES_MAX), 2)
    assert caught.value.errno == errno.EFBIG
    store.write(Note("x" * (BODY_BYTES_MAX - 4)), 2)
    assert opened(tmp_path).read() == Note("x" * (BODY_BYTES_MAX - 4))


def test_a_steady_writing_costs_one_flush_and_no_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = written(tmp_path, 2)
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _fd: calls.append("fsync"))
    monkeypatch.setattr(os, "fdatasync", lambda _fd: calls.append("fdatasync"))
    store.write(Note("three"), 3)
    assert calls == ["fdatasync"]


def test_after_a_failed_flush_the_next_writing_takes_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = written(tmp_path, 2)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            store.write(Note("three"), 3)
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            store.write(Note("three"), 4)
    store.write(Note("three"), 5)
    after = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["note.0"]
    calls: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda _fd: calls.append("in its place"))
    store.write(Note("four"), 6)
    assert calls == ["in its place"]
    assert opened(tmp_path).read() == Note("four")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four pages."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def test_a_full_disk_refuses_creation_but_not_later_writings(small_disk: Path) -> None:
    written(small_disk, 1)
    (small_disk / "filler").write_bytes(b"x" * 2 * 4_096)
    store = opened(small_disk)
    for counter in range(2, 6):
        store.write(Note(f"number {counter}"), counter)
    assert opened(small_disk).read() == Note("number 5")
    second: SlotStore[Note] = SlotStore(small_disk, "second", Note)
    with pytest.raises(OSError, match="No space") as caught:
        second.write(Note("no room"), 1)
    assert caught.value.errno == errno.ENOSPC
    assert SlotStore(small_disk, "second", Note).read() is None
