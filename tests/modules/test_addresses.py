"""Addresses and ports of a module, beside those of its machines."""

import pytest

from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.modules.settings import Cluster
from mirrorfarm.modules.userconfig import parse_userconfig
from tests.modules.test_userconfig import HEART, NETWORK, THREE, faults_of, parsed, service


@pytest.mark.parametrize(
    ("addr", "what"),
    [
        ("198.18.0.1", "198.18.0.1 is an address of node n1"),
        ("198.18.0.254 198.18.0.2", "198.18.0.2 is an address of node n2"),
        ("198.18.0.8", "198.18.0.8 is a virtual address of this module"),
        ("127.0.0.1", "127.0.0.1 is the own machine"),
        ("::1", "::1 is the own machine"),
        ("::ffff:198.18.0.2", "written as one of IPv6; write 198.18.0.2"),
    ],
)
def test_who_decides_by_a_ping_does_not_ping_itself(addr: str, what: str) -> None:
    vip = """<vip><interface_list><interface><real_interface><virtual_addr addr="198.18.0.8"/>
        </real_interface></interface></interface_list></vip>"""
    (fault,) = faults_of(service(f'{HEART}{vip}<arbiter kind="ping" addr="{addr}"/>'))
    assert what in fault
    assert fault.endswith("name an address of a third machine, such as the gateway")


def test_a_node_of_the_cluster_that_has_no_part_in_a_module_may_decide_for_it() -> None:
    text = service(HEART + '<arbiter kind="ping" addr="198.18.0.3"/>', 'nodes="n1 n2"')
    assert parsed(text, THREE).arbiter.addresses == ("198.18.0.3",)


def test_the_replication_has_its_port_for_itself() -> None:
    """The bus has that of cluster.xml on the same addresses: one of both could not listen."""
    crowded = Cluster((NETWORK,), (), 5_604)

    def configured(inside: str, number: int) -> None:
        text = service(HEART + inside).encode()
        parse_userconfig(text, "u.xml", name="app", id=number, cluster=crowded, environment={})

    replicated = '<rfs><replicated dir="/data"/></rfs>'
    configured(replicated, 1)
    configured("", 2)
    with pytest.raises(ConfigInvalid) as refused:
        configured(replicated, 2)
    assert refused.value.faults == (
        "u.xml:1: id: the port of its replication, 5604 with id 2, is lans.port of cluster.xml; "
        "give it another id, or the cluster another port",
    )


@pytest.mark.parametrize("netmask", ["255.255.255.0", "32"])
def test_an_address_of_ipv6_has_no_mask_of_ipv4(netmask: str) -> None:
    vip = f"""<vip><interface_list><interface><real_interface>
        <virtual_addr addr="2001:db8::1" netmask="{netmask}"/>
        </real_interface></interface></interface_list></vip>"""
    (fault,) = faults_of(service(HEART + vip))
    assert "virtual_addr.netmask" in fault
    assert "are no subnet of 2001:db8::1; write 64" in fault


def test_an_address_of_one_link_is_virtual_where_its_interface_is_named() -> None:
    vip = """<vip><interface_list><interface {}><real_interface><virtual_addr addr="fe80::1"/>
        </real_interface></interface></interface_list></vip>"""
    assert faults_of(service(HEART + vip.format(""))) == (
        "u.xml:2: virtual_addr.addr: fe80::1 is valid on one link only, and says not on which; "
        'name it: <interface name="…">',
    )
    (address,) = parsed(service(HEART + vip.format('name="eth0"'))).vips
    assert (address.addr, address.interface) == ("fe80::1", "eth0")


@pytest.mark.parametrize(
    ("addr", "netmask", "reason"),
    [
        ("198.18.0.255", "255.255.255.0", "the broadcast address of its subnet 198.18.0.0/24"),
        ("198.18.4.0", "22", "the name of its subnet 198.18.4.0/22"),
        ("198.18.5.0", "22", ""),
        ("198.18.5.0", "31", ""),
        ("198.18.5.0", "32", ""),
        ("2001:db8::", "64", ""),
    ],
)
def test_an_address_of_a_whole_subnet_is_no_virtual_one(
    addr: str, netmask: str, reason: str
) -> None:
    vip = f"""<vip><interface_list><interface><real_interface>
        <virtual_addr addr="{addr}" netmask="{netmask}"/>
        </real_interface></interface></interface_list></vip>"""
    if reason:
        (fault,) = faults_of(service(HEART + vip))
        assert fault == (
            f"u.xml:3: virtual_addr.addr: {addr} is {reason}; choose one between, or mend netmask"
        )
    else:
        (address,) = parsed(service(HEART + vip)).vips
        assert address.addr == addr
