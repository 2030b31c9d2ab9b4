"""The frames of a flood survive the pipe."""

from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.lab.flood import packed, unpacked


@given(st.lists(st.binary(max_size=1514), max_size=5))
def test_frames_are_read_as_they_were_packed(frames: list[bytes]) -> None:
    assert unpacked(packed(frames)) == frames
