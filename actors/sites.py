"""Sites at which a simulation may have a core do what is rare but allowed.

    if sites.trick("heartbeat.skip_pulse"): ...

In production nobody plays tricks, and asking costs one call of a function that says no. A
simulation that wants them puts a function of its own in place; what a trick does must be
something that could happen anyway, such as being late or asking once more.
"""

from collections.abc import Callable

NAMES = (
    "heartbeat.skip_pulse",
    "arbiter.forget_answer",
    "mirror.no_second_look",
    "mirror.offer_late",
    "witness.read_again",
)


def _never(name: str) -> bool:
    del name
    return False


trick: Callable[[str], bool] = _never


def play(function: Callable[[str], bool] | None) -> None:
    """Have `function` decide at every site from now on; None: nobody plays tricks."""
    global trick  # noqa: PLW0603 - one process, one simulation at a time.
    trick = function or _never
