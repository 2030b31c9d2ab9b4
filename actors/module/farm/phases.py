"""The states of a farm module on one node, and the moves between them that are allowed."""

from enum import Enum


class Phase(Enum):
    """The finer state; `describe.role_of` gives the one that users see."""

    STOPPED = "stopped"
    RESETTING = "resetting"  # The process is new: whatever its predecessor left is removed.
    STARTING = "starting"  # prestart runs.
    WAITING = "waiting"  # A resource with the action `wait` is down.
    RISING = "rising"  # Addresses, traffic, start scripts.
    UP = "up"
    RESTARTING = "restarting"  # Scripts stop and start.
    DRAINING = "draining"  # Takes no new client; the live connections may end.
    FALLING = "falling"  # Stop scripts, traffic closed.
    STOPPING = "stopping"


MOVES: dict[Phase, set[Phase]] = {
    Phase.STOPPED: {Phase.RESETTING, Phase.STARTING, Phase.STOPPING},
    Phase.RESETTING: {Phase.STOPPED},
    Phase.STARTING: {Phase.WAITING, Phase.STOPPING},
    Phase.WAITING: {Phase.RISING, Phase.STOPPING},
    Phase.RISING: {Phase.UP, Phase.FALLING, Phase.STOPPING},
    Phase.UP: {Phase.RESTARTING, Phase.DRAINING, Phase.FALLING, Phase.STOPPING},
    Phase.RESTARTING: {Phase.UP, Phase.DRAINING, Phase.FALLING, Phase.STOPPING},
    Phase.DRAINING: {Phase.FALLING, Phase.STOPPING},
    Phase.FALLING: {Phase.WAITING, Phase.STOPPING},
    Phase.STOPPING: {Phase.STOPPED},
}

SERVING = (Phase.RISING, Phase.UP, Phase.RESTARTING, Phase.DRAINING)
STABLE = (Phase.STOPPED, Phase.WAITING, Phase.UP)
