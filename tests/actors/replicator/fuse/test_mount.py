"""What is mounted where, whatever users name their mounts."""

from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.fuse.mount import KIND, Mounted, mounts, topmost

LINES = (
    b"36 25 0:31 / /home/user/a\rb\x0b\xff rw,nosuid shared:1 - fuse.sshfs sshfs rw\n"
    b"37 25 0:32 / /srv/d\\040ata rw - fuse.mirrorfarm mirrorfarm rw\n"
)


def test_a_mount_with_any_name_hides_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: LINES)
    assert [mounted.device for mounted in mounts()] == [31, 32]
    assert topmost(b"/srv/d ata") == Mounted(32, b"/srv/d ata", KIND, 37)
