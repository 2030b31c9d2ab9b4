"""A farm's userconfig.xml: what it gives, and every way in which it can be wrong."""

import pytest

from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.farmconfig import farm_rules
from mirrorfarm.modules.settings import (
    Cluster,
    Farm,
    FarmAddress,
    FarmGroup,
    FarmRule,
    Module,
    Network,
    NodeOnNetwork,
)
from mirrorfarm.modules.userconfig import parse_userconfig
from mirrorfarm.netfilter.rules import Filter, Rule

NODES = tuple(NodeOnNetwork(f"n{n}", f"198.18.0.{n}") for n in (1, 2, 3))
CLUSTER = Cluster((Network("default", NODES), Network("private", NODES[:2])))

GOOD = """<safe>
  <service mode="farm" maxloop="5">
    <farm pulse="100" slost_count="10" filter="bpf" seed="7" drain="1m" slow_start="10s">
      <lan name="default"/>
    </farm>
    <vip scriptcontrol="on">
      <interface_list><interface name="eth0" arpreroute="on">
        <virtual_interface type="vmac_invisible" addr="5A:FE:C6:12:00:64">
          <virtual_addr addr="198.18.0.100" where="alias" netmask="255.255.255.0"/>
          <virtual_addr addr="2001:db8:f::100"/>
        </virtual_interface>
      </interface></interface_list>
      <loadbalancing_list>
        <group name="WEB">
          <cluster><host name="n1" power="3"/><host name="n2"/></cluster>
          <rule port="80" proto="tcp" filter="on_addr"/>
        </group>
        <group name="DNS"><rule port="53" proto="udp" filter="on_port"/></group>
      </loadbalancing_list>
    </vip>
    <user/>
  </service>
</safe>
"""
LAN = '<farm><lan name="default"/></farm>'
RULE = '<rule proto="tcp" filter="on_addr"/>'
RULES = f'<group name="G">{RULE}</group>'


def parsed(text: str) -> Module:
    return parse_userconfig(
        text.encode(), "u.xml", name="web", id=1, cluster=CLUSTER, environment={}
    )


def faults_of(text: str) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        parsed(text)
    return "\n".join(caught.value.faults)


def farm_of(text: str) -> Farm:
    return parsed(text).farm


def service(inside: str) -> str:
    return f'<safe><service mode="farm">{inside}</service></safe>'


def vip(address: str = "198.18.0.100", groups: str = RULES) -> str:
    return (
        '<vip><interface_list><interface><virtual_interface type="vmac_invisible">'
        f'<virtual_addr addr="{address}"/></virtual_interface></interface></interface_list>'
        f"<loadbalancing_list>{groups}</loadbalancing_list></vip>"
    )


def ruled(rule: str, before: str = "") -> str:
    return LAN + vip(groups=f'<group name="G">{before}{rule}</group>')


def test_a_whole_farm_is_understood() -> None:
    module = parsed(GOOD)
    assert (module.mode, module.nodes) == ("farm", ("n1", "n2", "n3"))
    assert (module.heartbeats, module.vips, module.arbiter.kind) == ((), (), "none")
    farm = farm_of(GOOD)
    assert farm.networks == ("default",)
    assert (farm.filter, farm.seed, farm.drain_ns) == ("bpf", 7, 60 * SECOND_NS)
    assert farm.addresses == (
        FarmAddress("198.18.0.100", "eth0"),
        FarmAddress("2001:db8:f::100", "eth0"),
    )
    assert (farm.delivery, farm.mac) == ("vmac_invisible", "5A:FE:C6:12:00:64")
    assert farm.groups == (FarmGroup("WEB", (("n1", 3), ("n2", 1))), FarmGroup("DNS"))
    assert farm.rules == (
        FarmRule("tcp", "on_addr", "80", "*", 0),
        FarmRule("udp", "on_port", "53", "*", 1),
    )
    assert farm.script_control
    assert farm_rules(farm.rules)[1] == Rule(17, Filter.ON_PORT, 53, b"", 1)


def test_who_is_not_named_in_a_group_gets_none_of_its_traffic() -> None:
    web, dns = farm_of(GOOD).groups
    assert [web.power_of(node) for node in ("n1", "n2", "n3")] == [3, 1, 0]
    assert [dns.power_of(node) for node in ("n1", "n2", "n3")] == [1, 1, 1]


def test_the_clocks_follow_the_pulse_and_the_beats_that_may_be_missed() -> None:
    timing = farm_of(GOOD).timing
    assert (timing.pulse_ns, timing.silent_ns) == (100 * MILLISECOND_NS, SECOND_NS)
    assert timing.lease_ns > timing.silent_ns + timing.pulse_ns
    assert timing.slow_start_ns == 10 * SECOND_NS
    assert farm_of(service(LAN + vip())).timing.silent_ns == 400 * MILLISECOND_NS


def test_a_farm_behind_another_load_balancer_has_no_address() -> None:
    farm = farm_of(service(LAN))
    assert (farm.addresses, farm.delivery, farm.rules) == ((), "none", ())


