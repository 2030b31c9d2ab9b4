"""The page about scenarios says what the code declares."""

import re
from pathlib import Path

from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.sim.scenario.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "scenarios.md"


def test_the_reference_is_that_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    cure = "write the end of docs/scenarios.md with python -m mirrorfarm.sim.scenario.reference"
    assert text.endswith(reference()), cure


def test_the_example_of_the_page_goes_as_it_says() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert play(read(found[1].encode(), "page")).as_expected
