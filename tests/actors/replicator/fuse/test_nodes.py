"""The table of inodes finds them again, whatever happened to their names."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator.fuse.nodes import Node, NodeTable
from mirrorfarm.actors.replicator.operations import ROOT

FLAGS = os.O_PATH | os.O_DIRECTORY


@pytest.fixture
def table(tmp_path: Path) -> Iterator[NodeTable]:
    made = NodeTable(os.open(tmp_path, FLAGS), descriptors_max=2)
    yield made
    made.close()


def look_up(table: NodeTable, parent: Node, name: bytes) -> Node:
    status = os.stat(name, dir_fd=parent.fd)
    return table.found(parent, name, status.st_ino, status.st_mode)


def names_on_the_way(table: NodeTable, number: int) -> list[bytes] | None:
    with table.lock:
        steps = table.way_to(number)
    return None if steps is None else [name for _, _, name, _ in steps]


def test_a_node_is_lent_with_an_open_descriptor_however_few_are_kept(
    table: NodeTable, tmp_path: Path
) -> None:
    nodes = []
    for number in range(10):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}/file").write_text(str(number))
        directory = look_up(table, table.root, b"d%d" % number)
        with table.use(directory.number) as parent:
            nodes.append(look_up(table, parent, b"file"))
    for number, node in enumerate(nodes):
        with table.use(node.number) as lent:
            assert Path(lent.path).read_text() == str(number)
    assert sum(node.fd >= 0 for node in nodes) <= 2


def test_a_node_is_found_again_as_deep_as_it_may_be(table: NodeTable, tmp_path: Path) -> None:
    path, above = tmp_path, table.root
    for _ in range(400):
        path /= "d"
        path.mkdir()
        with table.use(above.number) as parent:
            above = look_up(table, parent, b"d")
    for number in range(5):  # More than the descriptors that are kept.
        (tmp_path / f"other{number}").mkdir()
        table.give_back(table.use(look_up(table, table.root, b"other%d" % number).number))
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        with table.use(above.number) as lent:
            assert os.path.samefile(lent.path, path)
    finally:
        sys.setrecursionlimit(usual)


def test_the_way_follows_renames_and_other_names(table: NodeTable, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("")
    directory = look_up(table, table.root, b"a")
    with table.use(directory.number) as parent:
        node = look_up(table, parent, b"file")
    assert names_on_the_way(table, node.number) == [b"a", b"file"]
    (tmp_path / "a").rename(tmp_path / "b")
    table.add_name(directory, table.root, b"b")
    table.remove_name(directory, table.root, b"a")
    assert names_on_the_way(table, node.number) == [b"b", b"file"]
    assert names_on_the_way(table, ROOT) == []


def test_an_unknown_other_name_is_searched_in_the_tree(table: NodeTable, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    (tmp_path / "deep/down").mkdir(parents=True)
    (tmp_path / "deep/down/other").hardlink_to(tmp_path / "known")
    node = look_up(table, table.root, b"known")
    with table.use(node.number):
        (tmp_path / "known").unlink()
        table.remove_name(node, table.root, b"known")
    assert names_on_the_way(table, node.number) == [b"deep", b"down", b"other"]
    (tmp_path / "deep/down/other").unlink()
    assert names_on_the_way(table, node.number) is None


def test_an_unlinked_inode_is_held_until_the_kernel_forgets_it(
    table: NodeTable, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    node = look_up(table, table.root, b"file")
    with table.use(node.number):
        (tmp_path / "file").unlink()
        table.remove_name(node, table.root, b"file")
    for number in range(5):  # Descriptors of others push it out, were it allowed.
        (tmp_path / f"{number}").write_text("")
        with table.use(look_up(table, table.root, b"%d" % number).number):
            pass
    with table.use(node.number) as lent:
        assert Path(lent.path).read_text() == "content"
    assert table.forget(node.number, 1) is node
    assert table.remove(node) == []
    with pytest.raises(OSError, match="unknown"):
        table.use(node.number)


def test_a_directory_outlives_its_lookups_while_a_child_remembers_it(
    table: NodeTable, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").write_text("")
    directory = look_up(table, table.root, b"d")
    with table.use(directory.number) as parent:
        child = look_up(table, parent, b"file")
    assert table.forget(directory.number, 1) is None
    assert names_on_the_way(table, child.number) == [b"d", b"file"]
    assert table.forget(child.number, 1) is child
    assert table.remove(child) == [directory]
    assert table.remove(directory) == [table.root]
    assert table.remove(table.root) is None
    assert len(table) == 1


def test_another_inode_under_the_same_name_is_not_taken_for_the_old_one(
    table: NodeTable, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("old")
    node = look_up(table, table.root, b"file")
    (tmp_path / "new").write_text("new")
    (tmp_path / "new").rename(tmp_path / "file")
    with pytest.raises(OSError, match="without a known name"):
        table.use(node.number)


def test_nothing_is_held_to_be_gone_that_cannot_be_read(
    table: NodeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    os.link(tmp_path / "file", tmp_path / "other name")
    node = look_up(table, table.root, b"file")
    with table.use(node.number) as lent:
        (tmp_path / "file").unlink()
        table.remove_name(lent, table.root, b"file")
        assert names_on_the_way(table, node.number) == [b"other name"]

        def fails(*_: object, **__: object) -> os.stat_result:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", fails)
            with pytest.raises(OSError, match="Input/output error"):
                names_on_the_way(table, node.number)


@pytest.mark.parametrize("call", ["stat", "open"])
def test_another_name_does_not_hide_that_the_disk_failed_at_the_first(
    table: NodeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "file").write_text("")
    os.link(tmp_path / "file", tmp_path / "other name")
    for name in (b"file", b"other name"):
        node = look_up(table, table.root, name)
    works = getattr(os, call)

    def fails_once(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(os, call, works)
        raise OSError(errno.EIO, "Input/output error", "file")

    monkeypatch.setattr(os, call, fails_once)
    with pytest.raises(OSError, match="Input/output error") as told:
        names_on_the_way(table, node.number) if call == "stat" else table.use(node.number)
    assert told.value.filename == bytes(tmp_path / "file")
    assert names_on_the_way(table, node.number) == [b"file"]
