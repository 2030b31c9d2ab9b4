"""A farm's node beside the machine that watches its processes."""

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.checker.core import Checker, GraceOver
from mirrorfarm.modules.settings import Process
from tests.actors.module.farm.building import Hand, core


class Watched:
    """Both machines, and one process that is there, or not, whenever it is looked for."""

    def __init__(self, process: Process) -> None:
        machine = core(maxloop=2, processes=(process,))
        self.hand = Hand(machine)
        self.checker = Checker(machine.state.module)
        self.count = 1
        self.late: list[fx.Later] = []
        self.hand.up()
        self.settle()

    def settle(self) -> None:
        """Carry events between the two until nothing is left to say."""
        while self.hand.said:
            said = self.hand.said
            self.hand.forget()
            for effect in said:
                if isinstance(effect, fx.Tell) and effect.actor == "checker":
                    self.look(effect.event)

    def look(self, event: ev.Event) -> None:
        """Give the checker an event, and what it sees for it; tell the module what it says."""
        for effect in self.checker.handle(event, self.hand.now):
            if isinstance(effect, fx.Tell):
                self.hand.give(effect.event)
            elif isinstance(effect, fx.Watch) and effect.entries:
                self.look(ev.ProcessesSeen(0, self.count, effect.number))
            elif isinstance(effect, fx.Later):
                self.late.append(effect)

    def go_on(self) -> str:
        """Let the time pass that processes have to appear; return the node's state."""
        late, self.late = self.late, []
        for one in late:
            assert isinstance(one.event, GraceOver)
            self.hand.now = max(self.hand.now, one.at_ns)
            self.look(one.event)
        self.settle()
        words = self.hand.words()
        self.settle()
        return words


@pytest.mark.parametrize("process_class", ["pre", "prim"])
def test_a_process_that_a_restart_does_not_bring_back_is_told_until_the_limit(
    process_class: str,
) -> None:
    watched = Watched(Process(name="gate", process_class=process_class, action="restart"))
    assert watched.go_on() == "UP Ready"
    watched.count = 0
    watched.look(ev.ProcessGone(0, 0, watched.checker.number))
    watched.settle()
    ends = [watched.go_on() for _ in range(3)]
    assert ends == ["UP Ready", "STOP NotReady", "STOP NotReady"]
    assert any("maxloop" in fact["text"] for fact in watched.hand.state()["facts"])


def test_a_process_that_is_back_after_the_restart_is_left_alone() -> None:
    watched = Watched(Process(name="gate", process_class="pre", action="restart"))
    watched.go_on()
    watched.look(ev.ProcessGone(0, 0, watched.checker.number))
    watched.settle()
    assert [watched.go_on() for _ in range(3)] == ["UP Ready"] * 3
    assert watched.hand.state()["loop"] == 1
    assert watched.hand.state()["resources"]["proc.gate"] == "up"
