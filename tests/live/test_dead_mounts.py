"""A replicator that ends at once, or is killed: its directories answer with errors, not bare."""

from pathlib import Path

import pytest

from tests.live.replicas import Replica, lead_alone, replicas

pytestmark = pytest.mark.live


def assert_dead(replica: Replica) -> None:
    """Nothing can be written past what is replicated."""
    with pytest.raises(OSError, match=r"not connected|aborted"):
        (replica.directory / "past it").write_text("lost")


def test_nothing_is_bared_before_the_application_has_ended(tmp_path: Path) -> None:
    with replicas(tmp_path) as (one, _):
        lead_alone(one)
        (one.directory / "kept").write_text("replicated")
        one.die()
        assert_dead(one)
        one.start()
        one.wish("off", clean=False)
        assert_dead(one)
        one.wish("off", clean=False, bare=True)
        assert [path.name for path in one.directory.iterdir()] == ["kept"]
        lead_alone(one, term=2)
        (one.directory / "kept too").write_text("replicated")
        one.wish("off", clean=False)
        assert_dead(one)
        lead_alone(one, term=3)  # The dead one is replaced.
        (one.directory / "kept also").write_text("replicated")
        one.wish("off", clean=False)
        assert_dead(one)
        one.wish("off", clean=False, bare=True)
        assert len(list(one.directory.iterdir())) == 3
