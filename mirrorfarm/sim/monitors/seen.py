"""What only a simulation can see, as events of a step without effects.

Monitors of recorded traces get none of these: each monitor says what it checks without them.
"""

import msgspec

from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.transport.messages import Register


class Seen(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all observations; the node is the step's."""


class _OfModule(Seen, frozen=True):
    module: str


class RecordDurable(_OfModule, frozen=True):
    """The module's record reached this node's disk, whether or not anybody hears of it."""

    record: NodeRecord


class RecordGone(_OfModule, frozen=True):
    """The module's record on this node's disk cannot be read any more."""


class RegisterGone(_OfModule, frozen=True):
    """The arbiter knows of no register any more: another one is in its place."""


class RegisterDurable(_OfModule, frozen=True):
    """An arbiter's disk holds this register; `own`: only this node's copy."""

    register: Register
    own: bool


class AppRuns(_OfModule, frozen=True):
    """The application started or ended."""

    runs: bool


class VipIs(_OfModule, frozen=True):
    """The virtual addresses were configured or removed."""

    up: bool


class _OfWrite(Seen, frozen=True):
    write: int
    extent: int


class Invoked(_OfWrite, frozen=True):
    """The application asked for a write."""


class Told(_OfWrite, frozen=True):
    """The application was told that a write is done, by a plane that leads in `term`."""

    term: int


class Failed(_OfWrite, frozen=True):
    """The application was told that a write failed: it may be there or not."""


class _OfExtent(Seen, frozen=True):
    extent: int
    write: int  # 0: it is empty.


class Wrote(_OfExtent, frozen=True):
    """An extent changed in memory: by the own application (sid 0), or by a session."""

    term: int
    sid: int


class Kept(_OfExtent, frozen=True):
    """What an extent held was set aside before a copy replaced it."""


class PowerLost(Seen, frozen=True):
    """The machine went off; its disk holds this (extent and write, by turns)."""

    holds: tuple[int, ...]
    boot: int


class Died(Seen, frozen=True):
    """A process ended without a decision."""

    process: str


class Begun(Seen, frozen=True):
    """A process of a module began."""

    process: str
    incarnation: int
    boot_id: str


class Fault(Seen, frozen=True):
    """The simulation did something to this node, or to what is named."""

    kind: str
    what: str = ""


class Calm(Seen, frozen=True):
    """No fault is active from now on but this one ("": none at all)."""

    but: str = ""


class Settled(Seen, frozen=True):
    """The end of a run: everything should be in service. `why` says what is not."""

    why: str = ""


class Depths(Seen, frozen=True):
    """The longest inbox that a node ever had, and the longest collection of one of its cores."""

    inbox: int
    held: int


class Accepts(Seen, frozen=True):
    """An administrator accepts that what only others have is lost (`writes`), or forces."""

    writes: tuple[int, ...] = ()


class FilterIs(Seen, frozen=True):
    """What a farm node's filter lets in: open buckets by group, until `until` (global time)."""

    opened: tuple[bytes, ...]  # 128 bytes each, bucket 0 first.
    until: int
    frozen_since: int  # Since when its processes do not run; 0: they run.


class Apart(Seen, frozen=True):
    """Links of a farm changed: these pairs of nodes reach each other in no way."""

    pairs: tuple[tuple[str, str], ...]
    lossy: bool = False


class Packet(Seen, frozen=True):
    """A packet was offered to every node that it reaches; these accepted it."""

    flow: int
    at: str  # Where its connection is; "": a new client's first packet.
    since: int  # When that began.
    accepted: tuple[str, ...]
