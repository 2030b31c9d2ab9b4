from hypothesis import given
from hypothesis import strategies as st

from mirrorfarm.cli.show import age, clean
from mirrorfarm.limits import SECOND_NS


@given(st.text())
def test_cleaned_text_can_be_printed_on_any_terminal(text: str) -> None:
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)


def test_ages_are_said_as_a_person_says_them() -> None:
    said = [age(seconds * SECOND_NS) for seconds in (0, 9, 12, 185, 7_620, 349_200)]
    assert said == ["0.0 s", "9.0 s", "12 s", "3 min 5 s", "2 h 7 min", "4 d 1 h"]
    assert age(-5) == "0.0 s"
