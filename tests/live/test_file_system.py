"""The mounted file system against the kernel, mirrored into a second directory."""

import errno
import os
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator import inventory
from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.exclusions import Exclusions
from mirrorfarm.actors.replicator.fuse import mount, protocol
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.fuse.protocol import Reply, Request
from mirrorfarm.actors.replicator.journal import LocalJournal, Places
from mirrorfarm.actors.replicator.operations import (
    ANY_OPERATION,
    CHANGE_OPERATION,
    NAMESPACE_OPERATION,
    ROOT,
    Create,
    Forget,
    Fsync,
    Link,
    Rename,
    Write,
    decode,
    encode,
)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

WORK = Path(__file__).with_name("file_work.py")
WORK_SECONDS = 120


class MirrorJournal(LocalJournal):
    """Sends every operation through its bytes into a second directory, in this process."""

    def __init__(self, target: Path, descriptors_max: int = 4096) -> None:
        self.applier = Applier(
            [bytes(target)], devices_allowed=True, descriptors_max=descriptors_max
        )
        self.places: Places | None = None
        self.introduced = {ROOT}
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.failures: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.aborted = False

    def attach(self, directory: int, places: Places) -> None:
        self.places = places

    @property
    def frozen(self) -> bool:  # type: ignore[override]
        return not self.gate.is_set()

    def enter(self) -> None:
        self.gate.wait(WORK_SECONDS)
        if self.aborted:
            raise OSError(errno.EIO, "aborted")

    def namespace(
        self,
        operation: NAMESPACE_OPERATION,
        touched: tuple[int, ...],
        several: tuple[int, ...] = (),
    ) -> int:
        self._introduce(operation.parent)
        if isinstance(operation, Rename):
            self._introduce(operation.new_parent)
        if isinstance(operation, Link):
            self._introduce(operation.node)
        self._send(operation)
        if isinstance(operation, Create):
            self.introduced.add(operation.node)
        return 1

    def write(self, operation: Write, data: memoryview) -> int:
        if self._introduce(operation.node):
            self._send(operation, bytes(data))
        return 1

    def change(self, operation: CHANGE_OPERATION) -> int:
        if self._introduce(operation.node):
            self._send(operation)
        return 1

    def fsync(self, operation: Fsync) -> int:
        if self._introduce(operation.node):
            self._send(operation)
        return 1

    def forgotten(self, directory: int, node: int) -> None:
        if node in self.introduced:
            self.introduced.discard(node)
            self._send(Forget(directory, node))

    def local_failed(self, error: int, text: str) -> None:
        self.failures.append(f"local disk: {error}")

    def _introduce(self, node: int) -> bool:
        if node in self.introduced:
            return True
        assert self.places is not None
        with self.places.lock:
            steps = self.places.introductions(node)
            if steps is None:
                return False
            for step in steps:
                if step.node not in self.introduced:
                    self._send(step)
                    self.introduced.add(step.node)
        return True

    def _send(self, operation: ANY_OPERATION, data: bytes = b"") -> None:
        with self.lock:
            kind = type(operation).__name__
            self.counts[kind] = self.counts.get(kind, 0) + 1
            try:
                self.applier.apply(decode(encode(operation), len(data)), data)
            except OSError as fault:
                self.failures.append(f"{operation}: {fault}")


