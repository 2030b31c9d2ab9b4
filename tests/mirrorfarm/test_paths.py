"""One root, moved by one variable; nothing of a node lies outside of it."""

from pathlib import Path

import pytest

from mirrorfarm.paths import Paths


def test_everything_of_a_node_is_below_its_root(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    found = [
        getattr(paths, name) for name in dir(Paths) if isinstance(vars(Paths).get(name), property)
    ]
    found += [paths.module_etc("m"), paths.module_lib("m"), paths.module_log("m")]
    assert len(found) > 8
    assert all(path.is_relative_to(tmp_path) for path in found)


def test_the_variable_moves_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIRRORFARM_ROOT", str(tmp_path))
    assert Paths.from_environment().root == tmp_path
    monkeypatch.setenv("MIRRORFARM_ROOT", "")
    assert Paths.from_environment().root == Path("/"), "an empty one is none"
    monkeypatch.delenv("MIRRORFARM_ROOT")
    assert Paths.from_environment().root == Path("/")


def test_modules_do_not_share_their_folders(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    for folder in (paths.module_etc, paths.module_lib, paths.module_log):
        assert folder("one") != folder("two")
