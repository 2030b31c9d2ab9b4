"""`mirrorfarm farm check`: lead the nodes through a check of their network, and tell the result."""

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
import msgspec

from mirrorfarm.cli.client import Client, new_request, resolve_nodes
from mirrorfarm.cli.main import Scope
from mirrorfarm.cli.show import as_json, clean, table
from mirrorfarm.errors import NodeUnreachable, Refused, TimedOut
from mirrorfarm.limits import CHECK_ORDER_NS, CHECK_SIZE_MAX, CHECK_SIZES_MAX, SECOND_NS
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.finding import Check, Level, Verdict, listed, named, worst
from mirrorfarm.netfilter.finding_delivery import incomplete, matrix, virtual_addresses
from mirrorfarm.netfilter.finding_owners import strangers
from mirrorfarm.netfilter.preflight import BUSY, PROBES, TOKEN_BYTES, Facts, Report
from mirrorfarm.netfilter.verdicts import evaluate
from mirrorfarm.transport.address import AGENT, Address
from mirrorfarm.transport.messages import AgentCommand, AgentResult

ORDER_SECONDS = CHECK_ORDER_NS / SECOND_NS
BEGIN_SECONDS = 10.0  # The first check of an agent loads what it needs: seconds if it is busy.
ALL_SECONDS = 100.0
LATE_SECONDS = 0.2  # For frames that are still under way at the end.
SIZES = (1500, 1400, 1280)  # Tried beside the MTUs: common limits of tunnels.
COLOURS = {
    Level.OK: "green",
    Level.UNTESTED: "cyan",
    Level.WARNING: "yellow",
    Level.PROBLEM: "red",
}
WIDTH = 98
SILENT = "the agent does not answer"
FOREIGN = "its agent answers as another version of mirrorfarm does: all nodes need the same one"
Known = TypeVar("Known", Facts, Report)


def check_farm(scope: Scope, module: str, json_wanted: bool) -> int:
    """Check the network of a farm and print what was found; return the exit code."""
    with Client(scope.paths) as client:
        nodes = resolve_nodes(scope.paths, "*", client.node)
        lead = Lead(client, module)
        try:
            lead.begin(nodes)
            lead.through()
        finally:
            lead.end()
    found = lead.check
    verdicts = evaluate(found)
    if json_wanted:
        click.echo(as_json(as_objects(found, verdicts)))
    else:
        show(found, verdicts)
    return 1 if worst(verdicts) is Level.PROBLEM else 0


