"""Which monitors there are, and those of one run."""

from collections.abc import Iterable

from mirrorfarm.sim.monitors import mirror_data as data
from mirrorfarm.sim.monitors import mirror_effects as effects
from mirrorfarm.sim.monitors import mirror_roles as roles
from mirrorfarm.sim.monitors import mirror_safety as safety
from mirrorfarm.sim.monitors import recorded
from mirrorfarm.sim.monitors.limits import Limits
from mirrorfarm.sim.monitors.liveness import LIVENESS, CommandsEnd
from mirrorfarm.sim.monitors.monitor import Monitor
from mirrorfarm.sim.monitors.watch import Watch
from mirrorfarm.transport.messages import Register

# Of several that a step breaks the first one here speaks: scenarios and mutants are known by it.
MIRROR: tuple[type[Monitor], ...] = (
    safety.Acker,
    safety.AckerHolds,
    safety.Everywhere,
    safety.NothingLost,
    safety.FromTheSet,
    safety.ShrinkFirst,
    safety.GrowLast,
    safety.NeverStale,
    safety.Monotony,
    data.NotOfThePast,
    data.RestartIsNoResumption,
    data.Fences,
    data.Equal,
    data.Order,
    data.NeverSilent,
    data.LoneByWrite,
    data.Honest,
    data.FailedDisk,
    effects.OneApplication,
    effects.OneAddress,
    effects.ClosesInTime,
    effects.StaleReads,
    roles.Guarded,
    roles.Scripts,
    roles.AsItSays,
    *LIVENESS,
)

TIMELESS = tuple(kind for kind in MIRROR if kind.timeless)

# Those that compare nodes by their clocks as well.
RECORDED: tuple[type[Monitor], ...] = (
    *TIMELESS,
    recorded.OneApplication,
    recorded.OneAddress,
    recorded.ClosesInTime,
    CommandsEnd,
    Limits,
)


class Mirror:
    """The monitors of one simulated mirror module, and what stories ask of them."""

    def __init__(self, kinds: Iterable[type[Monitor]] = MIRROR, module: str = "app") -> None:
        """`module`: the only one that is watched."""
        self.watch = Watch(kinds, simulated=True, strict=True)
        self.facts = self.watch.facts.module(module)

    @property
    def acked(self) -> set[int]:
        """Every write that was told as done and not overwritten since."""
        return set(self.facts.told.values())

    def forget(self) -> None:
        """An administrator gives up what was told, and is free to overrule the register."""
        self.facts.told.clear()
        self.facts.register = None

    @property
    def register(self) -> Register | None:
        """The register as the witness's disk has it."""
        return self.facts.register
