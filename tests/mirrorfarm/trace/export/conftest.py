"""A pair whose nodes end and are started again, recorded once, and when each of them ran."""

from pathlib import Path

import pytest

from mirrorfarm.trace.merge import Merge
from tests.mirrorfarm.trace.little_cluster import LittleCluster

Lives = dict[str, list[tuple[int, int]]]  # By node: the first and the last step of each start.


@pytest.fixture(name="restarted", scope="session")
def fixture_restarted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """n1 leads and is killed, n2 takes over, n1 comes back, n2 is killed, n1 takes over."""
    folder = tmp_path_factory.mktemp("restarted")
    cluster = LittleCluster(folder)
    cluster.start("n1")
    cluster.run(2_500)
    cluster.command("n1", "prim")
    cluster.run(2_000)
    cluster.start("n2")
    cluster.run(5_000)
    cluster.kill("n1")
    cluster.run(6_000)
    cluster.start("n1")
    cluster.run(5_000)
    cluster.kill("n2")
    cluster.run(6_000)
    cluster.close()
    return folder


@pytest.fixture(name="lives", scope="session")
def fixture_lives(restarted: Path) -> Lives:
    """When the module's process of each node ran."""
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    for placed in Merge([restarted]).steps():
        key = placed.step.node, placed.step.incarnation
        begin_ns, _ = spans.get(key, (placed.at_ns, 0))
        spans[key] = (begin_ns, placed.at_ns)
    return {name: [spans[key] for key in sorted(spans) if key[0] == name] for name in ("n1", "n2")}
