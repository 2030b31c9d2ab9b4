"""What is said of a module that has no process."""

from mirrorfarm.absence import NOT_RUNNING, Absence
from mirrorfarm.cli.why import tell
from mirrorfarm.limits import SECOND_NS

REASON = "its process ended with code 4 soon after each of 3 starts: userconfig.xml: no such file"


def absence(retry_ns: int = 10 * SECOND_NS) -> Absence:
    return Absence("n1", "app", REASON, 30 * SECOND_NS, 18 * SECOND_NS, retry_ns)


def test_state_tells_what_happened_why_and_what_to_do() -> None:
    state = absence().state()
    assert (state["state"], state["status"], state["reason"]) == (NOT_RUNNING, "NotReady", REASON)
    paragraph = tell("app", {"n1": state, "n2": None})
    assert f"n1 is NOT RUNNING NotReady since 12 s: {REASON}." in paragraph
    assert "the agent starts it again every 10 s" in paragraph
    assert "`journalctl -u mirrorfarm -n 50`" in paragraph


def test_a_process_that_was_never_started_waits_for_its_configuration() -> None:
    state = absence(retry_ns=0).state()
    assert state["command"] == "mirrorfarm -H n1 module config app"
    assert "configure the module again" in state["would_change"]


def test_a_command_is_refused_with_the_reason() -> None:
    text = absence().refusal()
    assert text.startswith(f"app does not run on n1: {REASON}.")
    assert "every 10 s" in text


def test_trouble_of_another_process_of_the_module_is_told_beside_its_state() -> None:
    state = {"state": "STOP", "status": "NotReady", "now_ns": 1, "since_ns": 0}
    told = tell("app", {"n1": dict(state)}, {"n1": "replicator: its process ended"})
    assert "On n1: replicator: its process ended." in told
