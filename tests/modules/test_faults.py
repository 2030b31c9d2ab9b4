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
