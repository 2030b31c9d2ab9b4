"""While the arbiter changes nothing a service goes on, whatever process of it fails (L3)."""

from collections.abc import Callable

import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.sim.world import World
from tests.sim.acts.clusters import pair

FAILED = ev.ResourceChanged("proc.watched", "down", "stopstart", "(it ended)")


def goes_away(world: World) -> None:
    world.witness_up = False


def forgets(world: World) -> None:
    world.witness_node.core.entries.clear()


def refuses(world: World) -> None:
    for entry in world.witness_node.core.entries.values():
        entry.failure = "the witness could not store the register: no space"


@pytest.mark.parametrize(
    ("name", "what"),
    [("n1", goes_away), ("n1", forgets), ("n1", refuses), ("n2", goes_away)],
)
def test_what_a_checker_finds_costs_no_role_while_the_arbiter_names_nobody(
    name: str, what: Callable[[World], None]
) -> None:
    world = pair()
    what(world)
    world.run(3_000)
    world.soon(name, "module", FAILED)
    world.run(1_000)
    assert (world.role("n1"), world.role("n2")) == ("PRIM Ready", "SECOND Ready")
    number = world.write()
    world.run(3_000)
    assert number in world.monitors.acked
    assert world.nodes["n1"].application


@pytest.mark.parametrize("what", [goes_away, forgets, refuses])
def test_a_swap_is_refused_while_the_arbiter_names_nobody(what: Callable[[World], None]) -> None:
    world = pair()
    what(world)
    world.run(3_000)
    assert world.nodes["n1"].application
    for name in ("n1", "n2"):
        world.command(name, "swap")
        world.run(100)
    facts = [text for _, text in world.nodes["n1"].machine.state.facts]
    assert any("swap refused: n2 cannot be named primary: the arbiter" in text for text in facts)
    assert (world.role("n1"), world.role("n2")) == ("PRIM Ready", "SECOND Ready")
