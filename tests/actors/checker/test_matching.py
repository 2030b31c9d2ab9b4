import pytest

from mirrorfarm.actors.checker.matching import Matcher
from mirrorfarm.modules.settings import Process


def fits(process: Process, name: str, line: str = "", unit: str = "") -> bool:
    return Matcher(process).fits(name, lambda: line, lambda: unit)


def test_name_must_be_equal_as_far_as_the_kernel_keeps_it() -> None:
    assert fits(Process(name="postgres"), "postgres")
    assert not fits(Process(name="postgres"), "postgresql")
    assert fits(Process(name="a_name_of_more_than_fifteen"), "a_name_of_more_")
    assert fits(Process(name="größenrechnerdienst"), "größenrechner")  # 15 bytes.
    cut = "größenrechne日".encode()[:15].decode(errors="replace")
    assert fits(Process(name="größenrechne日"), cut)


def test_expressions_are_searched_in_name_and_command_line() -> None:
    assert fits(Process(nameregex="^post"), "postgres")
    assert not fits(Process(nameregex="^gres"), "postgres")
    assert fits(Process(argregex=r"-D /data\b"), "postgres", "postgres -D /data -p 1")
    assert not fits(Process(argregex=r"-D /data\b"), "postgres", "postgres -D /database")


def test_all_conditions_of_an_entry_must_hold() -> None:
    entry = Process(name="java", argregex="kafka")
    assert fits(entry, "java", "java -cp kafka.jar")
    assert not fits(entry, "java", "java -cp other.jar")
    assert not fits(entry, "python", "python kafka")


def test_entry_without_any_condition_fits_nothing() -> None:
    assert not fits(Process(), "anything")
    assert not fits(Process(service=True), "anything", unit="x.service")


def test_service_is_known_by_its_unit_not_by_the_name_of_its_processes() -> None:
    for name in ("nginx", "nginx.service"):
        assert fits(Process(name=name, service=True), "worker", unit="nginx.service")
        assert not fits(Process(name=name, service=True), "nginx", unit="other.service")


def test_command_line_is_not_read_when_the_name_already_differs() -> None:
    matcher = Matcher(Process(name="java", argregex="kafka"))
    assert not matcher.fits("python", lambda: pytest.fail("read"), lambda: pytest.fail("read"))
