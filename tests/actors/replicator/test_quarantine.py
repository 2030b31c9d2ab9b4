"""What a copy replaces is kept first, with its attributes, and durably."""

import base64
import json
import os
import sys

import pytest

from mirrorfarm.actors.replicator.operations import (
    ROOT,
    SET_MODE,
    SET_SIZE,
    Create,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
)
from mirrorfarm.actors.replicator.quarantine import MANIFEST
from tests.actors.replicator.quarantined import DIRECTORY, FILE, Copied


def test_a_file_is_kept_as_it_was_before_its_first_byte_changes(copied: Copied) -> None:
    (copied.root / "letter").write_bytes(b"dear Alice")
    copied.introduce(7, b"letter")
    copied.write(7, b"BOB", 5)
    copied.write(7, b"dear", 0)
    assert copied.kept("letter") == b"dear Alice"
    assert (copied.root / "letter").read_bytes() == b"dear BOBce"


def test_what_is_cut_off_removed_or_renamed_over_is_kept(copied: Copied) -> None:
    for name in ("cut", "gone", "over", "mover"):
        (copied.root / name).write_text(name)
    copied.introduce(5, b"cut")
    copied.applier.apply(SetAttr(0, 5, SET_SIZE, 0, 0, 0, 1, 0, 0))
    copied.applier.apply(Unlink(0, ROOT, b"gone"))
    copied.introduce(6, b"mover")
    copied.applier.apply(Rename(0, ROOT, b"mover", ROOT, b"over"))
    assert [copied.kept(name) for name in ("cut", "gone", "over")] == [b"cut", b"gone", b"over"]
    assert not (copied.folder / "0/mover").exists(), "it is still there, under another name"


def test_a_whole_tree_that_goes_is_kept(copied: Copied) -> None:
    (copied.root / "a/b").mkdir(parents=True)
    (copied.root / "a/b/deep").write_text("deep")
    os.symlink("/nowhere", copied.root / "a/link")
    copied.introduce(5, b"a", DIRECTORY)
    copied.applier.apply(Rmdir(0, ROOT, b"a"))  # Lenient: it makes room, however full.
    assert not (copied.root / "a").exists()
    assert copied.kept("a/b/deep") == b"deep"
    links = [line for line in copied.manifest() if "target" in line]
    assert [(line["path"], line["target"]) for line in links] == [("a/link", "/nowhere")]


@pytest.mark.parametrize(("levels", "name"), [(30, b"n" * 240), (400, b"d")])
def test_what_lies_deeper_than_a_path_reaches_is_kept(
    copied: Copied, levels: int, name: bytes
) -> None:
    fd = os.open(copied.root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        above, fd = fd, os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(above)
    file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd)
    os.write(file, b"deep")
    for one in (file, fd):
        os.close(one)
    copied.introduce(5, name, DIRECTORY)
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        copied.applier.apply(Rmdir(0, ROOT, name))
    finally:
        sys.setrecursionlimit(usual)
    (place,) = [line["place"] for line in copied.manifest() if "kept" in line]
    assert (copied.folder / place).read_bytes() == b"deep"
    assert not os.listdir(copied.root)


def test_a_file_is_kept_whole_where_the_disk_takes_it_in_parts(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = bytes(range(256)) * 40
    (copied.root / "letter").write_bytes(letter)
    copied.introduce(7, b"letter")
    pwrite, write = os.pwrite, os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1_000], at))
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:30]))
        copied.applier.apply(Unlink(0, ROOT, b"letter"))
    assert copied.kept("letter") == letter
    assert [line["path"] for line in copied.manifest() if "path" in line] == ["letter"]


@pytest.mark.parametrize("names", [["a/b/twin"], ["a/twin", "a/a/twin"]])
def test_a_file_of_which_all_names_are_in_a_tree_that_goes_is_kept_once(
    copied: Copied, names: list[str]
) -> None:
    (copied.root / "a/b").mkdir(parents=True)
    (copied.root / "a/a").mkdir()
    (copied.root / "a/b/deep").write_text("deep")
    for name in names:
        os.link(copied.root / "a/b/deep", copied.root / name)
    copied.introduce(5, b"a", DIRECTORY)
    copied.applier.apply(Rmdir(0, ROOT, b"a"))
    assert not (copied.root / "a").exists()
    (place,) = [line["place"] for line in copied.manifest() if "kept" in line]
    assert (copied.folder / place).read_text() == "deep"
    gone = {line["path"] for line in copied.manifest() if line.get("mode", 0) & 0o100000}
    assert gone == {"a/b/deep", *names}


@pytest.mark.parametrize("later", ["overwritten", "removed"])
def test_a_file_with_a_name_that_stays_is_kept_when_that_is_replaced(
    copied: Copied, later: str
) -> None:
    (copied.root / "a/b").mkdir(parents=True)
    (copied.root / "a/b/deep").write_text("deep")
    os.link(copied.root / "a/b/deep", copied.root / "outside")
    copied.introduce(5, b"a", DIRECTORY)
    copied.applier.apply(Rmdir(0, ROOT, b"a"))
    assert (copied.root / "outside").read_text() == "deep"
    copied.introduce(6, b"outside")
    if later == "overwritten":
        copied.write(6, b"DEEP")
    else:
        copied.applier.apply(Unlink(0, ROOT, b"outside"))
    assert copied.kept("outside") == b"deep"


