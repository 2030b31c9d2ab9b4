"""Layouts are those of the kernel's header file."""

import os
from pathlib import Path

from mirrorfarm.actors.replicator.fuse import protocol


def test_sizes_are_those_of_the_kernel() -> None:
    assert protocol.IN_HEADER.size == protocol.HEADER_BYTES == 40
    assert protocol.OUT_HEADER.size == 16
    assert protocol.ATTRIBUTES.size == 88
    assert protocol.ENTRY.size == 40
    assert protocol.SETATTR_IN.size == 88
    assert protocol.STATFS_OUT.size == 80
    assert len(protocol.pack_init(38, 0, 0)) == 64


def test_attributes_keep_times_before_1970_and_nanoseconds(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("12345")
    os.utime(file, ns=(-1, 1_500_000_000_123_456_789))
    values = protocol.ATTRIBUTES.unpack(protocol.pack_attributes(file.stat()))
    assert values[0:2] == (file.stat().st_ino, 5)
    assert (values[3], values[6]) == (-1, 999_999_999)
    assert (values[4], values[7]) == (1_500_000_000, 123_456_789)


def test_a_request_reads_its_header_and_texts() -> None:
    request = protocol.Request()
    body = b"first\0second\0"
    head = protocol.IN_HEADER.pack(40 + len(body), protocol.SYMLINK, 7, 1, 1000, 1001, 4, 0, 0)
    request.buffer[: 40 + len(body)] = head + body
    request.parse()
    assert (request.operation, request.unique, request.node) == (protocol.SYMLINK, 7, 1)
    assert (request.uid, request.gid) == (1000, 1001)
    assert (request.text(40), request.text(46)) == (b"first", b"second")
