"""An assertion of a core that does not hold, as a violation: of the invariant `assert`."""

import traceback
from typing import Final

from mirrorfarm.sim.monitors.monitor import Violation

FRAMES_TOLD: Final = 8  # Of the calls that led to it.


def asserted(error: AssertionError) -> Violation:
    """Return an assertion that does not hold as a violation; its story is where it stands."""
    if isinstance(error, Violation):
        return error
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_TOLD:]
    story = [f"{place_in_code(frame)}: {frame.line}" for frame in frames]
    return Violation(f"assert: {str(error) or place_in_code(frames[-1])}", story)


def place_in_code(frame: traceback.FrameSummary) -> str:
    """Return where something was raised, alike on every machine."""
    return f"{frame.filename.rpartition('mirrorfarm/')[2]}:{frame.lineno} {frame.name}"
