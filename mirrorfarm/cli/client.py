"""Ask the actors of any node, through the agent of this one. Used by the commands and as a library.

with Client(Paths.from_environment()) as client:
    print(client.state("n1", "ledger")["state"])
"""

import json
import os
import queue
import secrets
import socket
import time
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mirrorfarm.errors import MirrorfarmError, NodeUnreachable, Refused, TimedOut, error_of
from mirrorfarm.paths import Paths
from mirrorfarm.transport.address import AGENT, MODULE_ACTOR, Address
from mirrorfarm.transport.attachment import Attachment, AttachmentSettings
from mirrorfarm.transport.keys import load_keys
from mirrorfarm.transport.messages import (
    AgentCommand,
    AgentResult,
    Command,
    CommandResult,
    Frame,
    LogAnswer,
    LogQuery,
    StateAnswer,
    StateQuery,
)

ACTOR: Final = "cli"
REPEAT_SECONDS: Final = 0.5  # A question may be lost; its request number makes it harmless.
STATE_SECONDS: Final = 3.0
KNOWN_SECONDS: Final = 1.0  # For the agent to list its modules before one of them is ordered about.
SILENT_SECONDS: Final = 10.0  # A node that says nothing for so long is not there.
ANSWERS_MAX: Final = 1_000
QUESTION = Command | StateQuery | LogQuery | AgentCommand
ANSWER = CommandResult | StateAnswer | LogAnswer | AgentResult
Key = TypeVar("Key", bound=Hashable)


def new_request() -> str:
    """Return an idempotency key: the same key again is the same command."""
    return secrets.token_hex(8)


