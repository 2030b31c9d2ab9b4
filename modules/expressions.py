r"""POSIX extended regular expressions, in terms of Python's.

Both agree on most of what is used for names; here is what differs: classes such as
`[[:alpha:]]`, a backslash within brackets (which means itself), `$` (never before a last line
feed), and what only Python gives a meaning (`(?…`, `\d`), which is refused.
"""

import re
from typing import Final

_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r" \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


_INTERVAL = re.compile(r"\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]+)\}")
_REPEATS: Final = "*+?{"
_ANCHORS: Final = {"^": "^", "$": r"\Z"}
_EMPTY: Final = "an alternative is empty, which matches everything"


def posix(text: str) -> re.Pattern[str]:
    """Compile an expression, to be searched for; ValueError says what is wrong with it.

    What the standard leaves undefined, and the tools of the system read in different ways, is
    refused; a `{` that begins no repeat means itself.
    """
    parts: list[str] = []
    at = 0
    opened = 0
    before = "|"  # What the next sign would repeat: * a repeat, ^ an anchor, | nothing, a a sign.
    while at < len(text):
        sign = text[at]
        if text.startswith("(?", at):
            raise ValueError("(? has no meaning in a POSIX expression")
        if sign in _REPEATS and (sign != "{" or text[at + 1 : at + 2] in set("0123456789,")):
            part, at = _repeat(text, at, before)
            before = "*"
        elif sign in _ANCHORS:
            part, at, before = _ANCHORS[sign], at + 1, "^"
        elif sign in "(|)":
            opened += {"(": 1, ")": -1}.get(sign, 0)
            if opened < 0:
                raise ValueError("a ) closes nothing; [)] is the sign itself")
            if sign != "(" and before == "|":
                raise ValueError(_EMPTY)
            part, at, before = sign, at + 1, "a" if sign == ")" else "|"
        else:
            read = {"\\": _escape, "[": _bracket}.get(sign, _itself)
            part, at = read(text, at)
            before = "a"
        parts.append(part)
    if opened:
        raise ValueError("a ( is not closed")
    if parts and before == "|":
        raise ValueError(_EMPTY)
    try:
        return re.compile("".join(parts), re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def matches_all(expression: re.Pattern[str]) -> bool:
    """Return whether an expression finds something in the name of whatever file."""
    signs = [chr(code) for code in (*range(1, 0x7F), 0xE9, 0xFFFD) if chr(code) != "/"]
    return all(expression.search(sample) for sample in (*signs, "".join(signs)))


def _itself(text: str, at: int) -> tuple[str, int]:
    return text[at] if text[at] == "." else re.escape(text[at]), at + 1


def _repeat(text: str, at: int, before: str) -> tuple[str, int]:
    found = _INTERVAL.match(text, at)
    if text[at] == "{" and found is None:
        raise ValueError(
            f"{text[at:][:20]!r} is no repeat such as {{2,3}}; [{{] is the sign itself"
        )
    part = found.group() if found else text[at]
    if before == "*":
        raise ValueError(f"{part} repeats a repeat")
    if before != "a":
        cure = "; names that end in .tmp are written [.]tmp$" if part == "*" else ""
        raise ValueError(f"{part} has nothing to repeat{cure}")
    return part, at + len(part)


def _escape(text: str, at: int) -> tuple[str, int]:
    if at + 1 == len(text):
        raise ValueError("ends in the middle of an escape")
    sign = text[at + 1]
    if sign.isalnum() or sign in "<>`'":
        raise ValueError(f"\\{sign} has no meaning in a POSIX expression")
    return re.escape(sign), at + 2


def _bracket(text: str, at: int) -> tuple[str, int]:
    """Translate `[…]` at a position; return it and the position after it."""
    if found := re.compile(r"\[:[a-z]+:\]").match(text, at):
        raise ValueError(f"{found.group()} stands for its letters; a class is [{found.group()}]")
    start = at + 1
    head = "["
    if text.startswith("^", start):
        head, start = "[^", start + 1
    parts: list[str] = []
    at = start
    while at < len(text):
        if text[at] == "]" and at > start:
            return head + "".join(parts) + "]", at + 1
        part, at = _member(text, at)
        parts.append(part)
    raise ValueError("a bracket is not closed")


def _member(text: str, at: int) -> tuple[str, int]:
    """Translate one sign, range or class within a bracket."""
    begin = at
    if text.startswith(("[:", "[.", "[="), at):
        end = text.find(text[at + 1] + "]", at + 2)
        name = text[at + 2 : end]
        if end < 0 or text[at + 1] != ":" or name not in _CLASSES:
            raise ValueError(f"{text[at:][:20]!r} is not a class such as [:alpha:]")
        part, at, whole = _CLASSES[name], end + 2, True
    elif _ranges(text, at + 1):
        first, last = text[at], text[at + 2]
        if last < first or text.startswith(("[:", "[.", "[="), at + 2):
            raise ValueError(f"{text[at : at + 3]!r} is no range")
        part, at, whole = f"{re.escape(first)}-{re.escape(last)}", at + 3, True
    else:
        part, at, whole = re.escape(text[at]), at + 1, False
    if whole and _ranges(text, at):
        reason = "a range cannot begin with a class or a range; put the - first or last"
        raise ValueError(f"{text[begin : at + 2]!r}: {reason}")
    return part, at


def _ranges(text: str, at: int) -> bool:
    """Return whether the sign at a position is a hyphen between two others, within a bracket."""
    return text.startswith("-", at) and at + 1 < len(text) and text[at + 1] != "]"
