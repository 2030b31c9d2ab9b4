"""A mirror at rest does exactly what it does by a look at everything."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mirrorfarm.actors import events as ev
from mirrorfarm.actors import sites, snapshot
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.phases import Phase
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim import bench, running
from mirrorfarm.sim.plans import plan_of
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

SEEDS = range(6)


def wakened(state: dict[str, Any]) -> Mirror:
    """Return a core in that state which looks at everything."""
    core = snapshot.restore(Mirror, state)
    core.state.rests = False
    return core


def same(state: dict[str, Any], event: Any, now: int) -> None:
    """Compare what comes of an event, at rest and by a look at everything."""
    at_rest, awake = snapshot.restore(Mirror, state), wakened(state)
    assert at_rest.handle(event, now) == awake.handle(event, now), event
    compared(at_rest, awake, event)


def compared(one: Mirror, other: Mirror, event: Any) -> None:
    states = snapshot.take(one), snapshot.take(other)
    for state in states:
        state["state"].pop("rests")  # After a look at everything it may begin only then.
    assert states[0] == states[1], event


@pytest.mark.parametrize("seed", SEEDS)
def test_runs_with_faults(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, taken = Mirror.handle, 0

    def both(core: Mirror, event: Any, now: int) -> list[Any]:
        nonlocal taken
        if not core.state.rests:
            return handle(core, event, now)
        twin, trick = wakened(snapshot.take(core)), sites.trick
        sites.play(None)
        effects = handle(twin, event, now)
        sites.play(trick)
        found = handle(core, event, now)
        assert found == effects, event
        compared(core, twin, event)
        taken += core.state.rests
        return found

    monkeypatch.setattr(Mirror, "handle", both)
    assert running.play(plan_of("mirror", seed)).violation is None
    assert taken > 100


# --- events that say something new ---------------------------------------------------------


@pytest.fixture(scope="module")
def states() -> dict[Phase, list[tuple[dict[str, Any], Any, int]]]:
    """What a primary and a secondary at rest were given, and the state before it."""
    found: dict[Phase, list[tuple[dict[str, Any], Any, int]]] = {}
    handle = Mirror.handle

    def noted(core: Mirror, event: Any, now: int) -> list[Any]:
        if core.state.rests:
            found.setdefault(core.state.phase, []).append((snapshot.take(core), event, now))
        return handle(core, event, now)

    world = bench.pair("fast")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mirror, "handle", noted)
        world.run(10_000)
    return found


def others(value: Any) -> Iterator[Any]:
    """Return other values of the same type."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (0, 1, -1, value - 1, value + 1, value + 60 * SECOND_NS)
        case str():
            words = ("", "other", "PRIM", "ALONE", "SECOND", "WAIT", "STOP", "Ready", "leaving")
            yield from (*words, "starting", "following", "lead", "follow", "off", "both", "frozen")
        case tuple():
            yield from ((), ("n1",), ("n1", "n2"), ("n2",), ("other",))
        case None:
            yield msg.Register(1, 1, "n1", ("n1", "n2"), "g0", "i0")
        case msgspec.Struct():
            yield from mutants(value)


def mutants(record: Any) -> Iterator[Any]:
    """Return a record with another value of one field, for each field and value."""
    for name in record.__struct_fields__:
        for value in others(getattr(record, name)):
            yield msgspec.structs.replace(record, **{name: value})


@pytest.mark.parametrize("phase", [Phase.LEADING, Phase.FOLLOWING])
def test_events_that_say_something_new(
    phase: Phase, states: dict[Phase, list[tuple[dict[str, Any], Any, int]]]
) -> None:
    kinds: dict[str, int] = {}
    for state, event, now in states[phase]:
        name = type(getattr(event, "message", event)).__name__
        kinds[name] = kinds.get(name, 0) + 1
        if kinds[name] > 2:
            continue
        if isinstance(event, ev.Received):
            for message in mutants(event.message):
                same(state, msgspec.structs.replace(event, message=message), now)
        else:
            for mutant in mutants(event):
                same(state, mutant, now)
        for later_ns in (0, 1, SECOND_NS // 10, SECOND_NS, 2 * SECOND_NS, 60 * SECOND_NS):
            same(state, event, now + later_ns)
    assert {"PeerHeard", "Tick", "PlaneIs"} <= kinds.keys()
    assert ("RegisterKnown" in kinds) == (phase is Phase.LEADING)


@pytest.mark.parametrize("phase", [Phase.LEADING, Phase.FOLLOWING])
def test_messages_of_others_are_not_of_rest(
    phase: Phase, states: dict[Phase, list[tuple[dict[str, Any], Any, int]]]
) -> None:
    state, event, now = next(
        one for one in states[phase] if isinstance(getattr(one[1], "message", None), msg.PlaneIs)
    )
    for node in ("n1", "n2", "n3"):
        for module in ("app", "other"):
            source = Address(node, module, "replicator")
            same(state, msgspec.structs.replace(event, source=source), now)
