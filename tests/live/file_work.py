"""What programs do to files: each function works in the current directory, as a process.

Run as `python file_work.py NAME`; a broken expectation ends it with an error.
"""

import ctypes
import errno
import mmap
import os
import random
import shutil
import socket
import sqlite3
import stat
import struct
import sys

# ruff: noqa: SIM115 -- When exactly a file is closed is part of the work here.


def every_kind_of_operation() -> None:

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
    except OSError as fault:
        not_empty = fault.errno == errno.ENOTEMPTY
    assert not_empty
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

    with open("mapped", "wb") as f:
        f.truncate(1 << 20)
    with open("mapped", "r+b") as g, mmap.mmap(g.fileno(), 0) as m:
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
    with open("big", "rb") as h:
        for number in range(24):
            assert h.read(1 << 20) == bytes([number]) * (1 << 20)
    with open("big", "r+b") as g:
        g.truncate(3_000_001)
        g.seek(5_000_000)
        g.write(b"beyond")
    os.chmod("big", 0o4777)
    assert os.path.getsize("big") == 5_000_006


def databases() -> None:

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
    os.chmod("open/mine/file", 0o6755)
    with open("open/mine/file", "r+b") as f:
        os.posix_fallocate(f.fileno(), 0, 10_000)  # So does this.
    assert oct(os.stat("open/mine/file").st_mode) == "0o100755"


def capabilities() -> None:

    name, value = "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
    for given in ("while open", "afterwards"):
        fd = os.open(given, os.O_RDWR | os.O_CREAT, 0o755)
        os.write(fd, b"#!" + bytes(10_000))  # Written back by the kernel when it is closed.
        if given == "while open":
            os.setxattr(fd, name, value)
        os.close(fd)
        if given == "afterwards":
            os.setxattr(given, name, value)
    for taken, work in (("written", "r+b"), ("appended", "ab")):
        shutil.copyfile("afterwards", taken)
        os.setxattr(taken, name, value)
        with open(taken, work) as f:
            f.write(b"other")
        assert name not in os.listxattr(taken)
    for kept in ("while open", "afterwards"):
        assert os.getxattr(kept, name) == value


def default_acls() -> None:

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


def change_what_is_there() -> None:

    open("directory/moved", "r+b").write(b"changed")
    os.unlink("directory/hard")
    os.rename("directory", "elsewhere")
    os.chmod("elsewhere/moved", 0o600)
    os.truncate("holes", 70_000)
    os.link("pipe", "elsewhere/pipe")


def truncate_one() -> None:
    sys.stdout.write("1\n")
    sys.stdout.flush()
    try:
        os.truncate(sys.argv[2], 3)
    except OSError:
        sys.exit(7)


def map_more_than_the_disk_holds() -> None:
    with open("file", "w+b") as file:
        file.truncate(800_000)
        with mmap.mmap(file.fileno(), 0) as mapping:
            mapping[:] = b"x" * 800_000
            try:
                mapping.flush()
                raise AssertionError("flushed")
            except OSError as fault:
                full = fault.errno == errno.ENOSPC
            assert full


def look_for_data_in_a_mapping() -> None:
    with open("file", "w+b") as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 0) as mapping:
            mapping[65_536:65_540] = b"data"
            start = os.lseek(file.fileno(), 0, os.SEEK_DATA)
            assert start <= 65_536 < os.lseek(file.fileno(), start, os.SEEK_HOLE)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
