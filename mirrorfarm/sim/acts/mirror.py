"""Which acts a simulated mirror knows, and how one is done."""

from typing import Any

from mirrorfarm.sim.acts.act import Act, Vocabulary, words
from mirrorfarm.sim.monitors.seen import Fault

MODULE = "app"
MIRROR = Vocabulary()


def perform(world: Any, act: Act) -> None:
    """Do an act; monitors hear of it, and so does the tape if there is one."""
    if world.tape is not None:
        world.tape.append((world.now, act))
    world.seen(act.about, Fault(act.name, words(act)), MODULE)
    act.do(world)
