"""The clocks of a mirror in userconfig.xml: their relations, and what is said of them."""

import pytest

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import PROFILES
from tests.modules.test_userconfig import HEART, faults_of, parsed, service


@pytest.mark.parametrize(
    ("clocks", "reason"),
    [
        ('lease="2s"', "2000 ms is not longer than the detection time of 2000 ms"),
        ('pulse="700"', "heart.detection: 2000 ms is not longer than 3 pulses of 700 ms"),
        ('detection="100" lease="150" pulse="20"', "shorter than 160 ms: the guard"),
        ('pulse="90" detection="280" lease="300"', "would hold every write"),
        ('replication_timeout="100"', "100 ms is shorter than a pulse of 250 ms"),
        ('timeout="700"', "heartbeat.timeout: 700 ms is not longer than 3 pulses"),
    ],
)
def test_clocks_keep_their_relations(clocks: str, reason: str) -> None:
    faults = faults_of(service(f'<heart {clocks}><heartbeat name="default"/></heart>'))
    assert any(reason in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("heart", "own", "reason"),
    [
        ("", 'pulse="3s" timeout="30s"', "heart.detection of 2000 ms is not longer than 3 pulses"),
        ("", 'pulse="3s" timeout="30s"', "heart.lease of 2500 ms less an eighth is not longer"),
        ("", 'pulse="700" timeout="30000"', "heart.detection of 2000 ms is not longer than 3"),
        (
            'detection="60s" replication_timeout="6s"',
            'pulse="9s"',
            "heart.replication_timeout of 6000 ms is shorter than a pulse of 9000 ms",
        ),
    ],
)
def test_a_pulse_of_one_network_keeps_the_relations_too(heart: str, own: str, reason: str) -> None:
    lans = f'<heartbeat name="default" {own}/>'
    faults = faults_of(service(f"<heart {heart}>{lans}</heart>"))
    assert any(f"u.xml:2: heartbeat.pulse: {reason}" in fault for fault in faults), faults


def test_a_network_may_pulse_faster_or_slower_than_the_others() -> None:
    for pulse in ("50", "600"):
        lans = f'<heartbeat name="default" pulse="{pulse}"/>'
        (network,) = parsed(service(f"<heart>{lans}</heart>")).heartbeats
        assert network.pulse_ns == int(pulse) * MILLISECOND_NS


@pytest.mark.parametrize(
    ("heart", "own", "told"),
    [
        ("", "", ""),
        ("", 'timeout="2s"', ""),
        ('timeout="30000"', 'timeout="30000"', ""),
        ("", 'timeout="10s"', "its timeout of 10000 ms says only when this network counts as lost"),
        ('detection="5s" timeout="9s"', "", "counts as lost after heart.detection, 5000 ms"),
    ],
)
def test_a_timeout_that_is_not_the_time_to_detect_the_peer_is_noted(
    heart: str, own: str, told: str
) -> None:
    notes: list[str] = []
    lans = f'<heartbeat name="default" {own}/>'
    parsed(service(f"<heart {heart}>{lans}</heart>"), notes=notes)
    assert len(notes) == bool(told)
    assert all(note.startswith("heartbeat default: ") and told in note for note in notes)


def test_profiles_are_valid_as_they_are() -> None:
    for profile, timing in PROFILES.items():
        assert parsed(service(HEART, f'profile="{profile}"')).timing == timing


def test_clocks_of_the_reference_product_bring_a_lease_along() -> None:
    heart = '<heart pulse="700" timeout="30000"><heartbeat name="default"/></heart>'
    module = parsed(service(heart))
    assert module.timing.heartbeat_ns == 700 * MILLISECOND_NS
    assert module.timing.detection_ns == 30 * SECOND_NS
    assert module.timing.lease_ns == 37_500 * MILLISECOND_NS
    assert module.heartbeats[0].timeout_ns == 30 * SECOND_NS
