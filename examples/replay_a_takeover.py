"""A takeover that was recorded: replay every core, tell who did what when, and why.

    python examples/replay_a_takeover.py [FOLDER ...]

Reads `examples/traces/takeover`, recorded by `sudo make example-traces`: n1, the primary, lost its
cable and its power while a client wrote. Or name folders of your own, copied from both nodes and
the witness. Exit code 3: a core did something else than what this same build recorded.
"""

import signal
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mirrorfarm.actors import events as ev
from mirrorfarm.errors import MirrorfarmError, TraceInvalid
from mirrorfarm.trace.facts import Fact, Facts, in_sync
from mirrorfarm.trace.files import sources
from mirrorfarm.trace.finding import step_id
from mirrorfarm.trace.merge import Merge
from mirrorfarm.trace.replay import Replay
from mirrorfarm.trace.step import Placed
from mirrorfarm.trace.steps import read_items
from mirrorfarm.trace.why import why
from mirrorfarm.transport.trace_ring import sources as build_of_sources

RECORDED = Path(__file__).parent / "traces/takeover"
TOLD = ("silent", "role", "vip", "status")  # Of all facts, those of a takeover.


def replay(folders: list[Path]) -> bool:
    """Give fresh cores what the recorded ones were given; return whether they must agree and do.

    Of a trace of another build differences are told: that is what this one would have done.
    """
    agreed = True
    for source in sources(folders):
        cores = Replay()
        for difference in cores.run(read_items(source)):
            print(f"  step {difference.step.number} of {difference.step.actor} differs")
        same_build = source.header["build"] == build_of_sources()[0]
        agreed = agreed and not (cores.differences and same_build)
        told = f"{cores.counts['steps']} steps, {cores.differences} differences"
        if cores.counts["skipped"]:
            told += f", {cores.counts['skipped']} steps not compared"
        told += "" if same_build else " (recorded by another build)"
        print(f"{source.node}/{source.process}: {told}")
    return agreed


@dataclass
class Takeover:
    """The last silence after which a node served, from the last word of its peer on."""

    rows: list[tuple[int, str, str]] = field(default_factory=list)  # When, who, what.
    node: str = ""  # Who takes over.
    id: str = ""  # The step by which it did.
    heard: dict[str, tuple[int, str]] = field(default_factory=dict)
    served: bool = False

    def add(self, placed: Placed, facts: list[Fact]) -> None:
        """Look at the next step of the merged traces."""
        step = placed.step
        if isinstance(step.event, ev.Received) and step.actor == "heartbeat":
            self.heard[step.node] = placed.at_ns, step.event.source.node
        if any(fact.kind == "silent" for fact in facts) and step.node in self.heard:
            at_ns, peer = self.heard[step.node]
            self.rows = [(at_ns, step.node, f"heard from {peer} for the last time")]
            self.node, self.served = step.node, False
        if not self.node or self.served:
            return
        self.rows += [(placed.at_ns, step.node, text) for text in self.told(placed, facts)]
        for fact in facts:
            if step.node == self.node and fact.kind == "role" and fact.values["role"] == "ALONE":
                self.id = step_id(step)
            self.served = self.served or (step.node == self.node and "ALONE Ready" in fact.text)

    @staticmethod
    def told(placed: Placed, facts: list[Fact]) -> Iterator[str]:
        """Return what of a step belongs to a takeover."""
        match placed.step.event:
            case ev.AskCas(register=wish):
                yield f"asked the register for term {wish.term} with {in_sync(wish.isr)} in sync"
            case ev.VipIsUp() if placed.step.actor == "vip":
                yield "had the virtual addresses up"
            case ev.ScriptEnded(name="start_prim"):
                yield "had its application started"
        for fact in facts:
            if fact.kind in TOLD:
                yield fact.text
            elif fact.kind == "register":
                holder, isr = fact.values["holder"], in_sync(fact.values["isr"])
                yield f"had it on its disk: {holder} holds term {fact.values['term']} with {isr}"


def main() -> int:
    """Replay, tell, explain."""
    folders = [Path(name) for name in sys.argv[1:]] or [RECORDED]
    agreed = replay(folders)
    merge, facts, takeover = Merge(folders), Facts(), Takeover()
    for placed in merge.steps():
        takeover.add(placed, facts.of(placed.step))
    if not takeover.id or not takeover.served:
        raise TraceInvalid("no takeover in these traces: no node served after it heard a silence")
    begin = before = takeover.rows[0][0]
    print("\n   since   took")
    for at_ns, node, text in takeover.rows:
        print(f"{(at_ns - begin) / 1e6:8.1f} {(at_ns - before) / 1e6:6.1f} ms  {node}  {text}")
        before = at_ns
    print("\n" + textwrap.fill(why(folders, takeover.id).paragraph, width=98))
    return 0 if agreed else 3


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # End quietly once `head` has read enough.
    try:
        sys.exit(main())
    except MirrorfarmError as error:
        print(f"mirrorfarm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
