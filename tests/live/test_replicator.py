"""Two replicas over loopback: copies under load, frozen gates, killed and stopped targets."""

import contextlib
import hashlib
import os
import queue
import random
import shutil
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.operations import RENAME_EXCHANGE
from tests.live.replicas import PATIENCE_SECONDS, Replica, lead_alone, replicas, until

pytestmark = pytest.mark.live


@pytest.fixture
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Replica, Replica]]:
    with replicas(tmp_path, **getattr(request, "param", {})) as both:
        yield both


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything that must be equal on both sides."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            attributes = tuple(
                (x, os.getxattr(path, x, follow_symlinks=False))
                for x in sorted(os.listxattr(path, follow_symlinks=False))
            )
            found[os.path.relpath(path, root)] = (
                *(status.st_mode, status.st_uid, status.st_gid, links, size),
                content,
                attributes,
            )
    return found


def join(one: Replica, two: Replica, term: int, sid: int, plan: str, **fields: Any) -> None:
    two.wish("follow", term=term, sid=sid)
    one.wish("lead", term=term, gate="self", sid=sid, plan=plan, peer=two.name, **fields)
    one.heard("SessionUp", term=term, sid=sid)
    two.heard("CopyComplete", term=term, sid=sid)
    one.wish("lead", term=term, gate="both", sid=sid, plan=plan, peer=two.name)


def leave(one: Replica, two: Replica) -> None:
    one.wish("off", clean=True)
    two.wish("off", clean=True)


def assert_equal(one: Replica, two: Replica) -> None:
    here, there = tree(one.directory), tree(two.directory)
    assert here, "nothing was replicated"
    different = sorted(
        name for name in here.keys() | there.keys() if here.get(name) != there.get(name)
    )
    assert not different, [(n, here.get(n), there.get(n)) for n in different[:5]]


def fill(root: Path, files: int = 60) -> None:
    """A tree with everything that a tree may have."""
    for number in range(files):
        folder = root / f"d{number % 7}" / f"e{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(os.urandom(number * 997))
    (root / "big").write_bytes(os.urandom(3_000_000))
    with (root / "sparse").open("wb") as sparse:
        sparse.seek(5_000_000)
        sparse.write(b"end")
    os.link(root / "big", root / "d1" / "big too")
    (root / "link").symlink_to("big")
    os.mkfifo(root / "pipe")
    os.chmod(root / "d0", 0o2750)
    os.chown(root / "d0/e0/f0", 33, 33)
    os.setxattr(root / "big", "user.colour", b"blue")


class Writer:
    """Keeps changing a tree through the mount, until told to stop."""

    def __init__(self, root: Path, pause_s: float = 0.0) -> None:
        self.root = root
        self.rounds = 0
        self.failures: queue.Queue[BaseException] = queue.Queue()
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)
        if not self.failures.empty():
            raise self.failures.get()

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._pause_s):
                self._round(self.rounds)
                self.rounds += 1
        except BaseException as fault:
            self.failures.put(fault)

    def _round(self, number: int) -> None:
        folder = self.root / f"w{number % 5}"
        folder.mkdir(exist_ok=True)
        new = folder / f"new{number}"
        with new.open("wb") as file:
            file.write(os.urandom(number * 311 % 200_000))
            file.flush()
            if number % 3 == 0:
                os.fsync(file.fileno())
        new.rename(folder / f"kept{number % 11}")
        with (self.root / "hot").open("ab" if number % 50 else "wb") as file:
            file.write(os.urandom(4_096))
        target = self.root / "big"
        if target.exists():
            with target.open("r+b") as file:
                file.seek(number * 65_111 % 2_900_000)
                file.write(os.urandom(5_000))
        if number % 7 == 3:
            moved = self.root / f"d{number % 6}"
            away = self.root / f"moved{number % 6}"
            if moved.exists() and not away.exists():
                moved.rename(away)
            elif away.exists() and not moved.exists():
                away.rename(moved)
        if number % 5 == 4:
            (folder / f"kept{(number - 4) % 11}").unlink(missing_ok=True)
            link = folder / "again"
            link.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.link(self.root / "hot", link)