class Lead:
    """One check, from its begin to its end on every node."""

    def __init__(self, client: Client, module: str) -> None:
        self._client = client
        self._token = secrets.token_hex(TOKEN_BYTES)
        self._deadline = time.monotonic() + ALL_SECONDS
        self._live: list[str] = []  # Nodes that listen.
        self.check = Check(module, (), {}, {})

    def begin(self, nodes: tuple[str, ...]) -> None:
        """Let every node listen. Raises Refused or NodeUnreachable if there is nothing to check."""
        say(f"{named(nodes, nodes)}: begin to listen")
        check = self.check
        answers = self._ask_all(nodes, "begin", (check.module,))
        for node in nodes:
            result = answers.get(node)
            if result is None:
                check.missing[node] = SILENT
            elif result.outcome == "done":
                if (facts := self._read(node, result, Facts)) is not None:
                    check.facts[node] = facts
                    self._live.append(node)
            else:
                check.missing[node] = result.text
        if self._live:  # Nodes that the module is not for need not have it.
            check.nodes = check.facts[self._live[0]].nodes
            check.missing = {n: why for n, why in check.missing.items() if n in check.nodes}
        refusals = [text for text in check.missing.values() if text.startswith(BUSY)]
        if refusals:
            raise Refused(refusals[0])
        if not answers:
            raise NodeUnreachable(f"no agent answers: {named(nodes, nodes)}")
        if not self._live:
            by_text: dict[str, list[str]] = {}
            for node, text in check.missing.items():
                by_text.setdefault(text, []).append(node)
            told = (f"{named(names, nodes)}: {text}" for text, names in by_text.items())
            raise Refused("; ".join(told))
        self._learn_roles()

    def _learn_roles(self) -> None:
        check = self.check
        wanted = [(n, check.module) for n in check.nodes if check.missing.get(n) != SILENT]
        for (node, _), state in self._client.states(wanted).items():
            check.roles[node] = str(state.get("state", ""))
            if check.roles[node] in {"UP", "WAIT"}:
                check.modes[node] = str((state.get("farm") or {}).get("mode", ""))

    def through(self) -> None:
        """Do every step; what nodes report at the end is in `check` after `end`."""
        say("who answers for the addresses?")
        claims = self._order(self._live, "ask")
        if not claims:
            return  # What became of each node is the result.
        self._decide(claims)
        self._in_turn("sends to the virtual MACs, to all, and to each node", self._send)
        if not self.check.unannounced:
            self._order(self._live, "watch", () if self.check.unplanted else ("plant",))
            self._in_turn("announces", lambda node: self._order([node], "announce"))
        self._order(self._live, "widen")
        self._in_turn("sends once more, while all receive whatever there is", self._send_wide)
        time.sleep(LATE_SECONDS)

    def _in_turn(self, what: str, step: Callable[[str], object]) -> None:
        """Let one node after the other do a step, and show in one line which one it is."""
        click.echo(f"… each node {what}:", nl=False, err=True)
        try:
            for node in tuple(self._live):
                if node in self._live:  # It may have been lost in the turn of another.
                    click.echo(f" {clean(node)}", nl=False, err=True)
                    step(node)
        finally:
            click.echo(err=True)

    def _send(self, node: str) -> None:
        told = self._order([node], "send", (*self._peers(node), *self._sizes()))
        self.check.reports.update(told)
        self._order(self._live, "hold")

    def _send_wide(self, node: str) -> None:
        self._order([node], "send-wide", self._peers(node))
        self._order(self._live, "hold")

    def end(self) -> None:
        """Let every node end its part, and keep what it reports."""
        live, self._live = self._live, []
        for node, result in self._ask_all(live, "end").items():
            if result.outcome == "done":
                if (told := self._read(node, result, Report)) is not None:
                    pings = self.check.reports.get(node, told).pings
                    self.check.reports[node] = msgspec.structs.replace(told, pings=pings)
            else:
                self._lose(node, result.text)
        for node in live:
            if node not in self.check.reports:
                self._lose(node, "the agent answered at first, and does not any more")

    def _decide(self, claims: dict[str, Report]) -> None:
        """Note what must not be tried, because somebody would be disturbed."""
        check = self.check
        seen = Check(check.module, check.nodes, check.facts, claims)
        foreign = [a for a, _ in enumerate(seen.first.addresses) if strangers(seen, a)]
        unknown = [node for node in check.nodes if node not in check.roles]
        running = [*check.up, *unknown]
        if foreign:
            addresses = listed(seen.first.addresses[number] for number in foreign)
            check.unannounced = f"somebody else answers for {addresses}, and would lose it"
        elif seen.first.delivery == Delivery.DIRECTED and running:
            check.unannounced = (
                f"{self._runs_on(running)}: an announcement would draw its "
                "clients from one node to another"
            )
        if check.unannounced:
            check.unplanted = "nothing was announced"
        elif running:
            check.unplanted = (
                f"{self._runs_on(running)}, and its own connections would be disturbed: it is "
                "tried only while the module is stopped everywhere"
            )

    def _runs_on(self, nodes: list[str]) -> str:
        known = [node for node in nodes if node in self.check.roles]
        told = [f"the module runs on {self.check.who(known)}"] if known else []
        if unknown := [node for node in nodes if node not in known]:
            told.append(f"it is not known whether the module runs on {self.check.who(unknown)}")
        return " and ".join(told)

    def _peers(self, node: str) -> tuple[str, ...]:
        """Return where the others are, as words of an order."""
        check, words = self.check, []
        for own in check.facts[node].places:
            segment = own.addresses[0]
            for number, other in enumerate(check.nodes):
                place = check.facts[other].place(segment) if other in self._live else None
                if other != node and place is not None and place.up:
                    words.append(f"peer:{segment}:{number}:{place.mac}")
        return tuple(words)

    def _sizes(self) -> tuple[str, ...]:
        places = [place for facts in self.check.facts.values() for place in facts.places]
        mtus = sorted({min(place.mtu, CHECK_SIZE_MAX) for place in places}, reverse=True)
        wanted = dict.fromkeys([*mtus, *(size for size in SIZES if size < max(mtus, default=0))])
        return tuple(f"size:{size}" for size in list(wanted)[:CHECK_SIZES_MAX])

    # --- orders ----------------------------------------------------------------------------

    def _order(
        self, nodes: Iterable[str], verb: str, words: tuple[str, ...] = ()
    ) -> dict[str, Report]:
        """Give an order; a node that fails takes no further part. Return the reports."""
        wanted = tuple(nodes)
        answers = self._ask_all(wanted, verb, words)
        for node in wanted:
            result = answers.get(node)
            if result is None:
                self._lose(node, f"the agent did not answer to {verb!r} in time")
            elif result.outcome != "done":
                self._lose(node, result.text)
        found = {
            node: self._read(node, result, Report)
            for node, result in answers.items()
            if result.outcome == "done" and result.json
        }
        return {node: report for node, report in found.items() if report is not None}

    def _read(self, node: str, result: AgentResult, kind: type[Known]) -> Known | None:
        """Return what a node told; None: it means something else by that, and is left out."""
        try:
            return msgspec.json.decode(result.json, type=kind)
        except msgspec.DecodeError:
            self._lose(node, FOREIGN)
            return None

    def _lose(self, node: str, why: str) -> None:
        self.check.missing.setdefault(node, why)
        self.check.reports.pop(node, None)
        if node in self._live:
            self._live.remove(node)

    def _ask_all(
        self, nodes: Iterable[str], verb: str, words: tuple[str, ...] = ()
    ) -> dict[str, AgentResult]:
        seconds = BEGIN_SECONDS if verb == "begin" else ORDER_SECONDS
        if verb != "end":
            seconds = min(seconds, self._seconds_left())
        arguments = (self._token, *words)
        questions = {
            node: (
                Address(node, AGENT, "agent"),
                AgentCommand(new_request(), f"farm-check-{verb}", self._client.who, arguments),
            )
            for node in nodes
        }
        answers = self._client.ask_all(questions, seconds)
        if verb != "end" and len(answers) < len(questions):
            self._seconds_left()  # Who was cut short is not called silent.
        return {n: a for n, a in answers.items() if isinstance(a, AgentResult)}

    def _seconds_left(self) -> float:
        """Return how long the check may still take. Raises TimedOut when it should be over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimedOut(f"the check is not over after {ALL_SECONDS:g} s: is a node overloaded?")
        return left


# --- what is printed -----------------------------------------------------------------------


def say(text: str) -> None:
    """Show what goes on, where it does not mix with the result."""
    click.echo(f"… {clean(text)}", err=True)


def show(check: Check, verdicts: list[Verdict]) -> None:
    """Print where frames to virtual MACs are missing, and the verdicts."""
    for segment, address in _matrices(check):
        rows = [(f"{n}/{PROBES}", of, to) for n, of, to in incomplete(check, segment, address)]
        if rows:
            table((f"arrived, to {check.first.virtual_macs[address]}", "from", "at"), rows)
    last = ("", "")
    for verdict in verdicts:
        label = click.style(f"{verdict.level:8}", fg=COLOURS[verdict.level], bold=True)
        click.echo(f"{label} {clean(verdict.what)}")
        again = verdict.cure and verdict[3:] == last
        reasons = ("as above", "") if again else verdict[3:]
        last = verdict[3:]
        for word, text in zip(("why:", "do:"), reasons, strict=True):
            if text:
                lead = f"         {word:5}"
                wrapped = click.wrap_text(clean(text), WIDTH, lead, " " * len(lead))
                click.echo(wrapped)
    counted = {level: sum(v.level is level for v in verdicts) for level in COLOURS}
    click.echo(", ".join(f"{count} {level}" for level, count in counted.items() if count))


def _matrices(check: Check) -> list[tuple[int, int]]:
    """Return segment and address of each virtual MAC that was tried."""
    return [
        (segment, address)
        for segment in (check.segments() if check.present else ())
        if len(check.places(segment)) > 1
        for address in virtual_addresses(check, segment)
    ]


def as_objects(check: Check, verdicts: list[Verdict]) -> dict[str, Any]:
    """Return everything as what JSON knows."""
    return {
        "module": check.module,
        "worst": str(worst(verdicts)),
        "verdicts": [verdict._asdict() for verdict in verdicts],
        "delivery": [
            {
                "address": check.first.addresses[address],
                "mac": check.first.virtual_macs[address],
                "sent": PROBES,
                "received": matrix(check, segment, address),
            }
            for segment, address in _matrices(check)
        ],
        "nodes": check.nodes,
        "missing": check.missing,
        "roles": check.roles,
        "filters": check.modes,
        "facts": {node: msgspec.to_builtins(facts) for node, facts in check.facts.items()},
        "reports": {node: msgspec.to_builtins(told) for node, told in check.reports.items()},
    }
