"""A node that belongs to a cluster of two."""

from pathlib import Path

import pytest

from mirrorfarm.paths import Paths

CLUSTER = """<cluster><lans><lan name="default">
<node name="n1" addr="198.18.0.1"/><node name="n2" addr="198.18.0.2"/></lan></lans></cluster>"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    node = Paths(tmp_path / "node")
    node.etc.mkdir(parents=True)
    node.cluster_xml.write_text(CLUSTER)
    return node
