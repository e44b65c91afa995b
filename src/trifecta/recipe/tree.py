"""The tree that every way in becomes: mappings, lists and scalars that remember where they were written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

Scalar = str | int | float | bool | None
Value = Scalar | list["Node"] | dict[str, "Node"]
Plain = Scalar | list["Plain"] | dict[str, "Plain"]
Path = tuple[str, ...]

_EXCERPT_WIDTH = 110


class Rank(IntEnum):
    """Precedence of a source: a higher one wins. What is above PRESET was written by the user."""

    DEFAULT = 0
    PRESET = 1
    FILE = 2
    OVERRIDE = 3
    FLAG = 4


@dataclass(frozen=True)
class Origin:
    """Where something was written.

    Args:
        file: a path, `preset NAME`, or `command line`.
        line, column: counted from 1, in characters; None where there are none.
        text: that line, or the argument as it was given.
        caret: column of `text` under which the caret goes, from 1.
        below: the value's further lines, if it has some.
    """

    file: str
    rank: Rank
    line: int | None = None
    column: int | None = None
    text: str | None = None
    caret: int = 1
    below: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """`file`, `file:line` or `file:line:column`."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    @property
    def short(self) -> str:
        """The place in half a sentence, for a second mention: `at recipe.yaml:3:5`, `in preset small`, `by default`."""
        if self.rank >= Rank.OVERRIDE:
            return f"{'on' if self.file == 'command line' else 'in'} the {self.file}, {clip(self.text or '')}"
        return {Rank.DEFAULT: "by default", Rank.PRESET: f"in {self.file}"}.get(self.rank, f"at {self.where}")

    @property
    def excerpt(self) -> str | None:
        """The line with a caret under it, cut to a window around the caret."""
        if self.text is None:
            return None
        start = max(0, self.caret - 1 - _EXCERPT_WIDTH // 2) if len(self.text) > _EXCERPT_WIDTH else 0
        line = printable(self.text[start : start + _EXCERPT_WIDTH].rstrip())
        return f"   | {line}\n   | {' ' * (self.caret - 1 - start)}^"


DEFAULT = Origin("default", Rank.DEFAULT)


@dataclass(frozen=True)
class Node:
    """A value, where it is written, and where its key is (the same place for the items of a list)."""

    value: Value
    origin: Origin
    key_origin: Origin

    @property
    def mapping(self) -> dict[str, Node] | None:
        """Its entries, if it is a mapping."""
        return self.value if isinstance(self.value, dict) else None


def empty(origin: Origin) -> Node:
    """A mapping without entries."""
    return Node({}, origin, origin)


def plain(node: Node) -> Plain:
    """The values alone."""
    if isinstance(node.value, dict):
        return {name: plain(child) for name, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every scalar, list and empty mapping below a mapping, with its path."""
    if not node.mapping:
        yield path, node
        return
    for name, child in node.mapping.items():
        yield from leaves(child, (*path, name))


def branches(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every mapping with entries below a mapping, with its path."""
    for name, child in (node.mapping or {}).items():
        if child.mapping:
            yield (*path, name), child
            yield from branches(child, (*path, name))


def find(node: Node, path: Path) -> Node | None:
    """The node at a path, or None."""
    for name in path:
        child = (node.mapping or {}).get(name)
        if child is None:
            return None
        node = child
    return node


def without(node: Node, path: Path) -> Node:
    """The same tree less what is at a path."""
    if not path or node.mapping is None or path[0] not in node.mapping:
        return node
    entries = dict(node.mapping)
    child = entries.pop(path[0])
    if len(path) > 1:
        entries[path[0]] = without(child, path[1:])
    return replace(node, value=entries)


def printable(text: str) -> str:
    """Text without characters that move the cursor or change colours, one for one."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def clip(text: str, width: int = 60) -> str:
    """Printable text, cut with dots."""
    text = printable(text)
    return text if len(text) <= width else text[: width - 3] + "..."


def describe(value: Any) -> str:
    """A value as a message shows it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {clip(value)!r}"
    if isinstance(value, dict):
        return "a mapping of keys"
    return "a list" if isinstance(value, list) else clip(f"{value}")
