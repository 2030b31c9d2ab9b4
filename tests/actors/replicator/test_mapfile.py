"""The change map on disk: whole, used once, or not at all."""

from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.changes import Change, ChangeMap
from mirrorfarm.actors.replicator.mapfile import save, take

ROOTS = ((1, 2),)


def some() -> ChangeMap:
    changes = ChangeMap()
    changes.nodes[0, 7] = Change(names=True)
    return changes


def test_a_map_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "lib/changes"
    save(path, some(), "g1", ROOTS)
    found = take(path, "g1", ROOTS)
    assert found is not None
    assert list(found.nodes) == [(0, 7)]
    assert take(path, "g1", ROOTS) is None


@pytest.mark.parametrize(("base", "roots"), [("g2", ROOTS), ("", ROOTS), ("g1", ((1, 3),))])
def test_a_map_of_something_else_is_not_used_and_goes(
    tmp_path: Path, base: str, roots: tuple[tuple[int, int], ...]
) -> None:
    path = tmp_path / "changes"
    save(path, some(), "g1", ROOTS)
    assert take(path, base, roots) is None
    assert not path.exists()


def test_a_damaged_map_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "changes"
    save(path, some(), "g1", ROOTS)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    assert take(path, "g1", ROOTS) is None
