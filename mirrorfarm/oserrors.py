"""What is told of an OSError: which file, why, and what to do about it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mirrorfarm.errors import UsageInvalid

_DAMAGED: Final = "its file system is damaged: unmount it, and have it repaired (`fsck`)"
_DIED: Final = "its file system has died: unmount that (`umount -l`), and mount it again"
_NETWORK: Final = "see that its interface is up and has a route there (`ip addr`, `ip route`)"
_OTHER_KIND: Final = "its file system cannot do this: use another one, such as ext4 or xfs"
_ROOT: Final = "run as root, or as who owns it"
CURES: Final = {
    errno.ENOSPC: "make room there, or use another file system",
    errno.EDQUOT: "remove files of this user there, or have the quota raised",
    errno.EFBIG: "allow larger files (`ulimit -f`), or use another file system",
    errno.EROFS: "mount its file system for writing, or use another one",
    errno.EIO: "its disk fails (`dmesg` says more): use another one",
    errno.ENODATA: "its disk cannot read a part of it (`dmesg` says more): use another disk",
    errno.ENXIO: "its device is gone: attach it again, or use another one",
    errno.ENODEV: "see that its device or interface is there (`ip link`, `lsmod`)",
    errno.EUCLEAN: _DAMAGED,
    errno.EBADMSG: _DAMAGED,
    errno.ESTALE: "it was replaced, or exported anew: mount its file system again",
    errno.EACCES: _ROOT,
    errno.EPERM: _ROOT,
    errno.ENOENT: "check how it is spelt, or make its folder first",
    errno.ENOTDIR: "a part of this path is a file: name another place",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "remove it, or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "name the file itself, not a link",
    errno.ENOTEMPTY: "remove what is in it, or choose another name",
    errno.EXDEV: "name a place on the same file system",
    errno.EBUSY: "end who uses it (`fuser -vm` tells), and try again",
    errno.ETXTBSY: "it is being written, or run: wait for who does (`fuser -v` tells)",
    errno.ENOLCK: _OTHER_KIND,
    errno.EOPNOTSUPP: _OTHER_KIND,
    errno.ENOTCONN: _DIED,
    errno.ECONNABORTED: _DIED,
    errno.EADDRINUSE: "find who has it (`ip addr`, `ss -lntup`), and remove or end that",
    errno.EADDRNOTAVAIL: "give this machine the address (`ip addr` tells which it has)",
    errno.ENETDOWN: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
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
    return f"{located(error)}: {CURES.get(error.errno or 0, _UNKNOWN)}"


def located(error: OSError) -> str:
    """Return file and reason; of an error that is of no file, the reason."""
    names = (_name(one) for one in (error.filename, error.filename2) if one is not None)
    where = " -> ".join(names)
    return f"{where}: {reason_of(error)}" if where else reason_of(error)


def _name(file: Any) -> str:
    if isinstance(file, str | bytes):
        return os.fsencode(file).decode(errors="replace")
    return str(file)


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
