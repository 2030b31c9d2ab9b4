"""An OSError is told with its file, why, and what to do."""

import errno
import os
from pathlib import Path

import pytest

from mirrorfarm.oserrors import CURES, naming, told


def test_file_reason_and_cure_are_told_and_no_number() -> None:
    full = OSError(errno.ENOSPC, "only partly written", "/var/log/trace-1.mft")
    assert told(full) == (
        "/var/log/trace-1.mft: only partly written: make room there, or use another file system"
    )
    both = OSError(errno.EACCES, "Permission denied", b"/a", None, "/b")
    assert told(both) == "/a -> /b: Permission denied: run as root, or as who owns it"


def test_what_has_no_file_or_no_number_is_told_all_the_same() -> None:
    assert told(OSError(errno.EMFILE, "Too many open files")) == (
        "Too many open files: allow more open files (`ulimit -n`)"
    )
    assert told(OSError("of a library")) == (
        "of a library: the kernel's messages (`dmesg`) may say more"
    )


def test_every_cure_says_what_to_do() -> None:
    for code, cure in CURES.items():
        assert cure, os.strerror(code)
        assert not cure.endswith(".")


def test_what_disks_sockets_and_scripts_meet_has_a_cure() -> None:
    numbers = (
        *("EIO", "EROFS", "EUCLEAN", "EBADMSG", "ENODATA", "ENXIO", "ESTALE", "ENOSPC", "EDQUOT"),
        *("EMFILE", "ENFILE", "EADDRINUSE", "EADDRNOTAVAIL", "ENODEV", "ENOTCONN", "ETXTBSY"),
        *("EBUSY", "ENOTEMPTY", "EXDEV", "ECONNABORTED", "ENETDOWN", "ENETUNREACH", "ENOLCK"),
    )
    for name in numbers:
        code = getattr(errno, name)
        text = told(OSError(code, os.strerror(code), "/data/x"))
        assert text.startswith(f"/data/x: {os.strerror(code)}: "), name
        assert "may say more" not in text, name
    damaged = OSError(errno.EUCLEAN, os.strerror(errno.EUCLEAN), "/data")
    assert told(damaged) == (
        "/data: Structure needs cleaning: its file system is damaged: unmount it, "
        "and have it repaired (`fsck`)"
    )


def test_an_error_of_writing_gets_the_file_and_one_that_has_it_keeps_it() -> None:
    for filename, expected in ((None, "x"), ("y", "y")):
        with pytest.raises(OSError, match="full") as caught, naming(Path("x")):
            raise OSError(errno.ENOSPC, "full", filename)
        assert caught.value.filename == expected
