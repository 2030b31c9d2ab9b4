"""The unit of systemd that the documentation has people write."""

import configparser
import re
from pathlib import Path

from mirrorfarm import module_process

INSTALL = Path(__file__).parents[2] / "docs/operate/install.md"


def test_the_documented_unit_goes_on_trying_and_leaves_modules_the_time_that_they_take() -> None:
    text = INSTALL.read_text(encoding="utf-8")
    (block,) = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    unit = configparser.ConfigParser(delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(block)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "always"
    assert int(unit["Service"]["TimeoutStopSec"]) > module_process.SHUTDOWN_SECONDS
