"""An assertion that does not hold is told with the calls that led to it."""

from mirrorfarm.sim.monitors import Violation
from mirrorfarm.sim.monitors.asserted import asserted


def raised(error: AssertionError) -> Violation:
    try:
        raise error
    except AssertionError as found:
        return asserted(found)


def test_its_words_and_where_it_stands_are_told() -> None:
    found = raised(AssertionError("two owners"))
    assert str(found) == "assert: two owners"
    assert [line.rpartition(" raised: ")[2] for line in found.story] == ["raise error"]


def test_one_without_words_is_told_by_its_place() -> None:
    assert str(raised(AssertionError())).endswith(" raised")


def test_a_violation_stays_what_it_is() -> None:
    broken = Violation("F2: two owners", ["how"])
    assert raised(broken) is broken