def test_what_the_session_itself_made_is_not_kept(copied: Copied) -> None:
    uid, gid = os.geteuid(), os.getegid()
    copied.applier.apply(Create(0, 9, ROOT, b"new", FILE, uid, gid, 1))
    copied.write(9, b"first")
    copied.write(9, b"again")
    copied.applier.apply(Unlink(0, ROOT, b"new"))
    assert not (copied.folder / "0").exists()


def test_what_was_made_up_for_the_copy_is_not_kept(copied: Copied) -> None:
    copied.introduce(10, b"made up")
    copied.write(10, b"brought")
    assert not (copied.folder / "0").exists()
    assert copied.manifest() == []


def test_after_an_interruption_what_is_kept_already_stays_as_it_was(copied: Copied) -> None:
    (copied.root / "letter").write_bytes(b"first version")
    copied.introduce(7, b"letter")
    copied.write(7, b"HALF")
    copied.aside.close()
    copied.begin()
    copied.introduce(7, b"letter")
    copied.write(7, b"whole new text")
    assert copied.kept("letter") == b"first version"
    assert [path.name for path in (copied.folder / "0").iterdir()] == ["letter"]


def test_two_things_that_had_one_name_are_both_kept(copied: Copied) -> None:
    (copied.root / "x").write_text("first")
    (copied.root / "y").write_text("second")
    copied.introduce(5, b"x")
    copied.introduce(6, b"y")
    copied.applier.apply(Rename(0, ROOT, b"y", ROOT, b"x"))
    copied.write(6, b"other")
    assert copied.kept("x") == b"first"
    assert (copied.folder / "0.1/x").read_text() == "second"


def test_attributes_are_written_down_before_they_change(copied: Copied) -> None:
    (copied.root / "f").write_text("x")
    (copied.root / "f").chmod(0o600)
    copied.introduce(5, b"f")
    copied.applier.apply(SetAttr(0, 5, SET_MODE, 0o644, 0, 0, 0, 0, 0))
    assert [line["mode"] for line in copied.manifest() if line["path"] == "f"] == [0o100600]


@pytest.mark.parametrize(
    "operation", [RemoveXattr(0, 5, b"user.tag"), SetXattr(0, 5, b"user.tag", b"of the primary")]
)
def test_extended_attributes_are_written_down_before_they_change(
    copied: Copied, operation: RemoveXattr | SetXattr
) -> None:
    (copied.root / "f").write_text("x")
    os.setxattr(copied.root / "f", "user.tag", b"only here")
    copied.introduce(5, b"f")
    copied.applier.apply(operation)
    copied.applier.apply(SetAttr(0, 5, SET_MODE, 0o640))
    copied.applier.apply(SetXattr(0, 5, b"user.tag", b"once more"))
    (line,) = copied.manifest()
    assert line["xattrs"] == {"user.tag": base64.b64encode(b"only here").decode()}
    assert not (copied.folder / "0").exists(), "no content has changed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set such attributes")
def test_extended_attributes_of_symbolic_links_are_written_down(copied: Copied) -> None:
    os.symlink("/nowhere", copied.root / "link")
    os.setxattr(copied.root / "link", "trusted.tag", b"only here", follow_symlinks=False)
    copied.introduce(5, b"link", 0o120777)
    copied.applier.apply(RemoveXattr(0, 5, b"trusted.tag"))
    assert not os.listxattr(copied.root / "link", follow_symlinks=False)
    (line,) = copied.manifest()
    assert line["target"] == "/nowhere"
    assert line["xattrs"]["trusted.tag"] == base64.b64encode(b"only here").decode()


def test_attributes_that_the_disk_does_not_tell_are_not_taken_away(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied.root / "f").write_text("x")
    os.setxattr(copied.root / "f", "user.tag", b"only here")
    copied.introduce(5, b"f")

    def fail(*_: object, **__: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "getxattr", fail)
        with pytest.raises(OSError, match="Input/output"):
            copied.applier.apply(RemoveXattr(0, 5, b"user.tag"))
    assert os.getxattr(copied.root / "f", "user.tag") == b"only here"


def test_a_torn_last_line_of_the_manifest_is_overlooked(copied: Copied) -> None:
    with (copied.folder / MANIFEST).open("ab") as manifest:
        manifest.write(b'{"inode": 5, "direc')
    (copied.root / "f").write_text("x")
    (copied.root / "f").chmod(0o600)
    for mode in (0o640, 0o644):
        copied.aside.close()
        copied.begin()
        copied.introduce(5, b"f")
        copied.applier.apply(SetAttr(0, 5, SET_MODE, mode))
    _, line = (copied.folder / MANIFEST).read_text().splitlines()
    assert json.loads(line)["mode"] == 0o100600


def test_nothing_is_replaced_when_it_cannot_be_kept(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied.root / "f").write_bytes(b"precious")
    copied.introduce(5, b"f")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        copied.write(5, b"overwritten")
    assert (copied.root / "f").read_bytes() == b"precious"
