"""What one seed came to: plain values that travel between processes and into tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from msgspec import Meta

SEED_END: Final = 1 << 64  # Seeds are numbers of 64 bits.
MESSAGE_CHARACTERS_MAX: Final = 2_000
SIGNATURE_CHARACTERS_MAX: Final = 300

Outcome = Literal["ok", "violation", "no-convergence", "error"]
# What a file may hold: what the columns of a table (`tables.schema`) and the report can.
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Hash = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Counts = Mapping[Annotated[str, Meta(min_length=1)], Count]


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One run: (options, seed, build) determine everything but `wall_seconds`.

    `outcome`: ok; violation of an invariant; no-convergence: after the faults ended, not
    everything came up in time; error: the run itself failed, for example took too long.
    """

    seed: Annotated[int, Meta(ge=0)]  # Below `SEED_END`.
    options: str
    build: str
    outcome: Outcome
    invariant: str = ""  # S3, L4; assert: a core's own; of an error, the name of the exception.
    signature: str = ""  # Of the abstract state at the end: failures that share it are alike.
    simulated_ns: Count = 0
    steps: Count = 0  # Events that were played.
    digest: str = ""  # Of the whole story: the same on every machine.
    faults: Counts = field(default_factory=dict)  # Kind -> how many were injected.
    failover_ns: tuple[Count, ...] = ()  # From the end of one leader to the next, another node.
    states: tuple[Hash, ...] = ()  # Hashes of the distinct abstract states that it visited.
    cells: Counts = field(default_factory=dict)  # `mirror leading Tick` -> how often.
    fault_states: Counts = field(default_factory=dict)  # `crash leading` -> how often.
    sometimes: Counts = field(default_factory=dict)  # See coverage.properties.
    tricks: Counts = field(default_factory=dict)  # Site (actors.sites) -> how often.
    wall_seconds: Seconds = 0.0
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether something was wrong."""
        return self.outcome != "ok"
