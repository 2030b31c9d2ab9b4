"""What is told of an OSError: which file, why, and what to do about it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mirrorfarm.errors import UsageInvalid

_ROOT: Final = "run as root, or as who owns it"
CURES: Final = {
    errno.ENOSPC: "make room there, or use another file system",
    errno.EDQUOT: "remove files of this user there, or have the quota raised",
    errno.EFBIG: "allow larger files (`ulimit -f`), or use another file system",
    errno.EROFS: "mount its file system for writing, or use another one",
    errno.EIO: "its disk fails (`dmesg` says more): use another one",
    errno.EACCES: _ROOT,
    errno.EPERM: _ROOT,
    errno.ENOENT: "check how it is spelt, or make its folder first",
    errno.ENOTDIR: "a part of this path is a file: name another place",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "remove it, or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "name the file itself, not a link",
    errno.ENOTCONN: "its file system has died: unmount that (`umount -l`), and mount it again",
    errno.EMFILE: "allow more open files (`ulimit -n`)",
    errno.ENFILE: "allow the machine more open files (sysctl fs.file-max)",
    errno.EAGAIN: "allow more processes (`ulimit -u`, TasksMax= of the systemd unit)",
    errno.ENOMEM: "end other programs, or use a machine with more memory",
}
_UNKNOWN: Final = "the kernel's messages (`dmesg`) may say more"


def reason_of(error: OSError) -> str:
    """Return why, without number and file."""
    return error.strerror or str(error)


def told(error: OSError) -> str:
    """Return file, reason and cure; of an error that is of no file, the reason and the cure."""
    names = (_name(one) for one in (error.filename, error.filename2) if one is not None)
    where = " -> ".join(names)
    parts = [where] if where else []
    return ": ".join([*parts, reason_of(error), CURES.get(error.errno or 0, _UNKNOWN)])


def _name(file: Any) -> str:
    return file.decode(errors="replace") if isinstance(file, bytes) else str(file)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError of the block name a file: those of writing and closing one name none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def require_writable(file: Path) -> None:
    """Raise UsageInvalid where nothing can be written, before minutes of work are lost there."""
    if not file.parent.is_dir():
        raise UsageInvalid(f"-o {file}: there is no folder {file.parent}; make it first")
    if not os.access(file.parent, os.W_OK):
        raise UsageInvalid(f"-o {file}: nothing can be written there: name another place")
