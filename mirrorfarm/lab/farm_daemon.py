"""A filter and a shared address in a process of their own, to be steered, frozen and killed.

Run as `python -m mirrorfarm.lab.farm_daemon`; orders are lines of JSON on its input, each answered
by one on its output. The first is the configuration. It ends with its input.
"""

import ipaddress
import json
import select
import sys
import time
from pathlib import Path
from typing import Any

from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.actors.vip.shared import SharedAddress
from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.netfilter.bpf import BpfFilter, Relay
from mirrorfarm.netfilter.choice import make
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import NO_BUCKETS, BucketTable, PacketFilter, Settings
from mirrorfarm.netfilter.rules import rule


def settings_of(config: dict[str, Any]) -> Settings:
    """Read the settings of a filter."""
    return Settings(
        module=config["module"],
        interfaces=tuple(config["interfaces"]),
        addresses=tuple(ipaddress.ip_address(text) for text in config["addresses"]),
        rules=tuple(rule(*words) for words in config["rules"]),
        seed=config["seed"],
        delivery=Delivery(config["delivery"]),
    )


class Daemon:
    """One node of a farm, without a core: what is ordered is done."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._settings = settings_of(config)
        self._filter: PacketFilter = (
            BpfFilter(old=True)
            if config.get("old")
            else make(config["filter"], Path(config["ledger"]))
        )
        self._address = SharedAddress(self._settings, Path(config["ledger"]))
        self._lease_ns = 0
        self._held = True
        self._filter.open(self._settings)
        self._address.up(NO_BUCKETS)

    def run(self) -> None:
        """Obey until the input ends; renew the lease meanwhile, three times per lease."""
        while True:
            wait = self._lease_ns / 3e9 if self._lease_ns else None
            ordered, _, _ = select.select([sys.stdin], [], [], wait)
            if self._lease_ns:
                self._renew()
            if ordered:
                line = sys.stdin.readline()
                if not line:
                    break
                self._say(self._obey(json.loads(line)))
        self.close()

    def close(self) -> None:
        """Leave nothing behind."""
        self._address.down()
        self._filter.close()

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        begin = time.perf_counter_ns()
        answer: dict[str, Any] = {}
        if "groups" in order:
            groups = tuple(bytes.fromhex(group) for group in order["groups"])
            table = BucketTable(order["view"], groups)
            self._filter.apply(table)
            answer["apply_ns"] = time.perf_counter_ns() - begin
            self._address.adopt(table)
        if "relay" in order:
            assert isinstance(self._filter, BpfFilter)
            own, *peers = (bytes.fromhex(mac) for mac in order["macs"])
            self._filter.relay(Relay(own, tuple(peers), (bytes.fromhex(order["relay"]),)))
        if "lease_ms" in order:
            self._lease_ns = order["lease_ms"] * MILLISECOND_NS
            answer["held"] = self._renew() if self._lease_ns else False
        if order.get("counters"):
            answer["counters"] = self._filter.counters()
        answer["held_always"] = self._held
        return answer

    def _renew(self) -> bool:
        held = self._filter.renew(boot_clock_ns() + self._lease_ns)
        self._held = self._held and held
        return held

    @staticmethod
    def _say(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Read the configuration, open, say so, obey."""
    sys.stdin.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    daemon = Daemon(json.loads(sys.stdin.readline()))
    Daemon._say({"ready": True})
    daemon.run()


if __name__ == "__main__":
    main()
