"""XML of a dump, read without trust: no entities, bounded in size, depth and number of elements."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from planner.topology.importers.refusal import ImportRefusedError

MOST_CHARACTERS = 32 * 1024 * 1024
MOST_ELEMENTS = 500_000
DEEPEST = 200
_DECLARATION = re.compile(r"""<\?xml\s+version\s*=\s*["']([^"']*)["']""")


@dataclass
class XmlElement:
    """One element with the line that its tag is on."""

    tag: str
    attributes: Mapping[str, str]
    line: int
    text: str = ""
    children: list[XmlElement] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Return an attribute without blanks around it, ``None`` where it is absent."""
        value = self.attributes.get(name)
        return None if value is None else value.strip()

    def all(self, *tags: str) -> Iterator[XmlElement]:
        """Yield the children that have one of the tags."""
        return (child for child in self.children if child.tag in tags)

    def find(self, *path: str) -> XmlElement | None:
        """Return the first descendant along a path of tags."""
        found: XmlElement | None = self
        for tag in path:
            found = next(found.all(tag), None) if found is not None else None
        return found

    def walk(self) -> Iterator[XmlElement]:
        """Yield the element and all below it, in document order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))


def parse(text: str, name: str) -> XmlElement:
    """Return the root element of an XML text.

    Raises
    ------
    ImportRefusedError
        If the text is not well formed, defines entities, or is beyond the bounds of any real dump.
    """
    if len(text) > MOST_CHARACTERS:
        raise ImportRefusedError(name, 0, f"more than {MOST_CHARACTERS} characters of XML")
    body = text.lstrip("\ufeff \t\r\n")
    skipped = text[: len(text) - len(body)].count("\n")
    declared = _DECLARATION.match(body)
    if declared is not None and declared[1] not in ("1.0", "1.1"):
        raise ImportRefusedError(name, skipped + 1, f"XML of version {declared[1][:20]!r} does not exist")
    builder = _Builder(name, skipped)
    parser = XMLParser(target=builder, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    builder.position = parser.parser
    try:
        parser.feed(body)
        root = parser.close()
    except ParseError as error:
        what = str(error).partition(": line")[0]
        line = error.position[0] + skipped
        raise ImportRefusedError(name, line, f"not well-formed XML: {what}; the file may be cut") from None
    except DefusedXmlException as error:
        raise ImportRefusedError(
            name, parser.parser.CurrentLineNumber + skipped, f"XML that no tool writes is refused: {error}"
        ) from None
    except UnicodeEncodeError:
        raise ImportRefusedError(name, 0, "characters that are not text") from None
    if not isinstance(root, XmlElement):
        raise ImportRefusedError(name, 0, "no XML element")
    return root


class _Position:
    CurrentLineNumber = 1


class _Builder:
    """Builds the tree as the parser goes, and stops it at the bounds."""

    def __init__(self, name: str, skipped: int) -> None:
        self.name, self.skipped = name, skipped
        self.position: _Position = _Position()
        self._stack: list[XmlElement] = []
        self._root: XmlElement | None = None
        self._count = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        line = self.position.CurrentLineNumber + self.skipped
        self._count += 1
        if self._count > MOST_ELEMENTS:
            raise ImportRefusedError(self.name, line, f"more than {MOST_ELEMENTS} elements")
        if len(self._stack) >= DEEPEST:
            raise ImportRefusedError(self.name, line, f"elements nested more than {DEEPEST} deep")
        element = XmlElement(tag, dict(attributes), line)
        if self._stack:
            self._stack[-1].children.append(element)
        else:
            self._root = element
        self._stack.append(element)

    def end(self, tag: str) -> None:
        self._stack.pop()

    def data(self, text: str) -> None:
        if self._stack and not self._stack[-1].children:
            self._stack[-1].text += text

    def close(self) -> XmlElement | None:
        return self._root
