"""The state machine of a farm module as the tests of this folder need it, fed by hand."""

from typing import Any

import msgspec

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.module.farm.core import FarmModule
from mirrorfarm.actors.module.farm.state import Settings
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.modules.settings import Farm, Module
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

ADMIN = Address("n1", "cli-1", "cli")


def core(
    *, mode: str = "farm", start: bool = False, farm: Farm | None = None, **changes: Any
) -> FarmModule:
    """Return the core of n1, which has not been given an event yet."""
    module = Module("web", 1, ("n1", "n2"), mode, has_scripts=True, farm=farm or Farm(), **changes)
    return FarmModule.build(Settings("c" * 16, "n1", module, 7, "boot", "bpf", start), NodeRecord())


def node(name: str, **changes: Any) -> ev.FarmNode:
    """Return a member that takes clients and has half of the buckets."""
    usual = ev.FarmNode(name, True, "", "in", (1,), (1,), (512,), 0, (("lan", "up"),))
    return msgspec.structs.replace(usual, **changes)


def picture(*nodes: ev.FarmNode, **changes: Any) -> ev.FarmPicture:
    """Return a farm in service."""
    names = tuple(node.name for node in nodes if node.member)
    owners = (bytes(512) + bytes([len(names) - 1]) * 511 + b"\xff",)
    usual = ev.FarmPicture(3, True, True, "", "", 0, "n1", nodes, (0,), 0, 0, names, owners)
    return msgspec.structs.replace(usual, **changes)


class Hand:
    """Feeds the core, and plays the actors around it: everything succeeds at once."""

    def __init__(self, machine: FarmModule, *, obedient: bool = True) -> None:
        self.machine = machine
        self.now = 10 * SECOND_NS
        self.said: list[Any] = []
        self.obedient = obedient
        self.owed: list[Any] = []  # What follows, while it is not obedient.
        self.failing: tuple[str, ...] = ()
        self.vip_fault = ""  # Why filter or addresses cannot be raised.

    def give(self, *events: Any) -> "Hand":
        """Give events one after the other, and whatever follows from each."""
        for event in events:
            out = self.machine.handle(event, self.now)
            self.said += out
            self.now += MILLISECOND_NS
            for effect in out:
                if isinstance(effect, fx.Tell):
                    self._answer(effect.event)
        return self

    def _answer(self, event: Any) -> None:
        match event:
            case ev.RunSequence(run, steps):
                failed = tuple(s.name for s in steps if s.name in self.failing)
                self._follow(ev.SequenceEnded(run, failed))
            case ev.KillApplication(run):
                self._follow(ev.ApplicationGone(run))
            case ev.VipUp(run):
                self._follow(ev.VipIsUp(run, (self.vip_fault,) if self.vip_fault else ()))
            case ev.VipDown(run):
                self._follow(ev.VipIsDown(run))
            case _:
                pass

    def _follow(self, event: Any) -> None:
        if self.obedient:
            self.give(event)
        else:
            self.owed.append(event)

    def go_on(self) -> "Hand":
        """Give what is owed, once."""
        owed, self.owed = self.owed, []
        return self.give(*owed)

    def order(self, verb: str, *words: str, request: str = "", identity: str = "") -> "Hand":
        """Give an order: an administrator's, or that of a script with this identity."""
        order = msg.Command(request or f"r{self.now}", verb, "test", words, identity)
        return self.give(ev.Received(ADMIN, order))

    def up(self) -> "Hand":
        """Start the process, then the module; n2 is in as well."""
        return self.give(ev.Started()).order("start").give(picture(node("n1"), node("n2")))

    def outcomes(self) -> list[tuple[str, str]]:
        """Return every answer: outcome and text."""
        return [
            (e.message.outcome, e.message.text)
            for e in self.said
            if isinstance(e, fx.Send) and isinstance(e.message, msg.CommandResult)
        ]

    def acts(self) -> list[str]:
        """Return what was done, in words: scripts, traffic, addresses."""
        done: list[str] = []
        for effect in self.said:
            match effect:
                case fx.Tell(_, ev.RunSequence(_, steps)):
                    done += [f"{s.name}{'+f' if s.force else ''}" for s in steps]
                case fx.Tell(_, ev.FarmWish(wish)):
                    done.append(f"<{wish}>")
                case fx.Tell(_, ev.VipUp()):
                    done.append("<vip up>")
                case fx.Tell(_, ev.VipDown()):
                    done.append("<vip down>")
                case fx.Tell(_, ev.KillApplication()):
                    done.append("<kill>")
                case _:
                    pass
        return done

    def forget(self) -> "Hand":
        """Forget what was said until now."""
        self.said = []
        return self

    def state(self) -> dict[str, Any]:
        """Return the state as JSON says it."""
        self.give(ev.Received(ADMIN, msg.StateQuery("q")))
        answers = [e.message for e in self.said if isinstance(e, fx.Send)]
        last = next(a for a in answers[::-1] if isinstance(a, msg.StateAnswer))
        state: dict[str, Any] = msgspec.json.decode(last.json)
        return state

    def words(self) -> str:
        """Return state and status."""
        state = self.state()
        return f"{state['state']} {state['status']}"
