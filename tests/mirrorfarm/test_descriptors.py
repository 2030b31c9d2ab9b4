"""Our processes open as many files as they may; what they start, as many as it would have had."""

import subprocess
import sys

PROGRAM = """
import os, resource
from mirrorfarm.descriptors import descriptor_limit, former_limits, raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
assert former_limits() == (200, 300)
raise_descriptor_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, 300)
assert descriptor_limit() == 300
raise_descriptor_limit()  # As the process of a module does, whose agent did it before.
assert former_limits() == (200, 300)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
assert former_limits() == (100, 100)
print("well")
"""


def test_the_limit_is_raised_and_the_former_one_known() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "well\n"
