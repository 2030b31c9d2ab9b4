"""Elements of HTML and SVG: text and attributes are escaped because nothing is pasted together."""

from typing import Any

from lxml import etree

Element = Any  # etree._Element


def tag(name: str, /, *children: Element | str, **attributes: object) -> Element:
    """Return an element. In names of attributes `_` stands for `-`, at their end for nothing."""
    element = etree.Element(name)
    for key, value in attributes.items():
        element.set(key.rstrip("_").replace("_", "-"), printable(str(value)))
    last = None
    for child in children:
        if not isinstance(child, str):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + printable(child)
        else:
            last.tail = (last.tail or "") + printable(child)
    return element


def printable(text: str) -> str:
    """Return text without what markup cannot hold: control characters, halves of characters."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def document(head: list[Element], body: list[Element]) -> str:
    """Return a whole page."""
    page = tag("html", tag("head", *head), tag("body", *body), lang="en")
    text: str = etree.tostring(page, method="html", doctype="<!DOCTYPE html>", encoding="unicode")
    return text


def table(heads: list[str], rows: list[list[str]]) -> Element:
    """Return a table of text."""
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(tag("th", head) for head in heads))),
            tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows)),
        ),
        class_="wide",
    )
