"""The mounted file system against the kernel, mirrored into a second directory."""

import errno
import inspect
import os
import stat
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.replicator.applier import Applier
from mirrorfarm.actors.replicator.fuse import mount
from mirrorfarm.actors.replicator.fuse.filesystem import FileSystem
from mirrorfarm.actors.replicator.journal import Answer, LocalJournal, Places
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

WORK_SECONDS = 120


class MirrorJournal(LocalJournal):
    """Sends every operation through its bytes into a second directory, in this process."""

    def __init__(self, target: Path) -> None:
        self.applier = Applier([bytes(target)], devices_allowed=True)
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

    def namespace(self, operation: NAMESPACE_OPERATION, touched: tuple[int, ...]) -> int:
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

    def local_failed(self, error: int, where: str) -> None:
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
        self.journal = MirrorJournal(self.target)
        self.files = FileSystem(
            self.point, 0, self.journal, report=self.reports.append, **options
        )

    def run(self, work: Callable[[], None], **options: Any) -> None:
        """Run a function's source in a process of its own, in the mounted directory."""
        code = textwrap.dedent(inspect.getsource(work)) + f"\n{work.__name__}()\n"
        finished = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.point,
            timeout=WORK_SECONDS,
            capture_output=True,
            text=True,
            check=False,
            **options,
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


# --- workloads: each one is run as a program of its own ------------------------------------


