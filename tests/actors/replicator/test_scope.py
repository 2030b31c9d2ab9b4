"""Whether what is replicated now is what the last copy was of."""

from pathlib import Path

import pytest

from mirrorfarm.actors.replicator.scope import Scope
from mirrorfarm.modules.settings import Replicated, Replication

BEFORE = Replication((Replicated("/data", notreplicated=("cache",)),))


def test_nothing_is_kept_before_a_copy_has_ended(tmp_path: Path) -> None:
    scope = Scope(tmp_path / "lib/scope", BEFORE)
    assert not scope.is_kept()
    scope.keep()
    assert Scope(tmp_path / "lib/scope", BEFORE).is_kept()


@pytest.mark.parametrize(
    "after",
    [
        Replication((Replicated("/data"),)),
        Replication((Replicated("/data", notreplicated=("cache", "more")),)),
        Replication((Replicated("/data", notreplicated_regexes=("cache",)),)),
        Replication((*BEFORE.directories, Replicated("/other"))),
    ],
)
def test_another_directory_or_exclusion_is_another_scope(
    tmp_path: Path, after: Replication
) -> None:
    Scope(tmp_path / "scope", BEFORE).keep()
    assert not Scope(tmp_path / "scope", after).is_kept()


def test_the_order_of_exclusions_and_other_settings_do_not_matter(tmp_path: Path) -> None:
    one = Replication((Replicated("/data", notreplicated=("a", "b")),))
    other = Replication((Replicated("/data", notreplicated=("b", "a")),), mode="each")
    Scope(tmp_path / "scope", one).keep()
    assert Scope(tmp_path / "scope", other).is_kept()
