"""A farm in namespaces: drain, stop, freeze its nodes and cut a cable under live connections.

Run as root (`make demo-farm`). Three nodes and a client are network, process and mount namespaces
of this machine; the nodes serve the module `web` at one address. The client keeps 90 connections
and asks on each ten times a second, and makes 50 new ones a second. Every frame that it gets is
looked at: no connection may be answered by two nodes. The end is a table of what became of the
connections at each event. `--plain` prints lines instead of a display, `--traces FOLDER` keeps what
all nodes recorded, as in `examples/traces/farm`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mirrorfarm.lab import farm_web
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.farm_events import FarmEvents
from mirrorfarm.lab.farm_traffic import NEW_PER_SECOND, STREAMS, Count, Traffic
from mirrorfarm.lab.stage import Stage, ending
from mirrorfarm.limits import BUCKETS

NODES = ("n1", "n2", "n3")
COLOURS = {"n1": "dodger_blue2", "n2": "orange1", "n3": "green3", "": "bright_red"}
TILE_COLUMNS, TILE_ROWS = 60, 5
SHARE_COLUMNS = 30
SETTLE_MAX = 3_600
LEGEND = """\
kept, reset, silent  of the connections that stay; silent: no answer for 3 s
new, failed          connections made meanwhile and answered; reset, refused, or silent
twice                connections of either kind that two nodes answered
longest              that any of them waited for an answer"""


class FarmStage(Stage):
    """What the audience sees: shares, who answers whom, what happens now."""

    def __init__(self, lab: OneMachine, traffic: Traffic, *, plain: bool) -> None:
        super().__init__(lab, plain=plain, lines=10)
        self.traffic = traffic

    def picture(self) -> Group:
        """Draw a line for each node, a tile for each connection, and the latest events."""
        held = Counter(self.traffic.holders())
        nodes = Table(box=None, pad_edge=False)
        for head in ("node", "state", "share of the clients", "streams", "new/s", "says"):
            nodes.add_column(head)
        for node in self.lab.nodes:
            nodes.add_row(*self._row(node, self.states.get(node) or {}, held[node]))
        streams = Text("the connections that stay     ")
        for holder in sorted(self.traffic.holders()):
            streams.append("●" if holder else "○", style=COLOURS.get(holder, "white"))
        recent = list(self.traffic.tiles)[-TILE_COLUMNS * TILE_ROWS :]
        tiles = Text("the newest connections, each coloured by the node that answered\n")
        for place, node in enumerate(recent):
            tiles.append("■" if node else "✗", style=COLOURS.get(node, "white"))
            tiles.append("\n" if place % TILE_COLUMNS == TILE_COLUMNS - 1 else "")
        gap, events = Text(""), Text("\n".join(self.lines))
        return Group(nodes, gap, streams, gap, tiles, gap, events)

    @staticmethod
    def _row(node: str, state: dict[str, Any], held: int) -> tuple[Text | str, ...]:
        farm = state.get("farm") or {}
        own = [one for one in farm.get("nodes", []) if one["name"] == node]
        buckets = sum(own[0]["buckets"].values()) if own and farm.get("open") else 0
        filled = round(SHARE_COLUMNS * buckets / BUCKETS)
        bar = Text("█" * filled, style=COLOURS[node])
        bar.append("·" * (SHARE_COLUMNS - filled), style="dim")
        bar.append(f" {100 * buckets / BUCKETS:5.1f} %")
        role = f"{state.get('state')} {state.get('status')}" if state else "no answer"
        rate = str((farm.get("traffic") or {}).get("new_per_s", ""))
        says = str(state.get("reason", ""))
        return Text(node, style=COLOURS[node]), role, bar, str(held), rate, says


class Director(FarmEvents):
    """Makes things happen, and tells what became of the connections."""

    def __init__(self, lab: OneMachine, traffic: Traffic, stage: FarmStage, settle: float) -> None:
        super().__init__(lab, traffic, settle)
        self.stage = stage

    def event(self, title: str, act: Callable[[], object], *, planned: bool = True) -> Count:
        """Do something and watch until every stream was answered again."""
        self.stage.say(title)
        count = super().event(title, act, planned=planned)
        told = f"{count.kept + count.hung_up} of {count.streams} connections kept"
        lost = f", {count.reset} reset, {count.unanswered} unanswered"
        self.stage.say(f"  {told}{lost if count.reset + count.unanswered else ''}")
        return count

    def leave(self, node: str) -> int:
        """Stop a node; it drains, and its clients end their connections meanwhile."""
        left = super().leave(node)
        self.stage.say(f"  it waited for {left} connections, which their clients ended")
        return left

    def show(self) -> None:
        """Play the piece."""
        third = range(BUCKETS // 3, BUCKETS // 3 + 2)
        half = range(BUCKETS // 2, BUCKETS // 2 + 1)
        self.event("nothing happens", lambda: None)
        self.event("n2 is drained", lambda: self.share("n2", "drain", buckets=range(1)))
        self.event("n2 takes clients", lambda: self.share("n2", "resume", buckets=third))
        self.event("n3 gets power 2", lambda: self.share("n3", "power", "2", buckets=half))
        self.event("n3 gets power 1", lambda: self.share("n3", "power", "1", buckets=third))
        self.event("n2 stops", lambda: self.leave("n2"))
        self.event("n2 joins", lambda: self.join("n2"))
        self.event("n3's cable is cut", lambda: self.cable("n3", cut=True), planned=False)
        self.event("n3's cable is back", lambda: self.cable("n3", cut=False))
        self.event("n1's module freezes", lambda: self.freeze("n1", frozen=True), planned=False)
        self.event("n1 is thawed", lambda: self.freeze("n1", frozen=False))


def verdict(counts: list[Count], console: Console) -> int:
    """Print the table; return the exit code."""
    table = Table(title="A farm in namespaces", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("event", no_wrap=True)
    for head in ("kept", "reset", "silent", "new", "failed", "twice", "longest"):
        table.add_column(head, justify="right", no_wrap=True)
    faults = 0
    for count in counts:
        good = count.twice == 0 and (not count.planned or is_whole(count))
        faults += not good
        longest = max(count.new_wait, count.wait)
        words = (
            f"{count.kept + count.hung_up}/{count.streams}",
            *map(str, (count.reset, count.unanswered, count.answered, count.failed, count.twice)),
            f"{longest:.2f} s",
        )
        table.add_row(count.title, *words, style="" if good else "bold red")
    console.print(table)
    console.print(LEGEND)
    return 1 if faults else 0


def is_whole(count: Count) -> bool:
    """Whether nothing was lost, as must be at whatever is planned."""
    lost = count.reset + count.unanswered + count.failed
    return not lost and count.kept + count.hung_up == count.streams


def run(lab: OneMachine, settle: float, plain: bool, kept: Path | None) -> int:
    """Start the farm, play, tell."""
    traffic = Traffic(lab)
    with FarmStage(lab, traffic, plain=plain) as stage:
        stage.say("three nodes start the module web behind one address")
        farm_web.start(lab)
        with traffic:
            stage.say(f"the client begins: {STREAMS} connections, {NEW_PER_SECOND} new a second")
            Director(lab, traffic, stage, settle).show()
            if kept is not None:
                lab.keep_traces(kept)
                stage.say(f"the traces are kept in {kept}")
    return verdict(traffic.counts[1:], stage.console)


def main() -> int:
    """Build the cluster, play, tell; whatever happens, leave nothing behind."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--plain", action="store_true", help="print lines, no live display")
    parser.add_argument(
        "--settle", type=float, default=3.0, metavar="SECONDS", help="to watch after each event"
    )
    parser.add_argument("--traces", type=Path, metavar="FOLDER", help="keep the traces there")
    options = parser.parse_args()
    if options.traces and options.traces.exists():
        parser.error(f"{options.traces} exists already: name a new folder, or remove it first")
    if not 0 <= options.settle <= SETTLE_MAX:
        parser.error(f"--settle {options.settle:g}: from 0 to {SETTLE_MAX} seconds")
    plain = options.plain or not sys.stdout.isatty()

    def play() -> int:
        with OneMachine(nodes=NODES, witness=False) as lab:
            return run(lab, options.settle, plain, options.traces)

    return ending(play)


if __name__ == "__main__":
    sys.exit(main())
