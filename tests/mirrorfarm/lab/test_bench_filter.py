"""What chance alone does to evenness, which no hash can better."""

import statistics

import pytest

from mirrorfarm.lab.bench_filter import by_chance, spread


def test_chance_gives_the_busiest_of_16_nodes_three_percent_more_than_the_mean() -> None:
    # The largest of 16 normal deviates is 1.77 on average; one is sqrt(15 / 50,000).
    assert statistics.mean(by_chance(16, 50_000, 200)) == pytest.approx(1.031, abs=0.002)


def test_chance_is_the_same_in_every_run() -> None:
    assert by_chance(3, 1_000, 5) == by_chance(3, 1_000, 5)


def test_no_node_has_less_than_the_mean_of_clients_at_most() -> None:
    assert all(value >= 1 for value in by_chance(5, 999, 50))


def test_all_clients_at_one_address_are_at_one_node() -> None:
    assert spread([b"\x0a\0\0\1"] * 50, 4) == 4
