"""What several tests of the replicator begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actors.replicator.quarantined import Copied


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Copied]:
    made = Copied(tmp_path)
    yield made
    made.applier.close()
    made.aside.close()
