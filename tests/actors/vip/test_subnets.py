"""Which interface and prefix a virtual address gets."""

import ipaddress

from mirrorfarm.actors.vip.subnets import Configured, Link, Target, locate
from mirrorfarm.modules.settings import VirtualAddress

LINKS = (Link(1, "lo", b""), Link(2, "eth0", b"\2" * 6), Link(3, "eth1", b"\3" * 6))


def at(index: int, text: str) -> Configured:
    address, prefix = text.split("/")
    return Configured(index, ipaddress.ip_address(address), int(prefix))


CONFIGURED = (at(2, "198.18.0.1/15"), at(3, "198.18.7.1/24"), at(3, "2001:db8::1/64"))


def found(vip: VirtualAddress, *virtual: str) -> Target:
    target = locate(vip, LINKS, CONFIGURED, virtual)
    assert isinstance(target, Target), target
    return target


def test_the_longest_subnet_that_contains_the_address_gives_interface_and_prefix() -> None:
    assert (found(VirtualAddress("198.18.7.9")).link.name) == "eth1"
    assert found(VirtualAddress("198.18.7.9")).prefix == 24
    assert found(VirtualAddress("198.18.9.9")).link.name == "eth0"
    assert found(VirtualAddress("2001:db8::9")).prefix == 64


def test_a_named_interface_and_a_given_prefix_are_taken() -> None:
    target = found(VirtualAddress("198.18.7.9", prefix=32, interface="eth0"))
    assert (target.link.name, target.prefix) == ("eth0", 32)
    assert found(VirtualAddress("198.51.100.1", interface="eth0")).prefix == 32


def test_the_address_itself_and_other_virtual_ones_do_not_count_as_subnets() -> None:
    configured = (at(2, "198.18.7.9/24"), at(2, "198.18.7.8/24"))
    fault = locate(VirtualAddress("198.18.7.9"), LINKS, configured, ("198.18.7.8",))
    assert isinstance(fault, str)
    assert "no interface has an address in its subnet" in fault


def test_a_missing_interface_is_told() -> None:
    fault = locate(VirtualAddress("198.18.7.9", interface="eth9"), LINKS, CONFIGURED)
    assert fault == "198.18.7.9: there is no interface eth9; `ip link` lists them"


def test_one_side_marks_the_address_as_the_main_one() -> None:
    assert found(VirtualAddress("198.18.7.9", where="one_side")).main
    assert not found(VirtualAddress("198.18.7.9")).main
