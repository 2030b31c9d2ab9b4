"""What a seed plays, told by options, and how it is played."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import xxhash

from mirrorfarm.errors import UsageInvalid
from mirrorfarm.modules.faults import shown, suggestion
from mirrorfarm.sim import farm_sweep, swarm, sweep
from mirrorfarm.sim.acts.act import arguments
from mirrorfarm.sim.cluster import Cluster
from mirrorfarm.sim.farm_sweep import FarmSwarm
from mirrorfarm.sim.scenario.record import Mirror
from mirrorfarm.sim.swarm import Swarm

MINUTES, FARM_MINUTES = 30, 2  # Simulated, of a swarm.
MINUTES_MAX: Final = 600
_SWARMS: Final = ("mirror-swarm", "mirror-swarm", "farm-swarm")
Plan = Swarm | FarmSwarm


def prepare(plan: Plan) -> tuple[Cluster, Callable[[], None]]:
    """Return the world of a plan, with a digest, and what plays the plan in it."""
    if isinstance(plan, FarmSwarm):
        farm = farm_sweep.build(plan, digest=True)
        return farm, lambda: farm_sweep.play_out(farm, plan)
    world = sweep.build(plan, digest=True)
    return world, lambda: sweep.play_out(world, plan)


def plan_of(options: str, seed: int) -> Plan:
    """Return what a seed plays. Raises UsageInvalid if the options are not understood.

    `swarm`: all drawn from the seed; `mirror-swarm` and `farm-swarm`: likewise, of that kind;
    `modules-swarm`: as `mirror-swarm`, with two or three modules; after a comma `minutes=5`.
    `mirror` and `farm`: short and dense; after commas, for a mirror, fields of a scenario's
    `mirror`, as in `mirror,ack_mode=received`.
    """
    what, *words = options.split(",")
    if what == "swarm":
        what = _SWARMS[xxhash.xxh3_64_intdigest(b"what", seed) % len(_SWARMS)]
    given: dict[str, str] = {}
    for key, _, text in (word.partition("=") for word in words):
        if key in given:
            raise UsageInvalid(f"--options {shown(key)}: there twice; name one value")
        given[key] = text
    match what:
        case "mirror":
            return swarm.dense(seed, **_world(given))
        case "mirror-swarm":
            return swarm.draw(seed, _minutes(given, MINUTES))
        case "modules-swarm":
            return swarm.draw_several(seed, _minutes(given, MINUTES))
        case "farm":
            for key in given:
                raise UsageInvalid(
                    f"--options farm,{shown(key)}: nothing can be set here; leave it out, or play "
                    "farm-swarm, which takes minutes"
                )
            return farm_sweep.dense(seed, lossy=bool(seed % 2))
        case "farm-swarm":
            return farm_sweep.draw(seed, _minutes(given, FARM_MINUTES))
    known = ("swarm", "mirror-swarm", "modules-swarm", "farm-swarm", "mirror", "farm")
    raise UsageInvalid(f"--options {shown(what)}: not known; {suggestion(what, known)}")


def _minutes(given: Mapping[str, str], usual: int) -> int:
    for key in given:
        if key != "minutes":
            raise UsageInvalid(f"--options {shown(key)}: not known here; known here: minutes")
    text = given.get("minutes", str(usual))
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MINUTES_MAX:
        raise UsageInvalid(
            f"--options minutes={shown(text)}: a swarm takes from 1 to {MINUTES_MAX} minutes; "
            f"without this it takes {usual}"
        )
    return int(text)


def _world(given: Mapping[str, str]) -> dict[str, Any]:
    """Return fields of `world.Options`, and `profile`, out of words."""
    known = arguments(Mirror)
    found: dict[str, Any] = {}
    for key, text in given.items():
        if key not in known:
            raise UsageInvalid(f"--options {shown(key)}: not known; {suggestion(key, known)}")
        try:
            found[key] = known[key].kind.read(text)
        except ValueError as error:
            raise UsageInvalid(f"--options {key}: {error}") from None
    if "checked" in found:
        found["checked"] = "" if found["checked"] == "none" else found["checked"]
    return found
