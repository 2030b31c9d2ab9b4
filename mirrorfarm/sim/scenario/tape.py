"""What a seed did, as a scenario: its faults, orders and writes at their times.

What is left to chance in a scenario (delays, latencies, the order of what happens at the same
time) follows from the same seed's streams: the scenario goes as the seed went.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim import farm_sweep, sweep
from mirrorfarm.sim.acts.act import Act, meant
from mirrorfarm.sim.acts.people import Write
from mirrorfarm.sim.coverage.collector import Collector, watching
from mirrorfarm.sim.farm_sweep import FarmSwarm
from mirrorfarm.sim.mirrored import Mirrored
from mirrorfarm.sim.monitors.asserted import asserted
from mirrorfarm.sim.scenario.record import Event, Farm, Mirror, Scenario, wires
from mirrorfarm.sim.swarm import Swarm
from mirrorfarm.sim.world import World

FARM_PROFILES: Final = {"default": "brisk", "slow": "slow-start", "large": "large"}


def record(plan: Swarm | FarmSwarm) -> tuple[Scenario, str]:
    """Play a plan; return its tape, and what was violated ("": nothing)."""
    return _record_farm(plan) if isinstance(plan, FarmSwarm) else _record_mirror(plan)


def _record_mirror(plan: Swarm) -> tuple[Scenario, str]:
    world = sweep.build(plan, story=False)
    tape = world.tape = []
    times: list[int] = []  # Of the first start's end, and of the faults' end.
    for module in world.modules.values():
        _listen(world, module, tape)

    def begun_now() -> None:
        times.append(world.now)

    violation = _violation(lambda: sweep.play_out(world, plan, begun_now, begun_now))
    begun, end, *_ = [*times, world.now, world.now]
    return (
        Scenario(
            seed=plan.seed,
            cluster=_mirror(plan),
            wires=wires(plan.quality),
            events=tuple(Event(at - begun, act) for at, act in tape if at <= end),
            end_ns=end - begun,
            core=plan.core,
            converges=True,
            tricks=plan.buggify,
        ),
        violation,
    )


def _listen(world: World, module: Mirrored, tape: list[tuple[int, Act]]) -> None:
    """Note the writes of a module's client."""
    honest = module.write
    write = meant(Write(1), "" if module is world.first else module.name)

    def listened() -> int:
        tape.append((world.now, write))
        return honest()

    module.write = listened  # type: ignore[method-assign]


def _violation(play: Callable[[], None]) -> str:
    try:
        with watching(Collector()):
            play()
    except AssertionError as error:  # A violation; or a core's own: it is wrong.
        return str(asserted(error))
    return ""


def _mirror(plan: Swarm) -> Mirror:
    known = {field.name for field in dataclasses.fields(Mirror)}
    given: dict[str, Any] = dict(plan.world)
    unknown = [name for name in given if name not in known]
    assert not unknown, f"a scenario has no key for {unknown}"
    if "checked" in given:
        given["checked"] = given["checked"] or "none"
    return Mirror(profile=plan.profile, **given)


def _record_farm(plan: FarmSwarm) -> tuple[Scenario, str]:
    world = farm_sweep.build(plan)
    world.tells_story = False
    tape = world.tape = []
    begun = world.now
    calm: list[int] = []
    violation = _violation(lambda: farm_sweep.play_out(world, plan, lambda: calm.append(world.now)))
    end = calm[0] if calm else world.now
    return (
        Scenario(
            seed=plan.seed,
            cluster=Farm(
                plan.nodes,
                plan.groups,
                FARM_PROFILES[plan.timing],
                plan.networks,
                plan.machines,
                2 * SECOND_NS,
            ),
            begin="off",
            events=tuple(Event(at - begun, act) for at, act in tape if at <= end),
            end_ns=end - begun,
            converges=True,
        ),
        violation,
    )
