"""The templates `mirror` and `farm` with systemd units, by a systemctl that notes its orders."""

import subprocess
from pathlib import Path

import pytest

MODULES = Path(__file__).parents[4] / "modules"
SYSTEMCTL = """#!/bin/bash
echo "$*" >>"$ORDERS"
case "$1" in
    is-active) echo "$UNIT_STATE"; [[ $UNIT_STATE == active ]] ;;
    "$FAILS") exit 1 ;;
esac
"""
STOPS = ("mirror/bin/stop_prim", "farm/bin/stop_both")
FORCED = ["kill --signal=SIGKILL {0}", "stop {0}"]


class Units:
    """A folder with a systemctl that says one state of every unit, and notes its orders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "systemctl").write_text(SYSTEMCTL)
        (folder / "systemctl").chmod(0o755)

    def run(self, script: str, *words: str, state: str = "active", fails: str = "-") -> int:
        environment = {
            "PATH": f"{self.folder}:/usr/bin:/bin",
            "ORDERS": str(self.folder / "orders"),
            "SERVICES": "db.service, web.service",
            "UNIT_STATE": state,
            "FAILS": fails,
        }
        return subprocess.run([MODULES / script, *words], env=environment, check=False).returncode

    def orders(self) -> list[str]:
        lines = (self.folder / "orders").read_text().splitlines()
        return [line for line in lines if not line.startswith("is-active")]


@pytest.fixture
def units(tmp_path: Path) -> Units:
    return Units(tmp_path)


@pytest.mark.parametrize("script", STOPS)
@pytest.mark.parametrize("state", ["active", "activating", "deactivating", "reloading", ""])
def test_force_ends_what_is_not_surely_over(units: Units, script: str, state: str) -> None:
    assert units.run(script, "force", "PRIM", "STOP", "stop", state=state) == 0
    assert units.orders() == [
        order.format(unit) for unit in ("web.service", "db.service") for order in FORCED
    ]


@pytest.mark.parametrize("script", STOPS)
@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_force_leaves_alone_what_is_over(units: Units, script: str, state: str) -> None:
    assert units.run(script, "force", "PRIM", "STOP", "stop", state=state) == 0
    assert units.orders() == []


@pytest.mark.parametrize("script", STOPS)
def test_unit_that_does_not_end_fails_the_script_and_keeps_no_other(
    units: Units, script: str
) -> None:
    assert units.run(script, "force", "PRIM", "STOP", "stop", fails="stop") == 1
    assert units.orders()[-1] == "stop db.service"
    assert units.run(script, "PRIM", "STOP", "stop", fails="stop") == 1
    assert units.orders()[-2:] == ["stop web.service", "stop db.service"]


@pytest.mark.parametrize("script", ["mirror/bin/start_prim", "farm/bin/start_both"])
def test_units_start_in_order_until_one_does_not(units: Units, script: str) -> None:
    assert units.run(script, "WAIT", "PRIM", "start") == 0
    assert units.orders() == ["start db.service", "start web.service"]
    assert units.run(script, "WAIT", "PRIM", "start", fails="start") == 1
    assert units.orders()[-1] == "start db.service"
