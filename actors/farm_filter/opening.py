"""What the filter of a farm module is opened with."""

import ipaddress

from mirrorfarm.modules.farmconfig import farm_rules
from mirrorfarm.modules.settings import Module
from mirrorfarm.netfilter.delivery import Delivery, parse_virtual_mac
from mirrorfarm.netfilter.filter import Settings


def settings_of(module: Module, interfaces: tuple[str, ...]) -> Settings:
    """Return the settings of a module's filter at these interfaces."""
    farm = module.farm
    delivery = Delivery(farm.delivery)
    return Settings(
        module.name,
        interfaces,
        tuple(ipaddress.ip_address(one.addr) for one in farm.addresses),
        farm_rules(farm.rules),
        farm.seed,
        delivery,
        parse_virtual_mac(delivery, farm.mac) if farm.mac else b"",
        queue=module.id,
    )
