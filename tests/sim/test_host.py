"""When an actor takes what comes: at once if it is idle, else behind what came before."""

from collections.abc import Callable
from typing import Any

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.engine import Clocks, Draws, Engine
from mirrorfarm.sim.host import TURN_NS, Actor, Alarm, Doors, Host, Process

AT = SECOND_NS + 10 * MILLISECOND_NS
TURN_MAX_NS = TURN_NS + 0x4000


class Core:
    """Notes what it takes, and when; it answers each event with the same effects."""

    def __init__(self, taken: list[tuple[str, Any, int]], name: str) -> None:
        self.taken, self.name = taken, name
        self.effects: list[fx.Tell] = []

    def handle(self, event: Any, now: int) -> list[Any]:
        """Take one event."""
        self.taken.append((self.name, event, now))
        return self.effects if event == "tell" else []


class Bench:
    """A process with two actors."""

    def __init__(self, seed: int = 1) -> None:
        self.engine = Engine(seed)
        self.taken: list[tuple[str, Any, int]] = []
        self.ended: list[Process] = []
        host = Host(self.engine, "n1", Clocks())
        doors: Doors = {fx.Tell: self._tell}
        self.process = Process(host, "m", 1, doors, None, self.ended.append)
        self.one, self.two = (self.process.add(n, Core(self.taken, n)) for n in ("one", "two"))

    @staticmethod
    def _tell(actor: Actor, effect: fx.Tell) -> None:
        actor.process.actors[effect.actor].give(effect.event)

    def due(self, actor: Actor, event: Any, at: int = AT) -> None:
        """Have something come for an actor."""
        self.engine.at(at, self.process.due, actor, event)

    def told(self, milliseconds: int = 20) -> list[tuple[str, Any, int]]:
        """Let time pass; return what was taken."""
        self.engine.run(milliseconds)
        return self.taken


def test_an_idle_actor_takes_at_once_what_comes() -> None:
    bench = Bench()
    bench.due(bench.one, 1)
    bench.due(bench.one, 2, AT + 1)
    assert bench.told() == [("one", 1, AT), ("one", 2, AT + 1)]


def test_what_one_actor_tells_another_waits_for_a_turn_and_what_comes_then_for_that() -> None:
    bench = Bench()
    core: Any = bench.one.core
    core.effects = [fx.Tell("two", "told"), fx.Tell("one", "told itself")]
    bench.due(bench.one, "tell")
    bench.due(bench.two, "came", AT + 1)
    taken = bench.told()
    assert taken[0] == ("one", "tell", AT)
    of_two = [(event, at) for name, event, at in taken if name == "two"]
    assert [event for event, _ in of_two] == ["told", "came"]
    assert AT + TURN_NS <= of_two[0][1] <= AT + TURN_MAX_NS
    assert of_two[0][1] + TURN_NS <= of_two[1][1]
    assert next(at for _, event, at in taken if event == "told itself") >= AT + TURN_NS


def test_a_slow_process_takes_its_time_for_everything() -> None:
    bench = Bench()
    bench.process.slow_ns = MILLISECOND_NS
    bench.due(bench.one, 1)
    ((_, _, at),) = bench.told()
    assert at >= AT + MILLISECOND_NS + TURN_NS


def test_a_paused_process_takes_what_came_when_it_goes_on_in_order() -> None:
    bench = Bench()
    bench.process.pause()
    bench.due(bench.one, 1)
    bench.due(bench.one, 2)
    order = [entry[4][1] for entry in sorted(bench.engine.heap)]
    assert bench.told() == []
    bench.process.go_on()
    assert [event for _, event, _ in bench.told()] == order


def test_a_process_that_crashes_between_two_effects_takes_nothing_more() -> None:
    bench = Bench()
    core: Any = bench.one.core
    core.effects = [fx.Tell("two", "first"), fx.Tell("two", "second")]
    bench.process.doom = 1
    bench.due(bench.one, "tell")
    bench.due(bench.one, "after", AT + MILLISECOND_NS)
    assert bench.told() == [("one", "tell", AT)]
    assert bench.ended == [bench.process]


@pytest.mark.parametrize("same", ["one", "two"])
def test_what_comes_at_one_time_is_taken_in_an_order_of_the_seed(same: str) -> None:
    orders = set()
    for seed in range(20):
        bench = Bench(seed)
        bench.due(bench.one, "first")
        bench.due(bench.process.actors[same], "second")
        orders.add(tuple(event for _, event, _ in bench.told()))
    assert orders == {("first", "second"), ("second", "first")}


def test_a_started_actor_is_given_its_first_event_in_a_turn() -> None:
    bench = Bench()
    bench.one.give(ev.Started())
    assert bench.taken == []
    ((_, event, at),) = bench.told()
    assert event == ev.Started()
    assert at >= SECOND_NS + TURN_NS


class Entries:
    """What an alarm stands for: every time is put on the agenda, and all but the last mean nothing.

    Has `host`, as an alarm does, so that its entries move with the machine's clock.
    """

    def __init__(self, host: Host, what: Callable[..., None]) -> None:
        self.host, self._what, self._number = host, what, 0

    def put_off(self, when: int, *arguments: Any) -> None:
        """Have it come at another time."""
        self._number += 1
        self.host.engine.at(when, self._comes, self._number, *arguments)

    def _comes(self, number: int, *arguments: Any) -> None:
        if number == self._number:
            self._what(*arguments)


def rings(kind: type[Alarm] | type[Entries], seed: int) -> list[tuple[str, int, int]]:
    """Put an alarm off, and earlier, and change the clock; return what happens, and when."""
    engine, draws = Engine(seed), Draws(seed, "alarm")
    host = Host(engine, "n1", Clocks(SECOND_NS, 0, draws.between(-400, 400)))
    happened: list[tuple[str, int, int]] = []

    def note(what: str, number: int) -> None:
        happened.append((what, number, engine.now))

    def drift(clocks: Clocks) -> None:
        clocks.drift(engine.now, draws.between(-400, 400))

    alarm = kind(host, lambda number: note("rings", number))
    for number in range(100):
        when = engine.now + draws.below(8) * MILLISECOND_NS
        alarm.put_off(when, number)
        engine.at(when, note, "something else", number)
        if draws.chance(200):
            host.change_clocks(drift)
        if draws.chance(100):
            host.change_clocks(
                lambda clocks: clocks.stood(engine.now, draws.below(5) * MILLISECOND_NS)
            )
        engine.run_to(engine.now + draws.below(4) * MILLISECOND_NS)
    engine.run(20)
    return happened


@pytest.mark.parametrize("seed", range(20))
def test_an_alarm_comes_when_and_where_the_newest_of_all_its_times_would(seed: int) -> None:
    happened = rings(Alarm, seed)
    assert happened == rings(Entries, seed)
    assert 10 < sum(what == "rings" for what, _, _ in happened) < 100


def test_of_an_alarm_that_is_put_off_one_time_is_on_the_agenda() -> None:
    engine = Engine(1)
    alarm = Alarm(Host(engine, "n1", Clocks()), lambda: None)
    for number in range(10):
        alarm.put_off(AT + number)
    assert len(engine.heap) == 1
