"""A copy brings what the kernel takes away or adds by itself: capabilities and inherited ACLs."""

import os
import struct
from pathlib import Path

import pytest

from tests.live.replicas import Replica, lead_alone, replicas
from tests.live.test_replicator import assert_equal, join, leave

pytestmark = pytest.mark.live

CAPABILITY = "security.capability"
NET_BIND = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
DEFAULT_ACL = "system.posix_acl_default"
ONE_MORE_GROUP = struct.pack(
    "<I" + "HHI" * 5,
    *(2, 1, 7, 0xFFFFFFFF, 4, 7, 0xFFFFFFFF, 8, 5, 33, 16, 7, 0xFFFFFFFF, 32, 5, 0xFFFFFFFF),
)


def copied(one: Replica, two: Replica) -> None:
    lead_alone(one)
    join(one, two, term=1, sid=1, plan="full")
    leave(one, two)
    assert_equal(one, two)


@pytest.mark.parametrize("there", ["nothing", "older content", "the same but it"])
def test_a_copied_program_keeps_its_capabilities(tmp_path: Path, there: str) -> None:
    with replicas(tmp_path) as (one, two):
        program = one.directory / "program"
        program.write_bytes(b"#!" + bytes(100_000))
        os.setxattr(program, CAPABILITY, NET_BIND)
        if there != "nothing":
            twin = two.directory / "program"
            twin.write_bytes(program.read_bytes() if there != "older content" else b"older")
        copied(one, two)
        assert os.getxattr(two.directory / "program", CAPABILITY) == NET_BIND


def test_what_a_copy_creates_inherits_nothing(tmp_path: Path) -> None:
    with replicas(tmp_path) as (one, two):
        folder = one.directory / "folder"
        (folder / "below").mkdir(parents=True)
        (folder / "file").write_text("made before the directory had an ACL")
        (folder / "link").symlink_to("file")
        os.setxattr(folder, DEFAULT_ACL, ONE_MORE_GROUP)
        (folder / "later").write_text("made afterwards")
        copied(one, two)


def test_what_a_copy_creates_inherits_no_acl_that_is_gone_here(tmp_path: Path) -> None:
    with replicas(tmp_path) as (one, two):
        (one.directory / "file").write_text("no ACL")
        (one.directory / "folder").mkdir()
        (one.directory / "folder/file").write_text("no ACL")
        os.setxattr(two.directory, DEFAULT_ACL, ONE_MORE_GROUP)
        (two.directory / "folder").mkdir()
        copied(one, two)


@pytest.mark.parametrize("time_ns", [-(2**63) - 10**9, 2**63 + 10**9, 2**65])
def test_a_time_that_no_record_can_hold_ends_no_session(tmp_path: Path, time_ns: int) -> None:
    with replicas(tmp_path) as (one, two):
        before = one.directory / "before"
        before.write_text("made before it was replicated")
        os.utime(before, ns=(time_ns, time_ns))
        lead_alone(one)
        join(one, two, term=1, sid=1, plan="full")
        later = one.directory / "later"
        later.write_text("made afterwards")
        os.utime(later, ns=(time_ns, time_ns))
        before.chmod(0o600)
        later.chmod(0o600)
        leave(one, two)
        assert not one.has_said("SessionBroken")
        assert_equal(one, two)
        assert later.stat().st_mtime_ns == (two.directory / "later").stat().st_mtime_ns
