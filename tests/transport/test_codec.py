"""Frames survive the wire whole; anything else is refused with FrameInvalid alone."""

import contextlib
import types
import typing
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.errors import FrameInvalid
from mirrorfarm.limits import (
    FRAME_BYTES_MAX,
    FRAME_DEPTH_MAX,
    FRAME_ITEMS_MAX,
    NAME_PATTERN,
    RECIPIENTS_MAX,
    REQUEST_CHARACTERS_MAX,
)
from mirrorfarm.transport import codec
from mirrorfarm.transport.address import Address, to_all
from mirrorfarm.transport.codec import PROTOCOL_VERSION, decode, encode
from mirrorfarm.transport.messages import (
    ANY_MESSAGE,
    Announcement,
    Frame,
    Heartbeat,
    LogAnswer,
    Probe,
    RegisterAnswer,
    StateAnswer,
    StateQuery,
)

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)


def values(kind: Any, name: str) -> st.SearchStrategy[Any]:
    """Return values for one field, from its annotation."""
    if name == "network":
        return NAMES
    plain = {int: INTEGERS, str: TEXTS, bool: st.booleans(), bytes: st.binary(max_size=40)}
    if kind in plain:
        return plain[kind]
    if kind is type(None):
        return st.none()
    if isinstance(kind, types.UnionType):
        return st.one_of(*(values(one, "") for one in typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        of = typing.get_args(kind)
        if of[-1] is Ellipsis:
            return st.lists(values(of[0], ""), max_size=4).map(tuple)
        return st.tuples(*(values(one, "") for one in of))
    return structs(kind)


def structs(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    names = kind.__struct_fields__  # type: ignore[attr-defined]
    return st.builds(kind, *(values(hints[name], name) for name in names))


MESSAGES = st.one_of(*(structs(kind) for kind in typing.get_args(ANY_MESSAGE)))
COUNTS = st.integers(0, 2**63 - 1)
FRAMES = st.builds(
    Frame,
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    st.builds(Address, NAMES, NAMES, NAMES),
    COUNTS,
    COUNTS,
    COUNTS,
    st.builds(Address, NAMES, NAMES, NAMES),
    MESSAGES,
)


def a_frame(message: Any = None) -> Frame:
    return Frame(
        cluster="0123456789abcdef",
        source=Address("n1", "web", "module"),
        incarnation=7,
        sequence=3,
        clock=5,
        to=Address("n2", "web", "module"),
        message=message or Heartbeat("default", 1, 2, Announcement(resources=(("a", "up"),))),
    )


def plain(frame: Frame) -> list[Any]:
    return [PROTOCOL_VERSION, *msgspec.to_builtins(frame, builtin_types=(bytes,))]


def refused(data: bytes) -> str:
    with pytest.raises(FrameInvalid) as caught:
        decode(data)
    return str(caught.value)


@settings(max_examples=300, deadline=None)
@given(FRAMES)
def test_every_message_comes_back_as_it_was_sent(frame: Frame) -> None:
    assert decode(encode(frame)) == frame


@pytest.mark.parametrize("kind", typing.get_args(ANY_MESSAGE))
def test_each_type_of_message_comes_back(kind: type) -> None:
    @settings(max_examples=10, deadline=None, database=None)
    @given(structs(kind))
    def comes_back(message: Any) -> None:
        assert decode(encode(a_frame(message))).message == message

    comes_back()


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    refused(data)


@settings(max_examples=300, deadline=None)
@given(FRAMES, st.data())
def test_any_byte_may_flip_without_any_other_error(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(encode(frame))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FrameInvalid):  # A flipped text may still be a text.
        decode(bytes(raw))


@settings(max_examples=300, deadline=None)
@given(FRAMES, st.data())
def test_a_truncated_frame_is_refused(frame: Frame, data: st.DataObject) -> None:
    raw = encode(frame)
    refused(raw[: data.draw(st.integers(0, len(raw) - 1))])


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | INTEGERS | TEXTS | st.binary(max_size=9),
        lambda inner: st.lists(inner, max_size=9) | st.dictionaries(TEXTS, inner, max_size=3),
    )
)
def test_other_msgpack_values_are_refused(value: Any) -> None:
    refused(msgpack.packb([PROTOCOL_VERSION, value]))


def test_a_frame_of_another_protocol_version_is_refused() -> None:
    other = plain(a_frame())
    other[0] = PROTOCOL_VERSION + 1
    assert "version" in refused(msgpack.packb(other))


def test_fields_that_newer_peers_add_last_are_ignored() -> None:
    newer = plain(a_frame(Probe("default", 4)))
    newer[-1].append("new")
    newer.append(["later", 7])
    assert decode(msgpack.packb(newer)) == a_frame(Probe("default", 4))


def test_fields_that_older_peers_lack_get_their_defaults() -> None:
    older = plain(a_frame(RegisterAnswer(1, "unset")))
    older[-1] = older[-1][:3]
    assert decode(msgpack.packb(older)) == a_frame(RegisterAnswer(1, "unset"))


def test_a_field_without_default_may_not_be_missing() -> None:
    short = plain(a_frame(Probe("default", 4)))
    short[-1].pop()
    refused(msgpack.packb(short))


def nested(levels: int) -> bytes:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return bytes(msgpack.packb([*plain(a_frame()), value]))


def test_nesting_is_allowed_up_to_its_bound() -> None:
    # The frame itself is the first level.
    assert decode(nested(FRAME_DEPTH_MAX - 1)) == a_frame()
    assert "deeper" in refused(nested(FRAME_DEPTH_MAX))


def test_nesting_without_end_is_refused() -> None:
    refused(b"\x91" * 100_000)
    refused(b"\x91" * 100_000 + b"\xc0")


def test_lengths_that_lie_are_refused() -> None:
    for header in (b"\xdd", b"\xdb", b"\xc6", b"\xdf", b"\xc9"):
        refused(header + b"\xff\xff\xff\xff")


def test_extension_types_and_timestamps_are_refused() -> None:
    for value in (msgpack.ExtType(5, b""), msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 1)):
        refused(msgpack.packb([*plain(a_frame()), value]))


