"""The states of a mirror, and the moves between them that are allowed."""

from enum import Enum


class Phase(Enum):
    """The finer state; `role_of` gives the role that users see."""

    STOPPED = "stopped"
    RESETTING = "resetting"  # The process is new: whatever its predecessor left is removed.
    STARTING = "starting"  # prestart runs.
    WAITING = "waiting"  # Undecided, or blocked with a reason.
    ASKING = "asking"  # Asked the arbiter for the primary role.
    SYNCING = "syncing"  # Target of a session, or waiting for the primary to open one.
    FOLLOWING = "following"  # In the in-sync set.
    TAKING = "taking"  # Granted: gate, addresses, start scripts.
    LEADING = "leading"
    RESTARTING = "restarting"  # Scripts stop and start; the role stays.
    LEAVING = "leaving"  # Gives the primary role away, or stops.
    DEMOTING = "demoting"  # Superseded or failed: everything ends at once.
    STOPPING = "stopping"


MOVES: dict[Phase, set[Phase]] = {
    Phase.STOPPED: {Phase.RESETTING, Phase.STARTING, Phase.STOPPING},
    Phase.RESETTING: {Phase.STOPPED, Phase.STARTING, Phase.STOPPING},
    Phase.STARTING: {Phase.WAITING, Phase.STOPPING},
    Phase.WAITING: {Phase.ASKING, Phase.SYNCING, Phase.TAKING, Phase.STOPPING},
    Phase.ASKING: {Phase.WAITING, Phase.FOLLOWING, Phase.TAKING, Phase.STOPPING},
    Phase.SYNCING: {Phase.FOLLOWING, Phase.WAITING, Phase.TAKING, Phase.STOPPING},
    Phase.FOLLOWING: {
        Phase.SYNCING,
        Phase.ASKING,
        Phase.TAKING,
        Phase.WAITING,
        Phase.STOPPING,
    },
    Phase.TAKING: {Phase.LEADING, Phase.DEMOTING, Phase.LEAVING, Phase.STOPPING},
    Phase.LEADING: {Phase.RESTARTING, Phase.LEAVING, Phase.DEMOTING, Phase.STOPPING},
    Phase.RESTARTING: {
        Phase.LEADING,
        Phase.LEAVING,
        Phase.DEMOTING,
        Phase.STOPPING,
    },
    Phase.LEAVING: {Phase.WAITING, Phase.TAKING, Phase.DEMOTING, Phase.STOPPING},
    Phase.DEMOTING: {Phase.WAITING, Phase.STOPPING},
    Phase.STOPPING: {Phase.STOPPED, Phase.STARTING},
}

LEADERS = (Phase.TAKING, Phase.LEADING, Phase.RESTARTING, Phase.LEAVING)
FOLLOWERS = (Phase.SYNCING, Phase.FOLLOWING)
IN_ROLE = (*LEADERS, *FOLLOWERS)
RUNNING = (Phase.TAKING, Phase.LEADING, Phase.RESTARTING)


class Session(Enum):
    """How far the primary is with its peer, in one resynchronisation session."""

    NONE = "none"
    OFFERED = "offered"  # SyncOffer sent.
    OPENING = "opening"  # Accepted: the data planes connect.
    COPYING = "copying"  # Modifications flow; the copy runs.
    SYNCED = "synced"  # The target has everything: gate on it.
    GROWING = "growing"  # Gated on it; asked the arbiter to add it to the in-sync set.
    JOINED = "joined"
