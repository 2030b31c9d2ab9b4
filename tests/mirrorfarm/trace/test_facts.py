"""Facts are what somebody would tell of a step."""

import pytest

from mirrorfarm.actors import effects as fx
from mirrorfarm.actors import events as ev
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.trace.facts import Facts, name_of
from mirrorfarm.trace.step import Step, Unreadable
from mirrorfarm.transport import messages as msg
from mirrorfarm.transport.address import Address

N1 = Address("n1", "web", "cli")


def step(event: object, *effects: object, incarnation: int = 1) -> Step:
    return Step("n1", "module", 5, event, list(effects), "web", incarnation)


def announce(role: str, status: str, term: int = 1) -> fx.Tell:
    return fx.Tell("heartbeat", ev.Announce(msg.Announcement(role, status, term=term)))


def test_a_role_is_a_fact_when_it_changes() -> None:
    facts = Facts()
    texts = [
        [fact.text for fact in facts.of(step(ev.Started(), announce(role, status)))]
        for role, status in (
            ("WAIT", "Ready"),
            ("WAIT", "Ready"),
            ("PRIM", "Transient"),
            ("PRIM", "Ready"),
        )
    ]
    assert texts == [["began as WAIT"], [], ["became PRIM in term 1"], ["became PRIM Ready"]]


def test_another_start_of_a_process_begins_anew() -> None:
    facts = Facts()
    facts.of(step(ev.Started(), announce("PRIM", "Ready")))
    [fact] = facts.of(step(ev.Started(), announce("PRIM", "Ready"), incarnation=2))
    assert fact.text == "began as PRIM"


def test_a_register_is_changed_when_the_disk_has_it() -> None:
    facts = Facts()
    register = msg.Register(3, 7, "n1", ("n1", "n2"), "g", "i")
    assert not facts.of(step(ev.Started(), fx.RegisterStore("c", "web", register, 12)))
    assert not facts.of(step(ev.RegisterStored(11)))
    [fact] = facts.of(step(ev.RegisterStored(12)))
    assert fact.kind == "register"
    assert fact.values["isr"] == ["n1", "n2"]
    assert "n1 holds web in term 3 with the in-sync set {n1, n2} (version 7)" in fact.text


def test_a_record_that_could_not_be_written_is_a_failure() -> None:
    facts = Facts()
    facts.of(step(ev.Started(), fx.Store(NodeRecord(counter=4, was="prim", term=2))))
    [stored] = facts.of(step(ev.Stored(4)))
    assert stored.text == "had its record on the disk: prim in term 2"
    [failed] = facts.of(step(ev.StoreFailed(5, 28, "no space")))
    assert failed.text == "could not write its record: no space"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (ev.Received(N1, msg.Command("r", "stop", "anna")), "was ordered to stop by anna"),
        (ev.GuardActed(5), "was fenced by its guard: the lease was over"),
        (ev.ScriptEnded(1, "start_prim", 3), "had its script start_prim fail: exit code 3"),
        (["Died", "web"], "lost its process web"),
        (["Invoked", 7, 2], "was asked for write 7 to 2"),
        (["Told", 7, 2, 1], "acknowledged write 7 to 2"),
        (["Failed", 7, 2], "could not confirm write 7 to 2"),
    ],
)
def test_events_that_are_facts(event: object, text: str) -> None:
    assert [fact.text for fact in Facts().of(step(event))] == [text]


def test_a_view_of_a_farm_is_a_fact_when_it_changes() -> None:
    facts = Facts()
    picture = ev.FarmPicture(4, True, True, "", "", 0, "n1", (), (), 0, 0, ("n1", "n2"), (b"\0",))
    told = step(ev.Started(), fx.Tell("module", picture))
    [fact] = facts.of(told)
    assert fact.text == "answered clients by view 4 of {n1, n2}"
    assert not facts.of(told)


def test_names_of_what_this_build_does_not_know() -> None:
    assert name_of(["Newer", 1]) == "Newer"
    assert name_of(Unreadable("Huge")) == "Huge"
    assert name_of(ev.Started()) == "Started"
