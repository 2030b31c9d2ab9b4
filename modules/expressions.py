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


def posix(text: str) -> re.Pattern[str]:
    """Compile an expression, to be searched for; ValueError says what is wrong with it."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            part, at = _escape(text, at)
        elif sign == "[":
            part, at = _bracket(text, at)
        elif text.startswith("(?", at):
            raise ValueError("(? has no meaning in a POSIX expression")
        else:
            part, at = (r"\Z" if sign == "$" else sign), at + 1
        parts.append(part)
    try:
        return re.compile("".join(parts))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _escape(text: str, at: int) -> tuple[str, int]:
    if at + 1 == len(text):
        raise ValueError("ends in the middle of an escape")
    sign = text[at + 1]
    if sign.isalnum():
        raise ValueError(f"\\{sign} has no meaning in a POSIX expression")
    return re.escape(sign), at + 2


def _bracket(text: str, at: int) -> tuple[str, int]:
    """Translate `[…]` at a position; return it and the position after it."""
    start = at + 1
    head = "["
    if text.startswith("^", start):
        head, start = "[^", start + 1
    parts: list[str] = []
    at = start
    while at < len(text):
        if text[at] == "]" and at > start:
            return head + "".join(parts) + "]", at + 1
        if text.startswith(("[:", "[.", "[="), at):
            end = text.find(text[at + 1] + "]", at + 2)
            name = text[at + 2 : end]
            if end < 0 or text[at + 1] != ":" or name not in _CLASSES:
                raise ValueError(f"{text[at:][:20]!r} is not a class such as [:alpha:]")
            parts.append(_CLASSES[name])
            at = end + 2
            continue
        parts.append("-" if text[at] == "-" else re.escape(text[at]))
        at += 1
    raise ValueError("a bracket is not closed")
