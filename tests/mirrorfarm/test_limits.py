"""Bounds that depend on one another."""

import re

from mirrorfarm import limits
from mirrorfarm.modules.settings import PROFILES


def test_names_are_safe_in_paths_and_shells() -> None:
    pattern = re.compile(limits.NAME_PATTERN)
    for good in ("a", "node1", "my-app_2", "a" * limits.NAME_CHARACTERS_MAX):
        assert pattern.fullmatch(good)
    for bad in ("", "1a", "A", "a/b", "..", "a b", "a;b", "a\n", "a" * 33):
        assert not pattern.fullmatch(bad)


def test_a_module_package_fits_into_a_frame() -> None:
    assert limits.PACKAGE_BYTES_MAX < limits.FRAME_BYTES_MAX


def test_every_profile_notices_before_its_lease_ends_and_not_before_three_pulses() -> None:
    for timing in PROFILES.values():
        assert timing.lease_ns > timing.detection_ns > 3 * timing.heartbeat_ns
        assert timing.lease_ns < limits.STOP_TIMEOUT_NS


def test_the_replication_ports_of_all_modules_are_ports() -> None:
    assert limits.REPLICATION_PORT_FIRST + 4 * limits.MODULES_MAX < 65_536
