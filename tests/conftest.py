"""What every test may rely on."""

import os
import shutil

import hypothesis
import pytest

# How long an example takes says nothing on a machine that has other work to do. The same code gets
# the same examples, so that a change is judged by what it changed; `make properties` looks further.
hypothesis.settings.register_profile("mirrorfarm", deadline=None, derandomize=True)
hypothesis.settings.register_profile("other examples", deadline=None, print_blob=True)
hypothesis.settings.load_profile("mirrorfarm")

NEEDED = ("ip", "bridge", "unshare", "nsenter")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip live tests, with the reason, where the kernel or the privilege is missing."""
    reason = ""
    if os.geteuid() != 0:
        reason = "needs root: it makes namespaces and mounts"
    elif missing := [name for name in NEEDED if shutil.which(name) is None]:
        reason = f"needs {', '.join(missing)}"
    elif not os.path.exists("/dev/fuse"):
        reason = "needs /dev/fuse"
    if reason:
        for item in items:
            if item.get_closest_marker("live"):
                item.add_marker(pytest.mark.skip(reason=reason))
