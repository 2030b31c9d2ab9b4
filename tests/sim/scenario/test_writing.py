"""Whatever scenario is written is read back as the same."""

import dataclasses
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.sim.acts.act import Act, arguments
from mirrorfarm.sim.acts.farm import SIDES, Command, PowerOff
from mirrorfarm.sim.acts.kinds import (
    DURATION,
    MACHINES,
    MODULE,
    MOMENT,
    NETWORK,
    NODE,
    OFFSET,
    PAIR,
    SHARE,
    SWITCH,
)
from mirrorfarm.sim.acts.phases import FarmCrashInPhase
from mirrorfarm.sim.acts.vocabulary import FARM, MIRROR
from mirrorfarm.sim.scenario.effect import idle
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.scenario.record import END_NS, Event, Expectation, Farm, Mirror, Scenario
from mirrorfarm.sim.scenario.writing import write

VALUES = {
    id(DURATION): st.integers(0, END_NS),
    id(OFFSET): st.integers(-END_NS, END_NS),
    id(MOMENT): st.integers(0, END_NS),
    id(SHARE): st.integers(0, 1_000),
    id(SWITCH): st.booleans(),
    id(NODE): st.sampled_from(("n1", "n2")),
    id(PAIR): st.sampled_from((("n1", "n2"), ("n2", "n1"))),
    id(MACHINES): st.sampled_from((("n2",), ("n2", "n1"))),
    id(NETWORK): st.just("default"),
    id(SIDES): st.sampled_from(((("n1",), ("n2",)), (("n2", "n1"),))),
}
WORDS = (
    *("Heartbeat", "start", "in", "module", "before", "w1", "all"),
    *("gone", "manual", "stopping", "crash", "record"),
)


def some(kind: Any) -> st.SearchStrategy[Any]:
    if id(kind) in VALUES:
        return VALUES[id(kind)]
    for word in WORDS:
        try:
            return st.just(kind.read(word))
        except ValueError:
            pass
    return st.integers(1, 100)


def act_of(kind: type[Act], modules: tuple[str, ...]) -> st.SearchStrategy[Act]:
    values = {
        name: st.sampled_from(modules) if about.kind is MODULE else some(about.kind)
        for name, about in arguments(kind).items()
    }
    return st.builds(kind, **values)


def events(cluster: Mirror | Farm) -> st.SearchStrategy[tuple[Event, ...]]:
    """Draw events that may happen in a cluster: others are not written."""
    acts, modules = (FARM.acts, ("",)) if isinstance(cluster, Farm) else (MIRROR.acts, ("", "app2"))
    act = st.one_of(*(act_of(kind, modules) for kind in acts.values()))
    some_act = act.filter(lambda one: not idle(one, cluster))
    one = st.builds(Event, at_ns=st.integers(0, END_NS), act=some_act)
    return st.lists(one, max_size=5).map(tuple)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=40)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_written_is_read_as_the_same(data: st.DataObject) -> None:
    farm = data.draw(st.booleans())
    told = data.draw(TEXTS)
    role = "" if farm else "PRIM Ready"
    cluster = Farm(data.draw(st.integers(2, 16)), whole=True) if farm else Mirror(modules=2)
    expected = Expectation(5, by=True, node="n1", role=role, because="x", told=told)
    scenario = Scenario(
        title=data.draw(TEXTS),
        seed=data.draw(st.integers(0, (1 << 64) - 1)),
        converges=data.draw(st.booleans()),
        cluster=cluster,
        events=data.draw(events(cluster)),
        expectations=(expected,),
    )
    text = write(scenario, ("a comment\nwith an end", told))
    assert read(text.encode(), "f") == scenario, text


def test_what_does_nothing_in_its_cluster_is_not_written() -> None:
    """Shrinking may have left only the filters of a farm: what remains can be read."""
    acts = (Command("stop", "n1"), FarmCrashInPhase("n1", "up", "cut"), PowerOff("n2"))
    events = tuple(Event(0, act) for act in acts)
    whole = Scenario(cluster=Farm(whole=True), events=events)
    assert read(write(whole).encode(), "f") == whole
    assert read(write(replace(whole, cluster=Farm())).encode(), "f").events == events[2:]


def test_every_field_of_every_record_is_written() -> None:
    """Nothing that decides about a run is left out of a file."""
    undeclared = {"cluster", "wires", "events", "expectations", "file", "at_ns", "by", "line"}
    for record in (Scenario, Mirror, Farm, Expectation):
        names = {field.name for field in dataclasses.fields(record)}
        assert names - set(arguments(record)) <= undeclared
