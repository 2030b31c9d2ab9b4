"""What a walk through the cells came by, as a file holds it."""

import msgspec


class Walked(msgspec.Struct, frozen=True):
    """Counts of a walk."""

    cases: int
    failed: int
    cells: dict[str, int]  # `mirror leading Tick`.
