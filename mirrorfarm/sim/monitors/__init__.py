"""What must hold in every run: one streaming class for each invariant, fed by steps alone."""

from mirrorfarm.sim.monitors.monitor import Monitor, Violation
from mirrorfarm.sim.monitors.watch import Watch

__all__ = ["Monitor", "Violation", "Watch"]
