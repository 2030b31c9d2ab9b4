"""Bytes to a small tree, refusing what XML can do to its reader.

No entity, no external reference, no name space, no processing instruction; bounded size, depth
and count. What the elements mean is `mirrorfarm.modules.schema`'s business.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from mirrorfarm.modules.faults import Faults, shown

XML_BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 12
ELEMENTS_MAX: Final = 4_096
ATTRIBUTES_MAX: Final = 256  # Of one element: reading them takes the square of their number.

_MARKUP = re.compile(rb"<!(?!--|\[CDATA\[)[^<>]{0,80}>?")
_DOCTYPE = re.compile(rb"<!DOCTYPE\s+(safe|cluster)\s*>")


@dataclass(frozen=True, slots=True)
class Tree:
    """One element as it is in the file: attributes are still text, comments are gone."""

    tag: str
    line: int
    attributes: tuple[tuple[str, str], ...]
    children: tuple["Tree", ...]


def parse(text: bytes, faults: Faults) -> Tree | None:
    """Return the root element, or None after adding what is wrong to `faults`."""
    before = len(faults)
    _check_bytes(text, faults)
    if len(faults) > before:
        return None
    parser = etree.XMLParser(
        encoding="utf-8",  # Whatever the declaration says: the bytes were checked as UTF-8.
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        reason = (error.msg or "cannot be read").partition(", line ")[0]
        faults.add(error.lineno or 1, "XML", f"not well-formed: {shown(reason)}")
        return None
    if sum(1 for _ in root.iter()) > ELEMENTS_MAX:
        faults.add(1, "XML", f"more than {ELEMENTS_MAX} elements")
        return None
    tree = _tree(root, 1, faults)
    return tree if len(faults) == before else None


def _check_bytes(text: bytes, faults: Faults) -> None:
    """Refuse before the XML parser sees it: size, encoding, declarations of entities."""
    if len(text) > XML_BYTES_MAX:
        faults.add(1, "XML", f"{len(text)} bytes, more than {XML_BYTES_MAX}")
        return
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        faults.add(line, "XML", "not UTF-8; save the file as UTF-8")
        return
    for number, found in enumerate(_MARKUP.finditer(text)):
        if number > 0 or not _DOCTYPE.fullmatch(found.group()):
            line = text.count(b"\n", 0, found.start()) + 1
            reason = "only <!DOCTYPE safe> alone is allowed: no entity, no external id"
            faults.add(line, shown(found.group().decode("utf-8", "replace")), reason)
            return


def _line(element: etree._Element) -> int:
    line: Any = element.sourceline  # None only for elements that no parser made.
    return int(line)


def _tree(element: etree._Element, depth: int, faults: Faults) -> Tree:
    line = _line(element)
    tag = str(element.tag)
    if tag.startswith("{") or element.nsmap:
        faults.add(line, shown(tag), "name spaces are not used here; remove the xmlns")
    if depth > DEPTH_MAX:
        faults.add(line, shown(tag), f"nested deeper than {DEPTH_MAX} elements")
        return Tree(tag, line, (), ())
    children: list[Tree] = []
    for child in element:
        if isinstance(child.tag, str):
            children.append(_tree(child, depth + 1, faults))
        else:
            faults.add(_line(child), shown(tag), "a processing instruction or entity; remove it")
    stray = [element.text, *(child.tail for child in element)]
    if any(text and text.strip() for text in stray):
        faults.add(line, shown(tag), "text inside an element means nothing here; remove it")
    if len(element.attrib) > ATTRIBUTES_MAX:
        reason = f"{len(element.attrib)} attributes, more than {ATTRIBUTES_MAX}"
        faults.add(line, shown(tag), reason)
        return Tree(tag, line, (), ())
    attributes = tuple((str(name), str(value)) for name, value in element.attrib.items())
    return Tree(tag, line, attributes, tuple(children))
