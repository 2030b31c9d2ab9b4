"""Which entries of a replicated directory stay each node's own."""

from mirrorfarm.actors.replicator.exclusions import Exclusions


def test_without_any_nothing_is_excluded() -> None:
    none = Exclusions()
    assert not none
    assert not none.excludes(b"", b"anything")


def test_a_path_excludes_what_lies_there_and_nothing_of_the_same_name_elsewhere() -> None:
    exclusions = Exclusions(["cache", "a/b"])
    assert exclusions
    assert exclusions.excludes(b"", b"cache")
    assert not exclusions.excludes(b"x", b"cache")
    assert exclusions.excludes(b"a", b"b")
    assert not exclusions.excludes(b"", b"b")


def test_an_expression_is_searched_for_in_names_at_any_depth() -> None:
    exclusions = Exclusions(regexes=["[.]tmp$", "^core"])
    assert exclusions.excludes(b"deep/down", b"a.tmp")
    assert exclusions.excludes(b"", b"core.1")
    assert not exclusions.excludes(b"a.tmp.d", b"score")


def test_an_inverted_expression_excludes_what_none_of_its_kind_matches() -> None:
    exclusions = Exclusions(regexes=["![.]xml$", "!^conf$", "^secret"])
    assert not exclusions.excludes(b"", b"a.xml")
    assert not exclusions.excludes(b"", b"conf")
    assert exclusions.excludes(b"conf", b"a.txt")
    assert exclusions.excludes(b"", b"secret.xml")


def test_a_name_that_is_no_text_is_compared_too() -> None:
    exclusions = Exclusions(["\udcff"], ["^x"])
    assert exclusions.excludes(b"", b"\xff")
    assert exclusions.excludes(b"", b"x\xfe")
    assert not exclusions.excludes(b"", b"\xfe")


def test_directories_above_an_excluded_path_are_known() -> None:
    exclusions = Exclusions(["a/b/c"], ["x"])
    assert exclusions.name_below(b"a")
    assert exclusions.name_below(b"a/b")
    assert not exclusions.name_below(b"a/b/c")
    assert not exclusions.name_below(b"a/bb")
