"""A value is told in short, without what is as usual; contents are told by length and digest."""

from mirrorfarm.actors.effects import ApplyTable, Later, Send
from mirrorfarm.actors.events import PeerSilent, Received, Started
from mirrorfarm.trace.decoder import Checkpoint, Note
from mirrorfarm.trace.named import Named
from mirrorfarm.trace.step import Unreadable
from mirrorfarm.trace.steps import Gap
from mirrorfarm.trace.text import TEXT_MAX, Row, as_json, told
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Announcement, Probe, StateAnswer
from mirrorfarm.transport.trace_encoder import stand_in

TO = Address("n2", "web", "module")


def row(value: object, kind: str = "input") -> str:
    return Row(0, 0, "n1", "web", "module", 1, kind, value).text()


def test_values_are_told_in_short() -> None:
    assert told(Started()) == "Started"
    assert told(PeerSilent(5)) == "PeerSilent silent_ns=5"
    assert told(Announcement("PRIM", term=3)) == "Announcement(role='PRIM', term=3)"
    assert told(Later(9, PeerSilent(5))) == "Later(at_ns=9, event=PeerSilent silent_ns=5)"
    assert told(Send(TO, Probe("red", 1), "red")) == (
        "n2/web/module by red: Probe(network='red', number=1)"
    )
    assert told(Received(TO, Probe("red", 1), "", 7, 8)).startswith("n2/web/module #8: Probe")
    assert told(["OfTomorrow", 1]) == "['OfTomorrow', 1]"
    assert told(Named(["OfTomorrow", 1], ["count"])) == "OfTomorrow count=1"
    assert told(Named(["OfTomorrow", 1, "x"], ["count"])) == "OfTomorrow(count=1, 2='x')"
    assert as_json(Named(["OfTomorrow", 1, [b"x"]], ["count", "more"])) == {
        "type": "OfTomorrow",
        "count": 1,
        "more": [{"bytes": 1, "xxh3": "eaf06c6480b2cd11"}],
    }


def test_bytes_are_told_by_their_length() -> None:
    assert told(StateAnswer("r", stand_in(b"x" * 300))).startswith(
        "StateAnswer(request='r', json=<300 bytes, xxh3 "
    )
    assert told(ApplyTable(1, (bytes(1_024),))) == (
        "ApplyTable(number=1, states=[<1024 bytes 0000000000000000…>])"
    )


def test_what_is_too_long_is_cut() -> None:
    assert len(told(Announcement("x" * 5_000))) == TEXT_MAX + 1


def test_what_is_no_value_is_told_in_words() -> None:
    assert row(Checkpoint("module", "Mirror", {}, birth=True)) == "begins as Mirror"
    assert row(Checkpoint("module", "Mirror", {}, birth=False)) == "has the state of Mirror"
    assert row(Note("broke", ("module", "AssertionError()"))) == "broke: module AssertionError()"
    assert row(Gap(3)) == "3 steps are missing"
    assert row(Gap(0)) == "an unknown number of steps are missing"
    assert row(Unreadable("Log")) == "Log (too large to be recorded)"
    assert row(Started()) == "<- Started"
