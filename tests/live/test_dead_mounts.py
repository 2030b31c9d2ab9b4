"""A replicator that ends at once, or is killed: its directories answer with errors, not bare."""

import os
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.fuse import mount
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import LocalJournal
from mirrorfarm.modules.settings import Module, Replicated, Replication
from mirrorfarm.modules.suitability import unsuitable
from mirrorfarm.paths import Paths
from tests.live.replicas import Replica, lead_alone, replicas

pytestmark = pytest.mark.live


def assert_dead(replica: Replica) -> None:
    """Nothing can be written past what is replicated."""
    with pytest.raises(OSError, match=r"not connected|aborted"):
        (replica.directory / "past it").write_text("lost")


def test_nothing_is_bared_before_the_application_has_ended(tmp_path: Path) -> None:
    with replicas(tmp_path) as (one, _):
        lead_alone(one)
        (one.directory / "kept").write_text("replicated")
        one.die()
        assert_dead(one)
        one.start()
        one.wish("off", clean=False)
        assert_dead(one)
        one.wish("off", clean=False, bare=True)
        assert [path.name for path in one.directory.iterdir()] == ["kept"]
        lead_alone(one, term=2)
        (one.directory / "kept too").write_text("replicated")
        one.wish("off", clean=False)
        assert_dead(one)
        lead_alone(one, term=3)  # The dead one is replaced.
        (one.directory / "kept also").write_text("replicated")
        one.wish("off", clean=False)
        assert_dead(one)
        one.wish("off", clean=False, bare=True)
        assert len(list(one.directory.iterdir())) == 3


@pytest.fixture
def without_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No control file system of FUSE, as in some containers."""
    monkeypatch.setattr(mount, "_CONTROL", tmp_path / "none/connections")


@pytest.mark.usefixtures("without_control")
def test_an_abort_bares_nothing_where_fuse_has_no_control_files(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    system = FileSystem(path, 0, LocalJournal())
    system.mount()
    try:
        (path / "kept").write_text("replicated")
        system.abort()
        with pytest.raises(OSError, match=r"not connected|aborted"):
            (path / "past it").write_text("lost")
        system.end()
        with pytest.raises(OSError, match=r"not connected|aborted"):
            (path / "past it").write_text("lost")
    finally:
        system.end()
        mount.clear_leftover(os.fsencode(path))
    assert [one.name for one in path.iterdir()] == ["kept"]


@pytest.mark.usefixtures("without_control")
def test_a_lazy_unmount_takes_nothing_else_away_where_fuse_has_no_control_files(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data"
    path.mkdir()
    below, above = FileSystem(path, 0, LocalJournal()), FileSystem(path, 0, LocalJournal())
    below.mount()
    try:
        clear = mount.clear_leftover
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mount, "clear_leftover", lambda _: None)
            above.mount()
        used = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            above.unmount(lazy=True)
            (path / "still served").write_text("below")
            with pytest.raises(OSError, match=r"not connected|aborted"):
                os.listdir(used)
        finally:
            os.close(used)
    finally:
        below.unmount(lazy=True)
        clear(os.fsencode(path))


def test_a_module_can_be_configured_anew_while_its_mounts_are_dead(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    (path / "wanted").touch()
    system = FileSystem(path, 0, LocalJournal())
    system.mount()
    system.end()
    try:
        wanted = (Replicated(str(path), (str(path / "wanted"),)),)
        module = Module("app", 1, ("n1", "n2"), replication=Replication(wanted))
        assert unsuitable(module, [], paths=Paths(tmp_path / "node")) == []
    finally:
        mount.clear_leftover(os.fsencode(path))


def number_of(path: Path) -> int:
    """Return the number by which the kernel knows what is mounted there."""
    mounted = mount.topmost(os.fsencode(path))
    assert mounted is not None
    return mounted.device


def test_an_abort_that_comes_late_spares_who_has_the_number_by_then(tmp_path: Path) -> None:
    """Numbers of connections are given again at once, also to other modules of the machine."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    for _ in range(50):  # Another mount of the machine may be faster.
        device, connection = mount.attach(os.fsencode(before), False)
        number = number_of(before)
        mount.detach(os.fsencode(before), connection, lazy=False)
        os.close(device)
        system = FileSystem(after, 0, LocalJournal())
        system.mount()
        try:
            same = number_of(after) == number
            connection.abort()
            (after / "still served").write_text("by the other one")
        finally:
            system.unmount(lazy=True)
            connection.close()
        if same:
            return
    pytest.fail("the number was never given again")
