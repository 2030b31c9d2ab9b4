"""A row of the benchmark says `reached` only of results that it has."""

from mirrorfarm.lab.bench_mirror import Row


def test_a_row_is_reached_when_every_result_is_within_its_limit() -> None:
    assert Row("lost", 0, "", [0.0, 0.0]).reached
    assert not Row("lost", 0, "", [0.0, 1.0]).reached


def test_a_row_without_a_result_is_not_reached() -> None:
    row = Row("lost", 0, "")
    assert not row.reached
    assert "no result" in row.cells()
