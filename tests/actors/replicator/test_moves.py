"""What a copy has to visit again."""

import threading

import pytest

from mirrorfarm.actors.replicator.moves import Moves
from mirrorfarm.actors.replicator.operations import RENAME_EXCHANGE, Create, Link, Rename, Unlink

OLD, NEW = 31, 32  # Directories.


@pytest.fixture
def moves() -> Moves:
    noting = Moves(threading.Lock())
    noting.begin()
    return noting


def rename(moves: Moves, *touched: int, several: tuple[int, ...] = ()) -> None:
    moves.note(Rename(0, OLD, b"old", NEW, b"new", 0), touched, several)


def test_what_moves_before_it_is_whole_is_visited_once_for_all_its_moves(moves: Moves) -> None:
    rename(moves, 7)
    rename(moves, 7)
    rename(moves, 8, 9)
    assert list(moves.take()) == [(0, 7), (0, 8), (0, 9)]
    assert not moves.take()


def test_what_is_whole_may_move_as_often_as_it_likes(moves: Moves) -> None:
    moves.note(Create(0, 5, OLD, b"new", 0o100644, 0, 0, 0, 0, b""), (5,), ())
    rename(moves, 5)
    rename(moves, 6)
    moves.copied((0, 6))
    rename(moves, 6, several=(6,))
    assert moves.is_whole((0, 5))
    assert moves.is_whole((0, 6))
    assert not moves.take()


def test_all_names_of_what_has_several_are_visited_until_they_are_right(moves: Moves) -> None:
    moves.named((0, 7), 40)
    moves.note(Link(0, 7, 41, b"one more"), (7,), (7,))
    moves.note(Unlink(0, 42, b"gone"), (7,), (7,))
    assert moves.take() == {(0, 7): frozenset({40, 41, 42})}
    rename(moves, 7, several=(7,))
    assert moves.take() == {(0, 7): frozenset({40, 41, 42, OLD, NEW})}
    moves.copied((0, 7))
    moves.note(Unlink(0, 42, b"gone"), (7,), (7,))
    assert not moves.take()


def test_what_has_several_names_is_whole_if_none_of_them_moved_while_it_was_copied(
    moves: Moves,
) -> None:
    rename(moves, 7, several=(7,))
    assert moves.take()
    rename(moves, 7, several=(7,))
    moves.settled((0, 7))
    assert moves.take() == {(0, 7): frozenset({OLD, NEW})}
    moves.settled((0, 7))
    assert moves.is_whole((0, 7))


def test_who_changes_places_with_what_is_not_whole_stays_whole(moves: Moves) -> None:
    moves.copied((0, 5))
    moves.note(Rename(0, OLD, b"old", NEW, b"new", RENAME_EXCHANGE), (5, 7), ())
    assert set(moves.take()) == {(0, 7)}


def test_what_lost_its_only_name_is_not_looked_for(moves: Moves) -> None:
    moves.note(Unlink(0, OLD, b"gone"), (7,), ())
    assert not moves.take()


def test_what_was_missed_or_emptied_is_visited_again(moves: Moves) -> None:
    moves.missed((0, 4))
    moves.copied((0, 5))
    moves.emptied((0, 5))
    assert moves.take() == {(0, 4): frozenset(), (0, 5): frozenset()}


def test_without_a_copy_nothing_is_noted(moves: Moves) -> None:
    rename(moves, 7)
    moves.end()
    rename(moves, 7)
    moves.copied((0, 8))
    moves.missed((0, 9))
    assert not moves.take()
    assert not moves.is_whole((0, 8))
