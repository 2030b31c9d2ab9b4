"""The base of all monitors."""

from typing import TYPE_CHECKING, ClassVar

from mirrorfarm.sim.steps import Step

if TYPE_CHECKING:
    from mirrorfarm.sim.monitors.watch import Watch


class Violation(AssertionError):
    """An invariant does not hold; the text begins with its name.

    `story`: what led to it, one line for each step, the last one is where it shows.
    """

    def __init__(self, text: str, story: list[str] | None = None) -> None:
        super().__init__(text)
        self.story = story or []


class Monitor:
    """One invariant. Memory: what is open, and a little for each node.

    `events` are the kinds that it wants to hear of: classes of events, of messages that were
    received, of effects, and of messages that were sent.

    A `timeless` one needs nothing but what cores were given and asked for, and no common time. The
    others know what a disk holds, what an application was told, which faults there were.
    """

    id: ClassVar[str]
    statement: ClassVar[str]
    events: ClassVar[tuple[type, ...]] = ()
    timeless: ClassVar[bool] = False

    def __init__(self, watch: "Watch") -> None:
        self.watch = watch
        self.facts = watch.facts
        self.violations: list[str] = []

    def on(self, step: Step) -> None:
        """Take one step that has one of `events` in it."""

    def finish(self) -> None:
        """The steps are over."""

    def fail(self, text: str) -> None:
        """Note that the invariant does not hold, at the present step."""
        self.watch.found(self, f"{self.id}: {self.watch.about}{text}")
