"""Decide when the application of a farm node, or of a light module, starts, stops and restarts.

Which clients it answers is decided by `mirrorfarm.actors.farm_filter`: this machine tells it
when the node takes part. Invariant, held as a property in tests/actors/module/farm/test_core.py:
traffic is open only between the end of start_both and the end of stop_both, unless the module's
scripts control it.
"""

from dataclasses import dataclass
from typing import Any

from mirrorfarm.actors import events as ev
from mirrorfarm.actors.effects import ANY_EFFECT, Later, Log, Send
from mirrorfarm.actors.module.answers import fact, take_early
from mirrorfarm.actors.module.farm import commands, procedure
from mirrorfarm.actors.module.farm.describe import state_json
from mirrorfarm.actors.module.farm.phases import Phase
from mirrorfarm.actors.module.farm.state import VIP, Settings, State, become
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.actors.scripts.sequences import around_traffic
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

VIP_AGAIN_NS = 5 * SECOND_NS


class FarmTick(ev.Event, frozen=True):
    """Time has passed: look at what is due."""


@dataclass(slots=True)
class FarmModule:
    """The state machine of one farm or light module on one node."""

    state: State

    @classmethod
    def build(cls, settings: Settings, record: NodeRecord | None, fault: str = "") -> "FarmModule":
        """Return a core that begins with the record found on disk (None: none was written)."""
        state = State(settings, record or NodeRecord())
        state.failed = fault
        return cls(state)

    def handle(self, event: Any, now: int) -> list[ANY_EFFECT]:
        """Apply one event; return what to do about it, in order."""
        s = self.state
        s.out = []
        self._apply(event, now)
        procedure.advance(s, now)
        commands.poll(s, now)
        procedure.advance(s, now)
        commands.poll_answers(s, now)
        self._wake(now)
        return s.out

    def _apply(self, event: Any, now: int) -> None:
        s = self.state
        match event:
            case ev.Received(source, message, _):
                self._on_message(source, message, now)
            case ev.FarmPicture():
                self._on_picture(event, now)
            case ev.SequenceEnded(run, failed):
                for name in failed:
                    fact(s, now, f"script {name}", "C")
                if run == s.token:
                    _note_unstarted(s, failed)
                procedure.complete(s, now, "scripts", run)
            case ev.ApplicationGone(run):
                procedure.complete(s, now, "kill", run)
            case ev.VipIsUp(run, failures):
                for failure in failures:
                    fact(s, now, failure, "C")
                if failures and s.step == "vip up" and s.token == run:
                    commands.block(s, now, VIP, "; ".join(failures))
                else:
                    procedure.complete(s, now, "vip up", run)
            case ev.VipIsDown(run):
                procedure.complete(s, now, "vip down", run)
            case ev.ResourceChanged():
                commands.on_resource(s, event, now)
            case ev.StoreFailed(_, error, text):
                s.failed = f"the durable record: {text} ({error})"
                fact(s, now, s.failed, "C")
            case ev.Stored():
                s.failed = ""
            case ev.CablesOut() | ev.StrangersSeen():
                self._on_network(event, now)
            case ev.FilterCounted(counters, connections):
                commands.on_counted(s, dict(counters), connections, now)
            case FarmTick():
                self._on_tick()
            case ev.Started():
                # Whatever a predecessor left is removed before anything else.
                become(s, Phase.RESETTING, now)
                procedure.begin(s, now, "farm away", "kill", "vip down", "then reset")
            case _:
                s.out.append(Log("D", f"ignored {type(event).__name__}"))

    def _on_tick(self) -> None:
        s = self.state
        s.wake_ns = 0
        if s.phase is Phase.WAITING:
            s.blocked.pop(VIP, None)  # It is tried again.

    def _on_message(self, source: Address, message: msg.ANY_MESSAGE, now: int) -> None:
        s = self.state
        match message:
            case msg.Command():
                commands.on_command(s, source, message, now)
            case msg.StateQuery(request):
                s.out.append(Send(source, msg.StateAnswer(request, state_json(s, now))))
            case _:
                s.out.append(Log("D", f"ignored {type(message).__name__} from {source}"))

    def _on_picture(self, picture: ev.FarmPicture, now: int) -> None:
        s = self.state
        before, s.picture = s.picture, picture
        was = members(before) if before else ()
        if members(picture) != was:
            names = " ".join(members(picture)) or "nobody"
            fact(s, now, f"farm membership: {names}")
            for node in picture.nodes:
                if node.name in was and not node.member and node.reason:
                    fact(s, now, f"{node.name}: {node.reason}")

    def _on_network(self, event: ev.CablesOut | ev.StrangersSeen, now: int) -> None:
        if isinstance(event, ev.CablesOut):
            commands.on_cables(self.state, event.interfaces, now)
        else:
            commands.on_strangers(self.state, event.claims, now)

    def _wake(self, now: int) -> None:
        """Look again while connections are waited for, or the addresses cannot be raised."""
        s = self.state
        if VIP in s.blocked and s.phase is Phase.WAITING and not s.wake_ns:
            s.wake_ns = now + VIP_AGAIN_NS
            s.out.append(Later(s.wake_ns, FarmTick()))
        if s.step == "drain" and not s.wake_ns:
            s.wake_ns = now + min(SECOND_NS, max(1, procedure.drain_left_ns(s, now)))
            s.out.append(Later(s.wake_ns, FarmTick()))


def members(picture: ev.FarmPicture) -> tuple[str, ...]:
    """Return who is in."""
    return tuple(node.name for node in picture.nodes if node.member)


def _note_unstarted(s: State, failed: tuple[str, ...]) -> None:
    """Remember which start scripts failed: those before the traffic opens, and those after."""
    scripts = _names(s.step)
    # One that stops is run again with force; `transition` starts nothing.
    failed = tuple(name for name in failed if name.startswith("start_"))
    if "start_both" in scripts:
        s.unstarted = ", ".join(failed)
    elif "start_prim" in scripts and failed:
        before = (s.unstarted,) if s.unstarted else ()
        s.unstarted = ", ".join((*before, *failed))


def _names(step: str) -> tuple[str, ...]:
    """Return the scripts of a step."""
    word, _, rest = step.partition(" ")
    if word != "scripts":
        return ()
    kind, part = rest.rsplit(" ", 1)
    return tuple(s.name for s in around_traffic(kind)[0 if part == "before" else 1])


@procedure.continuation
def reset(s: State, now: int) -> None:
    """Nothing of a predecessor is left."""
    become(s, Phase.STOPPED, now)
    commands.explain_stop(s)
    if s.failed:  # The record said whether the module is to run.
        fact(s, now, s.failed, "C")
    stays = take_early(
        s,
        lambda source, command: commands.on_command(s, source, command, now),
        lambda: commands.poll_answers(s, now),
    )
    if s.settings.start and s.phase is Phase.STOPPED and not stays:
        fact(s, now, "Action start called automatically")
        commands.start(s, now)
