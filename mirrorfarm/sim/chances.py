"""What the draw of one fault has at hand: a stream of random numbers, and whom it is done to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mirrorfarm.limits import MILLISECOND_NS
from mirrorfarm.sim.acts.act import Act
from mirrorfarm.sim.engine import Draws


@dataclass(frozen=True, slots=True)
class Chance:
    """One fault that is about to be drawn."""

    world: Any
    draws: Draws
    node: str
    module: str = ""  # "": the first one, or what it is done to is no module.

    def among(self, *values: Any) -> Any:
        """Return one of the values."""
        return self.draws.choice(values)

    def ms(self, *values: int) -> int:
        """Return one of these numbers of milliseconds, in nanoseconds."""
        return self.draws.choice(values) * MILLISECOND_NS


Draw = Callable[[Any], Act | Iterable[Act] | None]  # Of a Chance; None: it cannot be done now.


def drawn(draw: Draw, chance: Chance) -> Iterable[Act]:
    """Return the acts that a draw comes to."""
    act = draw(chance)
    if act is None:
        return ()
    return (act,) if isinstance(act, Act) else act


def kept(seed: int, names: Iterable[str]) -> tuple[str, ...]:
    """Return the faults that a swarm keeps, each with one half, whichever others there are."""
    return tuple(name for name in names if Draws(seed, f"keep {name}").chance(500))
