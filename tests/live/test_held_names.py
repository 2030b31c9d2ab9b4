"""While a copy holds the names of a directory still, all else is served."""

import os
import threading
import time
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import LocalJournal, Places

pytestmark = pytest.mark.live


class Journal(LocalJournal):
    """Knows the lock of the names."""

    places: Places | None = None

    def attach(self, directory: int, places: Places) -> None:
        del directory
        self.places = places


def test_who_reads_does_not_wait_for_those_who_change_names(tmp_path: Path) -> None:
    names = [f"directory{number}" for number in range(6)]
    journal = Journal()
    system = FileSystem(tmp_path, 0, journal, threads=2)
    system.mount()
    try:
        for name in names:  # The kernel lets one at a time change the names in each.
            (tmp_path / name).mkdir()
        assert journal.places is not None
        work = [threading.Thread(target=(tmp_path / name / "new").mkdir) for name in names]
        answered = threading.Event()

        def read() -> None:
            os.statvfs(tmp_path)
            answered.set()

        reader = threading.Thread(target=read)
        with journal.places.lock:
            for one in work:
                one.start()
            time.sleep(0.1)  # All server threads have one of them.
            reader.start()
            assert answered.wait(10)
        for one in (*work, reader):
            one.join(10)
        assert all((tmp_path / name / "new").is_dir() for name in names)
    finally:
        system.unmount(lazy=True)