def test_maps_and_floats_are_refused_wherever_they_stand() -> None:
    for value in ({}, {"a": 1}, float("nan"), float("inf"), 1.5):
        refused(msgpack.packb([*plain(a_frame()), value]))


@pytest.mark.parametrize("field", [3, 4, 5])
@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -1, True, "1", None])
def test_counts_of_the_envelope_are_natural_numbers_of_63_bits(field: int, value: Any) -> None:
    bad = plain(a_frame())
    bad[field] = value
    refused(msgpack.packb(bad))


@pytest.mark.parametrize("name", ["", "N1", "a/b", "../x", "a" * 33, "a\n", "\u00e9", "-x", "1a"])
def test_addresses_and_networks_are_made_of_names(name: str) -> None:
    for position in range(3):
        for field in (2, 6):
            bad = plain(a_frame())
            bad[field][position] = name
            refused(msgpack.packb(bad))
    bad = plain(a_frame(Probe("default", 4)))
    bad[-1][1] = name
    refused(msgpack.packb(bad))


@pytest.mark.parametrize("cluster", ["", "0123456789ABCDEF", "0" * 15, "0" * 17, "g" * 16])
def test_the_cluster_is_sixteen_hex_digits(cluster: str) -> None:
    bad = plain(a_frame())
    bad[1] = cluster
    refused(msgpack.packb(bad))


def test_a_destination_may_be_several_nodes_but_not_too_many() -> None:
    several = to_all([f"n{number}" for number in range(RECIPIENTS_MAX)], "web", "module")
    frame = msgspec.structs.replace(a_frame(), to=several)
    assert decode(encode(frame)).to.nodes[-1] == f"n{RECIPIENTS_MAX - 1}"
    for nodes in (f"{several.node} more", "n1  n2", " n1", "n1 ", "n1 N2", "n1\tn2"):
        refused(encode(msgspec.structs.replace(a_frame(), to=Address(nodes, "web", "module"))))
    refused(encode(msgspec.structs.replace(a_frame(), source=Address("n1 n2", "web", "module"))))


@settings(max_examples=250, deadline=None)
@given(FRAMES, st.data())
def test_the_quick_reader_takes_nothing_that_the_thorough_one_refuses(
    frame: Frame, data: st.DataObject
) -> None:
    raw = bytearray(encode(frame))
    assert codec._decode_usual(bytes(raw)) in (frame, None)
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    quick = codec._decode_usual(bytes(raw))
    assert quick is None or quick == codec._decode_checked(bytes(raw))


def test_what_this_version_writes_is_read_quickly() -> None:
    assert codec._decode_usual(encode(a_frame())) == a_frame()


def test_text_is_not_taken_for_bytes_nor_bytes_for_text() -> None:
    bad = plain(a_frame(StateAnswer("r", b"abcd")))
    bad[-1][2] = "abcd"
    refused(msgpack.packb(bad))
    bad = plain(a_frame(StateAnswer("r", b"abcd")))
    bad[-1][1] = b"r"
    refused(msgpack.packb(bad))


def test_text_that_is_not_utf8_is_refused() -> None:
    refused(encode(a_frame(StateAnswer("rrrr", b""))).replace(b"rrrr", b"\xff\xfe\xfd\xfc"))


def test_unknown_messages_are_refused() -> None:
    bad = plain(a_frame())
    bad[-1] = ["Surprise", 1]
    assert "Surprise" in refused(msgpack.packb(bad))


def test_trailing_bytes_are_refused() -> None:
    refused(encode(a_frame()) + b"\xc0")


def test_frames_that_are_too_big_are_refused_unread_and_never_sent() -> None:
    assert "bytes" in refused(b"\xc1" * (FRAME_BYTES_MAX + 1))
    with pytest.raises(FrameInvalid, match="StateAnswer"):
        encode(a_frame(StateAnswer("r", bytes(FRAME_BYTES_MAX))))


def test_a_request_that_would_leave_no_room_for_its_answer_is_refused() -> None:
    """It comes back with the answer, which would be longer than any frame."""
    assert decode(encode(a_frame(StateQuery("r" * REQUEST_CHARACTERS_MAX))))
    for size in (REQUEST_CHARACTERS_MAX + 1, FRAME_BYTES_MAX - 200):
        assert "request" in refused(encode(a_frame(StateQuery("r" * size))))


def test_arrays_longer_than_their_bound_are_refused() -> None:
    assert decode(encode(a_frame(LogAnswer("r", ("x",) * FRAME_ITEMS_MAX, 1))))
    refused(encode(a_frame(LogAnswer("r", ("x",) * (FRAME_ITEMS_MAX + 1), 1))))


def test_text_with_characters_that_are_not_unicode_is_sent_with_marks_in_their_place() -> None:
    message = decode(encode(a_frame(LogAnswer("r", ("bad \udcff",), 1)))).message
    assert message == LogAnswer("r", ("bad ?",), 1)
