"""Two nodes without a third machine: a pinged address advises, and says what that can cost."""

from collections.abc import Iterator

import pytest

from mirrorfarm.lab.cluster import CLIENT_HOST, OneMachine

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab() -> Iterator[OneMachine]:
    """A ledger whose arbiter is a ping of the client's machine."""
    with OneMachine(witness=False) as machine:
        element = f'<arbiter kind="ping" addr="198.18.0.{CLIENT_HOST}"/>'
        text = machine.userconfig().replace("</service>", f"{element}</service>")
        machine.module = "ledger"
        machine.install("ledger", text, folders=("/var/lib/ledger",))
        machine.begin("n1", "n2")
        yield machine


def test_the_state_and_why_say_what_can_be_lost(lab: OneMachine) -> None:
    arbiter = lab.state("n1")["arbiter"]
    assert (arbiter["kind"], arbiter["class"]) == ("ping", "A1")
    assert "Acknowledged writes can be lost if" in arbiter["advisory"]
    words = " ".join(lab.mirrorfarm("n1", "why", "-m", "ledger").split())
    assert "advisory: a ping has no memory" in words


def test_a_power_cut_is_survived_and_the_node_returns(lab: OneMachine) -> None:
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 60)
    lab.start_node("n1")
    lab.order("n1", "start")
    lab.wait_state("n1", "SECOND", 60)
    lab.wait_state("n2", "PRIM", 60)


def test_roles_are_exchanged_without_a_third_machine(lab: OneMachine) -> None:
    lab.order("n2", "swap")
    lab.wait_state("n1", "PRIM", 60)
    lab.wait_state("n2", "SECOND", 60)


def test_a_primary_that_reaches_nobody_stops_and_the_other_goes_on(lab: OneMachine) -> None:
    lab.cut("n1")
    lab.wait_state("n2", "ALONE", 60)
    lab.wait_state("n1", "WAIT", 60, status="NotReady")
    assert "does not answer" in lab.state("n1")["reason"]
    lab.mend("n1")
    lab.wait_state("n1", "SECOND", 60)
    lab.wait_state("n2", "PRIM", 60)