def agent_runs(paths: Paths) -> bool:
    """Return whether the agent of this node takes connections."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(paths.bus_socket))
        except BlockingIOError:
            return True  # So many wait already that it must hang: so would who waits behind them.
        except OSError:
            return False
    return True


def process_name(pid: int) -> str:
    """Return a name that nobody had before.

    Other nodes remember what the last ones said by the clock, which may have been set back since.
    """
    return f"cli-{pid}-{secrets.token_hex(6)}"


class Client:
    """One command line, or one program, on the bus of this node."""

    def __init__(self, paths: Paths, who: str = "", identity: str = "") -> None:
        """Attach. Raises KeyInvalid, or NodeUnreachable when the agent does not run.

        `identity`: which script or program orders by itself, without an administrator.
        """
        keys = load_keys(paths)
        if not agent_runs(paths):
            raise NodeUnreachable(
                f"the agent of this node does not run (nobody answers on {paths.bus_socket}): "
                "start it with `systemctl start mirrorfarm`, or `mirrorfarm agent` by hand"
            )
        self.node = keys.name
        self.paths = paths
        user = identity or os.environ.get("SUDO_USER") or os.environ.get("USER", "root")
        self.who = who or f"SYSTEM/{user}"
        self.identity = identity
        self._answers: queue.Queue[tuple[Address, ANSWER]] = queue.Queue(ANSWERS_MAX)
        settings = AttachmentSettings(
            socket=paths.bus_socket,
            cluster=keys.cluster,
            node=keys.name,
            process=process_name(os.getpid()),
            incarnation=time.time_ns() // 1_000_000,
        )
        self._attachment = Attachment(settings, self._received)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach."""
        self._attachment.close()

    def _received(self, frame: Frame, network: str) -> None:
        del network
        if isinstance(frame.message, ANSWER):
            self._answers.put_nowait((frame.source, frame.message))

    # --- questions -------------------------------------------------------------------------

    def ask_all(
        self, questions: Mapping[Key, tuple[Address, QUESTION]], seconds: float
    ) -> dict[Key, ANSWER]:
        """Ask many at once; return the final answers that came within `seconds`."""
        waiting = {(to, message.request): key for key, (to, message) in questions.items()}
        found: dict[Key, ANSWER] = {}
        deadline = time.monotonic() + seconds
        repeat = 0.0
        while waiting and (now := time.monotonic()) < deadline:
            if now >= repeat:
                repeat = now + REPEAT_SECONDS
                for key in waiting.values():
                    to, message = questions[key]
                    self._attachment.send(to, ACTOR, message)
            try:
                source, answer = self._answers.get(timeout=min(repeat, deadline) - now)
            except (queue.Empty, ValueError):
                continue
            if not (isinstance(answer, CommandResult) and answer.outcome == "accepted"):
                answered = waiting.pop((answerer(source, answer, waiting), answer.request), None)
                if answered is not None:
                    found[answered] = answer
        return found

    def ask(self, to: Address, message: QUESTION, seconds: float) -> ANSWER:
        """Ask one actor. Raises NodeUnreachable when no answer comes within `seconds`."""
        answers = self.ask_all({to: (to, message)}, seconds)
        if to not in answers:
            raise NodeUnreachable(
                f"no answer from {to} within {seconds:g} s: see `mirrorfarm -H '*' state`, and "
                f"whether the agent of {to.node} runs and its cables are in"
            )
        return answers[to]

    def state(self, node: str, module: str, seconds: float = STATE_SECONDS) -> dict[str, Any]:
        """Return the state of a module on a node (see docs/protocols/state.md)."""
        answer = self.ask(Address(node, module, MODULE_ACTOR), StateQuery(new_request()), seconds)
        assert isinstance(answer, StateAnswer)
        return parse_state(answer)

    def states(
        self, wanted: Iterable[tuple[str, str]], seconds: float = STATE_SECONDS
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the states of `(node, module)` pairs, asked at once; who is silent is absent."""
        questions = {
            (node, module): (Address(node, module, MODULE_ACTOR), StateQuery(new_request()))
            for node, module in wanted
        }
        answers = self.ask_all(questions, seconds)
        return {
            key: parse_state(answer)
            for key, answer in answers.items()
            if isinstance(answer, StateAnswer)
        }

    def command(
        self,
        node: str,
        module: str,
        verb: str,
        arguments: tuple[str, ...] = (),
        *,
        seconds: float = 60.0,
        request: str = "",
    ) -> str:
        """Give an order to a module and return what it said when done.

        Raises Refused with the reason, MirrorfarmError when it failed, NodeUnreachable when not
        even its agent answers, TimedOut without a final answer within `seconds`; repeating it with
        the same `request` is harmless.
        """
        known = self.modules([node], min(seconds, KNOWN_SECONDS)).get(node)
        if known is not None and module not in known:
            raise Refused(
                f"{module} is not configured on {node} (configured there: "
                f"{', '.join(known) or 'nothing'}): `mirrorfarm -H {node} module list` shows what "
                f"is installed, `mirrorfarm -H {node} module config {module}` makes it ready"
            )
        to = Address(node, module, MODULE_ACTOR)
        message = Command(request or new_request(), verb, self.who, arguments, self.identity)
        first = seconds if known is not None else min(seconds, SILENT_SECONDS)
        answer = self.ask_all({to: (to, message)}, first).get(to)
        if answer is None and first < seconds:  # Others may wait for their turn.
            if not self.modules([node], KNOWN_SECONDS):
                raise NodeUnreachable(
                    f"{node} does not answer, and nobody knows whether {verb} of {module} arrived: "
                    "see whether its agent runs and its cables are in, then repeat this"
                )
            answer = self.ask_all({to: (to, message)}, seconds - first).get(to)
        if answer is None:
            raise TimedOut(
                f"{verb} of {module} on {node} has no final answer within {seconds:g} s; it may "
                f"still happen: `mirrorfarm -H {node} state -m {module}` tells"
            )
        assert isinstance(answer, CommandResult)
        return settled(answer.outcome, answer.text)

    def agent(
        self,
        node: str,
        verb: str,
        arguments: tuple[str, ...] = (),
        *,
        package: bytes = b"",
        seconds: float = 30.0,
    ) -> AgentResult:
        """Give an order to the agent of a node. Raises as `command`."""
        message = AgentCommand(new_request(), verb, self.who, arguments, package)
        answer = self.ask(Address(node, AGENT, "agent"), message, seconds)
        assert isinstance(answer, AgentResult)
        settled(answer.outcome, answer.text, exit_code_of(answer))
        return answer

    def modules(self, nodes: Iterable[str], seconds: float = STATE_SECONDS) -> dict[str, list[str]]:
        """Return the configured modules of each node; a node that is silent is absent."""
        return {
            node: [row["module"] for row in rows if row["configured"]]
            for node, rows in self._rows(nodes, seconds).items()
        }

    def installed(
        self, nodes: Iterable[str], seconds: float = STATE_SECONDS
    ) -> dict[str, dict[str, int]]:
        """Return the installed modules of each node and their ids; a silent node is absent.

        A module whose id cannot be read has 0.
        """
        wanted = tuple(nodes)
        found = self._rows(wanted, seconds)  # In the order in which they answered.
        return {
            node: {row["module"]: row.get("id", 0) for row in found[node]}
            for node in wanted
            if node in found
        }

    def troubles(self, nodes: Iterable[str], module: str) -> dict[str, str]:
        """Return which processes of a module do not come to run, on the nodes where that is so."""
        return {
            node: str(row["trouble"])
            for node, rows in self._rows(nodes, KNOWN_SECONDS).items()
            for row in rows
            if row["module"] == module and row.get("trouble")
        }

    def _rows(self, nodes: Iterable[str], seconds: float) -> dict[str, list[dict[str, Any]]]:
        questions = {
            node: (Address(node, AGENT, "agent"), AgentCommand(new_request(), "modules", self.who))
            for node in nodes
        }
        return {
            node: msgspec.json.decode(answer.json)
            for node, answer in self.ask_all(questions, seconds).items()
            if isinstance(answer, AgentResult) and answer.outcome == "done"
        }

    def log(self, node: str, module: str, after: int, count: int) -> LogAnswer:
        """Return log lines of a module on a node, numbered above `after`; negative: the last."""
        to = Address(node, module, MODULE_ACTOR)
        answer = self.ask(to, LogQuery(new_request(), after, count), STATE_SECONDS)
        assert isinstance(answer, LogAnswer)
        return answer


def answerer(source: Address, answer: ANSWER, waiting: Iterable[tuple[Address, str]]) -> Address:
    """Return whom an answer is of: the agent of a node speaks for a module that does not run."""
    if source.module == AGENT:
        for to, request in waiting:
            if request == answer.request and to.node == source.node:
                return to
    return source


def settled(outcome: str, text: str, exit_code: int = 0) -> str:
    """Return the text of what is done; raise for what was refused or failed.

    `exit_code` says which error of mirrorfarm it was; 0: nobody told.
    """
    if outcome == "done":
        return text
    untold = Refused if outcome == "refused" else MirrorfarmError
    raise error_of(exit_code or untold.exit_code, text)


def exit_code_of(answer: AgentResult) -> int:
    """Return the exit code of what an agent refused or failed to do; 0: it named none."""
    fault = json.loads(answer.json) if answer.outcome != "done" and answer.json else None
    code = fault.get("exit_code") if isinstance(fault, dict) else None
    return code if isinstance(code, int) else 0


def parse_state(answer: StateAnswer) -> dict[str, Any]:
    """Return the JSON object of an answer."""
    state = json.loads(answer.json)
    return state if isinstance(state, dict) else {}


def resolve_nodes(paths: Paths, wanted: str, own: str) -> tuple[str, ...]:
    """Return the nodes that `-H` names: `*`, or names with commas; "": this one.

    Raises Refused for names that the cluster does not have.
    """
    from mirrorfarm.modules.install import load_cluster

    if not wanted:
        return (own,)
    nodes = load_cluster(paths).nodes
    if wanted == "*":
        return nodes
    names = tuple(name.strip() for name in wanted.split(",") if name.strip())
    unknown = [name for name in names if name not in nodes]
    if unknown:
        raise Refused(f"{', '.join(unknown)}: not a node of this cluster: {', '.join(nodes)}")
    return tuple(dict.fromkeys(names))


def absolute(path: str) -> Path:
    """Return a path that does not depend on the working directory."""
    return Path(path).absolute()
