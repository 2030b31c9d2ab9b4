"""Candidates are simpler than what they are made of."""

from dataclasses import replace

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.acts.cables import Cut
from mirrorfarm.sim.acts.farm import PowerOff
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.acts.processes import KillModule
from mirrorfarm.sim.network import Quality
from mirrorfarm.sim.scenario.record import Event, Farm, Mirror, Scenario, Wires, wires
from mirrorfarm.sim.shrinking import simpler


def test_times_are_rounded_to_what_is_short_to_write_and_near() -> None:
    assert next(simpler.rounded(1_234_567_891)) == SECOND_NS
    assert next(simpler.rounded(287 * MILLISECOND_NS)) == 500 * MILLISECOND_NS
    assert not list(simpler.rounded(10 * SECOND_NS))


def test_a_cluster_loses_one_special_thing_at_a_time() -> None:
    special = Scenario(
        seed=9, cluster=Mirror(networks=3, apart=True), wires=wires(Quality(5, loss=10))
    )
    found = list(simpler.clusters(special))
    assert replace(special, wires=Wires()) in found
    assert replace(special, cluster=Mirror(apart=True)) in found
    assert replace(special, seed=1) in found


def test_a_farm_loses_nodes_together_with_what_is_done_to_them() -> None:
    events = (Event(0, PowerOff("n1")), Event(1, PowerOff("n4")))
    found = list(simpler.clusters(Scenario(seed=1, cluster=Farm(4), events=events)))
    assert [(len(c.nodes), len(c.events)) for c in found if c.cluster != Farm(4)] == [
        (2, 1),
        (3, 1),
    ]


def test_a_mirror_loses_modules_together_with_what_is_done_to_them() -> None:
    events = (Event(0, KillModule("n1")), Event(1, KillModule("n1", module="app2")))
    found = list(simpler.clusters(Scenario(seed=1, cluster=Mirror(modules=3), events=events)))
    assert [(c.modules[1:], len(c.events)) for c in found if c.cluster != Mirror(modules=3)] == [
        ((), 1),
        (("app2",), 2),
    ]


def test_single_writes_become_a_row_for_each_module() -> None:
    single = [Event(n * SECOND_NS, Write(1)) for n in (1, 2, 3)]
    others = [Event(n * SECOND_NS, Write(1, module="app2")) for n in (2, 4)]
    rows = list(simpler.writes([*single, *others]))
    assert Event(SECOND_NS, Write(3, SECOND_NS)) in rows[-1]
    assert Event(2 * SECOND_NS, Write(2, 2 * SECOND_NS, module="app2")) in rows[-1]
    assert all(len(row) == 2 for row in rows)


def test_single_writes_become_one_row() -> None:
    single = [Event(n * SECOND_NS, Write(1)) for n in (1, 2, 3)]
    cut = Event(5, Cut(("n1", "n2")))
    rows = list(simpler.writes([*single, cut]))
    assert all(len(row) == 2 for row in rows)
    assert Event(SECOND_NS, Write(3, SECOND_NS)) in rows[-1]
    assert not list(simpler.writes([single[0], cut]))


def test_waits_become_shorter_and_the_order_stays() -> None:
    events = [Event(9 * SECOND_NS, Write(1)), Event(5 * SECOND_NS, Write(1))]
    found = [[event.at_ns for event in row] for row in simpler.earlier(events)]
    assert [0, 4 * SECOND_NS] in found
    assert [5 * SECOND_NS, 5 * SECOND_NS] in found


def test_an_act_is_tried_with_its_defaults() -> None:
    event = Event(0, Cut(("n1", "n2"), "second", 3))
    assert Event(0, Cut(("n1", "n2"), "", 3)) in list(simpler.acts(event))
