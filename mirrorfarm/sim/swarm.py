"""What a seed makes of a mirror: its topology, its clocks, its faults and their rates.

Each kind of fault is kept with one half, so that some runs are full of cuts and others of
crashes. All of it follows from the seed; `describe` prints it.
"""

from dataclasses import dataclass, field
from typing import Any

from mirrorfarm.modules.settings import DIVERGENCE_POLICIES, PROFILES
from mirrorfarm.sim.chances import kept
from mirrorfarm.sim.engine import Draws
from mirrorfarm.sim.faults import FAULTS
from mirrorfarm.sim.network import Quality
from mirrorfarm.sim.world import NODES, PREFERRED

SHAPES = ("constant", "even", "exponential", "bimodal")
# Half of the runs prefer no node; what nodes are told differently is a mistake that happens.
DEFAULTPRIM = (*("alone",) * len(PREFERRED), *PREFERRED)
UNLIKE = 125  # So many of a thousand runs: clocks are changed on one node after the other.
DELAYS_US = (100, 500, 2_000, 10_000)


@dataclass(frozen=True, slots=True)
class Swarm:
    """The options of one run."""

    seed: int
    profile: str = "default"
    minutes: int = 30  # Simulated, before everything is mended.
    interval_ms: int = 20_000  # Between two faults, in the mean.
    write_ms: int = 2_000  # Between two writes, in the mean.
    faults: tuple[str, ...] = ()
    core: str = "all"  # What is mended first: n1+w1 n2+w1 n1+n2 all
    buggify: bool = False
    quality: Quality = field(default_factory=Quality)
    world: tuple[tuple[str, Any], ...] = ()  # Fields of `world.Options`.

    def describe(self) -> str:
        """Return the options as one line."""
        world = " ".join(f"{name}={value}" for name, value in self.world)
        quality = f"delay={self.quality.delay_ns // 1_000}us/{self.quality.shape}"
        return (
            f"profile={self.profile} minutes={self.minutes} interval={self.interval_ms}ms "
            f"write={self.write_ms}ms core={self.core} buggify={'on' if self.buggify else 'off'} "
            f"{quality} {world} faults={','.join(self.faults)}"
        )


def _unlike(seed: int) -> dict[str, object]:
    """Return what the configuration of a node may have otherwise than that of its peer."""
    unlike = Draws(seed, "unlike clocks")
    return {
        "defaultprim": Draws(seed, "defaultprim").choice(DEFAULTPRIM),
        "shorter": unlike.choice(NODES) if unlike.chance(UNLIKE) else "none",
    }


def draw(seed: int, minutes: int = 30, **fixed: object) -> Swarm:
    """Return what a seed makes; `fixed` fields of the world are not drawn."""
    draws = Draws(seed, "swarm")
    profile = draws.choice(("default", "default", "default", "safekit"))
    quality = Quality(draws.choice(DELAYS_US) * 1_000, draws.choice(SHAPES))
    arbiter = draws.choice(("witness", "witness", "witness", "ping", "none"))
    world: dict[str, object] = {
        "arbiter": arbiter,
        "networks": draws.choice((1, 1, 2, 3)),
        "ack_mode": draws.choice(("durable", "durable", "durable", "received")),
        "divergence": draws.choice(DIVERGENCE_POLICIES),
        "directories": not draws.chance(100),
        "failover": not draws.chance(100),
        "extents": draws.choice((8, 32, 64)),
        "apart": draws.chance(700),
        "checked": draws.choice(("", "restart", "stopstart")),
        **_unlike(seed),
    }
    lease_ms = PROFILES[profile].lease_ns // 1_000_000
    return Swarm(
        seed,
        profile,
        minutes,
        lease_ms * draws.choice((2, 6, 20, 60)),
        draws.choice((300, 1_000, 3_000)),
        kept(seed, FAULTS),
        draws.choice(("all", "n1+w1", "n2+w1", "n1+n2")),
        draws.chance(250),
        quality,
        tuple((world | fixed).items()),
    )


def draw_several(seed: int, minutes: int = 30) -> Swarm:
    """Return what `draw` makes, with several modules on the machines."""
    return draw(seed, minutes, modules=Draws(seed, "modules").choice((2, 2, 3)))


def dense(seed: int, profile: str = "fast", **fixed: object) -> Swarm:
    """Return a short run with many faults, for tests: about 20 simulated seconds."""
    draws = Draws(seed, "swarm")
    world: dict[str, object] = {
        "apart": draws.chance(500),
        "checked": draws.choice(("", "restart")),
        **_unlike(seed),
    }
    return Swarm(
        seed,
        profile,
        0,
        PROFILES[profile].lease_ns * draws.choice((1, 2, 3)) // 1_000_000,
        60,
        kept(seed, FAULTS),
        draws.choice(("all", "n1+w1", "n2+w1", "n1+n2")),
        draws.chance(250),
        Quality(),
        tuple((world | fixed).items()),
    )
