"""A mirror on one machine: pull the cable of its primary, kill everything on it, count records.

Run as root (`make demo`). Two nodes, a witness and a client are network, process and mount
namespaces of this machine; the client writes numbered records through the virtual address all
the time, and repeats a record until it is acknowledged. The end is a table: what was lost
(must be nothing) and how long the client waited. `--plain` prints lines instead of a display,
`--traces FOLDER` keeps what all processes recorded until the second node had taken over:
`examples/traces/takeover` was made so (`sudo make example-traces`).
"""

import argparse
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mirrorfarm.errors import MirrorfarmError
from mirrorfarm.lab.cluster import OneMachine
from mirrorfarm.lab.records import read_back, text_of
from mirrorfarm.lab.stage import Stage, ending

PORT = 8080
RECORDS_PER_SECOND = 100
ANSWER_SECONDS = 0.25  # Then the client repeats: the same number is never kept twice.
COLOURS = {"NotReady": "red", "Transient": "yellow", "Ready": "green"}


@dataclass
class Writer:
    """The client: one thread that posts numbered records, repeating each until acknowledged."""

    lab: OneMachine
    acknowledged: list[int] = field(default_factory=list)
    repeats: int = 0
    gap: float = 0.0  # Longest time between two acknowledgements since the last `reset_gap`.
    resumed: float = 0.0  # When that gap ended, on the monotonic clock.
    last: float = 0.0
    ending: threading.Event = field(default_factory=threading.Event)
    failure: str = ""

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.run, name="client", daemon=True)

    def run(self) -> None:
        """Write until told to end."""
        try:
            with self.lab.as_client():
                number = 0
                while not self.ending.is_set():
                    number += 1
                    if not self.write(number):
                        return
                    time.sleep(1 / RECORDS_PER_SECOND)
        except Exception as error:  # Shown by the main thread; it must not end silently.
            self.failure = repr(error)

    def write(self, number: int) -> bool:
        """Post one record until it is acknowledged; False when told to end before."""
        while not self.ending.is_set():
            status = post(self.lab.vip, number)
            if status in {200, 201}:
                now = time.monotonic()
                if self.last and now - self.last > self.gap:
                    self.gap, self.resumed = now - self.last, now
                self.last = now
                self.acknowledged.append(number)
                return True
            if status == 409:
                self.failure = f"record {number} exists with another text"
                return False
            self.repeats += 1
            time.sleep(0.005)
        return False

    def reset_gap(self) -> None:
        """Measure the longest gap from now on."""
        self.gap = 0.0


def post(address: str, number: int) -> int:
    """Post a record; return the status of the answer, 0 for none."""
    link = http.client.HTTPConnection(address, PORT, timeout=ANSWER_SECONDS)
    try:
        body = json.dumps({"id": number, "text": text_of(number)})
        link.request("POST", "/records", body)
        answer = link.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        link.close()
    return answer.status


class MirrorStage(Stage):
    """What the audience sees: the nodes' states, the client's count, what happens now."""

    def __init__(self, lab: OneMachine, writer: Writer, *, plain: bool) -> None:
        super().__init__(lab, plain=plain, lines=12)
        self.writer = writer

    def picture(self) -> Group:
        """Draw a line for each node, one for the client, and the latest events."""
        nodes = Table(box=None, pad_edge=False)
        for head in ("node", "state", "data", "why"):
            nodes.add_column(head)
        for node in self.lab.nodes:
            state = self.states.get(node) or {}
            style = COLOURS.get(str(state.get("status")), "dim")
            role = f"{state.get('state')} {state.get('status')}" if state else "no answer"
            data = "uptodate" if state.get("uptodate") else "not uptodate" if state else ""
            nodes.add_row(node, Text(role, style=style), data, Text(str(state.get("reason", ""))))
        writer = self.writer
        waits = time.monotonic() - writer.last if writer.last else 0.0
        count = f"client: {len(writer.acknowledged)} records acknowledged, "
        client = Text(f"{count}{writer.repeats} repeated, waiting {waits:.2f} s")
        return Group(nodes, Text(""), client, Text(""), Text("\n".join(self.lines)))


