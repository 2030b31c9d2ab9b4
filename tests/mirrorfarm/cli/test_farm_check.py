"""How the nodes of a farm are led through a check, and what is printed of sixteen of them."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from mirrorfarm.cli import farm_check
from mirrorfarm.cli.farm import check as cli_check
from mirrorfarm.cli.farm_check import Lead, as_objects, show
from mirrorfarm.errors import NodeUnreachable, Refused, TimedOut
from mirrorfarm.netfilter.preflight import BUSY, Kind
from mirrorfarm.netfilter.verdicts import evaluate
from mirrorfarm.transport.messages import AgentCommand, AgentResult
from tests.netfilter.building import MANY, facts, good, report, without

Refusal = Callable[[str], str]  # Node -> why it takes no part; "": it does.


class Agents:
    """Sixteen agents, as far as a command line knows them: who is off gives no answer."""

    who = "SYSTEM/lab"

    def __init__(self, *off: str, refusal: Refusal = lambda node: "") -> None:
        self.off = set(off)
        self.refusal = refusal
        self.asked: Counter[tuple[str, str]] = Counter()  # Node and verb.
        self.dies_at = ("", "")
        self.differs_at = ("", "")  # Its answer has not the fields that ours has.
        self.patience: dict[str, float] = {}  # By verb: how long an answer was waited for.

    def ask_all(
        self, questions: Mapping[str, tuple[Any, AgentCommand]], seconds: float
    ) -> dict[str, AgentResult]:
        found = {}
        self.patience |= {order.verb: seconds for _, order in questions.values()}
        for node, (_, order) in questions.items():
            verb = order.verb.removeprefix("farm-check-")
            self.asked[node, verb] += 1
            if (node, verb) == self.dies_at:
                self.off.add(node)
            if node in self.off:
                continue
            if why := self.refusal(node):
                found[node] = AgentResult(order.request, "refused", why)
                continue
            told = facts(node, nodes=MANY) if verb == "begin" else report(node, nodes=MANY)
            text = b'{"seen": 1}' if (node, verb) == self.differs_at else msgspec.json.encode(told)
            found[node] = AgentResult(order.request, "done", "", text)
        return found

    def states(self, wanted: list[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        self.asked.update((node, "state") for node, _ in wanted)
        return {(node, m): {"state": "STOP"} for node, m in wanted if node not in self.off}


def lead(agents: Agents) -> Lead:
    """Lead them through a whole check."""
    found = Lead(agents, "web")  # type: ignore[arg-type]
    try:
        found.begin(MANY)
        found.through()
    finally:
        found.end()
    return found


def test_every_node_sends_in_its_turn_and_reports_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    agents = Agents()
    check = lead(agents).check
    assert check.present == MANY
    assert not check.missing
    for verb in ("begin", "ask", "send", "watch", "announce", "widen", "send-wide", "end"):
        assert [agents.asked[node, verb] for node in MANY] == [1] * 16, verb
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "… all 16 nodes: begin to listen"
    assert sum(line.endswith(": " + " ".join(MANY)) for line in shown) == 3
    assert len(shown) == 5


def test_a_node_without_an_agent_is_waited_for_once_only() -> None:
    agents = Agents("n3")
    check = lead(agents).check
    assert check.missing == {"n3": "the agent does not answer"}
    assert [key for key in agents.asked if key[0] == "n3"] == [("n3", "begin")]
    assert check.unplanted.startswith("it is not known whether the module runs on n3")


def test_a_node_that_fails_in_the_turn_of_another_is_waited_for_once_only() -> None:
    agents = Agents()
    agents.dies_at = "n5", "hold"
    check = lead(agents).check
    assert check.missing == {"n5": "the agent did not answer to 'hold' in time"}
    assert agents.asked["n5", "hold"] == 1
    assert not any(agents.asked["n5", verb] for verb in ("send", "announce", "send-wide", "end"))
    assert set(check.present) == {*MANY} - {"n5"}


def test_when_every_node_fails_the_result_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    agents = Agents(*MANY[1:])
    agents.dies_at = "n1", "ask"
    check = lead(agents).check
    show(check, evaluate(check))
    text = capsys.readouterr().out
    assert "the agent did not answer to 'ask' in time" in text
    assert "all nodes but n1 took no part" in text
    assert as_objects(check, evaluate(check))["worst"] == "problem"


@pytest.mark.parametrize("verb", ["begin", "ask", "end"])
def test_a_node_of_another_version_takes_no_part_in_a_check(verb: str) -> None:
    agents = Agents()
    agents.differs_at = "n5", verb
    check = lead(agents).check
    assert list(check.missing) == ["n5"]
    assert "another version of mirrorfarm" in check.missing["n5"]
    assert set(check.present) == {*MANY} - {"n5"}
    assert evaluate(check), "of the others there is something to say"


def test_a_node_that_the_module_is_not_for_is_no_problem() -> None:
    agents = Agents("n18", refusal=lambda node: "not installed" if node == "n17" else "")
    found = Lead(agents, "web")  # type: ignore[arg-type]
    found.begin((*MANY, "n17", "n18"))
    assert not found.check.missing
    assert found.check.nodes == MANY
    with pytest.raises(Refused, match="not installed"):
        Lead(agents, "web").begin(("n17",))  # type: ignore[arg-type]


def test_a_check_that_nobody_takes_part_in_says_why() -> None:
    with pytest.raises(NodeUnreachable, match="all 16 nodes"):
        lead(Agents(*MANY))
    with pytest.raises(Refused, match=BUSY):
        lead(Agents(refusal=lambda node: f"{BUSY} on {node}" if node == "n2" else ""))
    with pytest.raises(Refused) as refused:
        lead(Agents(refusal=lambda node: "the module is not installed"))
    assert str(refused.value) == "all 16 nodes: the module is not installed"


def test_a_check_takes_no_longer_than_its_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join((cli_check.help or "").split())
    said = float(text.partition("at most ")[2].split(".")[0])
    assert said == farm_check.ALL_SECONDS + farm_check.ORDER_SECONDS
    monkeypatch.setattr(farm_check, "ALL_SECONDS", 9.0)
    agents = Agents()
    lead(agents)
    assert agents.patience.pop("farm-check-end") == farm_check.ORDER_SECONDS
    assert max(agents.patience.values()) <= 9, "no order lasts longer than the whole"


def test_a_node_that_had_no_time_to_answer_is_not_called_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agents = Agents()
    found = Lead(agents, "web")  # type: ignore[arg-type]
    found.begin(MANY)

    def wait_to_the_end(*_: Any) -> dict[str, AgentResult]:
        found._deadline = 0.0
        return {}

    monkeypatch.setattr(agents, "ask_all", wait_to_the_end)
    with pytest.raises(TimedOut, match="not over after 100 s"):
        found._order(MANY, "hold")
    assert found.check.missing == {}


def test_what_is_printed_of_sixteen_nodes_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    check = good(MANY)
    show(check, evaluate(check))
    assert len(capsys.readouterr().out.splitlines()) < 20
    without(check, "n3", Kind.VIRTUAL, Kind.WIDE_VIRTUAL)
    show(check, evaluate(check))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 36
    (row,) = [line.split() for line in lines if line.startswith(" 0/5")]
    assert row == ["0/5", "every", "other", "node", "n3"]


def test_a_reason_that_was_given_is_not_given_again(capsys: pytest.CaptureFixture[str]) -> None:
    check = good(MANY)
    without(check, "n3", Kind.VIRTUAL, Kind.WIDE_VIRTUAL)
    (verdict,) = [v for v in evaluate(check) if v.topic == "delivery"]
    show(check, [verdict, verdict])
    text = capsys.readouterr().out
    assert text.count("does not flood") == 1
    assert text.count("as above") == 1


def test_json_has_every_pair_of_nodes() -> None:
    check = good(MANY)
    without(check, "n3", Kind.VIRTUAL)
    found = as_objects(check, evaluate(check))
    (delivery,) = found["delivery"]
    assert len(delivery["received"]) == 16
    assert all(len(row) == 15 for row in delivery["received"].values())
    deaf = {(a, b) for a, row in delivery["received"].items() for b in row if row[b] == 0}
    assert deaf == {(node, "n3") for node in MANY if node != "n3"}
    assert found["nodes"] == MANY
    assert set(found["facts"]) == set(found["reports"]) == set(found["roles"]) == {*MANY}
