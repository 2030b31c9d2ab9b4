from mirrorfarm.lab.configuration import (
    LEDGER_EXTRA,
    WEB_EXTRA,
    cluster_xml,
    farm_xml,
    mirror_xml,
)
from mirrorfarm.modules.cluster import parse_cluster
from mirrorfarm.modules.settings import PROFILES
from mirrorfarm.modules.userconfig import parse_userconfig


def test_a_lab_writes_what_the_product_reads() -> None:
    networks = {
        "default": {"n1": "198.18.0.1", "n2": "198.18.0.2"},
        "repli": {"n1": "198.18.1.1", "n2": "198.18.1.2"},
    }
    cluster = parse_cluster(cluster_xml(networks, "w", "198.18.0.101").encode(), "cluster.xml")
    assert cluster.nodes == ("n1", "n2")
    text = mirror_xml(
        networks=("default", "repli"),
        vips=("198.18.0.50",),
        directories=("/var/lib/ledger",),
        witness="w",
        profile="fast",
        extra=LEDGER_EXTRA,
    )
    module = parse_userconfig(
        text.encode(), "userconfig.xml", name="ledger", id=1, cluster=cluster, environment={}
    )
    assert module.timing == PROFILES["fast"]
    assert [heartbeat.flow for heartbeat in module.heartbeats] == [False, True]
    assert module.arbiter.name == "w"
    assert module.vips[0].addr == "198.18.0.50"


def test_a_lab_writes_a_farm_that_the_product_reads() -> None:
    networks = {"default": {"n1": "198.18.0.1", "n2": "198.18.0.2"}}
    cluster = parse_cluster(cluster_xml(networks).encode(), "cluster.xml")
    text = farm_xml(
        networks=("default",),
        addresses=("198.18.0.100", "2001:db8::100"),
        port=8080,
        farm='filter="nft"',
        extra=WEB_EXTRA,
    )
    module = parse_userconfig(
        text.encode(), "userconfig.xml", name="web", id=1, cluster=cluster, environment={}
    )
    assert [one.addr for one in module.farm.addresses] == ["198.18.0.100", "2001:db8::100"]
    assert (module.farm.filter, module.farm.script_control) == ("nft", True)
    assert [(rule.proto, rule.port) for rule in module.farm.rules] == [("tcp", "8080")]
