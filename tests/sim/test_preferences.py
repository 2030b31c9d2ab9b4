"""Nodes that prefer one as primary: `defaultprim`, also where each was told another one."""

import pytest

from mirrorfarm.sim import swarm
from mirrorfarm.sim.acts.act import perform
from mirrorfarm.sim.acts.processes import Reconfigured
from mirrorfarm.sim.sweep import calm
from mirrorfarm.sim.world import NODES, PREFERRED
from tests.sim.acts.clusters import pair


@pytest.mark.parametrize(
    ("defaultprim", "leads"),
    [
        ("alone", ("n1",)),
        ("n1", ("n1",)),
        ("n2", ("n2",)),
        ("itself", NODES),
        ("other", NODES),
    ],
)
def test_who_is_preferred_leads_when_both_start_and_nobody_is_waited_for_for_ever(
    defaultprim: str, leads: tuple[str, ...]
) -> None:
    world = pair(defaultprim=defaultprim)
    for name in NODES:
        world.kill(name)
    for name in NODES:
        world.begin(name)
    world.run(10_000)
    roles = [world.role(name) for name in NODES]
    assert sorted(roles) == ["PRIM Ready", "SECOND Ready"]
    assert NODES[roles.index("PRIM Ready")] in leads


def test_nobody_takes_the_role_back() -> None:
    world = pair(defaultprim="n2")
    world.kill("n2")
    world.run(3_000)
    world.begin("n2")
    world.run(10_000)
    assert [world.role(name) for name in NODES] == ["PRIM Ready", "SECOND Ready"]


def test_a_node_that_gets_another_configuration_goes_on_preferring_whom_it_preferred() -> None:
    world = pair(defaultprim="itself")
    perform(world, Reconfigured("n2", failover=False, divergence="manual", for_ns=1))
    assert [world.nodes[name].module.defaultprim for name in NODES] == ["n1", "n2"]
    calm(world)


def test_half_of_the_runs_prefer_nobody() -> None:
    drawn = [dict(swarm.draw(seed).world)["defaultprim"] for seed in range(200)]
    assert 80 < drawn.count("alone") < 120
    assert set(drawn) == {"alone", *PREFERRED}
    assert dict(swarm.draw(7, defaultprim="n2").world)["defaultprim"] == "n2"
