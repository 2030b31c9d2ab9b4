"""A mirror with the timing of the reference product, given in its words, and a main address."""

import re
from collections.abc import Iterator

import pytest

from mirrorfarm.lab.cluster import OneMachine

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab() -> Iterator[OneMachine]:
    with OneMachine(profile="safekit") as machine:
        text = machine.userconfig()
        text = text.replace("<heart>", '<heart pulse="700" timeout="30000">')
        text, count = re.subn(r"<virtual_addr ", '<virtual_addr where="one_side" ', text)
        assert count == 1
        machine.module = "ledger"
        machine.install("ledger", text, folders=("/var/lib/ledger",))
        machine.begin("n1", "n2")
        yield machine


def source_of(lab: OneMachine, node: str, address: str) -> str:
    return lab.run(node, ["ip", "route", "get", address]).stdout.split(" src ")[1].split()[0]


def test_a_pair_comes_up_and_swaps_without_waiting_for_its_thirty_seconds(lab: OneMachine) -> None:
    client = lab.wiring.address("c", "default")
    for first, second in (("n1", "n2"), ("n2", "n1")):
        assert source_of(lab, first, client) == lab.vip
        assert source_of(lab, second, client) == lab.wiring.address(second, "default")
        lab.order(first, "swap")
        lab.wait_state(second, "PRIM", 60)
        lab.wait_state(first, "SECOND", 60)
    facts = " ".join(fact["text"] for node in lab.nodes for fact in lab.state(node)["facts"])
    assert "ALONE (" not in facts, "connections that leave from the address are taken up again"
