"""A node whose disk fails while it asks for the primary role trusts its copy no more (R11)."""

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import StorageFailed
from tests.sim.acts.clusters import pair


@pytest.mark.parametrize("granted", [True, False])
def test_a_disk_that_fails_before_the_answer_keeps_its_node_out_of_every_role(
    granted: bool,
) -> None:
    world = pair()
    n2 = world.nodes["n2"]
    world.set_link("n1", "n2", up=False)
    if granted:
        world.kill("n1")
    else:
        world.witness_up = False  # Nobody answers it until n1 is heard again.
    assert world.run_until(lambda: n2.machine.state.phase.value == "asking", 3_000, 1)
    told = ev.Received(Address("n2", "app", "replicator"), StorageFailed(1, "data", 5, "broken"))
    world.soon("n2", "module", told)
    world.run(5)
    world.set_link("n1", "n2", up=True)
    world.witness_up = True
    serves = ("SECOND", "PRIM Ready", "ALONE")
    assert not world.run_until(lambda: world.role("n2").startswith(serves), 500, 1)
    assert world.run_until(lambda: "cannot be trusted" in world.reason("n2"), 3_000)
    world.run(3_000)
    assert world.role("n2") == "WAIT NotReady"
