"""The configuration files of a lab, as text."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

Addresses = Mapping[str, Mapping[str, str]]  # network -> node -> address


def cluster_xml(networks: Addresses, witness: str = "", witness_address: str = "") -> str:
    """Return a cluster.xml; no witness when `witness` is empty."""
    lines = ["<cluster>", "  <lans>"]
    for network, nodes in networks.items():
        lines.append(f"    <lan name={quoteattr(network)}>")
        lines += [
            f"      <node name={quoteattr(node)} addr={quoteattr(address)}/>"
            for node, address in nodes.items()
        ]
        lines.append("    </lan>")
    lines.append("  </lans>")
    if witness:
        lines.append(f"  <witness name={quoteattr(witness)} addr={quoteattr(witness_address)}/>")
    return "\n".join([*lines, "</cluster>", ""])


def heart_xml(networks: Sequence[str]) -> str:
    """Return `<heart>`: every network carries heartbeats, the last one also the replication."""
    lines = ["    <heart>"]
    for network in networks:
        ident = ' ident="flow"' if network == networks[-1] else ""
        lines.append(f"      <heartbeat name={quoteattr(network)}{ident}/>")
    return "\n".join([*lines, "    </heart>"])


def vip_xml(vips: Sequence[str]) -> str:
    """Return `<vip>` for addresses of one interface; empty without any."""
    if not vips:
        return ""
    addresses = "".join(f"<virtual_addr addr={quoteattr(vip)}/>" for vip in vips)
    return (
        "    <vip><interface_list><interface><real_interface>"
        f"{addresses}</real_interface></interface></interface_list></vip>"
    )


def mirror_xml(
    *,
    networks: Sequence[str],
    vips: Sequence[str] = (),
    directories: Sequence[str] = (),
    witness: str = "",
    profile: str = "default",
    service: str = "",
    extra: str = "",
) -> str:
    """Return a userconfig.xml of a mirror.

    `service` holds further attributes of `<service>`, `extra` further elements (`<user>`, …).
    """
    replicated = "".join(f"<replicated dir={quoteattr(name)}/>" for name in directories)
    parts = [
        "<!DOCTYPE safe>",
        "<safe>",
        f'  <service mode="mirror" profile={quoteattr(profile)} {service}>',
        heart_xml(networks),
        vip_xml(vips),
        f"    <rfs>{replicated}</rfs>" if replicated else "",
        f'    <arbiter kind="witness" name={quoteattr(witness)}/>' if witness else "",
        extra,
        "  </service>",
        "</safe>",
        "",
    ]
    return "\n".join(part for part in parts if part or part is parts[-1])


LEDGER_EXTRA = """\
    <user nicestoptimeout="30s" forcestoptimeout="10s">
      <var name="LEDGER_DIR" value="/var/lib/ledger"/>
      <var name="LEDGER_PORT" value="8080"/>
    </user>
    <errd polltimer="10s">
      <proc argregex="ledger_server\\.py start --dir /var/lib/ledger( |$)" class="prim"
            action="restart"/>
    </errd>"""


def farm_xml(
    *,
    networks: Sequence[str],
    addresses: Sequence[str],
    port: int,
    farm: str = "",
    extra: str = "",
) -> str:
    """Return a userconfig.xml of a farm that shares the clients of one TCP port.

    `farm` holds attributes of `<farm>`, `extra` further elements (`<user>`, …).
    """
    lans = "".join(f"<lan name={quoteattr(name)}/>" for name in networks)
    virtual = "".join(f"<virtual_addr addr={quoteattr(one)}/>" for one in addresses)
    parts = [
        "<!DOCTYPE safe>",
        "<safe>",
        '  <service mode="farm">',
        f"    <farm {farm}>{lans}</farm>",
        '    <vip scriptcontrol="on"><interface_list><interface>',
        '    <virtual_interface type="vmac_invisible">',
        f"      {virtual}",
        "    </virtual_interface></interface></interface_list>",
        '    <loadbalancing_list><group name="web">',
        f'      <rule proto="tcp" port="{port}" filter="on_port"/>',
        "    </group></loadbalancing_list></vip>",
        extra,
        "  </service>",
        "</safe>",
        "",
    ]
    return "\n".join(parts)


WEB_EXTRA = """\
    <user nicestoptimeout="30s" forcestoptimeout="10s">
      <var name="WEB_PORT" value="8080"/>
    </user>
"""
