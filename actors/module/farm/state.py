"""Everything the state machine of a farm module knows."""

from collections import deque
from dataclasses import dataclass, field

import msgspec

from mirrorfarm.actors.effects import ANY_EFFECT, Log, Store
from mirrorfarm.actors.events import FarmPicture
from mirrorfarm.actors.module.answers import Pending, explain
from mirrorfarm.actors.module.farm.phases import MOVES, Phase
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import FACTS_MAX
from mirrorfarm.modules.settings import Module
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command

VIP = "farm.address"  # The resource that is down when filter or addresses cannot be raised.


@dataclass(frozen=True, slots=True)
class Settings:
    """What the core is built with; `module.mode` is `farm` or `light`."""

    cluster: str
    node: str
    module: Module
    incarnation: int
    os_boot: str
    filter_mode: str = ""  # nfqueue bpf nft
    start: bool = False  # Start without being asked: at boot, or again after a crash.
    filter_why: str = ""  # Why it is that filter.


@dataclass(slots=True)
class State:
    """The whole state of one farm module on one node."""

    settings: Settings
    record: NodeRecord
    phase: Phase = Phase.STOPPED
    since_ns: int = 0
    reason: str = ""
    would_change: str = ""
    command: str = ""
    stopping_for: str = ""  # stop stopstart shutdown stopwait: why it goes down.
    # Steps of the procedure under way, and what it waits for.
    steps: deque[str] = field(default_factory=deque)
    step: str = ""
    token: int = 0
    run: int = 0
    early: list[tuple[Address, Command]] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    answered: dict[str, tuple[str, str]] = field(default_factory=dict)
    loop: list[int] = field(default_factory=list)
    facts: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=FACTS_MAX))
    resources: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)  # Resources that say wait, and why.
    found: dict[str, str] = field(default_factory=dict)  # Resources down, action not yet taken.
    unstarted: str = ""  # What failed when the application was started last.
    failed: str = ""  # The record could not be written.
    intent: str = "away"  # How this node is to take part: away in drain.
    # What the filter was told last: that, but away while a cable is out, and drain by order.
    wish: str = "away"
    strangers: tuple[str, ...] = ()  # address=mac of who else answers for an address.
    cables_out: tuple[str, ...] = ()  # Interfaces at which no client can come.
    drain_ordered: bool = False  # By an administrator: it stays up without new clients.
    power_ordered: bool = False  # By an administrator: not that of the configuration.
    drain_since_ns: int = 0
    picture: FarmPicture | None = None
    counters: dict[str, int] = field(default_factory=dict)  # Of the filter.
    counted_ns: int = 0
    new_per_s: int = 0  # New connections a second, at the last count.
    live: int = 0  # Connections of the virtual addresses here.
    wake_ns: int = 0
    out: list[ANY_EFFECT] = field(default_factory=list)

    @property
    def module(self) -> Module:
        """The module's configuration."""
        return self.settings.module

    @property
    def is_farm(self) -> bool:
        """Whether clients are shared with other nodes; a light module has no address either."""
        return self.settings.module.mode == "farm"


def become(s: State, phase: Phase, now: int) -> None:
    """Move to `phase`; the only writer of the phase."""
    assert phase in MOVES[s.phase], f"{s.phase} -> {phase}"
    s.phase = phase
    s.since_ns = now
    explain(s, "")
    s.out.append(Log("D", f"phase {phase.value}"))


def store(s: State, **changes: object) -> None:
    """Change the record, which says nothing but what is wanted, and make it durable."""
    s.record = msgspec.structs.replace(
        s.record,
        cluster=s.settings.cluster,
        module=s.module.name,
        node=s.settings.node,
        counter=s.record.counter + 1,
        inc=s.settings.incarnation,
        os_boot=s.settings.os_boot,
        wanted_boot=s.settings.os_boot,
        **changes,
    )
    s.out.append(Store(s.record))