def test_a_full_copy_under_load_makes_the_trees_equal(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    fill(one.directory)
    (two.directory / "leftover/deep").mkdir(parents=True)
    (two.directory / "leftover/deep/old").write_text("old")
    (two.directory / "big").mkdir()
    lead_alone(one)
    with Writer(one.directory) as writer:
        until(lambda: writer.rounds > 10, "ten rounds of changes")
        join(one, two, 1, 1, "full")
        seen = writer.rounds
        until(lambda: writer.rounds > seen + 30, "thirty more rounds of changes")
    leave(one, two)
    assert not one.has_said("SessionBroken"), one.said
    assert_equal(one, two)


def copied_while(
    one: Replica,
    two: Replica,
    change: Callable[[], None],
    changed: Sized,
) -> None:
    """Copy everything while `change` goes on, which adds to `changed`; then both are equal."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            change()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            until(lambda: len(changed) > 20, "twenty changes")
            join(one, two, 1, 1, "full")
        finally:
            ended.set()
        done.result(60)
    leave(one, two)
    assert_equal(one, two)


def test_a_copy_ends_while_directories_move_all_the_time(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    for number in range(120):
        folder = one.directory / f"d{number % 2}/e{number % 3}/f{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number}").write_bytes(os.urandom(100_000))
    lead_alone(one)
    moves: list[str] = []

    def move() -> None:
        for name in ("d0", "d1/e1"):
            (one.directory / name).rename(one.directory / "away")
            (one.directory / "away").rename(one.directory / name)
            moves.append(name)

    copied_while(one, two, move, moves)


def test_inodes_with_several_names_keep_them_all_while_these_change(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    folders = [one.directory / f"d{number}" for number in range(4)]
    for folder in folders:
        folder.mkdir()
    for number in range(160):
        folder, other = folders[number % 4], folders[(number + 1) % 4]
        if number % 2:
            os.mkfifo(folder / f"f{number}")
        else:
            (folder / f"f{number}").write_bytes(os.urandom(70_000))
        os.link(folder / f"f{number}", other / f"f{number}")
        (folders[(number + 2) % 4] / f"f{number}").write_text("of one name")
    lead_alone(one)
    dice = random.Random(1)
    changed: list[str] = []

    def change() -> None:
        old, new = (dice.choice(folders) / f"f{dice.randrange(160)}" for _ in range(2))
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            if len(changed) % 3:
                flags = dice.choice((0, RENAME_EXCHANGE))
                libc.rename(0, os.fsencode(old), 0, os.fsencode(new), flags)
            else:
                os.link(old, new)
            changed.append(new.name)

    copied_while(one, two, change, changed)


def test_directories_change_places_while_they_are_copied(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    for number in range(64):
        folder = one.directory / f"d{number % 4}/d{number // 4 % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number // 16}").write_bytes(os.urandom(70_000))
    lead_alone(one)
    dice = random.Random(1)
    changed: list[Path] = []

    def some() -> Path:
        return one.directory.joinpath(*(f"d{dice.randrange(4)}" for _ in range(dice.randint(1, 3))))

    def change() -> None:
        old, new, file = some(), some(), some() / f"f{dice.randrange(4)}"
        with contextlib.suppress(OSError):
            flags = RENAME_EXCHANGE if len(changed) % 3 else 0
            libc.rename(0, os.fsencode(old), 0, os.fsencode(new), flags)
            changed.append(old)
            file.write_bytes(dice.randbytes(99))

    copied_while(one, two, change, changed)


def test_only_what_changed_is_copied_when_the_target_was_killed(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    fill(one.directory)
    lead_alone(one)
    join(one, two, 1, 1, "full")
    (one.directory / "before").write_text("in step")
    two.kill()
    with Writer(one.directory, 0.001) as writer:
        one.heard("SessionBroken", term=1, sid=1)
        one.wish("lead", term=1, gate="frozen", sid=0)
        answer = one.wish("lead", term=1, gate="self", map_base="a" * 32, map_new=True)
        assert answer["map_base"] == "a" * 32
        seen = writer.rounds
        until(lambda: writer.rounds > seen + 20, "twenty more rounds of changes")
        two.start()
        join(one, two, 1, 2, "map", map_base="a" * 32)
        seen = writer.rounds
        until(lambda: writer.rounds > seen + 20, "twenty more rounds of changes")
    leave(one, two)
    assert_equal(one, two)
    total = one.heard("SyncProgress", sid=2)
    assert total["files_total"] < 60


def test_the_map_survives_a_clean_end_and_is_used_once(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    fill(one.directory)
    lead_alone(one)
    join(one, two, 1, 1, "full")
    two.wish("off")
    one.heard("SessionBroken", sid=1)
    assert one.wish("lead", term=1, gate="self", map_base="b", map_new=True)["map_base"] == "b"
    (one.directory / "alone").write_text("written alone")
    (one.directory / "d3/e0/f3").unlink()
    with (one.directory / "big").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed")
    one.wish("off", clean=True)
    one.wish("lead", term=2, map_base="b")
    assert one.wish("lead", term=2, gate="self", map_base="b")["map_base"] == "b"
    join(one, two, 2, 1, "map", map_base="b")
    leave(one, two)
    assert_equal(one, two)
    assert one.wish("lead", term=3, map_base="b")["map_base"] == ""


def test_a_frozen_gate_holds_until_it_is_thawed(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    lead_alone(one)
    join(one, two, 1, 1, "full")
    file = os.open(one.directory / "file", os.O_CREAT | os.O_RDWR)
    os.write(file, b"one")
    one.wish("lead", term=1, gate="frozen", sid=1)
    done = threading.Event()

    def sync() -> None:
        os.fsync(file)
        done.set()

    thread = threading.Thread(target=sync, daemon=True)
    thread.start()
    one.heard("WriteHeld", term=1)
    assert not done.wait(0.3)
    one.wish("lead", term=1, gate="self", sid=1)
    assert done.wait(PATIENCE_SECONDS)
    thread.join()
    os.close(file)
    leave(one, two)
    assert_equal(one, two)


def test_what_waits_gets_an_error_when_the_plane_ends_uncleanly(
    pair: tuple[Replica, Replica],
) -> None:
    one, _ = pair
    lead_alone(one)
    (one.directory / "file").write_text("x")
    one.wish("lead", term=1, gate="frozen")
    errors: queue.Queue[int] = queue.Queue()

    def create() -> None:
        try:
            (one.directory / "other").write_text("y")
        except OSError as fault:
            errors.put(fault.errno or 0)

    thread = threading.Thread(target=create, daemon=True)
    thread.start()
    one.heard("WriteHeld")
    began = time.monotonic()
    one.wish("off", clean=False)
    assert errors.get(timeout=PATIENCE_SECONDS) > 0
    thread.join()
    assert time.monotonic() - began < 9, "sooner than what waits 10 s for a clean end"
    assert not (one.directory / "other").exists()


SOON_NS = 2_000_000_000


@pytest.mark.parametrize("pair", [{"timeout_ns": SOON_NS}], indirect=True)
def test_a_stopped_target_breaks_the_session_in_time_and_nothing_is_lost(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    lead_alone(one)
    join(one, two, 1, 1, "full")
    two.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    done = threading.Event()

    def write() -> None:
        with (one.directory / "file").open("wb") as file:
            file.write(b"held")
            file.flush()
            os.fsync(file.fileno())
        done.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    one.heard("SessionBroken", term=1, sid=1)
    assert time.monotonic() - began < 3 * SOON_NS / 1e9
    assert not done.is_set()
    one.wish("lead", term=1, gate="frozen")
    assert not done.wait(0.2)
    one.wish("lead", term=1, gate="self", map_base="c", map_new=True)
    assert done.wait(PATIENCE_SECONDS)
    thread.join()
    two.process.send_signal(signal.SIGCONT)
    join(one, two, 1, 2, "map", map_base="c")
    leave(one, two)
    assert_equal(one, two)


def test_what_waits_is_answered_when_a_later_session_has_copied_it(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    lead_alone(one)
    join(one, two, 1, 1, "full")
    two.kill()
    done = threading.Event()

    def write() -> None:
        (one.directory / "file").write_text("waits")
        done.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    one.heard("SessionBroken", sid=1)
    two.start()
    two.wish("follow", term=1, sid=2)
    one.wish("lead", term=1, gate="frozen", sid=2, plan="none", peer="two")
    two.heard("CopyComplete", sid=2)
    assert not done.is_set()
    one.wish("lead", term=1, gate="both", sid=2, plan="none", peer="two")
    assert done.wait(PATIENCE_SECONDS)
    thread.join()
    assert (two.directory / "file").read_text() == "waits"
    leave(one, two)
    assert_equal(one, two)


def test_a_session_that_is_over_is_refused(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    lead_alone(one, term=4)
    join(one, two, 4, 1, "full")
    two.wish("follow", term=5, sid=1)
    one.heard("SessionBroken", term=4, sid=1)
    thread = threading.Thread(
        target=lambda: (one.directory / "late").write_text("of the old session"), daemon=True
    )
    thread.start()
    # Never answered: `both` is not so before the peer has what was answered without it.
    one.wish("lead", answered=False, term=4, gate="both", sid=2, plan="full", peer="two")
    broken = one.heard("SessionBroken", term=4, sid=2)
    assert "refused" in broken["reason"]
    assert not (two.directory / "late").exists()
    assert "over" in two.wish("follow", term=4, sid=3)["failure"]
    one.wish("lead", term=4, gate="self")
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_a_database_goes_on_during_the_copy(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    fill(one.directory, 20)
    lead_alone(one)
    with contextlib.closing(sqlite3.connect(one.directory / "db", timeout=30)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
        count = 0
        ended = threading.Event()

        def joining() -> None:
            join(one, two, 1, 1, "full")
            ended.set()

        thread = threading.Thread(target=joining)
        thread.start()
        while thread.is_alive() or count < 200:
            with database:
                database.execute("INSERT INTO t (x) VALUES (?)", (os.urandom(count % 3_000),))
            count += 1
        thread.join()
        assert ended.is_set(), "the copy did not end"
        # As after a power cut of the primary: the copy as it is now, without a clean end.
        one.wish("off", clean=False)
    two.wish("off")
    with contextlib.closing(sqlite3.connect(two.directory / "db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM t").fetchone() == (count,)


EXCLUSIONS = {"excluded": ["cache"], "excluded_names": ["[.]tmp$"]}


def unchanged_by_it(replica: Replica) -> dict[str, str]:
    return {
        str(path.relative_to(replica.directory)): path.read_text()
        for path in sorted(replica.directory.rglob("*"))
        if path.is_file() and ("cache" in path.parts or path.suffix == ".tmp")
    }


@pytest.mark.parametrize("pair", [EXCLUSIONS], indirect=True)
def test_each_node_keeps_its_own_of_what_is_not_replicated(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    for replica in pair:
        for folder in ("cache/deep", "sub"):
            (replica.directory / folder).mkdir(parents=True)
        (replica.directory / "cache/deep" / replica.name).write_text("mine")
        (replica.directory / "sub/a.tmp").write_text(replica.name)
    theirs = unchanged_by_it(two)
    lead_alone(one)
    join(one, two, 1, 1, "full")  # What is excluded is changed in the middle of a session.
    (one.directory / "cache/deep/more").write_text("local")
    (one.directory / "sub/a.tmp").write_text("local")
    os.fsync(os.open(one.directory / "sub/a.tmp", os.O_RDWR))
    (one.directory / "sub/kept").write_text("x")
    assert (two.directory / "sub/kept").read_text() == "x"
    leave(one, two)
    assert unchanged_by_it(two) == theirs
    lead_alone(two, 2)
    join(two, one, 2, 1, "full")
    assert (one.directory / "cache/deep/more").read_text() == "local"
    assert (one.directory / "sub/a.tmp").read_text() == "local"
    shutil.rmtree(two.directory / "sub")
    assert not (one.directory / "sub").exists(), "it went with the first one's own files"
    leave(two, one)
    assert not any(replica.has_said("SessionBroken") for replica in pair)


def test_what_is_replicated_from_now_on_is_copied_though_no_map_tells_of_it(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair

    def restart(**settings: Any) -> None:
        for replica in pair:
            replica.end()
            replica.settings |= settings
            replica.start()

    restart(**EXCLUSIONS)
    lead_alone(one)
    join(one, two, 1, 1, "full")
    (one.directory / "old.tmp").write_text("never sent")
    leave(one, two)
    restart(excluded=[], excluded_names=[])
    lead_alone(one, 2)
    join(one, two, 2, 1, "none")
    leave(one, two)
    assert_equal(one, two)
    assert one.has_said(
        "Report", text="what is replicated has changed: everything is compared once"
    )


def test_a_secondary_is_read_only_and_shows_what_was_applied(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    lead_alone(one)
    join(one, two, 1, 1, "full")
    (one.directory / "file").write_text("seen")
    assert (two.directory / "file").read_text() == "seen"
    with pytest.raises(OSError, match="Read-only"):
        (two.directory / "mine").write_text("x")
    leave(one, two)
