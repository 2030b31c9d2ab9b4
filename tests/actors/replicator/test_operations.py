"""What travels from disk to disk survives the bytes, and nothing else does."""

import stat
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.actors.replicator import operations
from mirrorfarm.actors.replicator.operations import (
    ANY_OPERATION,
    Create,
    Fallocate,
    Fsync,
    Introduce,
    Link,
    Rename,
    SetAttr,
    SetXattr,
    Unlink,
    Write,
    decode,
    encode,
)
from mirrorfarm.errors import FrameInvalid

numbers = st.integers(2, 2**64 - 1)
names = st.binary(min_size=1, max_size=255).filter(operations.name_is_valid)
modes = st.builds(lambda kind, bits: kind | bits, st.sampled_from(sorted(operations.KINDS)),
                  st.integers(0, 0o7777))  # fmt: skip
times = st.integers(-(2**62), 2**62)
owners = st.integers(0, 2**32 - 1)
indices = st.integers(0, 31)
xattr_names = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name)


@st.composite
def creations(draw: st.DrawFn) -> Create:
    mode = draw(modes)
    target = draw(st.binary(min_size=1, max_size=99).filter(lambda text: b"\0" not in text))
    return Create(
        draw(indices),
        draw(numbers),
        draw(numbers),
        draw(names),
        mode,
        draw(owners),
        draw(owners),
        draw(times),
        draw(owners),
        target if stat.S_ISLNK(mode) else b"",
    )


operations_of_every_kind = st.one_of(
    creations(),
    st.builds(Introduce, indices, numbers, numbers, names, modes),
    st.builds(Link, indices, numbers, numbers, names),
    st.builds(Unlink, indices, numbers, names),
    st.builds(Rename, indices, numbers, names, numbers, names, st.sampled_from((0, 1, 2))),
    st.builds(Write, indices, numbers, st.integers(0, 2**62), st.integers(0, 2**23), times),
    st.builds(
        SetAttr, indices, numbers, st.integers(1, 63), modes, owners, owners, owners, times, times
    ),
    st.builds(SetXattr, indices, numbers, xattr_names, st.binary(max_size=999)),
    st.builds(
        Fallocate,
        indices,
        numbers,
        st.sampled_from((0, 1, 3, 8, 16, 17, 32, 64)),
        st.integers(0, 2**62),
        owners.map(lambda length: length + 1),
        times,
    ),
    st.builds(Fsync, indices, numbers, st.booleans()),
)


def payload_of(operation: ANY_OPERATION) -> int:
    return operation.length if isinstance(operation, Write) else 0


@given(operations_of_every_kind)
def test_an_operation_comes_out_as_it_went_in(operation: ANY_OPERATION) -> None:
    assert decode(encode(operation), payload_of(operation)) == operation


@given(operations_of_every_kind, st.integers(1, 1000))
def test_a_payload_of_another_length_is_refused(operation: ANY_OPERATION, more: int) -> None:
    with pytest.raises(FrameInvalid):
        decode(encode(operation), payload_of(operation) + more)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_a_valid_operation(noise: bytes) -> None:
    try:
        operation = decode(noise)
    except FrameInvalid:
        return
    assert decode(encode(operation)) == operation


@given(operations_of_every_kind, st.data())
def test_a_damaged_operation_never_does_more_than_be_refused(
    operation: ANY_OPERATION, data: st.DataObject
) -> None:
    damaged = bytearray(encode(operation))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(damaged), payload_of(operation))
    except FrameInvalid:
        return
    for field in ("name", "new_name"):
        name = getattr(read, field, None)
        if not isinstance(read, SetXattr | operations.RemoveXattr) and name is not None:
            assert operations.name_is_valid(name)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"n" * 256])
def test_a_name_that_leads_elsewhere_is_refused(name: bytes) -> None:
    for operation in (
        Unlink(0, 1, name),
        operations.Rmdir(0, 1, name),
        Link(0, 5, 1, name),
        Introduce(0, 5, 1, name, 0o100644),
        Create(0, 5, 1, name, 0o100644, 0, 0, 0),
        Rename(0, 1, name, 1, b"fine"),
        Rename(0, 1, b"fine", 1, name),
    ):
        with pytest.raises(FrameInvalid):
            decode(encode(operation))


@pytest.mark.parametrize(
    "operation",
    [
        Fsync(32, 5, True),
        Fsync(-1, 5, True),
        Fsync(0, 0, True),
        Introduce(0, 1, 1, b"root", 0o040755),
        Introduce(0, 5, 1, b"kindless", 0o644),
        Create(0, 5, 1, b"link", 0o120777, 0, 0, 0),
        Create(0, 5, 1, b"file", 0o100644, 0, 0, 0, 0, b"target"),
        Create(0, 5, 1, b"file", 0o100644, 2**32, 0, 0),
        Rename(0, 1, b"a", 1, b"b", 3),
        Rename(0, 1, b"a", 1, b"b", 8),
        Fallocate(0, 5, 0x80, 0, 1),
        Fallocate(0, 5, 0x04, 0, 1),
        Fallocate(0, 5, 0, 0, 0),
        Fallocate(0, 5, 0, 2**63 - 1, 1),
        SetAttr(0, 5, 0),
        SetAttr(0, 5, 64),
        SetXattr(0, 5, b"user.\0", b""),
        SetXattr(0, 5, b"user.big", b"x" * 65_537),
    ],
)
def test_what_no_disk_should_see_is_refused(operation: ANY_OPERATION) -> None:
    with pytest.raises(FrameInvalid):
        decode(encode(operation))


def test_a_write_beyond_the_end_of_numbers_is_refused() -> None:
    with pytest.raises(FrameInvalid):
        decode(encode(Write(0, 5, 2**63 - 1, 1)), 1)


def test_every_operation_has_a_tag_of_its_own() -> None:
    tags = [kind.__struct_config__.tag for kind in typing.get_args(ANY_OPERATION)]
    assert sorted(tags) == list(range(1, len(tags) + 1))


def test_a_later_version_may_add_a_field() -> None:
    values = msgspec.msgpack.decode(encode(Fsync(0, 5, True)))
    assert decode(msgspec.msgpack.encode([*values, "new"])) == Fsync(0, 5, True)
