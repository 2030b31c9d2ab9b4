"""Kernel parameters are set, shared between modules, and restored."""

from pathlib import Path

import pytest

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.netfilter.sysctls import Sysctls

NAME = "net/arp_ignore"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A folder that stands for /proc/sys."""
    (tmp_path / "sys/net").mkdir(parents=True)
    (tmp_path / "sys" / NAME).write_text("0\n")
    return tmp_path / "sys"


def value(kernel: Path) -> str:
    return (kernel / NAME).read_text().strip()


def holder(kernel: Path, name: str) -> Sysctls:
    return Sysctls(kernel.parent / "run/sysctls.json", name, kernel)


def test_the_former_value_comes_back(kernel: Path) -> None:
    one = holder(kernel, "one")
    one.hold({NAME: "1"})
    assert value(kernel) == "1"
    one.release()
    assert value(kernel) == "0"


def test_another_value_that_is_as_good_stays_and_is_left(kernel: Path) -> None:
    one = holder(kernel, "one")
    for there, held in (("0", "1"), ("2", "2"), ("3", "1")):
        (kernel / NAME).write_text(f"{there}\n")
        one.hold({NAME: ("1", "2", "8")})
        assert value(kernel) == held
        one.release()
        assert value(kernel) == there


def test_the_last_of_two_holders_restores(kernel: Path) -> None:
    one, two = holder(kernel, "one"), holder(kernel, "two")
    one.hold({NAME: "1"})
    two.hold({NAME: "1"})
    one.release()
    assert value(kernel) == "1"
    two.release()
    assert value(kernel) == "0"


def test_who_was_killed_and_comes_back_still_knows_the_former_value(kernel: Path) -> None:
    holder(kernel, "one").hold({NAME: "1"})
    again = holder(kernel, "one")
    again.hold({NAME: "1"})
    again.release()
    assert value(kernel) == "0"


def test_what_somebody_else_changed_is_left_alone(kernel: Path) -> None:
    one = holder(kernel, "one")
    one.hold({NAME: "1"})
    (kernel / NAME).write_text("2\n")
    one.release()
    assert value(kernel) == "2"


def test_what_somebody_else_changed_is_set_again_if_it_is_to_be_kept(kernel: Path) -> None:
    one, other = holder(kernel, "one"), holder(kernel, "other")
    one.hold({NAME: ("1", "2")})
    for there, kept in (("0", "1"), ("2", "2"), ("8", "1")):
        (kernel / NAME).write_text(f"{there}\n")
        assert not other.keep()
        assert value(kernel) == there
        assert one.keep() is (there != kept)
        assert value(kernel) == kept
    (kernel / NAME).unlink()
    assert not one.keep()


def test_a_parameter_that_is_gone_does_not_stop_the_others(kernel: Path) -> None:
    (kernel / "net/gone").write_text("5")
    one = holder(kernel, "one")
    one.hold({"net/gone": "6", NAME: "1"})
    (kernel / "net/gone").unlink()
    one.release()
    assert value(kernel) == "0"


def test_a_parameter_that_does_not_exist_is_named(kernel: Path) -> None:
    one = holder(kernel, "one")
    with pytest.raises(SystemUnsuitable, match="net/unknown cannot be read"):
        one.hold({NAME: "1", "net/unknown": "1"})
    one.release()
    assert value(kernel) == "0"


def test_a_damaged_ledger_holds_nothing_and_is_replaced(kernel: Path) -> None:
    one = holder(kernel, "one")
    one.hold({NAME: "1"})
    (kernel.parent / "run/sysctls.json").write_text("{damaged")
    one.release()
    assert value(kernel) == "1"
    one.hold({NAME: "1"})


def test_releasing_twice_or_without_holding_changes_nothing(kernel: Path) -> None:
    one = holder(kernel, "one")
    one.release()
    one.hold({NAME: "1"})
    one.release()
    one.release()
    assert value(kernel) == "0"
