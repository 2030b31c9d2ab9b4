"""Of a large file zones are kept, each as it was; whatever goes is kept whole in the end."""

import os
from collections.abc import Callable

import pytest

from mirrorfarm.actors.replicator import quarantine
from mirrorfarm.actors.replicator.operations import ROOT, Create, Rename, Unlink
from mirrorfarm.limits import ZONE_BYTES
from tests.actors.replicator.quarantined import FILE, Copied


def test_of_a_large_file_only_the_overwritten_zones_are_kept(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "WHOLE_BYTES_MAX", 2 * ZONE_BYTES)
    old = b"".join(bytes([65 + zone]) * ZONE_BYTES for zone in range(8))
    (copied.root / "large").write_bytes(old)
    copied.introduce(5, b"large")
    copied.write(5, b"x" * 10, 3 * ZONE_BYTES + 5)
    copied.write(5, b"y" * 10, 3 * ZONE_BYTES + 50)
    copied.write(5, b"z", 6 * ZONE_BYTES)
    kept = copied.kept("large")
    assert len(kept) == len(old)
    for zone in (3, 6):
        span = slice(zone * ZONE_BYTES, (zone + 1) * ZONE_BYTES)
        assert kept[span] == old[span]
    assert not any(kept[: 3 * ZONE_BYTES]), "untouched zones are holes"
    assert [line["zones"] for line in copied.manifest() if line.get("kept") == "zones"] == [
        [3],
        [6],
    ]


def large(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Make and introduce a file of ten zones, one a hole; at most three would be kept whole."""
    monkeypatch.setattr(quarantine, "WHOLE_BYTES_MAX", 3 * ZONE_BYTES)
    parts = [bytes([65 + zone]) * ZONE_BYTES for zone in range(10)]
    parts[7] = bytes(ZONE_BYTES)
    old = b"".join(parts)[:-100]
    with (copied.root / "large").open("wb") as file:
        file.write(old[: 7 * ZONE_BYTES])
        file.seek(8 * ZONE_BYTES)
        file.write(old[8 * ZONE_BYTES :])
    copied.introduce(5, b"large")
    return old


def test_what_was_cut_off_stays_kept_when_the_rest_is_overwritten(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = large(copied, monkeypatch)
    copied.cut(5, ZONE_BYTES + 10)
    copied.write(5, b"new", 5)
    copied.write(5, b"grows", 4 * ZONE_BYTES)
    copied.cut(5, ZONE_BYTES)
    assert copied.kept("large") == old
    assert [line["zones"] for line in copied.manifest() if line.get("kept") == "zones"] == [
        list(range(1, 10)),
        [0],
    ]
    assert not [line for line in copied.manifest() if line.get("kept") == "whole"]


def removed(copied: Copied) -> None:
    copied.applier.apply(Unlink(0, ROOT, b"large"))


def renamed_over(copied: Copied) -> None:
    copied.applier.apply(Create(0, 6, ROOT, b"other", FILE, os.geteuid(), os.getegid(), 1))
    copied.applier.apply(Rename(0, ROOT, b"other", ROOT, b"large"))


def emptied(copied: Copied) -> None:
    copied.cut(5, 0)


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("goes", [removed, renamed_over, emptied])
def test_a_kept_zone_stays_as_it_was_when_the_file_goes(
    copied: Copied,
    goes: Callable[[Copied], None],
    interrupted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = large(copied, monkeypatch)
    copied.write(5, b"N" * ZONE_BYTES, 3 * ZONE_BYTES)
    copied.write(5, b"appended" * ZONE_BYTES, 10 * ZONE_BYTES)
    if interrupted:
        copied.aside.close()
        copied.begin()
        copied.introduce(5, b"large")
    goes(copied)
    assert copied.kept("large") == old, "without what the copy had brought"
    assert (copied.folder / "0/large").stat().st_blocks * 512 < 9.5 * ZONE_BYTES, "with its hole"
    assert [line["kept"] for line in copied.manifest() if "kept" in line] == ["zones", "whole"]


def test_a_file_that_the_copy_has_made_large_was_kept_before(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "WHOLE_BYTES_MAX", 3 * ZONE_BYTES)
    (copied.root / "log").write_bytes(b"short")
    copied.introduce(5, b"log")
    for zone in range(6):
        copied.write(5, b"x" * ZONE_BYTES, zone * ZONE_BYTES)
    copied.applier.apply(Unlink(0, ROOT, b"log"))
    assert copied.kept("log") == b"short"


def test_of_a_large_file_that_only_grows_nothing_is_kept(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = large(copied, monkeypatch)
    copied.cut(5, len(old))
    copied.write(5, b"more", 10 * ZONE_BYTES)
    assert not (copied.folder / "0").exists()
    copied.applier.apply(Unlink(0, ROOT, b"large"))
    assert copied.kept("large") == old
