"""An installation or a configuration that is cut short: killed, interrupted, without room."""

import ctypes
import errno
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.modules import disk
from mirrorfarm.modules import install as modules
from mirrorfarm.oserrors import told
from mirrorfarm.paths import Paths
from tests.modules.test_install import configured_app, snapshot, userconfig


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Have a process do `work` that is killed before it gives its name to something for the
    `number`-th time; return whether it was."""
    child = os.fork()
    if not child:
        left = number

        def before(real: Callable[..., Any]) -> Callable[..., Any]:
            def renamed(*words: Any) -> Any:
                nonlocal left
                left -= 1
                if not left:
                    os._exit(9)
                return real(*words)

            return renamed

        Path.rename = before(Path.rename)  # type: ignore[method-assign]
        modules.exchange = before(disk.exchange)  # type: ignore[attr-defined]
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_replacement_that_is_killed_leaves_one_of_the_two_versions(
    paths: Paths, tmp_path: Path
) -> None:
    configured_app(paths, tmp_path)
    source = tmp_path / "of-app"
    kills = 0
    while killed_at(
        kills + 1, lambda: modules.install(paths, "app", source=source, module_id=5, force=True)
    ):
        kills += 1
        assert modules.configured(paths) == ["app"], "an agent that begins starts it"
        assert modules.load_module(paths, "app").id in {1, 5}
    assert kills == 3
    modules.install(paths, "app", source=source, force=True)
    assert not list(paths.modules.glob(".new*"))


def edits_of_app(paths: Paths) -> bool:
    folders = (paths.module_etc("app"), paths.modules / ".previous/app")
    return any((one / "bin/edited").exists() for one in folders)


def test_what_was_edited_outlives_a_replacement_that_is_cut_short_at_any_step(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured_app(paths, tmp_path)
    source = tmp_path / "of-app"
    edited = paths.module_etc("app") / "bin/edited"
    edited.write_bytes(b"#!/bin/bash\n# Work of days.\n")
    for number in (1, 2, 3):
        work = partial(modules.install, paths, "app", source=source, force=True)
        assert killed_at(number, work)
        assert edits_of_app(paths)
        assert edited.exists(), "until the last step the module is as it was"

    def interrupted(one: Path, other: Path) -> None:
        disk.exchange(one, other)
        raise KeyboardInterrupt

    with monkeypatch.context() as hasty:
        hasty.setattr(modules, "exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            modules.install(paths, "app", source=source, force=True)
    assert not edited.exists()
    assert edits_of_app(paths), "the version that was replaced is the previous one"


def test_a_module_whose_folder_is_a_link_is_replaced_again_and_again(
    paths: Paths, tmp_path: Path
) -> None:
    modules.install(paths, "app", source="mirror")
    paths.module_etc("app").rename(tmp_path / "elsewhere")
    paths.module_etc("app").symlink_to(tmp_path / "elsewhere")
    for _ in range(3):
        modules.install(paths, "app", source="mirror", force=True)
    assert (tmp_path / "elsewhere/id").exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_nothing_can_be_exchanged_at_once_it_is_replaced_all_the_same(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    configured_app(paths, tmp_path)
    monkeypatch.setattr(ctypes, "get_errno", lambda: number)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refusing())
    modules.install(paths, "app", source="mirror", force=True)
    assert (paths.module_etc("app") / "bin/start_prim").read_bytes() != b"#!/bin/bash\n"
    previous = paths.modules / ".previous/app/bin/start_prim"
    assert previous.read_bytes() == b"#!/bin/bash\n"


class Refusing:
    """A C library on a file system that exchanges nothing."""

    def renameat2(self, *_: Any) -> int:
        return -1


def test_a_configuration_that_is_killed_leaves_one_of_the_two(paths: Paths, tmp_path: Path) -> None:
    edited = configured_app(paths, tmp_path)
    edited.write_bytes(userconfig(tmp_path / "data-app", 'maxloop="9"'))
    kills, found = 0, []
    while killed_at(kills + 1, lambda: modules.configure(paths, "app")):
        kills += 1
        found.append(modules.load_module(paths, "app").maxloop)
    assert found == [3, 3]
    assert modules.load_module(paths, "app").maxloop == 9


def test_a_full_disk_leaves_the_active_configuration(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = configured_app(paths, tmp_path)
    edited.write_bytes(userconfig(tmp_path / "data-app", 'maxloop="9"'))
    real = disk._write

    def full(path: Path, content: bytes, mode: int) -> None:
        real(path, content, mode)
        if "userconfig" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as scarce:
        scarce.setattr(disk, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            modules.configure(paths, "app")
    assert modules.load_module(paths, "app").maxloop == 3
    assert not list((paths.module_lib("app") / "active").glob(".new*"))


def test_a_disk_that_takes_no_more_is_named(paths: Paths, tmp_path: Path) -> None:
    edited = configured_app(paths, tmp_path)
    edited.write_bytes(userconfig(tmp_path / "data-app") + b" " * 50_000)
    before = snapshot(paths)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            modules.configure(paths, "app")
        assert str(paths.module_lib("app") / "active/.new-userconfig.xml") in told(full.value)
        with pytest.raises(OSError, match="File too large") as full:
            modules.install(paths, "other", source=paths.module_etc("app"))
        assert "/modules/.new-other-" in told(full.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot(paths) == before
