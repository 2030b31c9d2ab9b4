"""Both nodes of a mirror and its arbiter inside one program, with doors of its own.

The cores decide as they do in production; here a call carries their messages, and nothing is
written to a disk. n1 is made primary, then goes silent; n2 says what it makes of that.
"""

import time
from typing import Any

from pykka import ActorRegistry

from mirrorfarm.actors import (
    Heartbeat,
    Mirror,
    Settings,
    Shell,
    Timers,
    Vip,
    WitnessClient,
    WitnessCore,
)
from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.timers import boot_clock_ns
from mirrorfarm.modules.settings import Arbiter, HeartbeatNetwork, Module
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Command

LAN = (HeartbeatNetwork("lan", "lan", pulse_ns=50_000_000, timeout_ns=300_000_000),)
APP = Module("app", 1, ("n1", "n2"), heartbeats=LAN, arbiter=Arbiter("witness", "w"))
DONE: Any = {ev.KillApplication: ev.ApplicationGone, ev.RunSequence: ev.SequenceEnded}


class Node:
    """The doors of one node, and its cores, each with a thread."""

    now = staticmethod(boot_clock_ns)
    failed = staticmethod(print)  # A core broke a rule of its own.

    def __init__(self, name: str, **cores: Any) -> None:
        self.name, self.actors = name, {a: Shell.start(a, cores[a], self) for a in cores}

    def record(self, actor: str, now: int, event: Any, out: list[Any]) -> None:
        """Keep no trace; tell what the cores log, and what made them."""
        for log in (effect for effect in out if isinstance(effect, fx.Log)):
            # One write for each line: every core has a thread of its own.
            print(f"{self.name}: {type(event).__name__}: {log.text}\n", end="", flush=True)

    def perform(self, actor: str, effect: Any, inbox: Any) -> None:
        """Do what a core asks; what is not listed means nothing here."""
        match effect:
            case fx.Send(Address(node, "app", to), said, net) if {self.name, node} <= NODES.keys():
                me = Address(self.name, "app", actor)
                NODES[node].actors[to].tell(ev.Received(me, said, net))
            case fx.Tell("scripts", event):
                inbox(DONE[type(event)](event.run))
            case fx.Tell(target, event) if target in self.actors:
                self.actors[target].tell(event)
            case fx.Later(at_ns, event):
                TIMERS.later(at_ns, event, inbox)
            case fx.Store(record):
                inbox(ev.Stored(record.counter))
            case fx.RegisterStore():
                inbox(ev.RegisterStored(effect.counter))


def node(me: str, peer: str) -> Node:
    """Return a node of the module."""
    mirror = Mirror.build(Settings("c" * 16, me, peer, APP, 1, "boot", seed=7), None)
    beat = Heartbeat(me, peer, "app", LAN, detection_ns=300_000_000)
    return Node(me, module=mirror, heartbeat=beat, arbiter=WitnessClient(me, "w", APP), vip=Vip())


TIMERS = Timers()
NODES = {"w": Node("w", register=WitnessCore()), "n1": node("n1", "n2"), "n2": node("n2", "n1")}
ActorRegistry.broadcast(ev.Started())
time.sleep(0.5)  # Both find that nothing of an earlier run is left.
order = ev.Received(Address("n1", "cli-1", "cli"), Command("request-1", "prim", "embed"))
NODES["n1"].actors["module"].tell(order)
time.sleep(0.5)
del NODES["n1"]  # Nothing reaches it any more, and nothing comes from it.
time.sleep(0.8)
