"""POSIX extended regular expressions as the tools of the system understand them."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.modules.expressions import matches_all, posix


@pytest.mark.parametrize(
    ("expression", "found", "not_found"),
    [
        ("tmp", "my.tmp.1", "temp"),
        (r"\.tmp$", "a.tmp", "atmp"),
        ("^(core|.*[.]lock)$", "x.lock", "x.locked"),
        ("^[[:digit:]_]+$", "12_3", "12a"),
        ("[^[:alnum:]]", "a-b", "ab1"),
        (r"[\d]", "\\", "1"),
        ("[]a]", "]", "b"),
        ("[^]a]", "b", "]"),
        ("[a-c-]", "-", "d"),
        ("a{2,3}$", "caa", "ca"),
        ("^pgsql_tmp", "pgsql_tmp12.0", "my_pgsql_tmp"),
        ("a$", "a", "a\n"),
        ("é", "café", "cafe"),
        ("[--/]", ".", "a"),
        ("[%--]", "&", "."),
        ("[^-a]", "b", "-a"),
        ("^a.b$", "a\nb", "ab"),
        ("^{x}$", "{x}", "x"),
        ("^a{,2}$", "aa", "aaa"),
    ],
)
def test_an_expression_finds_what_the_standard_says(
    expression: str, found: str, not_found: str
) -> None:
    assert posix(expression).search(found)
    assert not posix(expression).search(not_found)


@pytest.mark.parametrize(
    "expression", ["(", "[a", "[[:nothing:]]", "[[.a.]]", "a\\", r"\d", "(?=a)", "*", "a{3,2}"]
)
def test_what_has_no_meaning_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        posix(expression)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("|tmp", "an alternative is empty"),
        ("tmp|", "an alternative is empty"),
        ("(a||b)", "an alternative is empty"),
        ("a()", "an alternative is empty"),
        ("a)", "a ) closes nothing"),
        ("(a", "a ( is not closed"),
        ("a+?", "? repeats a repeat"),
        ("a++", "+ repeats a repeat"),
        ("a{2}*", "* repeats a repeat"),
        ("*.tmp", "names that end in .tmp are written [.]tmp$"),
        ("a|+", "+ has nothing to repeat"),
        ("a{1,2,3}", "'{1,2,3}' is no repeat such as {2,3}; [{] is the sign itself"),
        ("[:digit:]", "a class is [[:digit:]]"),
        ("[a-z-9]", "put the - first or last"),
        ("[[:alpha:]-z]", "put the - first or last"),
        ("[a-[:digit:]]", "is no range"),
        ("[z-a]", "'z-a' is no range"),
        (r"\<tmp\>", "has no meaning"),
    ],
)
def test_what_tools_read_in_different_ways_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        posix(expression)
    assert reason in str(refused.value)


def test_an_expression_that_finds_something_in_every_name_is_known() -> None:
    for everything in ("a*", ".", ".*", "^", "$", "^.*$", "x{0}", "a|b*", "(x?)", "[^/]"):
        assert matches_all(posix(everything)), everything
    for some in ("tmp", "^[^a]*$", "^.$", "^$", "[^.]", "..", "^[[:print:]]*$", "a|b"):
        assert not matches_all(posix(some)), some


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "b",
                ".",
                "-",
                "[ab]",
                "[^a]",
                "[a-c-]",
                "(a|b)",
                "[[:digit:]]",
                "b*",
                "a+",
                "[.]",
                "^",
                "$",
                "|",
                "b{1,2}",
                "{",
            ]
        ),
        min_size=1,
        max_size=5,
    ),
    st.text("ab.-1", min_size=1, max_size=5),
)
def test_grep_agrees(parts: list[str], name: str) -> None:
    expression = "".join(parts)
    asked = subprocess.run(
        ["grep", "-E", "-q", "-e", expression],
        input=name + "\n", text=True, check=False, env={"LC_ALL": "C"},
    )  # fmt: skip
    try:
        found = bool(posix(expression).search(name))
    except ValueError:
        return  # `^*`, `|a` and the like: undefined by the standard.
    assert found == (asked.returncode == 0)
