"""The table of buckets and the settings that every filter shares."""

import ipaddress

import pytest

from mirrorfarm.limits import BUCKETS, GROUPS_MAX
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, Settings
from mirrorfarm.netfilter.rules import State, rule


def settings(**changed: object) -> Settings:
    given: dict[str, object] = {
        "module": "farm",
        "interfaces": ("eth0",),
        "addresses": (ipaddress.ip_address("198.18.0.100"),),
        "rules": (rule("tcp", "on_addr", "80"), rule("udp", "on_port", group=2)),
        "seed": 0x5EED,
    }
    return Settings(**(given | changed))  # type: ignore[arg-type]


def test_a_group_that_the_table_does_not_have_is_foreign_throughout() -> None:
    table = BucketTable(3, (bytes([1]) * BUCKETS,))
    assert table.state(0, 5) is State.HARD
    assert table.state(1, 5) is State.FOREIGN
    assert NO_BUCKETS.state(0, 0) is State.FOREIGN


@pytest.mark.parametrize(
    "groups",
    [(bytes(BUCKETS - 1),), (bytes(BUCKETS - 1) + b"\3",), (bytes(BUCKETS),) * (GROUPS_MAX + 1)],
    ids=["too short", "no such state", "too many groups"],
)
def test_a_table_that_makes_no_sense_is_our_mistake(groups: tuple[bytes, ...]) -> None:
    with pytest.raises(AssertionError):
        BucketTable(1, groups)


def test_settings_know_their_groups_and_virtual_macs() -> None:
    address = ipaddress.ip_address("198.18.0.100")
    assert settings().groups == 3
    assert settings(rules=()).groups == 1
    assert settings().virtual_mac(address).hex() == "5afec6120064"
    assert settings(delivery=Delivery.DIRECTED).virtual_mac(address) == b""


def test_a_seed_that_the_kernel_would_cut_is_our_mistake() -> None:
    with pytest.raises(AssertionError):
        settings(seed=1 << 32)
