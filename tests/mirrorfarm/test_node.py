"""What an agent does with a module that may run."""

import queue
from typing import Any

import msgspec
import pytest

from mirrorfarm import node
from mirrorfarm.errors import Refused
from mirrorfarm.node import Agent, Desk
from mirrorfarm.transport.messages import AgentCommand, AgentResult, StateAnswer, StateQuery


class Fake:
    """As much of an agent's surroundings as a question for a module's state needs."""

    name = "n1"

    def __init__(self, agent: Any, *states: str | None) -> None:
        self.agent, self.states = agent, states

    def pids(self) -> dict[str, int]:
        return {"app": 4711}

    def send(self, to: Any, actor: str, query: StateQuery) -> None:
        """Answer; None stands for no answer to the question, `old …` for one to an earlier one."""
        del to, actor
        for state in self.states:
            if state is not None:
                request = "earlier" if state.startswith("old ") else query.request
                text = msgspec.json.encode({"state": state.removeprefix("old ")})
                self.agent._states.put(StateAnswer(request, text))


def asked(*states: str | None) -> Any:
    agent: Any = object.__new__(Agent)
    agent._states = queue.Queue()
    agent.keys = agent.children = agent.hub = Fake(agent, *states)
    return agent


def test_an_order_that_breaks_is_answered_and_the_next_one_is_performed() -> None:
    def perform(command: AgentCommand) -> AgentResult:
        if not command.arguments:
            raise ValueError("not enough values to unpack")
        return AgentResult(command.request, "done", "")

    desk = Desk(perform)
    broken = desk.answer(AgentCommand("1", "config", "test"))
    assert broken.outcome == "failed"
    assert "config: the agent failed (ValueError" in broken.text
    assert desk.answer(AgentCommand("2", "config", "test", ("app",))).outcome == "done"


def test_a_stopped_module_may_be_configured() -> None:
    asked("STOP")._require_stopped("app")
    asked("old PRIM", "STOP")._require_stopped("app")


@pytest.mark.parametrize("earlier", ["old STOP", "old PRIM"])
def test_a_running_module_is_not_taken_for_stopped_by_an_earlier_answer(earlier: str) -> None:
    with pytest.raises(Refused, match="app is PRIM on n1: stop it first"):
        asked(earlier, "PRIM")._require_stopped("app")


def test_a_module_that_does_not_answer_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "STATE_SECONDS", 0.1)
    asked(None)._require_stopped("app")
    asked("old PRIM")._require_stopped("app")
