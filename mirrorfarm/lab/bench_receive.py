"""How many packets a second a node receives through each filter.

    python -m mirrorfarm.lab.bench_receive [--rounds N] [--json FILE]

One core sends, passes the cable, filters, and takes what is accepted through the IP stack to a
socket: what it does per second depends on the filter and is nowhere hidden by a second core. Each
filter is in a network namespace of its own, and all take turns in every round, so that whatever
else the machine does meets them alike. Of three nodes with equal shares, one is measured.

Only the filter in Python is measured on two cores as well: one sends, the other receives.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mirrorfarm.cli.show import table
from mirrorfarm.errors import MirrorfarmError, SystemUnsuitable
from mirrorfarm.lab.flood import Sent
from mirrorfarm.lab.receivers import (
    BPF,
    BPF_ADDRESS,
    CASES,
    CLUSTER,
    FLOWS,
    NFQUEUE,
    NOTHING,
    Case,
    Receivers,
)

ROUNDS = 15
ROUND_SECONDS = 0.15
WARM_SECONDS = 0.3
FULL_SECONDS = 1.5
TWO_CORES_RUNS, TWO_CORES_SECONDS = 9, 0.4
SHARES = {True: (0.25, 0.42), False: (0.99, 1.01)}  # What may reach the IP stack: filtered, or not.


class Bar(NamedTuple):
    """One number that must be reached: at least, or at most."""

    name: str
    found: float
    wanted: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted

    def cells(self) -> tuple[str, ...]:
        """Return the line as text."""
        sign = "≤" if self.at_most else "≥"
        found = f"{self.found:.4g}" if self.found < 1_000 else f"{self.found:.0f}"
        return (self.name, found, f"{sign} {self.wanted:g}", "yes" if self.reached else "NO")


def ratios(rates: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the ratio of each round: both were measured within a second."""
    return [rate / other for rate, other in zip(rates, others, strict=True)]


class Rates:
    """What was found, case by case, round by round."""

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {case.name: [] for case in CASES}
        self.shares: dict[str, list[float]] = {case.name: [] for case in CASES}
        self.waited = self.seconds = 0.0

    def add(self, case: Case, sent: Sent, passed: float) -> None:
        """Add a round; raise SystemUnsuitable if the filter did not do what it should."""
        least, most = SHARES[case.filters]
        if not least <= passed <= most:
            raise SystemUnsuitable(f"{case.name}: {passed:.0%} of the packets passed the filter")
        self.rates[case.name].append(sent.rate)
        self.shares[case.name].append(passed)
        self.waited += sent.waited
        self.seconds += sent.seconds

    def ratio(self, name: str, other: str) -> float:
        """Return the median of the ratios of all rounds."""
        return statistics.median(ratios(self.rates[name], self.rates[other]))

    def lines(self) -> list[tuple[str, ...]]:
        """Return the table as text."""
        found = []
        for name, rates in self.rates.items():
            thousands = [rate / 1e3 for rate in (statistics.median(rates), min(rates), max(rates))]
            found.append(
                (
                    name,
                    *(f"{rate:.0f}" for rate in thousands),
                    f"{1e6 / thousands[0]:.0f}",
                    f"{statistics.mean(self.shares[name]):.1%}",
                    f"{self.ratio(name, NOTHING):.2f}",
                    f"{self.ratio(name, CLUSTER):.2f}",
                )
            )
        return found

    def bars(self) -> list[Bar]:
        """Return what must be reached of these."""
        return [
            Bar(f"{name}: ratio to {other}", self.ratio(name, other), wanted)
            for name in (BPF, BPF_ADDRESS)
            for other, wanted in ((CLUSTER, 1.3), (NOTHING, 1.0))
        ]


def on_two_cores(bench: Receivers, case: Case) -> Bar:
    """Measure the filter in Python with the sender on a core of its own."""
    bench.steer(case)
    bench.send(case, WARM_SECONDS)
    rates = [bench.handled(case, TWO_CORES_SECONDS) / 1e3 for _ in range(TWO_CORES_RUNS)]
    name = f"{case.name}, on two cores: thousands of packets a second, median"
    return Bar(f"{name} of {min(rates):.0f} to {max(rates):.0f}", statistics.median(rates), 400)


def asked(bench: Receivers, case: Case, bars: list[Bar]) -> str:
    """Count which packets reach Python; return what is only told, not required."""
    first = bench.asked(case)
    bench.introduce(case)
    sent, _ = bench.send(case, FULL_SECONDS)
    seen = bench.asked(case) - first
    name = f"packets that reach Python, of {FLOWS} flows and {sent.frames} more packets"
    bars.append(Bar(name, seen, FLOWS, at_most=True))
    bars.append(Bar("of these flows, seen by Python", seen, FLOWS))
    bench.forget(case)
    sent, _ = bench.send(case, FULL_SECONDS)
    flooded = bench.asked(case) - first - seen
    return (
        f"When all {FLOWS} flows begin at once, at full rate, {flooded} of {sent.frames} packets "
        "reach Python: more of the same flow come before its verdict."
    )


def measure(rounds: int) -> tuple[Rates, list[Bar], str]:
    """Measure everything; raise SystemUnsuitable if this machine cannot."""
    bench, rates, bars = Receivers(), Rates(), list[Bar]()
    with bench.built():
        queue = next(case for case in CASES if case.name == NFQUEUE)
        told = asked(bench, queue, bars)
        for case in CASES:
            bench.send(case, WARM_SECONDS)
        for number in range(rounds):
            turn = number % len(CASES)
            for case in (*CASES[turn:], *CASES[:turn]):
                rates.add(case, *bench.send(case, ROUND_SECONDS))
        bars.insert(0, on_two_cores(bench, queue))
    return rates, rates.bars() + bars, told


def main() -> int:
    """Measure, print the tables; exit 1 if something is not reached."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the single results here")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    try:
        rates, bars, told = measure(options.rounds)
    except MirrorfarmError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    heads = (
        "filter, one core",
        "k/s, median",
        "least",
        "most",
        "ns each",
        "accepted",
        "/ none",
        "/ cluster",
    )
    table(heads, rates.lines())
    table(("what", "found", "required", "reached"), [bar.cells() for bar in bars])
    waited = rates.waited / rates.seconds
    sys.stdout.write(
        f"{told}\nLoad before: {load:.2f}. Other processes had the sender's core for "
        f"{waited:.1%} of the time, which is not counted.\n"
    )
    if options.json:
        options.json.write_text(json.dumps(rates.rates, indent=2) + "\n", encoding="utf-8")
    return 0 if all(bar.reached for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
