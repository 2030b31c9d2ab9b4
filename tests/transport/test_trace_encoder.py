"""Whatever steps are recorded, in whatever order: they are read back as they were."""

from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.actors.effects import Later, Log, PlaneOrder, Send, Tell
from mirrorfarm.actors.events import PeerHeard, PeerSilent, Received
from mirrorfarm.trace.decoder import Decoder, Slot
from mirrorfarm.trace.registry import EFFECTS, EVENTS
from mirrorfarm.transport.address import Address
from mirrorfarm.transport.messages import Announcement, Heartbeat, StateAnswer
from mirrorfarm.transport.trace_encoder import (
    DEFINE,
    DIGEST_RECORDS,
    INPUT,
    TOLD,
    Encoder,
    changed,
    plain,
    stand_in,
)
from mirrorfarm.transport.trace_encoder import (
    EFFECT as AN_EFFECT,
)

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)
WORDS = st.sampled_from(["", "n1", "n2", "PRIM", "é"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
LEAVES = {
    int: INTEGERS,
    str: WORDS,
    bool: st.booleans(),
    bytes: st.binary(max_size=3).map(stand_in),
    type(None): st.none(),
    Any: st.builds(PeerSilent, INTEGERS),
}


@cache
def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Return values of a type of the protocol."""
    if hint in LEAVES:
        return LEAVES[hint]
    arguments = get_args(hint)
    if get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(strategy(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*(strategy(one) for one in arguments))
    if get_origin(hint) is Union or arguments:
        return st.one_of(*(strategy(one) for one in arguments))
    hints = get_type_hints(hint)
    return st.builds(hint, *(strategy(hints[name]) for name in hint.__struct_fields__))


TYPES: list[Any] = [*EVENTS.values(), *EFFECTS.values()]
TYPES.remove(PlaneOrder)  # Its arguments may be of any type: rows come back as tuples.
EVENT = st.one_of(*(strategy(kind) for kind in TYPES if kind.__name__ in EVENTS))
EFFECT = st.one_of(*(strategy(kind) for kind in TYPES if kind.__name__ in EFFECTS))
STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 2**62), EVENT, st.lists(EFFECT, max_size=3)),
    max_size=12,
)
Steps = list[tuple[str, int, Any, list[Any]]]


def encoded(steps: Steps) -> bytes:
    encoder = Encoder()
    encoder.file()
    data = encoder.frame(steps[0][1] if steps else 0, 1)
    for actor, now, event, effects in steps:
        encoder.step(actor, now, event, effects, ())
    assert encoder.unreadable == 0
    return data + encoder.taken()


def decoded(data: bytes) -> Steps:
    decoder = Decoder(data)
    assert decoder.open()
    steps: Steps = []
    for record in decoder.read():
        assert isinstance(record, Slot)
        if record.timed:
            steps.append((record.actor, decoder.now, record.object(), []))
        else:
            steps[-1][3].append(record.object())
    return steps


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_steps_are_read_back(steps: Steps) -> None:
    assert decoded(encoded(steps)) == steps


ABOUTS = [Announcement(role, term=term) for role in ("PRIM", "WAIT") for term in (1, 2)]
HEARD = st.builds(
    PeerHeard,
    st.sampled_from(["red", "blue"]),
    st.builds(Heartbeat, st.just("red"), INTEGERS, INTEGERS, st.sampled_from(ABOUTS)),
)
# What an actor is given: the number of an event told before (the newest is 0), or another one.
GIVEN = st.one_of(st.integers(0, 1), HEARD, st.builds(PeerSilent, INTEGERS))
TELLS = st.lists(
    st.one_of(
        st.builds(Tell, st.just("b"), HEARD),
        st.builds(Later, INTEGERS, st.builds(PeerSilent, INTEGERS)),
    ),
    min_size=1,
    max_size=2,
)
ENDS = st.integers(0, 9).map(lambda number: number == 9)
TALK = st.lists(st.tuples(st.integers(0, 3), GIVEN, TELLS, ENDS), min_size=12, max_size=30)


@settings(max_examples=150, deadline=None)
@given(TALK)
def test_a_talk_of_actors_in_several_frames_is_read_back(talk: list[tuple[Any, ...]]) -> None:
    """What was told is given later, at once, twice, or not at all; frames end anywhere."""
    encoder, now, number = Encoder(), 0, 1
    encoder.file()
    data, steps = [encoder.frame(0, 1)], [[]]  # type: ignore[var-annotated]
    told: list[Any] = []
    for passed, given_, tells, ends in talk:
        if isinstance(given_, int):
            event = told[-1 - given_] if given_ < len(told) else PeerSilent(given_)
        else:
            event = given_
        now, number = now + passed, number + 1
        encoder.step("a", now, event, tells, ())
        steps[-1].append(("a", now, event, tells))
        told += [one.event for one in tells]
        if ends:
            data[-1] += encoder.taken()
            data.append(encoder.frame(now, number))
            steps.append([])
    data[-1] += encoder.taken()
    assert [decoded(one) for one in data] == steps


@settings(max_examples=100, deadline=None)
@given(*[strategy(Announcement)] * 2)
def test_what_changed_makes_the_new_of_the_old(old: Announcement, new: Announcement) -> None:
    changes = changed(new, old)
    row = plain(old)
    _apply(row, changes)
    assert row == plain(new)


def _apply(row: list[Any], changes: dict[str, Any]) -> None:
    for key, change in changes.items():
        before = row[int(key)]
        if isinstance(change, dict):
            _apply(before, change)
        elif type(change) is int and type(before) is int:
            row[int(key)] = before + change
        else:
            row[int(key)] = change


def test_what_repeats_costs_little_and_what_is_told_is_referred_to() -> None:
    beats = [Heartbeat("red", n, 1_000 * n, Announcement("PRIM", "Ready")) for n in range(1, 101)]
    source = Address("n2", "web", "heartbeat")
    steps: Steps = []
    for number, beat in enumerate(beats):
        heard = PeerHeard("red", beat)
        received = Received(source, beat, "red", 7, number)
        steps.append(("heartbeat", 1_000 * number + 5, received, [Tell("module", heard)]))
        steps.append(("module", 1_000 * number + 6, heard, []))
    data = encoded(steps)
    assert decoded(data) == steps
    assert len(data) / 300 < 12


def test_a_frame_knows_nothing_of_the_one_before() -> None:
    encoder = Encoder()
    encoder.file()
    first = encoder.frame(0, 1)
    encoder.step("a", 5, PeerSilent(1), [Tell("b", PeerSilent(2))], ())
    first += encoder.taken()
    second = encoder.frame(5, 2)
    encoder.step("a", 6, PeerSilent(1), [Tell("b", PeerSilent(2))], ())
    second += encoder.taken()
    assert [one[2:] for one in decoded(first)] == [(PeerSilent(1), [Tell("b", PeerSilent(2))])]
    decoder = Decoder(second)
    decoder.open()
    assert len(list(decoder.read())) == 2
    assert decoder.now == 6


def test_every_thousand_records_a_digest_covers_what_was_written() -> None:
    steps: Steps = [("a", n, PeerSilent(n), []) for n in range(3 * DIGEST_RECORDS)]
    data = encoded(steps)
    decoder = Decoder(data)
    decoder.open()
    assert sum(1 for _ in decoder.read()) == 3 * DIGEST_RECORDS
    assert decoder.verified == 3
    place = data.index(msgpack.packb(["x", 1])[:1], 2_000)
    forged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    decoder = Decoder(forged)
    decoder.open()
    with pytest.raises(ValueError, match=r"those that were written|no record"):
        list(decoder.read())


def test_contents_are_replaced_and_a_stand_in_stands_for_itself() -> None:
    answer = StateAnswer("r", b"contents")
    held = plain(answer)[2]
    assert held == stand_in(b"contents")
    assert plain(StateAnswer("r", held)) == plain(answer)


def test_an_order_to_the_data_plane_is_always_written_whole() -> None:
    steps: Steps = [
        ("a", n, PeerSilent(0), [PlaneOrder("gate", (n, [n, True, None]))]) for n in (0, 1)
    ]
    back = decoded(encoded(steps))
    assert [plain(effects[0]) for *_, effects in back] == [plain(e[0]) for *_, e in steps]


def test_what_was_read_stays_as_it_is_when_later_records_change_parts_of_it() -> None:
    """Also where this build knows the type neither of a value nor of an event inside one."""
    head = msgpack.packb({"now": 0, "lamport": 1, "records": 0, "digest": b""})
    records: list[list[Any]] = [
        [DEFINE, INPUT, "a", ["Unknown", [1, [2, "x"]], [5]], [[1], [2, 0]]],
        [DEFINE, AN_EFFECT, "a", ["Tell", "b", ["Strange", [7, 8]]], [[1], [2, 1]]],
        [DEFINE, INPUT, "b", ["Strange", [0]], [[1]]],
        *([0, 1], [1], [2, 1, TOLD, 1]),
        [0, 1, 0, {"0": 3, "1": {"0": 4}}, 1, 1],
        *([1, 1, {"1": 1}], [2, 1, 0, {"0": 2}]),
    ]
    assert decoded(head + b"".join(map(msgpack.packb, records))) == [
        ("a", 1, ["Unknown", [1, [2, "x"]], [5]], [Tell("b", ["Strange", [7, 8]])]),
        ("b", 2, ["Strange", [7, 8]], []),
        ("a", 3, ["Unknown", [4, [6, "x"]], [6]], [Tell("b", ["Strange", [7, 9]])]),
        ("b", 4, ["Strange", [9, 8]], []),
    ]


def test_a_number_that_is_too_far_from_the_last_one_is_written_anew() -> None:
    steps: Steps = [("a", 0, PeerSilent(n), []) for n in (-(2**63), 2**63, 2**64 - 1, 5)]
    assert decoded(encoded(steps)) == steps
    assert msgspec.convert(["Log", "E", "x"], Log) == Log("E", "x")
    assert Send is EFFECTS["Send"]
