"""The part of a report that tells what the runs came by: tables in colours."""

from math import log10

from mirrorfarm.sim.coverage.counts import Coverage
from mirrorfarm.sim.coverage.machines import Machine
from mirrorfarm.sim.sweeps.markup import Element, table, tag

SHADES = 5  # One for each power of ten.
COVERAGE_STYLE = """
.cells th, .cells td { padding: .1rem .3rem; font-size: 12px; border: 1px solid var(--rule) }
.cells td { text-align: right } .impossible { background: #8883; color: var(--soft) }
.never { background: #d33f4955 } .h1 { background: #2a9d6e22 } .h2 { background: #2a9d6e44 }
.h3 { background: #2a9d6e66 } .h4 { background: #2a9d6e88 } .h5 { background: #2a9d6eaa }
"""


def show_coverage(coverage: Coverage) -> list[Element]:
    """Return the tables; nothing if nothing was counted."""
    machines = coverage.machines()
    if not machines:
        return []
    note = (
        "How often each state was given each event. Grey: it cannot be (a hit is a failure), or no "
        "run gives it. "
        "Red: it never was."
    )
    found: list[Element] = [tag("h2", "Coverage"), tag("p", note, class_="note")]
    for machine, words in zip(machines, coverage.words(), strict=True):
        found += [tag("h3", words), _matrix(coverage, machine)]
    found += [tag("h3", "Faults by the state in which they came"), _faults(coverage)]
    rows = [[name, f"{coverage.sometimes[name]:,}"] for name in coverage.expected()]
    rows += [[f"trick {name}", f"{count:,}"] for name, count in sorted(coverage.tricks.items())]
    found += [tag("h3", "What must happen sometimes"), table(["what", "times"], rows)]
    missed = coverage.missed()
    if missed:
        found.append(tag("p", f"Never happened: {'; '.join(missed)}.", class_="bad"))
    return found


def _matrix(coverage: Coverage, machine: Machine) -> Element:
    rows = []
    for event in coverage.events(machine):
        cells = [tag("th", event)]
        for state in machine.states:
            why = machine.impossible(state, event) or machine.unplayed.get(event, "")
            count = coverage.count(machine, state, event)
            cells.append(_cell(count, f"{event} while {state}", why))
        rows.append(tag("tr", *cells))
    return _cells(machine.states, rows)


def _faults(coverage: Coverage) -> Element:
    states, kinds = coverage.fault_table()
    rows = [
        tag(
            "tr",
            tag("th", kind),
            *(_cell(counts[state], f"{kind} while {state}", "") for state in states),
        )
        for kind, counts in kinds.items()
    ]
    return _cells(states, rows)


def _cells(states: list[str] | tuple[str, ...], rows: list[Element]) -> Element:
    head = tag("tr", tag("th", ""), *(tag("th", state) for state in states))
    return tag("div", tag("table", head, *rows, class_="cells"), class_="wide")


def _cell(count: int, words: str, why: str) -> Element:
    if count:
        shade = min(SHADES, 1 + int(log10(count)))
        return tag("td", f"{count:,}", class_=f"h{shade}", title=words)
    if why:
        return tag("td", "·", class_="impossible", title=f"{words}: {why}")
    return tag("td", "0", class_="never", title=words)
