"""The one place where sweeps meet the simulator: a pure function of (options, seed).

Options are text: what is played, and settings after commas, as in `mirror,steps=80` or `swarm`,
where the seed chooses.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import xxhash

import mirrorfarm
from mirrorfarm.errors import UsageInvalid
from mirrorfarm.modules.settings import DIVERGENCE_POLICIES, PROFILES
from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.sweeps import played
from mirrorfarm.sim.sweeps.result import (
    MESSAGE_CHARACTERS_MAX,
    SIGNATURE_CHARACTERS_MAX,
    Moment,
    SeedResult,
)

# (options, seed) -> the text of the shortest scenario that fails likewise; None: none can yet.
Shrink = Callable[[str, int], str]
SHRINK: Shrink | None = None

SOURCES: Final = ("actors", "modules", "netfilter", "transport", "sim")
_NUMBER: Final = tuple(str(number) for number in range(1_001))
_TRUTH: Final = ("no", "yes")
SETTINGS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "mirror": {
        "steps": _NUMBER,
        "profile": tuple(PROFILES),
        "failover": _TRUTH,
        "directories": _TRUTH,
        "arbiter": ("witness", "ping", "none"),
        "divergence": DIVERGENCE_POLICIES,
        "ack_mode": ("durable", "received"),
    },
    "farm": {"steps": _NUMBER, "lossy": _TRUTH, "nodes": _NUMBER[2:17]},
    "swarm": {},
}


def run_seed(options: str, seed: int) -> SeedResult:
    """Play one seed; the same result, but for `wall_seconds`, on every machine."""
    return replay_seed(options, seed)[0]


def replay_seed(options: str, seed: int) -> tuple[SeedResult, list[Moment]]:
    """Play one seed and tell its time line as well. Raises UsageInvalid for unknown options."""
    begin = time.perf_counter()
    what, settings = parse_options(options)
    if what == "swarm":
        what = ("mirror", "mirror", "farm")[xxhash.xxh3_64_intdigest(b"what", seed) % 3]
    run = (played.farm if what == "farm" else played.mirror)(seed, settings)
    failure = ""
    try:
        run.finish(run)
    except Violation as violation:
        failure = str(violation)
    timeline = run.timeline()
    if failure:
        timeline.append(Moment(run.world.now, "", "violation", failure))
    invariant = failure.partition(":")[0]
    result = SeedResult(
        seed,
        options,
        build_id(),
        _outcome(invariant),
        invariant,
        f"{what}: {run.end_state()}"[:SIGNATURE_CHARACTERS_MAX],
        simulated_ns=run.world.now,
        steps=run.world._order,
        digest=xxhash.xxh3_128_hexdigest("\n".join(run.world.story).encode()),
        faults=dict(sorted(run.faults.items())),
        failover_ns=played.failovers(timeline),
        states=_states(what, timeline),
        wall_seconds=time.perf_counter() - begin,
        message=failure[:MESSAGE_CHARACTERS_MAX],
    )
    return result, timeline


def parse_options(text: str) -> tuple[str, dict[str, Any]]:
    """Return what is played and its settings. Raises UsageInvalid, naming every fault."""
    what, *words = text.split(",")
    if what not in SETTINGS:
        raise UsageInvalid(f"--options {text!r}: begin with {', '.join(sorted(SETTINGS))}")
    settings: dict[str, Any] = {}
    faults = []
    for word in words:
        key, _, value = word.partition("=")
        allowed = SETTINGS[what].get(key)
        if allowed is None:
            known = ", ".join(SETTINGS[what]) or "none"
            faults.append(f"--options {text!r}: {key!r} is no setting of {what}; known: {known}")
        elif value not in allowed:
            few = ", ".join(allowed) if len(allowed) < 10 else f"{allowed[0]} to {allowed[-1]}"
            faults.append(f"--options {text!r}: {key} must be one of {few}, not {value!r}")
        else:
            numeric = value if not value.isdecimal() else int(value)
            settings[key] = value == "yes" if allowed is _TRUTH else numeric
    if faults:
        raise UsageInvalid("\n".join(faults))
    return what, settings


@cache
def build_id() -> str:
    """Return what identifies the code that plays: xxh3 of all its sources."""
    top = Path(mirrorfarm.__file__).resolve().parent
    whole = xxhash.xxh3_64()
    for name in SOURCES:
        for path in sorted((top / name).resolve().rglob("*.py")):
            if "sweeps" not in path.parts:  # A better report plays no other runs.
                whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def command_of(options: str, seed: int) -> str:
    """Return the command that plays one seed again."""
    return f"mirrorfarm sim run --seed {seed} --options {options}"


def _outcome(invariant: str) -> Any:
    if not invariant:
        return "ok"
    return "no-convergence" if invariant.startswith("L") else "violation"


def _states(what: str, timeline: list[Moment]) -> tuple[int, ...]:
    """Return hashes (32 bits) of the distinct joint states of all nodes."""
    now: dict[str, str] = {}
    seen: dict[int, None] = {}
    for moment in timeline:
        if moment.kind == "state":
            now[moment.node] = moment.text
            text = f"{what} {sorted(now.items())}"
            seen[xxhash.xxh32_intdigest(text.encode())] = None
    return tuple(sorted(seen))