class Pair:
    """A mounted directory, and the mirror of it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.point, self.target = folder / "data", folder / "mirror"
        self.point.mkdir()
        self.target.mkdir()
        folder.chmod(0o755)
        self.reports: list[str] = []
        self.journal = MirrorJournal(self.target, options.get("descriptors_max", 4096))
        options = {"devices_allowed": True} | options
        self.files = FileSystem(self.point, 0, self.journal, report=self.reports.append, **options)

    def run(self, work: str) -> None:
        """Run a function of `file_work.py` as a process, in the mounted directory."""
        finished = subprocess.run(
            [sys.executable, str(WORK), work],
            cwd=self.point,
            timeout=WORK_SECONDS,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]

    def settle(self) -> None:
        """Unmount, then expect both sides to be equal."""
        self.files.unmount()
        assert self.journal.failures == []
        assert self.reports == []
        assert tree(self.target) == tree(self.point)


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about every inode below, except times of directories and change times."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif stat.S_ISREG(status.st_mode):
            content = (status.st_mtime_ns, path.read_bytes())
        found[str(path.relative_to(root))] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_nlink if not path.is_dir() else 0,
            status.st_rdev,
            sorted(xattrs.items()),
            content,
        )
    return found


@contextmanager
def mounted(folder: Path, **options: Any) -> Iterator[Pair]:
    pair = Pair(folder, **options)
    pair.files.mount()
    try:
        yield pair
    finally:
        if pair.files.mounted:
            pair.journal.aborted = True
            pair.journal.gate.set()
            pair.files.abort()
            pair.files.unmount(lazy=True)
        pair.journal.applier.close()


@pytest.fixture(params=["commit", "each"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    options: dict[str, Any] = {"writeback": request.param == "commit"}
    options["each"] = request.param == "each"
    with mounted(tmp_path, **options) as made:
        yield made


# --- stories --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "work",
    [
        "every_kind_of_operation",
        "open_files_survive_their_names",
        "data_in_every_way",
        "databases",
        "many_writers_and_renames",
        "capabilities",
        "default_acls",
        "big_directory",
    ],
)
def test_a_mirror_ends_up_equal(pair: Pair, work: str) -> None:
    pair.run(work)
    pair.settle()


@pytest.mark.parametrize("work", ["many_writers_and_renames", "open_files_survive_their_names"])
def test_few_descriptors_suffice(tmp_path: Path, work: str) -> None:
    with mounted(tmp_path, descriptors_max=8) as pair:
        pair.run(work)
        pair.settle()


def test_what_was_there_before_the_mount_is_introduced(tmp_path: Path) -> None:
    with mounted(tmp_path) as pair:
        pair.run("every_kind_of_operation")
        pair.files.unmount()
        pair.journal.introduced = {ROOT}
        pair.journal.applier.begin(lenient=False)
        pair.files.mount()
        pair.run("change_what_is_there")
        pair.settle()


def test_ordinary_users_own_what_they_create_and_are_refused_the_rest(pair: Pair) -> None:
    for name, mode, group in (("open", 0o777, 0), ("group", 0o2770, 1236), ("closed", 0o700, 0)):
        os.mkdir(pair.point / name)
        os.chown(pair.point / name, 0, group)
        os.chmod(pair.point / name, mode)

    pair.run("as_an_ordinary_user")
    pair.settle()


def test_an_archive_is_unpacked(pair: Pair, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(Path(__file__).parents[2] / "actors", "actors")
    subprocess.run(["tar", "xf", archive], cwd=pair.point, timeout=120, check=True)
    subprocess.run(["cp", "-al", "actors", "linked"], cwd=pair.point, timeout=120, check=True)
    subprocess.run(["rm", "-r", "actors"], cwd=pair.point, timeout=120, check=True)
    pair.settle()


def test_an_abort_frees_a_blocked_writer_at_once(tmp_path: Path) -> None:
    with mounted(tmp_path, writeback=False) as pair:
        names = [f"file{number}" for number in range(6)]
        for name in names:
            (pair.point / name).write_text("content")
        pair.journal.gate.clear()
        writers = [
            subprocess.Popen(
                [sys.executable, str(WORK), "truncate_one", name],
                cwd=pair.point,
                stdout=subprocess.PIPE,
            )
            for name in names
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"1\n"
            writer.stdout.close()
        # Readers are served on, however many writers wait.
        assert (pair.point / "file0").read_text() == "content"
        started = time.monotonic()
        pair.files.abort()
        assert [writer.wait(60) for writer in writers] == [7] * 6
        # Six processes end as well: on a busy machine that takes longer than the abort.
        assert time.monotonic() - started < 10, "nothing else frees them before two minutes"
        with pytest.raises(OSError, match=r"not connected|abort"):
            os.listdir(pair.point)
        pair.journal.aborted = True
        pair.journal.gate.set()
        pair.files.unmount(lazy=True)
        assert sorted(os.listdir(pair.point)) == names


def test_a_secondary_reads_what_is_applied_behind_and_cannot_write(tmp_path: Path) -> None:
    with mounted(tmp_path, read_only=True) as pair:
        root = f"/proc/self/fd/{pair.files.backing_fd}"
        behind = Path(root)
        (behind / "file").write_text("first")
        assert (pair.point / "file").read_text() == "first"
        (behind / "file").write_text("second, longer")
        assert (pair.point / "file").read_text() == "second, longer"
        (behind / "file").unlink()
        assert os.listdir(pair.point) == []
        with pytest.raises(OSError, match="Read-only"):
            (pair.point / "other").write_text("no")
        pair.settle()


def test_a_secondary_keeps_nothing_of_what_was_seen_there_and_removed(tmp_path: Path) -> None:
    def kept() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [path for path in found if "/seen" in path]

    with mounted(tmp_path, read_only=True) as pair:
        behind = Path(f"/proc/self/fd/{pair.files.backing_fd}")
        for name in ("seen", "seen too"):
            (behind / name).write_bytes(b"x" * 100_000)
        subprocess.run(["ls", "-lR", pair.point], check=True, capture_output=True)
        assert not kept(), "who listed them uses no space of the disk"
        reader = subprocess.Popen(["tail", "-f", "-c", "1", pair.point / "seen"], stdout=-1)
        assert reader.stdout is not None
        try:
            assert reader.stdout.read(1) == b"x"
            (behind / "seen").rename(behind / "seen before")
            with (behind / "seen before").open("ab") as file:
                file.write(b"y")
            assert reader.stdout.read(1) == b"y", "what is open is read on"
        finally:
            reader.kill()
            reader.wait()
            reader.stdout.close()
        (behind / "seen before").unlink()
        (behind / "seen too").unlink()
        deadline = time.monotonic() + 5
        while kept():
            assert time.monotonic() < deadline, kept()
            time.sleep(0.01)
        pair.settle()


def test_a_dead_mount_of_a_predecessor_is_detached(tmp_path: Path) -> None:
    with mounted(tmp_path) as pair:
        pair.files.abort()
        second = FileSystem(pair.point, 0, LocalJournal())
        second.mount()
        try:
            (pair.point / "file").write_text("alive")
            assert (pair.point / "file").read_text() == "alive"
        finally:
            second.unmount()
        assert mount.topmost(bytes(pair.point)) is None
        pair.files._end = lambda **_: None  # type: ignore[method-assign]


def test_a_live_mount_is_not_taken_over_and_one_in_use_is_not_unmounted(tmp_path: Path) -> None:
    with mounted(tmp_path) as pair:
        with pytest.raises(OSError, match="already mounted"):
            FileSystem(pair.point, 0, LocalJournal()).mount()
        with (pair.point / "file").open("w"), pytest.raises(OSError, match="busy"):
            pair.files.unmount()
        pair.settle()


def test_a_full_disk_is_told_at_the_flush_and_nothing_is_read_that_it_did_not_take(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        with mounted(disk, writeback=True) as pair:
            path = pair.point / "file"
            # Not a whole number of pages is left: the last write is taken in part.
            (pair.point / "other").write_bytes(b"o" * 700_000)
            with path.open("wb", buffering=0) as file:
                file.write(b"x" * 500_000)
                with pytest.raises(OSError, match="No space left"):
                    os.fsync(file.fileno())
            kept = Path(f"/proc/self/fd/{pair.files.backing_fd}/file").read_bytes()
            assert len(kept) < 500_000
            with path.open("rb") as file:
                assert file.read().rstrip(b"\0") == kept.rstrip(b"\0")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("writeback", [True, False], ids=["commit", "each"])
def test_a_full_disk_is_told_at_the_flush_of_a_mapping(tmp_path: Path, writeback: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        with mounted(disk, writeback=writeback, each=not writeback) as pair:
            # The mirror lies on this disk, too: only for a part of the mapping there is room.
            (pair.point / "other").write_bytes(b"o" * 350_000)
            pair.run("map_more_than_the_disk_holds")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_what_a_mapping_holds_is_found_before_it_is_written_back(pair: Pair) -> None:
    pair.run("look_for_data_in_a_mapping")
    pair.settle()


def test_a_disk_that_was_made_read_only_is_a_failed_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        with mounted(disk) as pair:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            for work in (os.mkdir, Path.touch):
                pair.journal.failures.clear()
                assert refused(work, pair.point / "new") == errno.EROFS
                assert pair.journal.failures == [f"local disk: {errno.EROFS}"]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_part_that_is_mounted_read_only_is_no_failed_disk(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    shown = pair.point / "shown"
    for folder in (shown, pair.target / "shown"):
        folder.mkdir()
        (folder / "file").write_text("content")
    subprocess.run(["mount", "--bind", shown, shown], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", shown], check=True)
    pair.files.mount()
    try:
        for work, name in ((os.mkdir, "new"), (Path.touch, "new"), (os.unlink, "file")):
            assert refused(work, shown / name) == errno.EROFS
        assert refused(os.truncate, shown / "file", 0) == errno.EROFS
        assert refused(os.setxattr, shown / "file", "user.x", b"y") == errno.EROFS
        assert pair.journal.failures == []
    finally:
        pair.files.unmount(lazy=True)
        subprocess.run(["umount", shown], check=True)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOTCONN])
def test_what_is_mounted_below_and_fails_is_no_failed_disk(tmp_path: Path, error: int) -> None:
    def fails(_: Request) -> Reply:
        raise OSError(error, "as ordered")

    pair = Pair(tmp_path)
    inner = pair.point / "inner"
    inner.mkdir()
    other = FileSystem(inner, 0, LocalJournal(), read_only=True)  # So nothing is cached.
    other.mount()
    below = os.open(pair.point, os.O_RDONLY)
    try:
        assert other._server is not None
        handlers: Any = other._server._handlers
        handlers[protocol.GETATTR] = fails
        assert refused(os.stat, inner) == error
        pair.files.mount()
        assert refused(os.stat, inner) == errno.EXDEV
        assert [name.name for name in os.scandir(pair.point)] == ["inner"]
        assert inventory.entry(below, b"inner") is None, "it is not replicated"
        assert pair.journal.failures == []
    finally:
        os.close(below)
        pair.files.unmount(lazy=True)
        other.unmount(lazy=True)


def test_a_device_is_refused_where_the_secondary_would_refuse_it(tmp_path: Path) -> None:
    pair = Pair(tmp_path, devices_allowed=False)
    pair.files.mount()
    try:
        with pytest.raises(PermissionError):
            os.mknod(pair.point / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mkfifo(pair.point / "pipe")
        assert (pair.target / "pipe").is_fifo()
        assert not pair.journal.failures
    finally:
        pair.files.unmount(lazy=True)


def refused(action: Any, *arguments: Any) -> int:
    with pytest.raises(OSError, match=r"\w") as caught:
        action(*arguments)
    return caught.value.errno or 0


def test_the_journal_hears_nothing_of_what_is_not_replicated(tmp_path: Path) -> None:
    exclusions = Exclusions(["cache", "a/b/mine"], ["[.]tmp$"])
    with mounted(tmp_path, exclusions=exclusions) as pair:
        point = pair.point
        (point / "cache/deep").mkdir(parents=True)
        (point / "cache/deep/file").write_bytes(b"x" * 300_000)
        (point / "one.tmp").write_bytes(b"1")
        with (point / "one.tmp").open("r+b") as file:
            file.truncate(0)
            file.write(b"again")
            file.flush()
            os.fsync(file.fileno())
            os.posix_fallocate(file.fileno(), 0, 10_000)
        os.chmod(point / "one.tmp", 0o600)
        os.setxattr(point / "one.tmp", "user.x", b"y")
        os.link(point / "one.tmp", point / "cache/two")
        os.symlink("nowhere", point / "link.tmp")
        os.rename(point / "cache/two", point / "cache/three")
        os.unlink(point / "cache/deep/file")
        os.rmdir(point / "cache/deep")
        assert pair.journal.counts == {}
        assert list(pair.target.iterdir()) == []
        pair.files.unmount()  # They are on the disk, for the next mount.
        assert sorted(os.listdir(point / "cache")) == ["three"]
        assert pair.journal.failures == []


def test_nothing_moves_across_the_border_of_what_is_replicated(tmp_path: Path) -> None:
    exclusions = Exclusions(["cache", "a/b/mine"], ["[.]tmp$"])
    with mounted(tmp_path, exclusions=exclusions) as pair:
        point = pair.point
        (point / "cache").mkdir()
        (point / "a/b").mkdir(parents=True)
        (point / "file").write_text("content")
        (point / "local.tmp").write_text("own")
        for old, new in (
            ("file", "file.tmp"),
            ("file", "cache/file"),
            ("local.tmp", "local"),
            ("cache", "else"),
            ("a", "c"),  # What is not replicated below it would be, elsewhere.
            ("a/b", "a/c"),
        ):
            assert refused(os.rename, point / old, point / new) == errno.EXDEV, (old, new)
        for old, new in (("file", "cache/file"), ("local.tmp", "local")):
            assert refused(os.link, point / old, point / new) == errno.EXDEV, (old, new)
        # The usual tool then copies: out of the replicated part it goes, and back in whole.
        for old, new in (("file", "cache/file"), ("cache/file", "back"), ("local.tmp", "local")):
            subprocess.run(["mv", point / old, point / new], check=True, timeout=120)
        subprocess.run(["mv", point / "a", point / "c"], check=True, timeout=120)
        (point / "a/b").mkdir(parents=True)
        (point / "a/b/mine").write_text("own")
        (point / "c/b/mine").write_text("replicated: it lies elsewhere")
        pair.files.unmount()
        assert pair.journal.failures == []
        here, there = tree(point), tree(pair.target)
        assert set(here) - set(there) == {"cache", "a/b/mine"}
        assert {name: here[name] for name in there if name != "."} == {
            name: there[name] for name in there if name != "."
        }
        assert (pair.target / "back").read_text() == "content"
        assert (pair.target / "local").read_text() == "own"


def test_a_directory_goes_with_what_the_secondary_has_of_its_own_in_it(tmp_path: Path) -> None:
    exclusions = Exclusions([], ["[.]tmp$"])
    with mounted(tmp_path, exclusions=exclusions) as pair:
        pair.journal.applier.close()
        pair.journal.applier = Applier([bytes(pair.target)], exclusions=[exclusions])
        for name in ("goes", "replaced", "new", "holds"):
            (pair.point / name).mkdir()
            (pair.target / name / "own.tmp/deep").mkdir(parents=True)
            (pair.target / name / "also.tmp").write_text("x")
        (pair.target / "holds/surprise").write_text("the two sides differ")
        os.rmdir(pair.point / "goes")
        os.rename(pair.point / "new", pair.point / "replaced")
        assert pair.journal.failures == []
        assert sorted(os.listdir(pair.target / "replaced")) == ["also.tmp", "own.tmp"]
        os.rmdir(pair.point / "holds")
        assert len(pair.journal.failures) == 1, "what nobody excluded is never removed with it"