@dataclass
class Times:
    """When things happened, in seconds after the cause; for the table at the end."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, seconds: float) -> None:
        """Note a duration."""
        self.rows.append((what, f"{seconds:.3f} s"))


def seconds_until(check: Callable[[], bool], start: float, limit: float, what: str) -> float:
    """Return how long after `start` the check became true; raise when it takes too long."""
    while not check():
        if time.monotonic() - start > limit:
            raise MirrorfarmError(f"waited {limit:g} s in vain: {what}")
        time.sleep(0.005)
    return time.monotonic() - start


def show(
    lab: OneMachine, writer: Writer, stage: MirrorStage, times: Times, kept: Path | None
) -> None:
    """Play the piece: failover, return, swap."""
    begin(lab, writer, stage)
    fail_over(lab, writer, stage, times)
    if kept is not None:
        lab.keep_traces(kept)
        stage.say(f"the traces so far are kept in {kept}")
    come_back(lab, writer, stage, times)
    swap(lab, writer, stage, times)


def begin(lab: OneMachine, writer: Writer, stage: MirrorStage) -> None:
    """Start both nodes and the client."""
    stage.say("n1 becomes primary, n2 its secondary")
    lab.begin("n1", "n2")
    stage.say("n1 is PRIM, n2 is SECOND: the client begins")
    writer.thread.start()
    seconds_until(lambda: len(writer.acknowledged) >= 100, time.monotonic(), 60, "100 records")


def fail_over(lab: OneMachine, writer: Writer, stage: MirrorStage, times: Times) -> None:
    """Break the primary; measure how long nobody serves."""
    stage.say("the cable of n1 is cut and everything on it is killed")
    writer.reset_gap()
    before, start = len(writer.acknowledged), time.monotonic()
    lab.cut("n1")
    lab.kill_node("n1")
    detected = seconds_until(lambda: role(lab, "n2") != "SECOND", start, 60, "n2 notices")
    taken = seconds_until(lambda: role(lab, "n2") == "ALONE", start, 60, "n2 takes over")
    seconds_until(lambda: len(writer.acknowledged) > before + 50, start, 60, "n2 serves")
    times.add("failover: n2 noticed after", detected)
    times.add("failover: n2 in charge after", taken)
    times.add("failover: records acknowledged again after", writer.resumed - start)
    times.add("failover: longest wait of the client", writer.gap)
    stage.say(f"n2 serves; the client waited {writer.gap:.2f} s")


def come_back(lab: OneMachine, writer: Writer, stage: MirrorStage, times: Times) -> None:
    """Repair it; it is brought up to date."""
    stage.say("n1 comes back while records flow")
    writer.reset_gap()
    start = time.monotonic()
    lab.mend("n1")
    lab.start_node("n1")
    lab.order("n1", "start", seconds=60)
    lab.wait_state("n1", "SECOND", 60)
    lab.wait_state("n2", "PRIM", 60)
    times.add("return: n1 has all data again after", time.monotonic() - start)
    times.add("return: longest wait of the client", writer.gap)
    stage.say(f"n1 is SECOND with all data; the client waited {writer.gap:.2f} s")


def swap(lab: OneMachine, writer: Writer, stage: MirrorStage, times: Times) -> None:
    """Exchange the roles on purpose."""
    stage.say("the roles are swapped back")
    writer.reset_gap()
    before, start = len(writer.acknowledged), time.monotonic()
    lab.order("n2", "swap", seconds=60)
    lab.wait_state("n1", "PRIM", 60)
    seconds_until(lambda: len(writer.acknowledged) > before + 50, start, 60, "n1 serves")
    times.add("swap: longest wait of the client", writer.gap)
    stage.say(f"n1 is PRIM again; the client waited {writer.gap:.2f} s")


def role(lab: OneMachine, node: str) -> str:
    """Return the state of a node, or what it was told last."""
    state = lab.state(node, seconds=0.3)
    return str(state.get("state", "SECOND"))


def verdict(lab: OneMachine, writer: Writer, times: Times, console: Console) -> int:
    """Read every record back, print the table, return the exit code."""
    with lab.as_client():
        kept = read_back(lab.vip)
    numbers = [number for number, _ in kept]
    lost = sorted(set(writer.acknowledged) - set(numbers))
    doubled = len(numbers) - len(set(numbers))
    wrong = sum(text != text_of(number) for number, text in kept)
    table = Table(title="A mirror on one machine", title_justify="left")
    table.add_column("what")
    table.add_column("result", justify="right")
    for row in times.rows:
        table.add_row(*row)
    table.add_row("records acknowledged", str(len(writer.acknowledged)))
    table.add_row("records lost", str(len(lost)), style="green" if not lost else "bold red")
    table.add_row("records duplicated or altered", str(doubled + wrong))
    console.print(table)
    if lost:
        console.print(f"LOST: {lost[:20]}", style="bold red")
    return 1 if lost or doubled or wrong else 0


def main() -> int:
    """Build the cluster, play, tell; whatever happens, leave nothing behind."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--plain", action="store_true", help="print lines, no live display")
    parser.add_argument("--profile", default="fast", choices=("fast", "default"))
    parser.add_argument("--traces", type=Path, metavar="FOLDER", help="keep traces of the failover")
    options = parser.parse_args()
    if options.traces and options.traces.exists():
        parser.error(f"{options.traces} exists already: name a new folder, or remove it first")
    plain = options.plain or not sys.stdout.isatty()
    times = Times()

    def play() -> int:
        with OneMachine(module="ledger", profile=options.profile) as lab:
            writer = Writer(lab)
            with MirrorStage(lab, writer, plain=plain) as stage:
                try:
                    show(lab, writer, stage, times, options.traces)
                finally:
                    writer.ending.set()
                    if writer.thread.is_alive():
                        writer.thread.join(timeout=10)
            if writer.failure:
                raise MirrorfarmError(f"the client failed: {writer.failure}")
            return verdict(lab, writer, times, stage.console)

    return ending(play)


if __name__ == "__main__":
    sys.exit(main())
