"""Every state of the protocol's model is sound; and each rule, left out, loses a write."""

import pytest

from tests.model.protocol import BROKEN, Bounds
from tests.model.search import walk

# The complete model at larger bounds: `python -m tests.model.search`.
SMALL = Bounds(crashes=1, messages=9)
DEEP = Bounds(writes=1, crashes=1, messages=10)
# What these two allow needs two crashes, and more states than a quick test can walk.
SLOW = ("no-op keeps its version", "session forgotten")


def test_no_told_write_is_lost_and_only_one_node_tells_in_a_term() -> None:
    walked = walk("", SMALL)
    assert walked.violation == "", walked.story
    assert walked.states > 50_000


@pytest.mark.parametrize("broken", [name for name in BROKEN if name not in SLOW])
def test_each_rule_is_needed(broken: str) -> None:
    walked = walk(broken, DEEP)
    assert walked.violation.startswith(("S1", "S4")), f"{BROKEN[broken]} could be left out"


def test_the_story_is_the_shortest_one() -> None:
    assert len(walk("acknowledge locally", SMALL).story) == 4
