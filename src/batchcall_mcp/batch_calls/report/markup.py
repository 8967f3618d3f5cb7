"""HTML as a tree, so that nothing is ever put into it as markup: every text and attribute is escaped when written.

Texts from outside also lose what does not print (`text.shortened`), before they come here or in `outside`.
"""

from __future__ import annotations

from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from batchcall_mcp.text import shortened

Child: TypeAlias = "Element | str | None"


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Element:
    """An element. `class_` is class, `aria_label` is aria-label; a child or an attribute that is None is not there."""
    element = Element(name)
    for attribute, value in attributes.items():
        if value is not None:
            element.set(attribute.rstrip("_").replace("_", "-"), _number(value))
    for child in children:
        if isinstance(child, str):
            _append_text(element, child)
        elif child is not None:
            element.append(child)
    return element


def outside(text: str, longest: int = 200) -> Element:
    """Somebody else's text: cut, and kept from turning the direction of ours."""
    return tag("bdi", shortened(text, longest))


def written(root: Element) -> str:
    """The document as HTML."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def _number(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _append_text(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text
