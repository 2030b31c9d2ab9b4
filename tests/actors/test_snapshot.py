"""A core that was taken down and built up again is the same: in state and in what it does next."""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgpack
import pytest

from mirrorfarm.actors import snapshot
from mirrorfarm.actors.module.mirror.state import State
from mirrorfarm.actors.replicator.core import Replicator
from mirrorfarm.actors.scripts.core import Scripts
from mirrorfarm.modules.settings import Module
from mirrorfarm.sim import farm_sweep, swarm, sweep
from mirrorfarm.trace.registry import CORES
from tests.mirrorfarm.trace.recorded import Handle, every_handle


def through_bytes(state: Any) -> Any:
    return msgpack.unpackb(msgpack.packb(state))


class Twins:
    """Before every so-manieth event of a core: take it down, build another, compare both."""

    def __init__(self, every: int) -> None:
        self.every, self.count = every, 0
        self.seen: dict[str, int] = {}

    def step(self, real: Handle, core: Any, event: Any, now: int) -> list[Any]:
        self.count += 1
        if self.count % self.every:
            return real(core, event, now)
        kind = type(core)
        twin = snapshot.restore(kind, through_bytes(snapshot.take(core)))
        effects = real(core, event, now)
        assert real(twin, event, now) == effects
        assert through_bytes(snapshot.take(twin)) == through_bytes(snapshot.take(core))
        self.seen[kind.__name__] = self.seen.get(kind.__name__, 0) + 1
        return effects


def test_a_core_that_is_restored_at_any_moment_goes_on_as_if_nothing_had_been() -> None:
    twins = Twins(every=7)
    with every_handle(twins.step):
        honest = [seed for seed in range(12) if not swarm.dense(seed).buggify]
        for seed in honest[:4]:  # A trick that one core draws its twin would not.
            sweep.play(seed)
        farm_sweep.play(0)
    wanted = {"Mirror", "Heartbeat", "WitnessClient", "WitnessCore", "FarmFilter"}
    assert wanted <= {name for name, times in twins.seen.items() if times > 20}, twins.seen


@pytest.mark.parametrize("kind", CORES.values())
def test_every_core_has_a_plain_form(kind: type[Any]) -> None:
    assert snapshot._codec(kind)  # type: ignore[arg-type]


def test_what_scripts_are_given_is_not_in_it() -> None:
    module = Module("web", 1, ("n1", "n2"), variables=(("PASSWORD", "secret"),))
    state = snapshot.take(Scripts(module))
    assert "secret" not in repr(state)
    assert snapshot.restore(Scripts, through_bytes(state)).settings.nodes == ("n1", "n2")


def test_what_a_core_asked_for_last_is_not_in_it() -> None:
    assert "out" in State.__dataclass_fields__
    state = snapshot.take(Replicator("n1", "web"))
    assert state["floor"] == (0, 0)
    assert "out" not in state


class Colour(Enum):
    RED = 1


@dataclass(slots=True)
class Part:
    number: int = 3


@dataclass(slots=True)
class Whole:
    part: Part
    parts: dict[str, Part] = field(default_factory=dict)
    rows: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=2))
    colour: Colour = Colour.RED
    maybe: Part | None = None
    bits: int = 1 << 1_000
    later: int = 9  # Not in older states.


def test_rows_keep_their_bound_and_mappings_their_order() -> None:
    whole = Whole(Part(5), {"b": Part(1), "a": Part(2)}, deque([(1, "x")], maxlen=2))
    back = snapshot.restore(Whole, through_bytes(snapshot.take(whole)))
    assert back == whole
    assert back.rows.maxlen == 2
    assert list(back.parts) == ["b", "a"]


def test_a_field_that_an_older_build_did_not_have_gets_its_default() -> None:
    state = snapshot.take(Whole(Part(5)))
    del state["later"]
    assert snapshot.restore(Whole, state).later == 9


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"part": 5},
        {"part": {"number": "five"}},
        {"part": {"number": 1}, "parts": {"a": 1}},
        {"part": {"number": 1}, "parts": [["a"]]},
        {"part": {"number": 1}, "colour": "GREEN"},
        {"part": {"number": 1}, "unknown": 1},
        {"part": {"number": 1}, "rows": [[1, 2]]},
    ],
)
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(
        ValueError, match=r"not a state of Whole|Expected|invalid literal|not enough values"
    ):
        snapshot.restore(Whole, state)


@pytest.mark.parametrize("hint", [set[int], object, Any, tuple[Part, ...], int | Part, float])
def test_a_state_that_has_no_plain_form_is_refused_when_its_class_is_seen(hint: Any) -> None:
    with pytest.raises(TypeError, match="no plain form"):
        snapshot._codec(hint)