def test_a_light_module_has_neither_peer_nor_address() -> None:
    module = parsed('<safe><service mode="light" nodes="n2"><user/></service></safe>')
    assert (module.mode, module.nodes) == ("light", ("n2",))
    told = faults_of(f'<safe><service mode="light">{vip()}</service></safe>')
    assert "a light module has no virtual address" in told


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("", 'service/farm: a farm needs <farm><lan name="…"/></farm>'),
        ('<farm><lan name="lan9"/></farm>', "lan9 is not a lan of cluster.xml"),
        ('<farm><lan name="private"/></farm>', "node n3 is not on the lan private"),
        ('<farm pulse="19ms"><lan name="default"/></farm>', "shorter than 20 milliseconds"),
        ('<farm slost_count="2"><lan name="default"/></farm>', "2 is not within 3 to 28"),
        ('<farm filter="ebpf"><lan name="default"/></farm>', "did you mean bpf?"),
        (LAN + '<heart><heartbeat name="default"/></heart>', 'for mode="mirror", not for farm'),
        (LAN + '<rfs><replicated dir="/d"/></rfs>', 'is for mode="mirror", not for farm'),
        (LAN + vip(address="198.18.0.2"), "198.18.0.2 is the address of n2"),
        (LAN + vip(address="127.0.0.9"), "cannot be reached by clients"),
        (LAN + vip(groups=""), "at least one is required"),
        (LAN + vip(groups=RULES + RULES), "group.name: G is here twice"),
        (ruled('<rule proto="tcp" filter="on_ipid"/>'), "rule.filter: on_ipid is for udp only"),
        (ruled('<rule proto="arp" filter="on_addr"/>'), "a meaning with vmac_directed only"),
        (ruled('<rule proto="tcp" filter="on_addr" port="0"/>'), "rule.port: '0' is neither"),
        (
            ruled('<rule proto="tcp" filter="on_addr" virtual_addr="198.18.0.99"/>'),
            "198.18.0.99 is no virtual_addr of this module",
        ),
        (
            ruled(RULE, '<cluster><host name="n9"/></cluster>'),
            "host.name: n9 is not a node of this module, which has: n1, n2, n3",
        ),
        (
            ruled(RULE, '<cluster><host name="n1" power="1000001"/></cluster>'),
            "host.power: 1000001 is not within 0 to 1000000",
        ),
        (
            ruled(RULE, '<cluster><host name="n1" power="0"/></cluster>'),
            "no node of the group has any power",
        ),
        (
            LAN + vip().replace("<virtual_addr", '<virtual_addr where="side"'),
            "virtual_addr.where: 'side' is not allowed",
        ),
        (
            LAN
            + vip()
            .replace('virtual_interface type="vmac_invisible"', "real_interface")
            .replace("virtual_interface", "real_interface"),
            'is for mode="mirror"; a farm has virtual_interface',
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_line_key_reason_and_cure(inside: str, reason: str) -> None:
    assert reason in faults_of(service(inside))


def test_more_addresses_than_a_filter_has_room_for_are_refused() -> None:
    extra = "".join(f'<virtual_addr addr="198.18.1.{number}"/>' for number in range(15))
    text = vip().replace("</virtual_interface>", f"{extra}</virtual_interface>")
    assert "vip: 16 addresses; a farm has at most 15" in faults_of(service(LAN + text))


def test_two_virtual_macs_in_one_module_are_refused() -> None:
    first = '<virtual_interface type="vmac_invisible" addr="5A:FE:00:00:00:01">'
    second = f'{first.replace(":01", ":02")}<virtual_addr addr="198.18.0.101"/></virtual_interface>'
    text = vip().replace('<virtual_interface type="vmac_invisible">', first)
    text = text.replace("</interface>", f"{second}</interface>")
    assert "5A:FE:00:00:00:01 and 5A:FE:00:00:00:02 in one module" in faults_of(service(LAN + text))


def test_a_farm_without_rules_is_told_that_it_would_refuse_everything() -> None:
    bare = vip().replace(f"<loadbalancing_list>{RULES}</loadbalancing_list>", "")
    assert "without <loadbalancing_list> every packet is refused" in faults_of(service(LAN + bare))


def test_a_mirror_has_nothing_of_a_farm() -> None:
    heart = '<heart><heartbeat name="default"/></heart>'
    text = service(LAN + heart + vip()).replace('mode="farm"', 'mode="mirror" nodes="n1 n2"')
    told = faults_of(text)
    assert 'service/farm: is for mode="farm", not for mirror' in told
    assert 'is for mode="farm"; a mirror has real_interface' in told
    assert "only a farm balances" in told


@pytest.mark.parametrize(
    ("mac", "reason"),
    [("03:BF:0:0:0:1", "is not a MAC such as"), ("03:BF:00:00:00:01", "is a group MAC")],
)
def test_an_own_mac_must_suit_the_way_of_delivery(mac: str, reason: str) -> None:
    text = vip().replace('type="vmac_invisible"', f'type="vmac_invisible" addr="{mac}"')
    assert reason in faults_of(service(LAN + text))
