"""Hostile YAML does nothing but be refused, with a line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorfarm.modules.faults import Faults
from mirrorfarm.sim.scenario.tree import Items, Node, Pairs, Text, parse

BOMB = b"a: &a [x, x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (n, n) for n in range(50))


def faults_of(text: bytes) -> list[str]:
    faults = Faults("f.yaml")
    assert parse(text, faults) is None or faults.found
    return [fault for _, fault in faults.found]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "f.yaml:1: YAML: anchors"),
        (b"a: 1\nb: *a\n", "f.yaml:2: YAML: not well-formed|f.yaml:2: YAML: anchors"),
        (b"a: !!python/object/apply:os.system [id]\n", "f.yaml:1: YAML: tags are not allowed"),
        (b"a: 1\na: 2\n", "f.yaml:2: a: appears twice"),
        (b"a: 1\n--- \nb: 1\n", "one document"),
        (b"[" * 100_000, "nested deeper"),
        (b"{a: " * 1_000, "nested deeper"),
        (b"a: [1, 2\nb: 3\n", "not well-formed"),
        (b"a: \xff\n", "f.yaml:1: YAML: byte 0xff is not UTF-8: save the file in that encoding"),
        (b"a: 1\r\nb: 2\n# \xc3\xa9\nd: \xe9\n", "f.yaml:4: YAML: byte 0xe9 is not UTF-8"),
        (b"a: 1\nb: \xc3\xa9\x00\n", r"f.yaml:2: YAML: character U\+0000 is not allowed: remove"),
        (b"\xef\xbb\xbfa: 1\nb: \xf0\x9f\n", "f.yaml:2: YAML: byte 0xf0 is not UTF-8"),
        (b'a: 1\nb: "\\UFFFFFFFF"\n', r"f.yaml:2: YAML: a number after \\U or %YAML is too large"),
        (b'a: 1\n\nb: "\\U00110000"\n', "f.yaml:3: YAML: a number .* is too large"),
        (b"%YAML " + b"9" * 5_000 + b".1\n---\na: 1\n", "f.yaml:1: YAML: a number .* too large"),
        (b"", "empty"),
        (b"# nothing\n", "empty"),
        (b"? [a]\n: 1\n", "a key must be a word"),
        (b"x" * 300_000, "larger than"),
        (b"- " * 20, "nested deeper"),
        (b"[" + b"1," * 60_000 + b"]", "more than 50000 values"),
    ],
)
def test_hostile_or_broken_files_are_refused_with_a_reason(text: bytes, reason: str) -> None:
    import re  # noqa: PLC0415

    assert re.search(reason, "\n".join(faults_of(text)))


def test_words_stay_words_and_everything_has_its_line() -> None:
    faults = Faults("f")
    root = parse(b"a: no\nb:\n  - 2020-01-01\n  - {c: 0o17}\n", faults)
    assert not faults.found
    assert isinstance(root, Pairs)
    assert root.pairs["a"] == (1, Text(1, "no"))
    line, items = root.pairs["b"]
    assert line == 2
    assert isinstance(items, Items)
    assert items.items[0] == Text(3, "2020-01-01")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet="{}[]:,-&*!|>'\"\n ab#%\\UFf9", max_size=80))
def test_any_bytes_are_read_or_refused(text: bytes | str) -> None:
    faults = Faults("f")
    found: Node | None = parse(text.encode() if isinstance(text, str) else text, faults)
    assert found is not None or faults.found
