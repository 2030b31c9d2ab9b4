"""Has cores do what is rare but allowed, at the sites that they name (`actors.sites`).

Of a run that plays tricks each site is on with one quarter, and fires at a rate of its own.
"""

from collections.abc import Callable

from mirrorfarm.actors import sites
from mirrorfarm.sim.engine import Draws

RATES = (5, 20, 100)  # Thousandths.


class Tricks:
    """The tricks of one run, while its block is entered."""

    def __init__(self, seed: int, *, on: bool) -> None:
        draws = Draws(seed, "tricks")
        chosen = [(name, draws.choice(RATES), draws.chance(250)) for name in sites.NAMES]
        self._rates = {name: rate for name, rate, is_on in chosen if on and is_on}
        self._draws = {name: Draws(seed, f"trick {name}") for name in self._rates}
        self.fired = dict.fromkeys(self._rates, 0)
        self.decided: Callable[[str, bool], None] = lambda name, fired: None  # Who records it.

    def _decide(self, name: str) -> bool:
        rate = self._rates.get(name)
        if rate is None:
            return False
        fires = self._draws[name].chance(rate)
        self.fired[name] += fires
        self.decided(name, fires)
        return fires

    def end(self) -> None:
        """Play no more tricks."""
        self._rates = {}

    def __enter__(self) -> None:
        if self._rates:
            sites.play(self._decide)

    def __exit__(self, *_: object) -> None:
        sites.play(None)
