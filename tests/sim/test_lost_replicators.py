"""A secondary that lost its replicator says so for as long as nobody can resynchronise it."""

from mirrorfarm.actors.module.mirror.describe import explanation
from mirrorfarm.sim.witness import WITNESS
from tests.sim.acts.clusters import pair


def test_a_second_whose_replicator_died_says_so_while_the_arbiter_is_away() -> None:
    world = pair()
    for name in ("n1", "n2"):
        world.set_link(name, WITNESS, up=False)
    world.kill_plane("n2")
    world.run(2_000)
    assert world.role("n2") == "SECOND Transient"
    reason, would_change, _ = explanation(world.nodes["n2"].machine.state)
    assert reason == "the replicator died: what was under way may not be on this node's disk"
    assert would_change.startswith("n1 offers a resynchronisation, once the arbiter")
    for name in ("n1", "n2"):
        world.set_link(name, WITNESS, up=True)
    assert world.run_until(lambda: world.role("n2") == "SECOND Ready", 5_000)
    assert explanation(world.nodes["n2"].machine.state) == ("", "", "")
