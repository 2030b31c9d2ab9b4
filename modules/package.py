"""A module in one file: a `.safe` is a zip with conf/ and bin/, and nothing but that.

Everything is checked before anything is returned: two readers of one zip must never see two
different modules. Pure: bytes to files in memory, and back.
"""

import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from typing import Final

from mirrorfarm.limits import PACKAGE_BYTES_MAX
from mirrorfarm.modules.faults import Faults, shown
from mirrorfarm.modules.xml import XML_BYTES_MAX

USERCONFIG: Final = "conf/userconfig.xml"
FILES_MAX: Final = 256
FILE_BYTES_MAX: Final = XML_BYTES_MAX
UNPACKED_BYTES_MAX: Final = 8 * 1_048_576
RATIO_MAX: Final = 100
RATIO_FREE_BYTES: Final = 4_096  # A small file may be nothing but spaces.

_NAME = re.compile(r"(conf|bin)/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
# Of consoles before version 8 and of the reference product's own keys: checked, then left out.
_OBSOLETE = re.compile(
    r"manifest\.xml|web/([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/?)*|conf/modulekey\.(p12|dat)", re.ASCII
)
_END: Final = struct.Struct("<4s4H2LH")  # End of the central directory, without comment.
_LOCAL: Final = struct.Struct("<4s5H3L2H")  # Header before each file's bytes.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # The same files give the same package.


def pack(files: Mapping[str, bytes], name: str) -> bytes:
    """Return the package of a module's files; raise ConfigInvalid if it cannot be one."""
    faults = Faults(name)
    check_files(files, faults)
    faults.raise_if_any()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, _EPOCH)
            mode = 0o700 if path.startswith("bin/") else 0o600
            info.external_attr = (stat.S_IFREG | mode) << 16
            # Stored as it is where it would look like a bomb to who unpacks it.
            small = len(zlib.compress(files[path])) * RATIO_MAX // 2 < len(files[path])
            info.compress_type = zipfile.ZIP_STORED if small else zipfile.ZIP_DEFLATED
            archive.writestr(info, files[path])
    package = buffer.getvalue()
    if len(package) > PACKAGE_BYTES_MAX:
        faults.add(0, "package", f"{len(package)} bytes, more than {PACKAGE_BYTES_MAX}")
    faults.raise_if_any()
    return package


def unpack(package: bytes, name: str) -> dict[str, bytes]:
    """Return the files of a package, all checked; raise ConfigInvalid with every fault."""
    faults = Faults(name)
    if len(package) > PACKAGE_BYTES_MAX:
        faults.add(0, "package", f"{len(package)} bytes, more than {PACKAGE_BYTES_MAX}")
        faults.raise_if_any()
    files: dict[str, bytes] = {}
    try:
        _check_frame(package, faults)
        faults.raise_if_any()
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            entries = archive.infolist()
            _check_entries(entries, faults)
            _check_layout(package, entries, faults)
            faults.raise_if_any()
            for entry in entries:
                content = _content(archive, entry)
                if not _is_folder(entry) and not _OBSOLETE.fullmatch(entry.filename):
                    files[entry.filename] = content
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
    ) as error:
        faults.add(0, "package", f"not a sound zip file: {shown(str(error))}")
    faults.raise_if_any()
    check_files(files, faults)
    faults.raise_if_any()
    return files


def check_files(files: Mapping[str, bytes], faults: Faults) -> None:
    """Add what keeps these files from being a module."""
    if USERCONFIG not in files:
        faults.add(0, USERCONFIG, "absent, and the one file that every module has")
    if len(files) > FILES_MAX:
        faults.add(0, "files", f"{len(files)}, more than {FILES_MAX}")
    if sum(len(content) for content in files.values()) > UNPACKED_BYTES_MAX:
        faults.add(0, "files", f"more than {UNPACKED_BYTES_MAX} bytes together")
    for path, content in files.items():
        if not _NAME.fullmatch(path):
            faults.add(0, shown(path), "not a plain file in conf/ or bin/")
        if len(content) > FILE_BYTES_MAX:
            faults.add(0, shown(path), f"{len(content)} bytes, more than {FILE_BYTES_MAX}")
        if path.startswith("bin/") and "." not in path:
            _check_script(path, content, faults)


