"""A takeover, recorded once for all tests that only read it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirrorfarm.trace.little_cluster import HOUR_NS, Machine, takeover


@pytest.fixture(name="recorded", scope="session")
def fixture_recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """n1 leads, n2 follows, n1 loses its power, n2 takes over; clocks are hours apart."""
    folder = tmp_path_factory.mktemp("takeover")
    takeover(
        folder,
        Machine("n2", 7_000 * 10**9, wrong_ns=5 * HOUR_NS, fast_millionths=60),
        Machine("w", 5, wrong_ns=-3 * HOUR_NS - 12_345_678, fast_millionths=-20),
    )
    return folder


@pytest.fixture(autouse=True, scope="session")
def utc() -> Iterator[None]:
    """Times of day are told as they are here: let that be UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()
