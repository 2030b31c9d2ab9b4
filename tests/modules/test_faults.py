"""Faults of a file: each told once, with how to mend it."""

import pytest

from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.modules.faults import FAULTS_MAX, Faults


def told(faults: Faults) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as raised:
        faults.raise_if_any()
    return raised.value.faults


def test_only_faults_that_are_told_look_for_their_cure() -> None:
    asked: list[int] = []

    def cure() -> str:
        asked.append(1)
        return "did you mean mode?"

    faults = Faults("u.xml")
    for number in range(2 * FAULTS_MAX):
        for _ in range(2):  # The second one is the same fault.
            faults.add(number + 1, f"user.x{number}", "unknown attribute", cure)
    assert len(asked) == FAULTS_MAX
    assert told(faults)[0] == "u.xml:1: user.x0: unknown attribute; did you mean mode?"


def test_faults_that_are_too_many_to_be_told_are_counted() -> None:
    faults = Faults("u.xml")
    for number in range(FAULTS_MAX):
        faults.add(FAULTS_MAX - number, "user.x", "unknown attribute")
    assert len(told(faults)) == FAULTS_MAX
    for _ in range(2):  # The second one is the same fault.
        faults.add(1, "user.y", "unknown attribute")
    *all_of_them, last = told(faults)
    assert all_of_them[0] == "u.xml:1: user.x: unknown attribute"
    assert last == "u.xml: one more fault is not told: mend those above first"
    for number in range(899):
        faults.add(number, "user.z", "unknown attribute")
    assert told(faults)[-1] == "u.xml: 900 more faults are not told: mend those above first"
