"""Who decides: one folder per concern, each with its pure core and its doors.

The names below are for programs that embed cores; each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirrorfarm.actors import effects, events
    from mirrorfarm.actors.arbiter.client import WitnessClient
    from mirrorfarm.actors.arbiter.memory import MemoryArbiter
    from mirrorfarm.actors.arbiter.witness import WitnessCore
    from mirrorfarm.actors.heartbeat.core import Heartbeat
    from mirrorfarm.actors.module.mirror.core import Mirror
    from mirrorfarm.actors.module.mirror.state import Settings
    from mirrorfarm.actors.shell import Shell
    from mirrorfarm.actors.timers import Timers
    from mirrorfarm.actors.vip.core import Vip

__all__ = [
    "Heartbeat",
    "MemoryArbiter",
    "Mirror",
    "Settings",
    "Shell",
    "Timers",
    "Vip",
    "WitnessClient",
    "WitnessCore",
    "effects",
    "events",
]

_HOMES = {
    "Heartbeat": "heartbeat.core",
    "MemoryArbiter": "arbiter.memory",
    "Mirror": "module.mirror.core",
    "Settings": "module.mirror.state",
    "Shell": "shell",
    "Timers": "timers",
    "Vip": "vip.core",
    "WitnessClient": "arbiter.client",
    "WitnessCore": "arbiter.witness",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the file where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
