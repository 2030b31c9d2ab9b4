"""A mirror core as the tests of this folder need it: n1 of a pair, fed by hand."""

from typing import Any

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.mirror.core import Mirror
from mirrorfarm.actors.module.mirror.state import Settings, State
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import (
    PROFILES,
    Arbiter,
    HeartbeatNetwork,
    Module,
    Replicated,
    Replication,
)
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

FAST = PROFILES["fast"]
PEER = Address("n2", "app", "module")
PLANE = Address("n1", "app", "replicator")
ADMIN = Address("n1", "cli-1", "cli")
BOTH = msg.Register(1, 1, "n1", ("n1", "n2"), "g0", "i0")


def module(**changes: Any) -> Module:
    """Return the configuration of a mirror with one directory and a witness."""
    settings: dict[str, Any] = {
        "timing": FAST,
        "heartbeats": (
            HeartbeatNetwork("default", "default", FAST.heartbeat_ns, FAST.detection_ns),
        ),
        "replication": Replication((Replicated("/data"),)),
        "has_scripts": True,
        "arbiter": Arbiter("witness", "w1"),
    }
    return Module("app", 1, ("n1", "n2"), **(settings | changes))


def core(record: NodeRecord | None = None, fault: str = "", **changes: Any) -> Mirror:
    """Return the core of n1, which has not been given an event yet."""
    settings = Settings("c" * 16, "n1", "n2", module(**changes), 7, "boot-1", 42)
    return Mirror.build(settings, record, fault)


def state(record: NodeRecord | None = None, **changes: Any) -> State:
    """Return the state of a core of n1."""
    return core(record, **changes).state


class Hand:
    """Feeds a core, and plays the actors around it: everything succeeds at once."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.now = 10 * SECOND_NS
        self.out: list[Any] = []
        self.said: list[Any] = []  # Everything that was ever asked for.
        self.register: msg.Register | None = None

    def give(self, *events: Any) -> "Hand":
        """Give events one after the other, and whatever follows from each."""
        for event in events:
            self.out = self.mirror.handle(event, self.now)
            self.said += self.out
            self.now += MILLISECOND_NS
            for effect in self.out[:]:
                self._follow(effect)
        return self

    def start(self) -> "Hand":
        """Start the process, then the module."""
        return self.give(ev.Started(), ev.Received(ADMIN, msg.Command("r1", "start", "test")))

    def lead(self) -> "Hand":
        """Make n1 the first primary of a new module, whose peer is off."""
        order = ev.Received(ADMIN, msg.Command("r1", "prim", "test"))
        return self.give(ev.Started(), ev.NetworkSilent("default"), order)

    def told(self, kind: type) -> list[Any]:
        """Return every event of a kind that other actors were told."""
        return [e.event for e in self.said if isinstance(e, fx.Tell) and isinstance(e.event, kind)]

    def sent(self, kind: type) -> list[Any]:
        """Return every message of a kind that was sent."""
        return [
            e.message for e in self.said if isinstance(e, fx.Send) and isinstance(e.message, kind)
        ]

    def _follow(self, effect: Any) -> None:
        match effect:
            case fx.Store(record):
                self.give(ev.Stored(record.counter))
            case fx.Send(to, msg.PlaneWish() as wish) if to == PLANE:
                answer = msg.PlaneIs(
                    wish.number, wish.role, wish.term, wish.gate, wish.sid, wish.map_base
                )
                self.give(ev.Received(PLANE, answer))
            case fx.Tell(_, event):
                self._answer(event)
            case _:
                pass

    def _answer(self, event: Any) -> None:
        match event:
            case ev.RunSequence(run):
                self.give(ev.SequenceEnded(run))
            case ev.KillApplication(run):
                self.give(ev.ApplicationGone(run))
            case ev.VipUp(run):
                self.give(ev.VipIsUp(run))
            case ev.VipDown(run):
                self.give(ev.VipIsDown(run))
            case ev.VipProbe(run):
                self.give(ev.VipProbed(run))
            case ev.AskRead(request) | ev.AskRenew(request):
                self._know(request, "ok" if self.register else "unset")
            case ev.AskCas(request, ver, register):
                if ver != (self.register.ver if self.register else 0):
                    self._know(request, "conflict")
                    return
                instance = register.instance or "i0"
                self.register = msg.Register(
                    register.term, ver + 1, register.holder, register.isr, register.gen, instance
                )
                self._know(request, "ok")
            case _:
                pass

    def _know(self, request: int, outcome: str) -> None:
        self.give(ev.RegisterKnown(request, outcome, self.register, self.now))
