"""How many files one process may open, and how many directories it serves."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.fuse import filesystem
from mirrorfarm.actors.replicator.journal import LocalJournal

pytestmark = pytest.mark.live

FEW = 64


def test_directories_share_the_descriptors_of_their_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "descriptor_limit", lambda: FEW)
    roots = [tmp_path / str(number) for number in range(8)]
    with ExitStack() as ends:
        for root in roots:
            root.mkdir()
            system = filesystem.FileSystem(root, 0, LocalJournal(), directories=len(roots))
            system.mount()
            ends.callback(system.unmount, lazy=True)
        before = len(os.listdir("/proc/self/fd"))
        for root in roots:
            for number in range(FEW):
                (root / str(number)).touch()
                (root / str(number)).chmod(0o600)
        assert len(os.listdir("/proc/self/fd")) - before < FEW // 2
        assert {len(os.listdir(root)) for root in roots} == {FEW}
