"""`python -m mirrorfarm.sim.covered FIRST COUNT`: play seeds, and tell what they came by."""

import sys

from mirrorfarm.sim import sweep
from mirrorfarm.sim.coverage import Coverage, report, watching


def main(arguments: list[str]) -> int:
    """Play COUNT seeds from FIRST; 1: something that should happen sometimes never did."""
    first, count = (int(word) for word in arguments)
    coverage = Coverage()
    with watching(coverage):
        for seed in range(first, first + count):
            coverage.begin()
            sweep.play(seed)
    sys.stdout.write(report(coverage) + "\n")
    for name in coverage.missed():
        sys.stdout.write(f"never: {name}\n")
    for phase, event in coverage.impossible_but_hit():
        sys.stdout.write(f"thought impossible, but it happened: {event} in {phase}\n")
    return 1 if coverage.missed() or coverage.impossible_but_hit() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
