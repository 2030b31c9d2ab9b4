"""Which scripts run at which transition of a mirror or a farm, in which order."""

from types import MappingProxyType
from typing import Final

from mirrorfarm.actors.events import ScriptStep

NAMES: Final = (
    "prestart",
    "start_both",
    "start_prim",
    "start_second",
    "start_sec",
    "stop_sec",
    "stop_prim",
    "stop_second",
    "stop_both",
    "transition",
    "poststop",
)


def _steps(words: str) -> tuple[ScriptStep, ...]:
    """Read `name`, `name!` (with force) and `name*2` (gracefully, then with force)."""
    steps: list[ScriptStep] = []
    for word in words.split():
        name = word.removesuffix("*2").removesuffix("!")
        assert name in NAMES, name
        if not word.endswith("!"):
            steps.append(ScriptStep(name))
        if word != name:
            steps.append(ScriptStep(name, force=True))
    return tuple(steps)


# By the state that is left and the state that is entered, or the state restarted in.
SEQUENCES: Final = MappingProxyType(
    {
        kind: _steps(words)
        for kind, words in {
            "STOP->WAIT": "transition prestart",
            "WAIT->ALONE": "transition start_both start_prim start_sec",
            "WAIT->UP": "transition start_both start_prim start_sec",
            "WAIT->PRIM": "transition start_both start_prim",
            "WAIT->SECOND": "transition start_both start_second start_sec",
            "ALONE->PRIM": "stop_sec transition",
            "PRIM->ALONE": "transition start_sec",
            "SECOND->ALONE": "stop_second transition start_prim",
            "ALONE->SECOND": "stop_prim*2 transition start_second",
            "SECOND->PRIM": "stop_sec stop_second transition start_prim",
            "PRIM->SECOND": "stop_prim*2 transition start_second start_sec",
            "restart ALONE": "stop_sec*2 stop_prim*2 stop_both*2 start_both start_prim start_sec",
            "restart UP": "stop_sec*2 stop_prim*2 stop_both*2 start_both start_prim start_sec",
            "restart PRIM": "stop_prim*2 stop_both*2 start_both start_prim",
            "restart SECOND": (
                "stop_sec*2 stop_second*2 stop_both*2 start_both start_second start_sec"
            ),
            "ALONE->WAIT": "stop_sec stop_prim stop_both transition",
            "UP->WAIT": "stop_sec stop_prim stop_both transition",
            "PRIM->WAIT": "stop_prim stop_both transition",
            "SECOND->WAIT": "stop_sec stop_second stop_both transition",
            "WAIT->STOP": "stop_sec! stop_prim! stop_second! stop_both! poststop transition",
        }.items()
    }
)


def sequence(kind: str) -> tuple[ScriptStep, ...]:
    """Return the scripts of a transition, such as `WAIT->ALONE` or `restart PRIM`."""
    return SEQUENCES[kind]


def around_traffic(kind: str) -> tuple[tuple[ScriptStep, ...], tuple[ScriptStep, ...]]:
    """Return the scripts of a transition of a farm, before and after its traffic changes.

    Traffic is opened right after `start_both` and closed right after `stop_both`. (The reference
    product opens it right before: then clients are refused until the application listens. Here
    the other nodes answer them until then.)
    What only makes sure, by force, that nothing runs has no traffic left to close.
    """
    steps = sequence(kind)
    names = [step.name for step in steps]
    place = len(steps)
    if "start_both" in names:
        place = names.index("start_both") + 1
    elif ScriptStep("stop_both") in steps:
        place = steps.index(ScriptStep("stop_both")) + 1
    return steps[:place], steps[place:]
