"""What a seed did, as a scenario: its faults, orders and writes at their times.

What is left to chance in a scenario (delays, latencies, the order of what happens at the same
time) follows from the same seed's streams: the scenario goes as the seed went.
"""

import dataclasses
from typing import Any

from mirrorfarm.sim import sweep
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.scenario.record import Event, Mirror, Scenario, wires
from mirrorfarm.sim.swarm import Swarm
from mirrorfarm.sim.trap import trap


def record(plan: Swarm) -> tuple[Scenario, str]:
    """Play a plan; return its tape, and what was violated ("": nothing)."""
    world = sweep.build(plan, story=False)
    tape = world.tape = []
    honest = world.write

    def write() -> int:
        tape.append((world.now, Write(1)))
        return honest()

    world.write = write  # type: ignore[method-assign]
    violation, begun, end = "", 0, 0
    with trap(), sweep.uncollected():
        try:
            sweep.first_start(world)
            begun = world.now
            sweep.trouble(world, plan)
            end = world.now
            sweep.heal_core(world, plan.core)
            sweep.calm(world)
        except Violation as error:
            violation = str(error)
        except AssertionError as error:
            violation = f"assert: {error}"
    events = tuple(Event(at - begun, act) for at, act in tape)
    return (
        Scenario(
            seed=plan.seed,
            cluster=_mirror(plan),
            wires=wires(plan.quality),
            events=events,
            end_ns=(end or world.now) - begun,
            core=plan.core,
            converges=True,
        ),
        violation,
    )


def _mirror(plan: Swarm) -> Mirror:
    known = {field.name for field in dataclasses.fields(Mirror)}
    given: dict[str, Any] = dict(plan.world)
    unknown = [name for name in given if name not in known]
    assert not unknown, f"a scenario has no key for {unknown}"
    if "checked" in given:
        given["checked"] = given["checked"] or "none"
    return Mirror(profile=plan.profile, **given)