def every_kind_of_operation() -> None:
    import os
    import socket
    import stat

    os.umask(0o022)
    with open("file", "wb") as f:
        f.write(b"x" * 100_000)
    os.mkdir("directory")
    os.mkdir("empty")
    os.rmdir("empty")
    os.symlink("file", "soft")
    os.mkfifo("pipe", 0o640)
    socket.socket(socket.AF_UNIX).bind("sock")
    os.mknod("null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.link("file", "directory/hard")
    assert os.stat("file").st_nlink == 2
    os.rename("file", "directory/moved")
    os.chmod("directory/moved", 0o4755)
    os.chown("directory/moved", 1000, 1001)
    assert os.stat("directory/moved").st_mode & 0o7777 == 0o755
    os.chown("soft", 12, 13, follow_symlinks=False)
    os.chmod("directory", 0o2775)
    os.utime("directory/moved", ns=(1_000_000_000_123, -5_000_000_001))
    os.setxattr("directory/moved", "user.note", b"\x00\x01")
    os.setxattr("directory", "trusted.note", b"t" * 300)
    os.removexattr("directory", "trusted.note")
    os.truncate("directory/moved", 12_345)
    open("directory/hard", "ab").write(b"appended")
    assert os.path.getsize("directory/moved") == 12_353
    fd = os.open("holes", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"h" * 400_000)
    os.posix_fallocate(fd, 500_000, 100_000)
    import ctypes

    c_long = ctypes.c_long
    assert ctypes.CDLL(None).fallocate(fd, 3, c_long(65_536), c_long(131_072)) == 0
    os.fsync(fd)
    os.close(fd)
    assert open("holes", "rb").read()[65_536:196_608] == bytes(131_072)
    try:
        os.mkdir("directory")
        raise AssertionError("twice")
    except FileExistsError:
        pass
    try:
        os.rmdir("directory")
        raise AssertionError("not empty")
    except OSError as e:
        assert e.errno == 39
    open("first", "w").write("1")
    open("second", "w").write("2")
    number = 316  # renameat2
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    at = ctypes.c_int(-100)
    assert syscall(number, at, b"first", at, b"second", 2) == 0
    assert open("first").read() == "2"
    assert syscall(number, at, b"first", at, b"second", 1) == -1
    assert ctypes.get_errno() == 17


def open_files_survive_their_names() -> None:
    import os

    for name in ("a", "b", "gone"):
        open(name, "w").write(name * 1000)
    os.link("a", "a2")
    f = open("a", "r+b")
    g = open("b", "r+b")
    h = open("gone", "r+b")
    os.rename("a", "b")  # Over the open b: g has no name any more.
    os.unlink("gone")
    for opened in (f, g, h):
        opened.seek(10_000)
        opened.write(b"after")
        opened.flush()
        os.fsync(opened.fileno())
    assert os.fstat(g.fileno()).st_nlink == 0
    os.unlink("b")  # f lives on as a2.
    f.seek(20_000)
    f.write(b"last")
    f.close()
    g.close()
    h.close()
    assert os.path.getsize("a2") == 20_004
    os.mkdir("deep")
    os.mkdir("deep/er")
    k = open("deep/er/file", "wb")
    os.rename("deep", "renamed")
    k.write(b"k" * 5000)
    k.close()


def data_in_every_way() -> None:
    import mmap
    import os

    with open("mapped", "wb") as f:
        f.truncate(1 << 20)
    with open("mapped", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        for place in range(0, 1 << 20, 9_999):
            m[place : place + 4] = b"mmap"
        m.flush()
        m[-3:] = b"end"  # Left to the kernel.
    fd = os.open("direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    block = mmap.mmap(-1, 8192)
    block[:] = b"d" * 8192
    for place in range(16):
        assert os.pwrite(fd, block, place * 8192) == 8192
    assert os.preadv(fd, [block], 8192) == 8192
    os.close(fd)
    fd = os.open("synchronous", os.O_WRONLY | os.O_CREAT | os.O_SYNC, 0o644)
    for _ in range(20):
        os.write(fd, b"s" * 1000)
    os.close(fd)
    fd = os.open("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    other = os.open("appended", os.O_WRONLY | os.O_APPEND)
    for number in range(50):
        os.write((fd, other)[number % 2], b"%04d" % number)
    os.close(fd)
    os.close(other)
    assert open("appended", "rb").read() == b"".join(b"%04d" % n for n in range(50))
    with open("big", "wb") as f:
        for number in range(24):
            f.write(bytes([number]) * (1 << 20))
    with open("big", "rb") as f:
        for number in range(24):
            assert f.read(1 << 20) == bytes([number]) * (1 << 20)
    with open("big", "r+b") as f:
        f.truncate(3_000_001)
        f.seek(5_000_000)
        f.write(b"beyond")
    os.chmod("big", 0o4777)
    assert os.path.getsize("big") == 5_000_006


def databases() -> None:
    import sqlite3

    for mode in ("delete", "wal", "truncate"):
        with sqlite3.connect(f"{mode}.db") as database:
            database.execute(f"pragma journal_mode={mode}")
            database.execute("create table t(n integer primary key, text text)")
            for start in range(20):
                rows = [(start * 50 + n, "x" * 100) for n in range(50)]
                database.executemany("insert into t values(?, ?)", rows)
                database.commit()
            database.execute("delete from t where n % 3 = 0")
            database.commit()
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        database.close()


def many_writers_and_renames() -> None:
    import os
    import random
    import shutil

    for number in range(4):
        os.makedirs(f"d{number}/sub", exist_ok=True)
    children = []
    for worker in range(4):
        child = os.fork()
        if child:
            children.append(child)
            continue
        dice = random.Random(worker)
        for step in range(500):
            path = f"d{dice.randrange(4)}/" + dice.choice(["", "sub/"]) + f"f{dice.randrange(12)}"
            other = f"d{dice.randrange(4)}/" + f"f{dice.randrange(12)}"
            try:
                match dice.randrange(12):
                    case 0:
                        os.rename(path, other)
                    case 1:
                        os.unlink(path)
                    case 2:
                        os.link(path, other)
                    case 3:
                        os.truncate(path, dice.randrange(5000))
                    case 4:
                        os.chmod(path, dice.choice([0o600, 0o644, 0o6755]))
                    case 5:
                        os.chown(path, dice.randrange(5), dice.randrange(5))
                    case 6:
                        a, b = dice.sample(range(4), 2)
                        os.rename(f"d{a}/sub", f"d{b}/sub{dice.randrange(3)}")
                    case 7:
                        os.setxattr(path, "user.step", b"%d" % step)
                    case 8:
                        shutil.rmtree(f"d{dice.randrange(4)}/sub{dice.randrange(3)}")
                    case _:
                        with open(path, dice.choice(["wb", "ab", "r+b"])) as f:
                            f.seek(dice.randrange(9000))
                            f.write(os.urandom(dice.randrange(20_000)))
                            if dice.randrange(3) == 0:
                                f.flush()
                                os.fsync(f.fileno())
            except OSError:
                pass
        os._exit(0)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0


def as_an_ordinary_user() -> None:
    import os

    os.setgroups([1236])
    os.setresgid(1235, 1235, 1235)
    os.setresuid(1234, 1234, 1234)
    os.umask(0o027)
    os.mkdir("open/mine")
    open("open/mine/file", "w").write("mine")
    os.symlink("file", "open/mine/soft")
    os.mkfifo("open/mine/pipe")
    status = os.stat("open/mine/file")
    assert (status.st_uid, status.st_gid, oct(status.st_mode)) == (1234, 1235, "0o100640")
    assert os.lstat("open/mine/soft").st_uid == 1234
    open("group/file", "w").write("1")  # Only allowed by a supplementary group.
    assert os.stat("group/file").st_gid == 1236  # The directory is setgid.
    for forbidden in ("closed/file", "closed"):
        try:
            open(forbidden)
            raise AssertionError(forbidden)
        except (PermissionError, IsADirectoryError):
            pass
    try:
        os.chown("open/mine/file", 0, 0)
        raise AssertionError("chown")
    except PermissionError:
        pass
    os.chmod("open/mine/file", 0o6755)
    with open("open/mine/file", "a") as f:
        f.write("x")  # Writing takes setuid and setgid away.
    assert oct(os.stat("open/mine/file").st_mode) == "0o100755"


def default_acls() -> None:
    import os
    import struct

    def acl(*entries: tuple[int, int, int]) -> bytes:
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)

    nobody = 0xFFFFFFFF
    value = acl((1, 7, nobody), (2, 7, 1234), (4, 5, nobody), (16, 7, nobody), (32, 0, nobody))
    os.umask(0o077)
    os.mkdir("shared", 0o755)
    os.setxattr("shared", "system.posix_acl_default", value)
    os.mkdir("shared/directory")
    open("shared/file", "w").write("acl")
    assert "system.posix_acl_access" in os.listxattr("shared/file")
    assert "system.posix_acl_default" in os.listxattr("shared/directory")
    os.chmod("shared/file", 0o640)
    os.removexattr("shared", "system.posix_acl_default")
    open("shared/plain", "w").write("")
    assert os.stat("shared/plain").st_mode & 0o777 == 0o600


def big_directory() -> None:
    import os

    os.mkdir("big")
    for number in range(3000):
        os.close(os.open(f"big/{'n' * (number % 200)}{number}", os.O_CREAT | os.O_WRONLY))
    assert len(os.listdir("big")) == 3000
    seen = set()
    with os.scandir("big") as entries:
        for place, entry in enumerate(entries):
            seen.add(entry.name)
            entry.stat()
            if place % 2:
                os.unlink(entry.path)
    assert len(seen) == 3000
    assert len(os.listdir("big")) == 1500


# --- stories --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "work",
    [
        every_kind_of_operation,
        open_files_survive_their_names,
        data_in_every_way,
        databases,
        many_writers_and_renames,
        default_acls,
        big_directory,
    ],
)
def test_a_mirror_ends_up_equal(pair: Pair, work: Callable[[], None]) -> None:
    pair.run(work)
    pair.settle()


def test_what_was_there_before_the_mount_is_introduced(tmp_path: Path) -> None:
    with mounted(tmp_path) as pair:
        pair.run(every_kind_of_operation)
        pair.files.unmount()
        pair.journal.introduced = {ROOT}
        pair.journal.applier.begin(lenient=False)
        pair.files.mount()
        pair.run(_change_what_is_there)
        pair.settle()


def _change_what_is_there() -> None:
    import os

    open("directory/moved", "r+b").write(b"changed")
    os.unlink("directory/hard")
    os.rename("directory", "elsewhere")
    os.chmod("elsewhere/moved", 0o600)
    os.truncate("holes", 70_000)
    os.link("pipe", "elsewhere/pipe")


def test_ordinary_users_own_what_they_create_and_are_refused_the_rest(pair: Pair) -> None:
    for name, mode, group in (("open", 0o777, 0), ("group", 0o2770, 1236), ("closed", 0o700, 0)):
        os.mkdir(pair.point / name)
        os.chown(pair.point / name, 0, group)
        os.chmod(pair.point / name, mode)

    pair.run(as_an_ordinary_user)
    pair.settle()


def test_an_archive_is_unpacked(pair: Pair, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(Path(__file__).parents[2] / "actors", "actors")
    subprocess.run(["tar", "xf", archive], cwd=pair.point, timeout=60, check=True)
    subprocess.run(["cp", "-al", "actors", "linked"], cwd=pair.point, timeout=60, check=True)
    subprocess.run(["rm", "-r", "actors"], cwd=pair.point, timeout=60, check=True)
    pair.settle()


def test_an_abort_frees_a_blocked_writer_at_once(tmp_path: Path) -> None:
    with mounted(tmp_path, writeback=False) as pair:
        pair.journal.gate.clear()
        code = "import sys; print(1, flush=True)\ntry: open('new', 'w')\nexcept OSError: sys.exit(7)"
        writer = subprocess.Popen(
            [sys.executable, "-c", code], cwd=pair.point, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"1\n"
        # Readers are served on, however many writers wait.
        assert os.stat(pair.point).st_ino == os.fstat(pair.files.backing_fd).st_ino
        started = time.monotonic()
        pair.files.abort()
        assert writer.wait(5) == 7
        assert time.monotonic() - started < 1
        writer.stdout.close()
        with pytest.raises(OSError, match="not connected|abort"):
            os.listdir(pair.point)
        pair.journal.aborted = True
        pair.journal.gate.set()
        pair.files.unmount(lazy=True)
        assert os.listdir(pair.point) == []


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
