"""A little cluster that was recorded once, for all tests that only read it."""

from pathlib import Path

import pytest

from mirrorfarm.sim.fork.recording import Recording, read
from tests.mirrorfarm.trace.little_cluster import HOUR_NS, LittleCluster, Machine, takeover


@pytest.fixture(name="takeover", scope="session")
def fixture_takeover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """n1 leads, n2 follows, n1 loses its power, n2 takes over; clocks are hours apart."""
    folder = tmp_path_factory.mktemp("takeover")
    takeover(
        folder,
        Machine("n2", 7_000 * 10**9, wrong_ns=5 * HOUR_NS, fast_millionths=60),
        Machine("w", 5, wrong_ns=-3 * HOUR_NS),
    )
    return folder


@pytest.fixture(name="before", scope="session")
def fixture_before(takeover: Path) -> Recording:
    """As it was ten seconds before n1 lost its power."""
    return read([takeover], "+14s")


@pytest.fixture(name="troubled", scope="session")
def fixture_troubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """n1 leads; it is cut off for 8 s, so n2 takes over; later n2 is killed, and starts again."""
    folder = tmp_path_factory.mktemp("troubled")
    cluster = LittleCluster(folder)
    cluster.start("n1")
    cluster.run(500)
    cluster.command("n1", "prim")
    cluster.run(4_000)
    cluster.start("n2")
    cluster.run(14_000)  # It is 19.5 s now.
    cluster.cut |= {frozenset(("n1", "n2")), frozenset(("n1", "w"))}
    cluster.run(8_000)
    cluster.cut.clear()
    cluster.run(10_000)  # 37.5 s.
    cluster.kill("n2")
    cluster.run(5_000)
    cluster.start("n2")
    cluster.run(8_000)  # 50.5 s.
    cluster.close()
    return folder
