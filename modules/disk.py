"""Files of modules on disk: written whole or not at all, read within bounds, links not followed."""

import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mirrorfarm.errors import Refused
from mirrorfarm.modules.package import FILE_BYTES_MAX, FILES_MAX
from mirrorfarm.oserrors import naming

FOLDER_MODE = 0o700
SCRIPT_MODE = 0o700
FILE_MODE = 0o600
_HERE: Final = -100  # AT_FDCWD
_EXCHANGE: Final = 2  # RENAME_EXCHANGE


def read_file(path: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Return the content of a regular file; raise Refused if it is none, or too large.

    Raises FileNotFoundError if it does not exist.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)  # Of a folder nothing else can be made.
        raise Refused(f"{path} is not a regular file")
    with naming(path), open(descriptor, "rb") as stream:
        content = stream.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise Refused(f"{path} is larger than {bytes_max} bytes")
    return content


def read_module_files(folder: Path) -> dict[str, bytes]:
    """Return `conf/…` and `bin/…` of a module's folder."""
    found: dict[str, bytes] = {}
    for part in ("conf", "bin"):
        below = folder / part
        if below.is_symlink() or not below.is_dir():
            continue
        for path in sorted(below.iterdir()):
            if path.name == "__pycache__" or path.name.endswith((".pyc", "~")):
                continue
            if len(found) >= FILES_MAX:
                raise Refused(f"{folder} has more than {FILES_MAX} files")
            found[f"{part}/{path.name}"] = read_file(path)
    return found


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, and those above it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.mkdir(exist_ok=True, mode=FOLDER_MODE)


def write_new_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Return a new folder beside `folder` with these files, durable, to be renamed to it."""
    new = Path(tempfile.mkdtemp(prefix=f".new-{folder.name}-", dir=folder.parent))
    try:
        for part in ("conf", "bin"):
            (new / part).mkdir(mode=FOLDER_MODE)
        for path, content in files.items():
            _write(new / path, content, SCRIPT_MODE if path.startswith("bin/") else FILE_MODE)
        for part in ("conf", "bin", "."):
            sync_folder(new / part)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return new


def exchange(one: Path, other: Path) -> None:
    """Give each of two folders the name of the other: whoever is killed, both have one."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        failed = rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0
        number = ctypes.get_errno() if failed else 0
    except AttributeError:  # A C library without it.
        number = errno.ENOSYS
    if number in {errno.ENOSYS, errno.EINVAL}:  # Nor has every file system.
        aside = other.with_name(f".aside-{other.name}")
        shutil.rmtree(aside, ignore_errors=True)
        other.rename(aside)
        one.rename(other)
        aside.rename(one)
    elif number:
        raise OSError(number, os.strerror(number), str(one), None, str(other))


def write_file(path: Path, content: bytes) -> None:
    """Replace a file at once and durably (0600), or leave it as it is."""
    new = path.with_name(f".new-{path.name}-{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        _write(new, content, FILE_MODE)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _write(path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    with naming(path), open(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)  # Whatever the umask.
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