def _check_script(path: str, content: bytes, faults: Faults) -> None:
    """A file of bin/ without extension is run; find out now that it cannot be."""
    if content.startswith(b"\x7fELF"):
        return
    first, _, _ = content.partition(b"\n")
    if not first.startswith(b"#!/"):
        faults.add(1, shown(path), "must begin with its interpreter, such as #!/bin/bash")
    elif b"\r" in content:
        faults.add(1, shown(path), "has line ends of Windows; convert it with dos2unix")


def _check_frame(package: bytes, faults: Faults) -> None:
    """Refuse bytes before the first file, after the end, and counts that do not fit."""
    if len(package) < _END.size or not package.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        faults.add(0, "package", "not a zip file")
        return
    signature, disk, start_disk, here, total, size, offset, comment = _END.unpack(
        package[-_END.size :]
    )
    if signature != b"PK\x05\x06" or comment or offset + size + _END.size != len(package):
        faults.add(0, "package", "bytes before, between or after what a zip file lists")
    if disk or start_disk or here != total or total > FILES_MAX:
        faults.add(0, "package", f"{total} entries on {disk + 1} disks; at most {FILES_MAX} on one")


def _check_entries(entries: list[zipfile.ZipInfo], faults: Faults) -> None:
    seen: dict[str, str] = {}
    total = 0
    for entry in entries:
        name = shown(entry.filename) or "(entry without a name)"
        plain = unicodedata.normalize("NFC", entry.filename).casefold().rstrip("/")
        if plain in seen:
            faults.add(0, name, f"the same name as {shown(seen[plain])}")
        seen[plain] = entry.filename
        if not _allowed_name(entry):
            faults.add(0, name, "only plain files in conf/ and bin/ belong to a module")
        if not _allowed_type(entry):
            faults.add(0, name, "not a regular file: a link, a device, or set-user-id")
        if entry.flag_bits & 0x1:
            faults.add(0, name, "encrypted")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            faults.add(0, name, "compressed in a way other than deflate")
        most = entry.compress_size * RATIO_MAX + RATIO_FREE_BYTES
        if entry.file_size > min(most, FILE_BYTES_MAX):
            faults.add(0, name, f"{entry.file_size} bytes out of {entry.compress_size}: too many")
        total += entry.file_size
    if total > UNPACKED_BYTES_MAX:
        faults.add(0, "package", f"{total} bytes unpacked, more than {UNPACKED_BYTES_MAX}")


def _allowed_name(entry: zipfile.ZipInfo) -> bool:
    if entry.orig_filename != entry.filename:  # The reader cut it at a NUL, or turned a slash.
        return False
    if _is_folder(entry):
        return entry.filename in {"conf/", "bin/", "web/"} and entry.file_size == 0
    name = entry.filename
    return bool(_NAME.fullmatch(name) or _OBSOLETE.fullmatch(name))


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    # zipfile's own is_dir() of Python 3.11 fails on an empty name.
    return entry.filename.endswith("/")


def _allowed_type(entry: zipfile.ZipInfo) -> bool:
    mode = entry.external_attr >> 16
    wanted = {0, stat.S_IFDIR} if _is_folder(entry) else {0, stat.S_IFREG}
    return stat.S_IFMT(mode) in wanted and not mode & 0o7000


def _check_layout(package: bytes, entries: list[zipfile.ZipInfo], faults: Faults) -> None:
    """No two files share bytes, and each local header tells the same as the directory."""
    central = _END.unpack(package[-_END.size :])[6]
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = shown(entry.filename)
        if entry.header_offset < end:
            faults.add(0, name, "overlaps another entry")
            return
        local = _LOCAL.unpack(package[entry.header_offset : entry.header_offset + _LOCAL.size])
        start = entry.header_offset + _LOCAL.size
        end = start + local[9] + local[10] + entry.compress_size
        own_name = package[start : start + local[9]]
        if local[0] != b"PK\x03\x04" or own_name != entry.orig_filename.encode("utf-8"):
            faults.add(0, name, "has another name where its bytes are")
        if local[3] != entry.compress_type:
            faults.add(0, name, "is compressed otherwise where its bytes are")
        if end > central:
            faults.add(0, name, "reaches beyond the end of the files")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return one entry's bytes; reading to the end makes the reader compare the checksum."""
    with archive.open(entry) as stream:
        content = stream.read(FILE_BYTES_MAX + 1)
    if len(content) != entry.file_size:
        raise zipfile.BadZipFile(f"{entry.filename} is not as long as it says")
    return content
