"""Bytes of YAML to a small tree of text with lines, refusing what YAML can do to its reader.

Built from the parser's events: no tag makes an object, no anchor repeats anything, no word
becomes a truth value or a date by itself; bounded size, depth and count. PyYAML because its
events have the line of each key and value, which is all that is needed of a library here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mirrorfarm.modules.faults import Faults, shown

YAML_BYTES_MAX: Final = 262_144
DEPTH_MAX: Final = 6
VALUES_MAX: Final = 50_000
_LINE_END: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # As PyYAML counts lines.


@dataclass(frozen=True, slots=True)
class Text:
    """A value."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    line: int
    items: list["Node"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Keys and values in the order of the file; a key appears once."""

    line: int
    pairs: dict[str, tuple[int, "Node"]] = field(default_factory=dict)


Node = Text | Items | Pairs


class _Refused(Exception):
    """A fault after which nothing else can be read."""


def parse(text: bytes, faults: Faults) -> Node | None:
    """Return what a file holds, or None after adding what is wrong to `faults`."""
    if len(text) > YAML_BYTES_MAX:
        faults.add(0, "YAML", f"larger than {YAML_BYTES_MAX} bytes: leave something out")
        return None
    try:
        loader = yaml.SafeLoader(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"byte {text[error.start]:#04x} is not UTF-8: save the file in that encoding"
        faults.add(_line_after(text[: error.start].decode("utf-8")), "YAML", reason)
    except yaml.reader.ReaderError as error:
        reason = f"character U+{error.character:04X} is not allowed: remove it"
        faults.add(_line_after(text.decode("utf-8")[: error.position]), "YAML", reason)
    else:
        return _document(loader, faults)
    return None


def _line_after(before: str) -> int:
    """Return the line of what comes after the beginning of a file."""
    return len(_LINE_END.findall(before)) + 1


def _document(loader: yaml.SafeLoader, faults: Faults) -> Node | None:
    try:
        return _Reader(_events(loader), faults).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = f"not well-formed: {shown(error.problem or error.context or '?')}"
        faults.add(mark.line + 1 if mark else 1, "YAML", reason)
    except (ValueError, OverflowError):  # PyYAML minds no limits of Python's int and chr.
        cure = "write the character itself, and leave out %YAML"
        faults.add(loader.line + 1, "YAML", f"a number after \\U or %YAML is too large: {cure}")
    except _Refused:
        pass
    return None


def _events(loader: Any) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()


class _Reader:
    """Takes events one by one: what comes after a refusal is never looked at."""

    def __init__(self, events: Iterator[Any], faults: Faults) -> None:
        self._events, self._faults = events, faults
        self._count = 0
        self._depth = 0

    def document(self) -> Node | None:
        """Return the root of the only document."""
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._refuse(event, "one document is expected, not several")
                root = self._node(next(self._events))
        if root is None:
            self._faults.add(1, "YAML", "the file is empty")
        return root

    def _refuse(self, event: Any, reason: str) -> None:
        self._faults.add(event.start_mark.line + 1, "YAML", reason)
        raise _Refused

    def _node(self, event: Any) -> Node:
        self._count += 1
        if self._count > VALUES_MAX:
            self._refuse(event, f"more than {VALUES_MAX} values")
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            self._refuse(event, "anchors and aliases (& *) are not allowed: write it out")
        if event.tag and event.tag != "!":
            self._refuse(event, f"tags are not allowed: {shown(event.tag)}")
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            return Text(line, event.value)
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self._refuse(event, f"nested deeper than {DEPTH_MAX}")
        node = self._items(line) if isinstance(event, yaml.SequenceStartEvent) else self._map(line)
        self._depth -= 1
        return node

    def _items(self, line: int) -> Items:
        found = Items(line)
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.items.append(self._node(event))
        return found

    def _map(self, line: int) -> Pairs:
        found = Pairs(line)
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event)
            value = self._node(next(self._events))
            if not isinstance(key, Text):
                self._faults.add(key.line, "YAML", "a key must be a word")
            elif key.text in found.pairs:
                self._faults.add(key.line, shown(key.text), "appears twice")
            else:
                found.pairs[key.text] = (key.line, value)
        return found
