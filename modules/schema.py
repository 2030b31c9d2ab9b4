"""What elements and attributes a configuration file may have, as data, and the check of it.

A table says for each element its attributes (kind, default) and its children. `check` turns a
tree of text into a tree of values and notes every fault on the way. Durations have units; where
none is written, the attribute's own counts, as in the reference product.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from mirrorfarm.modules.faults import Faults, shown, suggestion
from mirrorfarm.modules.xml import Tree

VALUE_CHARACTERS_MAX: Final = 4_096
NOT_YET: Final = "not supported yet by this version"

MACRO = re.compile(r"%([A-Za-z_][A-Za-z0-9_.-]{0,63})%")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: `convert` returns its value or raises ValueError with the reason."""

    convert: Callable[[str], Any]
    default: Any = None
    required: bool = False
    ignored: str = ""  # Why the attribute is read and then does nothing.


@dataclass(frozen=True, slots=True)
class Element:
    """One element: what it may contain, and how often it may appear in its parent."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    children: Mapping[str, "Element"] = field(default_factory=dict)
    at_least: int = 0
    at_most: int = 1_024
    unsupported: str = ""  # Known to the reference product, refused here: why.


@dataclass(frozen=True, slots=True)
class Checked:
    """An element whose attributes are values; an absent attribute has its default."""

    tag: str
    line: int
    values: Mapping[str, Any]
    given: frozenset[str]
    children: tuple["Checked", ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def all(self, tag: str) -> list["Checked"]:
        """Return the children called `tag`, in the order of the file."""
        return [child for child in self.children if child.tag == tag]

    def first(self, tag: str) -> "Checked | None":
        """Return the first child called `tag`."""
        return next((child for child in self.children if child.tag == tag), None)


@dataclass(slots=True)
class Macros:
    """`%name%`: a macro of the file, else a variable of the environment; the macro wins."""

    environment: Mapping[str, str] = field(default_factory=dict)
    defined: dict[str, str | None] = field(default_factory=dict)  # None: its value has a fault.
    used: dict[str, str] = field(default_factory=dict)  # Taken from the environment.

    def define(self, tree: Tree, faults: Faults) -> None:
        """Learn from the `<macro>` children of the root; each sees those before it."""
        for child in tree.children:
            if child.tag != "macro":
                continue
            attributes = dict(child.attributes)
            name, value = attributes.get("name", ""), attributes.get("value", "")
            if name in self.defined:
                faults.add(child.line, "macro.name", f"{shown(name)} is defined twice")
            self.defined[name] = self.expand(value, child.line, "macro.value", faults)

    def expand(self, text: str, line: int, key: str, faults: Faults) -> str | None:
        """Return `text` with every macro replaced; None after noting a fault."""
        pieces: list[str | None] = []
        length = end = 0
        for found in MACRO.finditer(text):
            value = self._value(found.group(1), line, key, faults)
            pieces += [text[end : found.start()], value]
            length += found.start() - end + len(value or "")
            end = found.end()
            if length > VALUE_CHARACTERS_MAX:
                break
        if length + len(text) - end > VALUE_CHARACTERS_MAX:
            faults.add(line, key, f"longer than {VALUE_CHARACTERS_MAX} characters")
            return None
        known = [piece for piece in pieces if piece is not None]
        return "".join([*known, text[end:]]) if len(known) == len(pieces) else None

    def _value(self, name: str, line: int, key: str, faults: Faults) -> str | None:
        if name in self.defined:
            return self.defined[name]
        if name in self.environment:
            value = self.environment[name]
            if any("\ud800" <= character <= "\udfff" for character in value):
                reason = f"%{name}% of the environment is not UTF-8; define it as a <macro>"
                faults.add(line, key, reason)
                return None
            self.used[name] = value
            return value
        reason = f"%{name}% is neither a macro nor in the environment"
        faults.add(line, key, reason, partial(self._cure, name))
        return None

    def _cure(self, name: str) -> str:
        return suggestion(name, self.defined) if self.defined else "add a <macro> for it"


@dataclass(slots=True)
class Checker:
    """One pass over one file."""

    faults: Faults
    macros: Macros
    notes: list[str]  # What is read and does nothing, with the reason.

    def check(self, tree: Tree, element: Element, parent: str = "") -> Checked:
        """Return `tree` with values; what is wrong with it is in `faults`."""
        values = {name: attribute.default for name, attribute in element.attributes.items()}
        given: dict[str, None] = {}
        for name, text in tree.attributes:
            key = f"{tree.tag}.{shown(name)}"
            attribute = element.attributes.get(name)
            if attribute is None:
                cure = partial(suggestion, name, element.attributes)
                self.faults.add(tree.line, key, "unknown attribute", cure)
                continue
            given[name] = None
            expanded = self.macros.expand(text, tree.line, key, self.faults)
            if expanded is None:
                continue  # What else could be wrong with it follows from that.
            try:
                values[name] = attribute.convert(expanded)
            except ValueError as error:
                self.faults.add(tree.line, key, str(error))
            else:
                self._note(tree.line, key, attribute.ignored)
        for name, attribute in element.attributes.items():
            if attribute.required and name not in given:
                self.faults.add(tree.line, f"{tree.tag}.{name}", "required, but absent")
        children = tuple(self._children(tree, element, f"{parent}{tree.tag}/"))
        return Checked(tree.tag, tree.line, values, frozenset(given), children)

    def _note(self, line: int, key: str, reason: str) -> None:
        note = f"{self.faults.file}:{line}: {key}: has no effect: {reason}"
        if reason and note not in self.notes:
            self.notes.append(note)

    def _children(self, tree: Tree, element: Element, path: str) -> list[Checked]:
        counts: dict[str, int] = {}
        checked: list[Checked] = []
        for child in tree.children:
            rule = element.children.get(child.tag)
            key = f"{path}{shown(child.tag)}"
            if rule is None:
                cure = partial(suggestion, child.tag, element.children)
                self.faults.add(child.line, key, "unknown element", cure)
            elif rule.unsupported:
                self.faults.add(child.line, key, f"{NOT_YET}: {rule.unsupported}")
            else:
                counts[child.tag] = counts.get(child.tag, 0) + 1
                if counts[child.tag] == rule.at_most + 1:
                    self.faults.add(child.line, key, f"more than {rule.at_most} of these")
                checked.append(self.check(child, rule, path))
        for tag, rule in element.children.items():
            if counts.get(tag, 0) < rule.at_least:
                count = "one" if rule.at_least == 1 else str(rule.at_least)
                self.faults.add(tree.line, f"{path}{tag}", f"at least {count} is required")
        return checked
