"""Whether this machine can run a module as it is configured: what is asked of the disk."""

import contextlib
import errno
import ipaddress
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Final

from mirrorfarm.modules.settings import Module
from mirrorfarm.modules.userconfig import nested
from mirrorfarm.netfilter.neighbours import IPAddress
from mirrorfarm.oserrors import CURES, reason_of
from mirrorfarm.paths import Paths

DEVICE: Final = Path("/dev/fuse")
OWN_KIND: Final = "fuse.mirrorfarm"  # A directory that mirrorfarm replicates right now.
_NETWORK_KINDS: Final = {"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "afs"}
_KERNEL_KINDS: Final = {
    *("proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "devpts", "securityfs", "debugfs"),
    *("tracefs", "configfs", "bpf", "mqueue", "hugetlbfs", "pstore", "efivarfs"),
}
# Who answers for a mount must not have to wait for it: programs are read while they run.
_RUN_FROM: Final = [
    os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, Path(__file__).parent)
]
_OCTAL = re.compile(r"\\([0-7]{3})")


def unsuitable(
    module: Module,
    others: list[Module],
    *,
    paths: Paths | None = None,
    file: str = "userconfig.xml",
) -> list[str]:
    """Return why this node cannot run `module` beside `others`: `file: key: reason; cure`.

    An empty list means that it can. `others` are the modules configured on this node.
    """
    paths = paths or Paths.from_environment()
    faults = [*_used_twice(module, others)]
    if module.replication.directories and not DEVICE.exists():
        faults.append(f"rfs: {DEVICE} is missing; load the kernel module: modprobe fuse")
    for replicated in module.replication.directories:
        _come_by(replicated.dir)
    mounted = mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    for replicated in module.replication.directories:
        faults += _directory(replicated.dir, paths, mounted)
        for wanted in replicated.tocheck:
            within = f"{wanted}/".startswith(f"{replicated.dir}/")
            if within and _died(replicated.dir, mounted):
                continue  # What lies beneath is seen again by the next start.
            if why := _unseen(wanted, "create it or mount its disk"):
                faults.append(f"tocheck.path: {why}")
    return [f"{file}: {fault}" for fault in faults]


def mounts(mountinfo: str) -> list[tuple[str, str]]:
    """Return mount point and kind of each mounted file system, in the order of mounting."""
    found: list[tuple[str, str]] = []
    for line in mountinfo.split("\n"):  # Nothing else ends one: users may name mounts.
        left, separator, right = line.partition(" - ")
        words = left.split(" ")
        if separator and len(words) > 4:
            point = _OCTAL.sub(lambda code: chr(int(code.group(1), 8)), words[4])
            found.append((point, right.split(" ", 1)[0]))
    return found


def kind_of(directory: str, mounted: list[tuple[str, str]]) -> str:
    """Return the kind of the file system that a directory is on; the last mounted wins."""
    best, kind = "", ""
    for point, candidate in mounted:
        above = point.rstrip("/") + "/"
        if (directory + "/").startswith(above) and len(above) >= len(best):
            best, kind = above, candidate
    return kind


def _come_by(directory: str) -> None:
    """Have a disk mounted that is mounted on demand."""
    with contextlib.suppress(OSError):  # What is wrong with it is found below.
        os.close(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def _directory(directory: str, paths: Paths, mounted: list[tuple[str, str]]) -> list[str]:
    """Return what is wrong with one replicated directory, as `key: reason; cure`."""
    path = Path(directory)
    key = "replicated.dir"
    for own in (paths.etc, paths.lib, paths.run, paths.log):
        if nested(directory, str(own)):
            return [f"{key}: {directory} and {own}, mirrorfarm's own, lie in each other; move it"]
    if _died(directory, mounted):
        return []  # Of a replicator that was killed: the module's next start unmounts it.
    if why := _unseen(directory, f"mkdir -p {shlex.quote(directory)}"):
        return [f"{key}: {why}"]
    real = os.path.realpath(path)
    if real != directory:
        return [f"{key}: {directory} is or crosses a symbolic link; write {real}"]
    for ours in _RUN_FROM:
        if f"{ours}/".startswith(f"{directory}/"):
            reason = f"{directory} holds {ours}, from which mirrorfarm runs"
            return [f"{key}: {reason}; replicate a directory of data alone"]
    if not path.is_dir():
        return [f"{key}: {directory} is not a directory; name the directory it is in"]
    faults: list[str] = []
    kind = kind_of(directory, mounted)
    if kind == "autofs":
        reason = f"{directory} waits for a disk that autofs cannot mount"
        faults.append(f"{key}: {reason}; mount it by hand to see why")
    elif kind in _KERNEL_KINDS:
        faults.append(f"{key}: {directory} is on {kind}, which holds no files; choose another")
    elif kind in _NETWORK_KINDS:
        faults.append(f"{key}: {directory} is on {kind}, on another machine; use a local disk")
    elif kind != OWN_KIND and (kind.startswith("fuse.") or kind == "fuse"):
        faults.append(f"{key}: {directory} is on {kind}; replicate the directory beneath it")
    elif kind != OWN_KIND and os.statvfs(path).f_flag & os.ST_RDONLY:
        faults.append(f"{key}: {directory} is on a read-only file system; remount it rw")
    return faults


def _unseen(path: str, cure: str) -> str:
    """Return why there is nothing at a path, and what to do: `cure` if it does not exist."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} does not exist; {cure}"
    except OSError as error:
        cured = CURES.get(error.errno or 0, "`dmesg` may say more")
        return f"{path} cannot be read ({reason_of(error)}); {cured}"
    return ""


def _died(directory: str, mounted: list[tuple[str, str]]) -> bool:
    """Return whether a dead mount of mirrorfarm's own lies on a directory."""
    kinds = [kind for point, kind in mounted if point == directory]
    if kinds[-1:] != [OWN_KIND]:
        return False
    try:
        os.statvfs(directory)  # The kernel may answer `stat` of a dead mount from its cache.
    except OSError as error:
        return error.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False


def _virtual(module: Module) -> list[IPAddress]:
    """Return the addresses of a mirror or a farm: whoever gives one up removes it from the node."""
    virtual = (*module.vips, *module.farm.virtual_addresses)
    return [ipaddress.ip_address(one.addr) for one in virtual]


def _used_twice(module: Module, others: list[Module]) -> list[str]:
    faults: list[str] = []
    own = _virtual(module)
    for other in others:
        if other.name == module.name:
            continue
        if other.id == module.id:
            faults.append(f"id: {module.id} is that of module {other.name}; install with another")
        for address in _virtual(other):
            if address in own:
                reason = f"{address} is used by module {other.name}; choose another address"
                faults.append(f"virtual_addr.addr: {reason}")
        for theirs in other.replication.directories:
            for mine in module.replication.directories:
                if nested(mine.dir, theirs.dir):
                    reason = f"{mine.dir} and {theirs.dir} of module {other.name} overlap"
                    faults.append(f"replicated.dir: {reason}; one module replicates a directory")
    return faults
