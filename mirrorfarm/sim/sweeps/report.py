"""The report of a sweep: one HTML file that needs nothing else and asks nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mirrorfarm.counting import counted, counted_are
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.sim.running import Moment
from mirrorfarm.sim.sweeps.coverage import COVERAGE_STYLE, show_coverage
from mirrorfarm.sim.sweeps.markup import Element, document, table, tag
from mirrorfarm.sim.sweeps.pictures import bars, columns, curve, timeline
from mirrorfarm.sim.sweeps.result import SeedResult
from mirrorfarm.sim.sweeps.run import command_of
from mirrorfarm.sim.sweeps.summary import Summary, histogram, percentiles

NAME = "report.html"
CLASSES_SHOWN = 100
MOMENTS_SHOWN = 300
FAILOVER_EDGES_MS = (0, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
NOTHING_ELSE = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --text: #1b2733; --back: #fff; --soft: #667; --rule: #d5dae0 }
@media (prefers-color-scheme: dark) {
  :root { --text: #dde4ea; --back: #14191f; --soft: #99a; --rule: #38424d }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 960px; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere } th { color: var(--soft) }
svg { width: 100%; height: auto; font-size: 12px } text { fill: var(--text) }
.end { text-anchor: end } .middle { text-anchor: middle }
.axis, .line { fill: none; stroke: var(--soft) } .line { stroke: #2f7ed8; stroke-width: 2 }
.c0 { fill: #2f7ed8 } .c1 { fill: #2a9d6e } .c2 { fill: #c9812b } .c3 { fill: #8a63c9 }
.c4 { fill: #3aa5b8 } .c5 { fill: #8c8f94 } .c6 { fill: #b8598f } .c7 { fill: #7b8f2a }
.c8 { fill: #155a9c } .c9 { fill: #8fd3b0 } .c10 { fill: #7a4a12 } .c11 { fill: #d9b8ff }
.c12 { fill: #f2c14e } .c13 { fill: #48555f }
.fault { fill: #d33f49 } .violation { fill: #f00 } .bad { color: #d33f49 } .good { color: #2a9d6e }
.note { color: var(--soft) } code { font-size: 13px }
"""


@dataclass(frozen=True, slots=True)
class Worst:
    """The run that is shown in detail, played again to see it."""

    result: SeedResult
    moments: Sequence[Moment]


def render(summary: Summary, worst: Worst | None, missing: int = 0) -> str:
    """Return the page; `missing` seeds were wanted and have no result yet."""
    title = f"Sweep of {counted(summary.seeds, 'seed')}"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width"),
        tag("meta", http_equiv="Content-Security-Policy", content=NOTHING_ELSE),
        tag("title", title),
        tag("style", STYLE + COVERAGE_STYLE),
    ]
    body = [
        tag("h1", title),
        *_verdict(summary, missing),
        *_classes(summary),
        *_failovers(summary),
        *_faults(summary),
        *_growth(summary),
        *show_coverage(summary.coverage),
        *_worst(worst),
    ]
    return document(head, body)


def _verdict(summary: Summary, missing: int) -> list[Element]:
    failed = summary.failed
    if failed:
        words = f"{failed:,} of {summary.seeds:,} failed"
    else:
        words = f"None of {summary.seeds:,} failed" if summary.seeds else "Nothing was played"
    hours = summary.simulated_ns / SECOND_NS / 3_600
    about = (
        f"Options {summary.options}, build {summary.build}. {hours:,.1f} simulated hours, "
        f"{summary.steps:,} steps, {summary.wall_seconds:,.0f} s of processors."
    )
    found = [
        tag("p", tag("strong", words, class_="good" if summary.seeds and not failed else "bad")),
        tag("p", about, class_="note"),
    ]
    if missing:
        found.append(
            tag(
                "p",
                f"Of this sweep, {counted_are(missing, 'seed')} without a result yet.",
                class_="bad",
            )
        )
    outcomes = [[name, f"{count:,}"] for name, count in sorted(summary.outcomes.items())]
    return [*found, table(["outcome", "seeds"], outcomes)]


