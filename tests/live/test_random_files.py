"""Random operations on two replicas' mounts, in phases; after each both disks are equal.

One seed means the same operations and phases. With MIRRORFARM_SEEDS=N that many more seeds are
played, with operations while the copies run: what these meet depends on the moment, too.
"""

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorfarm.actors.replicator import libc
from tests.live.random_files import RandomFiles, differences
from tests.live.replicas import Replica, lead_alone, replicas, until
from tests.live.test_replicator import join, leave

pytestmark = pytest.mark.live

BASE = "a" * 32
MORE = int(os.environ.get("MIRRORFARM_SEEDS", "0"))
ROUNDS = 3


class Pair:
    """Two replicas, the first one of which leads."""

    def __init__(self, one: Replica, two: Replica, seed: int, busy: bool) -> None:
        self.first, self.second = one, two
        self.dice = random.Random(seed)
        self.files = RandomFiles(random.Random(seed + 1))
        self.files.root = one.directory
        self.term = self.sid = 1
        self._busy = busy
        self._below = {one.name: self._disk(one), two.name: self._disk(two)}

    @staticmethod
    def _disk(replica: Replica) -> int:
        return os.open(replica.directory, os.O_PATH | os.O_DIRECTORY)

    def below(self, replica: Replica) -> Path:
        """The disk below a mount."""
        return Path(f"/proc/self/fd/{self._below[replica.name]}")

    def close(self) -> None:
        self.files.close()
        for disk in self._below.values():
            os.close(disk)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Go on with operations, if that is wished for."""
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(0.002):
                self.files.some(3)

        thread = threading.Thread(target=work, daemon=True)
        if self._busy:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if self._busy:
                thread.join(60)
                assert not thread.is_alive(), self.files.done[-1]

    def copy(self, plan: str, **fields: object) -> None:
        with self.busy():
            join(self.first, self.second, self.term, self.sid, plan, **fields)

    def flush(self) -> None:
        """Write what the kernel keeps of both mounts, and nothing of anybody else's."""
        for replica in (self.first, self.second):
            folder = os.open(replica.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                libc.syncfs(folder)
            finally:
                os.close(folder)

    def check(self) -> None:
        self.flush()
        here, there = self.below(self.first), self.below(self.second)
        until(
            lambda: not differences(here, there), lambda: f"equal: {differences(here, there)[:3]}"
        )
        seen = differences(self.first.directory, here, times=False)
        assert not seen, f"mount and disk: {seen[:3]}"
        assert not self.first.has_said("SessionBroken", term=self.term, sid=self.sid)

    # --- what may happen -------------------------------------------------------------------

    def lose_the_second(self) -> None:
        """The second one goes and comes back: what was done alone is copied by the map."""
        killed = self.dice.random() < 0.5
        if killed:
            self.second.kill()
        else:
            self.second.wish("off", clean=True)
        self.first.heard("SessionBroken", term=self.term, sid=self.sid)
        self.first.wish("lead", term=self.term, gate="frozen", sid=0)
        lone = self.first.wish("lead", term=self.term, gate="self", map_base=BASE, map_new=True)
        assert lone["map_base"] == BASE
        self.files.some(60)
        if killed:
            self.second.start()
        self.sid += 1
        self.copy("map", map_base=BASE)

    def start_the_first_anew(self) -> None:
        """The first one ends cleanly while it is alone, and goes on with its map."""
        self.second.wish("off", clean=True)
        self.first.wish("lead", term=self.term, gate="frozen", sid=0)
        self.first.wish("lead", term=self.term, gate="self", map_base=BASE, map_new=True)
        self.files.some(40)
        self.files.close()
        self.first.wish("off", clean=True)
        self.first.end()
        self.first.start()
        self._lead(BASE, new=False)
        self.files.some(40)
        self.copy("map", map_base=BASE)

    def swap(self) -> None:
        """The second one takes the role over."""
        self.files.close()
        leave(self.first, self.second)
        self.first, self.second = self.second, self.first
        self.files.root = self.first.directory
        self._lead(BASE, new=True)
        self.files.some(40)
        self.copy("map", map_base=BASE)

    def lose_the_first(self) -> None:
        """The first one is killed: everything is compared."""
        self.files.close()
        self.flush()
        self.first.kill()
        self.second.wish("off", clean=True)
        self.first.start()
        self.first, self.second = self.second, self.first
        self.files.root = self.first.directory
        self.term, self.sid = self.term + 1, 1
        lead_alone(self.first, self.term)
        self.files.some(40)
        self.copy("full")

    def _lead(self, base: str, *, new: bool) -> None:
        self.term, self.sid = self.term + 1, 1
        self.first.wish("lead", term=self.term, map_base="" if new else base)
        lone = self.first.wish("lead", term=self.term, gate="self", map_base=base, map_new=new)
        assert lone["map_base"] == base


@pytest.mark.parametrize("seed", range(2 + MORE))
def test_both_disks_are_equal_after_every_phase(tmp_path: Path, seed: int) -> None:
    mode = "each" if seed % 3 == 1 else "commit"
    with (
        replicas(tmp_path, mode=mode) as (one, two),
        contextlib.closing(Pair(one, two, seed, busy=seed >= 2)) as pair,
    ):
        lead_alone(one)
        pair.files.some(150)
        pair.copy("full")
        for _ in range(ROUNDS):
            pair.files.some(40)
            pair.check()
            pair.dice.choice(
                [
                    pair.lose_the_second,
                    pair.lose_the_second,
                    pair.start_the_first_anew,
                    pair.swap,
                    pair.lose_the_first,
                ]
            )()
            pair.check()
        pair.files.close()
        leave(pair.first, pair.second)
        assert not differences(one.directory, two.directory)
