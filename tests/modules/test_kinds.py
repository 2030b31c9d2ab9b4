"""Kinds of values: what is accepted, and what the reason says."""

from typing import Any

import pytest

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules import kinds


@pytest.mark.parametrize(
    ("unit", "text", "expected_ns"),
    [
        ("s", "30", 30 * SECOND_NS),
        ("ms", "700", 700 * MILLISECOND_NS),
        ("s", "2m", 120 * SECOND_NS),
        ("h", "24", 86_400 * SECOND_NS),
        ("h", "1d", 86_400 * SECOND_NS),
        ("s", "1500ms", SECOND_NS),
        ("ms", "2500 us", 2 * MILLISECOND_NS),
        ("s", "0", 0),
        ("s", "0ms", 0),
    ],
)
def test_durations(unit: str, text: str, expected_ns: int) -> None:
    assert kinds.duration(unit)(text) == expected_ns


def test_duration_that_rounds_to_zero_names_the_unit() -> None:
    with pytest.raises(ValueError, match="500ms rounds to 0 in seconds"):
        kinds.duration("s")("500ms")


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (kinds.duration("s"), "soon", "expected seconds"),
        (kinds.duration("s"), "-1", "not a duration"),
        (kinds.duration("s"), "1 fortnight", "not a duration"),
        (kinds.duration("s"), "9999999999999999d", "ten years"),
        (kinds.duration("s", SECOND_NS), "0", "shorter than 1 seconds"),
        (kinds.duration("s"), "\u0663s", "not a duration"),
        (kinds.whole(1, 5), "6", "within 1 to 5"),
        (kinds.whole(1, 5), "0x2", "not a whole number"),
        (kinds.choice("on", "off"), "onn", "did you mean on"),
        (kinds.choice("mirror", later=("farm",)), "farm", "not supported yet"),
        (kinds.name(), "Node1", "not a name"),
        (kinds.name(), "../x", "not a name"),
        (kinds.address(), "server1.example", "names are not resolved"),
        (kinds.address(), "fe80::1%eth0", "zone"),
        (kinds.address(), "224.0.0.1", "one machine"),
        (kinds.address(), "255.255.255.255", "one machine"),
        (kinds.address(), "0.0.0.0", "one machine"),
        (kinds.address(), "0.1.2.3", "one machine"),
        (kinds.addresses(), "198.18.0.1 255.255.255.255", "one machine"),
        (kinds.netmask(), "255.0.255.0", "not a netmask"),
        (kinds.netmask(), "0.0.0.255", "not a netmask; did you mean 255.255.255.0?"),
        (kinds.netmask(), "0.0.0.1", "not a netmask; did you mean 255.255.255.254?"),
        (kinds.netmask(), "0.0.0.0", "leave netmask out"),
        (kinds.netmask(), "0", "not within 1 to 128"),
        (kinds.directory(), "var/lib", "not absolute"),
        (kinds.directory(), "//", "root directory"),
        (kinds.directory(), "/var/../etc", "'..'"),
        (kinds.directory(), "/a\0b", "control character"),
        (kinds.path(relative=True), "/etc/shadow", "relative"),
        (kinds.path(relative=True), "a/../../b", "'..'"),
        (kinds.path(relative=True), "./", "names no file"),
        (kinds.regex(), "(", "not a regular expression"),
        (kinds.duration("ms", MILLISECOND_NS), "\n0\t", "0 is shorter than 1 milliseconds"),
        (kinds.duration("s"), "5\nms", "'5?ms' is not a duration"),
        (kinds.macro(), "", "cannot be used as %…%"),
        (kinds.macro(), "1st", "cannot be used as %…%"),
        (kinds.macro(), "données", "cannot be used as %…%"),
        (kinds.interface(), "eth 0", "cannot name an interface"),
        (kinds.interface(), "..", "cannot name an interface"),
        (kinds.interface(), "eth0:1", "cannot name an interface"),
        (kinds.interface(), "é" * 8, "up to 15 bytes"),
        (kinds.interface(), "\u202eeth0", "cannot name an interface"),
        (kinds.title(32), "", "is no name"),
        (kinds.title(32), " web", "is no name"),
        (kinds.title(32), "w\u202eeb", "is no name"),
    ],
)
def test_refusals_say_why(kind: kinds.Kind, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        kind(text)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.address(), "[2001:db8::0:1]", "2001:db8::1"),
        (kinds.addresses(), "198.18.0.1, 198.18.0.2", ("198.18.0.1", "198.18.0.2")),
        (kinds.directory(), "/var//lib/./x/", "/var/lib/x"),
        (kinds.netmask(), "255.255.255.0", 24),
        (kinds.netmask(), "24", 24),
        (kinds.netmask(), "255.255.255.255", 32),
        (kinds.address(), "240.0.0.1", "240.0.0.1"),
        (kinds.switch(), "yes", True),
        (kinds.macro(), "a.b-C_9", "a.b-C_9"),
        (kinds.interface(), "", ""),
        (kinds.interface(), "br-lan.100", "br-lan.100"),
        (kinds.title(32), "Büro 2", "Büro 2"),
        (kinds.duration("s"), " 5 ", 5 * SECOND_NS),
        (kinds.regex(), r"!.*\.tmp$", r"!.*\.tmp$"),
    ],
)
def test_values(kind: kinds.Kind, text: str, value: Any) -> None:
    assert kind(text) == value
