"""What is given away has no names in it, and is else as it was."""

from typing import Any

import pytest

from mirrorfarm.actors.effects import ApplyTable, Log, PlaneOrder, Send, Store, Tell
from mirrorfarm.actors.events import Announce, HardwareIs, PeerHeard, Received
from mirrorfarm.actors.record import NodeRecord
from mirrorfarm.trace.named import Named
from mirrorfarm.trace.redact import Redactor, vocabulary
from mirrorfarm.transport.address import Address, to_all
from mirrorfarm.transport.messages import Announcement, FarmBeat, Heartbeat, StorageFailed
from mirrorfarm.transport.trace_encoder import Encoder, plain, stand_in

WORDS = vocabulary()
KEY = b"0123456789abcdef"
CANARY = "canary"
ABOUT = Announcement("PRIM", "Ready", gen_cur=CANARY, resources=((CANARY, "up"),), refuses=CANARY)
VALUES = [
    Received(Address(CANARY, CANARY, "module"), Heartbeat(CANARY, 1, 2, ABOUT), CANARY, 3, 4),
    Tell("module", PeerHeard(CANARY, Heartbeat(CANARY, 1, 2, ABOUT))),
    Send(to_all((CANARY, "canary2"), CANARY, "farm_filter"), FarmBeat(1, 2, mac=b"canary")),
    HardwareIs(b"canary"),
    ApplyTable(1, (), peers=(b"canary", b"")),
    Store(NodeRecord(CANARY, CANARY, CANARY, isr_seen=(CANARY,), forced=(CANARY,))),
    Log("C", f"the node {CANARY} is lost"),
    PlaneOrder("mount_lead", (CANARY, [CANARY, 5, None], b"canary")),
    Received(Address(CANARY, CANARY, "replicator"), StorageFailed(1, "data", 5, CANARY)),
    ["OfTomorrow", CANARY, [CANARY]],
]


@pytest.mark.parametrize("mode", ["hash", "drop"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_no_name_remains(value: Any, mode: str) -> None:
    redacted = Redactor(mode, KEY, WORDS).item(value)
    assert CANARY not in repr(redacted)
    assert type(redacted) is type(value)


@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_what_only_a_simulation_saw_keeps_its_fields_and_can_be_written(mode: str) -> None:
    told = Named(["Seen", CANARY, [1, CANARY]], ["who", "held"])
    redacted = Redactor(mode, KEY, WORDS).item(told)
    assert CANARY not in repr(redacted)
    assert plain(redacted)[0] == "Seen"
    assert redacted.__struct_fields__ == ("who", "held")
    encoder = Encoder()
    encoder.frame(1, 1)
    encoder.step("world", 1, redacted, (), ())
    assert encoder.unreadable == 0


def test_fields_that_a_header_names_alike_are_redacted_each() -> None:
    redacted = Redactor("hash", KEY, WORDS).item(Named(["Seen", CANARY, 5], ["who", "who"]))
    name, who, number = plain(redacted)
    assert (name, who == CANARY, number) == ("Seen", False, 5)


def test_words_of_the_protocol_numbers_and_types_remain() -> None:
    redacted = Redactor("hash", KEY, WORDS).value(Announce(ABOUT, at_once=True))
    about = redacted.about
    assert (about.role, about.status, about.was, redacted.at_once) == (
        "PRIM",
        "Ready",
        "idle",
        True,
    )
    assert about.resources[0][1] == "up"


def test_what_was_equal_stays_equal_with_hash_and_is_gone_with_drop() -> None:
    hashes, drops = Redactor("hash", KEY, WORDS), Redactor("drop", KEY, WORDS)
    assert hashes.text("node-a") == hashes.text("node-a") != hashes.text("node-b")
    assert drops.text("node-a") == ""
    both = hashes.value(to_all(("node-a", "node-b"), "web", "module"))
    assert both.nodes == (hashes.text("node-a"), hashes.text("node-b"))


def test_another_key_gives_other_hashes() -> None:
    other = Redactor("hash", KEY[::-1], WORDS)
    assert other.text("node-a") != Redactor("hash", KEY, WORDS).text("node-a")


def test_the_vocabulary_is_short_words_of_the_sources() -> None:
    assert {"PRIM", "SECOND", "durable", "ok", "module", "heartbeat", "frozen"} <= WORDS
    assert not any(len(word) > 32 for word in WORDS)
    assert not {"n1", "n2", "ledger", CANARY} & WORDS


def test_contents_keep_their_length_and_with_hash_whether_they_are_equal() -> None:
    one, other = stand_in(b"x" * 300), stand_in(b"y" * 300)
    hashes, drops = Redactor("hash", KEY, WORDS), Redactor("drop", KEY, WORDS)
    assert hashes.value(one) == hashes.value(one) != hashes.value(other)
    assert drops.value(one) == drops.value(other)
    assert {mode.value(one)[:12] for mode in (hashes, drops)} == {one[:12]}
    assert hashes.value(one) != one