def _classes(summary: Summary) -> list[Element]:
    classes = summary.sorted_classes()
    if not classes:
        return []
    rows = [
        [
            one.name,
            f"{one.count:,}",
            one.signature,
            one.example.message,
            command_of(one.example.options, one.example.seed),
        ]
        for one in classes[:CLASSES_SHOWN]
    ]
    counts: dict[str, int] = {}
    for one in classes:
        counts[one.name] = counts.get(one.name, 0) + one.count
    heading = f"{len(classes):,} classes of failures"
    note = "Alike are failures of one invariant in one abstract state. The example is the shortest."
    if len(classes) > CLASSES_SHOWN:
        note += f" The {CLASSES_SHOWN} most frequent are shown."
    return [
        tag("h2", heading),
        tag("p", note, class_="note"),
        bars("failures by invariant", list(counts.items()), "fault"),
        table(["invariant", "seeds", "state", "message", "example"], rows),
    ]


def _failovers(summary: Summary) -> list[Element]:
    found: list[Element] = [tag("h2", "Failover time")]
    if not summary.failover_ns:
        return [*found, tag("p", "No failover was recorded.", class_="note")]
    edges = [edge * MILLISECOND_NS for edge in FAILOVER_EDGES_MS]
    counts = histogram(summary.failover_ns, edges)
    names = [_milliseconds(edge) for edge in FAILOVER_EDGES_MS]
    bins = [f"{a} – {b}" for a, b in pairwise(names)] + [f"≥ {names[-1]}"]
    shares = {
        "max" if percent == 100 else f"{percent} %": f"{value / MILLISECOND_NS:,.1f} ms"
        for percent, value in percentiles(summary.failover_ns).items()
    }
    note = (
        f"{len(summary.failover_ns):,} times another node than the last one began to serve, "
        "counted from the end of the last one. Times grow with the faults that go on meanwhile. "
        "A node that stands still meanwhile has no end of its own: taking over from it is not "
        "counted."
    )
    return [
        *found,
        tag("p", note, class_="note"),
        columns("distribution of failover times", list(zip(bins, counts, strict=True))),
        table([f"at most, {share}" for share in shares], [list(shares.values())]),
    ]


def _faults(summary: Summary) -> list[Element]:
    found: list[Element] = [tag("h2", "Faults injected")]
    kinds = sorted(summary.faults.items(), key=lambda kind: (-kind[1], kind[0]))
    if not kinds:
        return [*found, tag("p", "No fault was injected.", class_="note")]
    rows = [[kind, f"{count:,}", f"{summary.seeds_with_fault[kind]:,}"] for kind, count in kinds]
    return [*found, bars("faults by kind", kinds), table(["kind", "faults", "seeds"], rows)]


def _growth(summary: Summary) -> list[Element]:
    note = (
        "Distinct abstract states of the whole cluster that were visited, by number of seeds. "
        "While the curve climbs, more seeds find more."
    )
    return [
        tag("h2", "Growth"),
        tag("p", note, class_="note"),
        curve("distinct states by seeds", summary.growth, "seeds", "states"),
    ]


def _worst(worst: Worst | None) -> list[Element]:
    if worst is None:
        return []
    result = worst.result
    why = result.message or f"longest failover, {max(result.failover_ns) / SECOND_NS:.3f} s"
    moments = sorted(worst.moments, key=lambda moment: moment.time_ns)
    rows = [
        [f"{moment.time_ns / SECOND_NS:.6f}", moment.node, moment.kind, moment.text]
        for moment in moments[-MOMENTS_SHOWN:]
    ]
    seen = f"The last {len(rows)} of {len(moments)} moments" if len(moments) > len(rows) else "All"
    return [
        tag("h2", f"The worst run: seed {result.seed}"),
        tag("p", why, class_="bad" if result.failed else "note"),
        tag("p", tag("code", command_of(result.options, result.seed))),
        timeline(f"time line of seed {result.seed}", moments, result.simulated_ns),
        tag("details", tag("summary", seen), table(["s", "node", "kind", "what"], rows)),
    ]


def _milliseconds(edge: int) -> str:
    return f"{edge // 1_000} s" if edge >= 1_000 else f"{edge} ms"
