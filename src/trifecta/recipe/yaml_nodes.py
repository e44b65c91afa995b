"""YAML text -> Node: PyYAML's composer, YAML 1.2's core scalars, and limits that hold before anything is built.

YAML 1.1 reads `3e-4` as text, `no` as false, `012` as ten and `12:30` as a number; here they are a float, text, twelve
and text (YAML 1.2.2, section 10.3). Only the standard tags are known, and nothing is ever constructed but text,
numbers, true, false, null, lists and mappings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from yaml.reader import ReaderError

from trifecta.errors import RecipeError
from trifecta.recipe.pasted import Places, without_objects
from trifecta.recipe.tree import Node, Origin, Rank, Scalar, clip

MAX_CHARACTERS = 100_000
MAX_NODES = 10_000
MAX_DEPTH = 20

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 400

_CORE = "tag:yaml.org,2002:"
_PLAIN = "plain"
_TYPES = {"int": int, "float": float, "bool": bool, "null": type(None)}
_TAG_TYPES = {f"{_CORE}{name}": type_ for name, type_ in _TYPES.items()}
_KNOWN_TAGS = {_PLAIN, f"{_CORE}str", f"{_CORE}map", f"{_CORE}seq", *_TAG_TYPES}


def parse_scalar(text: str) -> Scalar:
    """A plain scalar's value by YAML 1.2's core schema.

    Raises:
        ValueError: a number of more than 400 digits.
    """
    if _NULL.fullmatch(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITE.fullmatch(text):
        return float(match[1] + "inf")
    return float("nan") if _NAN.fullmatch(text) else text


class _Composer(yaml.SafeLoader):
    """SafeLoader's reader, scanner, parser and composer, with limits; plain scalars are left to `parse_scalar`."""

    depth = 0
    nodes = 0

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """The tag of a node that has none: marks plain scalars, which alone are more than text."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The node with everything below it, unless that is too deep or too much."""
        self.depth += 1
        self.nodes += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        if self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES} values", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass
class _Builder:
    """Nodes of one text, and the errors found on the way."""

    file: str
    rank: Rank
    lines: list[str]
    errors: list[RecipeError] = field(default_factory=list)
    built: int = 0
    parents: list[yaml.Node] = field(default_factory=list)
    objects: Places = field(default_factory=dict)

    def origin(self, mark: yaml.Mark) -> Origin:
        text = self.lines[mark.line] if mark.line < len(self.lines) else ""
        return Origin(self.file, self.rank, mark.line + 1, mark.column + 1, text, mark.column + 1)

    def refuse(self, what: str, mark: yaml.Mark, fix: str | None = None) -> None:
        origin = self.origin(mark)
        self.errors.append(RecipeError(what, where=origin.where, fix=fix, excerpt=origin.excerpt))

    def build(self, node: yaml.Node, key_origin: Origin | None = None) -> Node | None:
        """The node with everything below it, or None where it is refused; an alias counts each time it is followed."""
        origin = self.origin(node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            pasted = self.objects.get((node.start_mark.line, node.start_mark.column))
            more = node.end_mark.line - node.start_mark.line if pasted is None else pasted.count("\n")
            origin = replace(origin, below=tuple(self.lines[node.start_mark.line + 1 :][:more]))
            if pasted is not None:
                return Node(pasted, origin, key_origin or origin)
        self.built += 1
        if self.built > MAX_NODES:
            if self.built == MAX_NODES + 1:
                self.refuse(f"aliases repeat to more than {MAX_NODES} values", node.start_mark, "write the values out")
            return None
        if any(parent is node for parent in self.parents):
            self.refuse("an anchor that holds itself", node.start_mark, "write the values out")
            return None
        if node.tag not in _KNOWN_TAGS:
            tag = clip(node.tag.replace(_CORE, "!!"))
            what = f"unknown tag {tag}: a recipe holds only text, numbers, lists and mappings, and nothing in it is run"
            self.refuse(what, node.start_mark, "remove the tag")
            return None
        self.parents.append(node)
        before = len(self.errors)
        value = self._value(node)
        self.parents.pop()
        refused = len(self.errors) > before and isinstance(node, yaml.ScalarNode)
        return None if refused else Node(value, origin, key_origin or origin)

    def _value(self, node: yaml.Node) -> Scalar | list[Node] | dict[str, Node]:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [item for item in map(self.build, node.value) if item is not None]
        assert isinstance(node, yaml.ScalarNode), node
        return self._scalar(node)

    def _scalar(self, node: yaml.ScalarNode) -> Scalar:
        text = str(node.value)
        try:
            value = parse_scalar(text) if node.tag != f"{_CORE}str" else text
        except ValueError as error:
            self.refuse(str(error), node.start_mark, "write a smaller number")
            return None
        wanted = _TAG_TYPES.get(node.tag)
        if wanted is float and type(value) is int:
            return float(value)
        if wanted is not None and type(value) is not wanted:
            self.refuse(f"{clip(text)!r} is not what its tag says", node.start_mark, "remove the tag")
        return value

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in node.value:
            name = self._key(key_node)
            if name is None:
                continue
            here = self.origin(key_node.start_mark)
            value = self.build(value_node, here)
            if name in entries:
                first = entries[name].key_origin.line
                lines = f": on line {first} and on line {here.line}" if first != here.line else f" on line {first}"
                what = f"key {clip(name)!r} is written twice{lines}"
                self.refuse(what, key_node.start_mark, "keep one of them")
            elif value is not None:
                entries[name] = value
        return entries

    def _key(self, node: yaml.Node) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.value == "<<" and node.style is None:
            self.refuse("merge keys (<<) are not part of YAML 1.2", node.start_mark, "write the keys out")
            return None
        key = self.build(node)
        if key is None:
            return None
        if isinstance(key.value, str) and key.value:
            return key.value
        self.refuse("a key must be text", node.start_mark, "write it as name: value")
        return None


def parse(text: str, file: str, rank: Rank) -> tuple[Node | None, list[RecipeError]]:
    """The tree of a YAML text and everything that is wrong with it; no tree where the text can't be read at all.

    Args:
        file: what to call the text in messages.
    """
    if len(text) > MAX_CHARACTERS:
        what = f"{len(text):,} characters; a recipe has at most {MAX_CHARACTERS:,}"
        return None, [RecipeError(what, where=file, fix="is this a recipe? give text to train on as DATA")]
    builder = _Builder(file, rank, text.splitlines())
    try:
        try:
            root = _composed(text)
        except yaml.MarkedYAMLError:
            rest, builder.objects = without_objects(text)
            if not builder.objects:
                raise
            root = _composed(rest)
    except ReaderError as error:
        return None, [_unreadable_character(error, text, file)]
    except yaml.MarkedYAMLError as error:
        return None, [_syntax_error(error, builder)]
    if root is None:
        return None, []
    return builder.build(root), builder.errors


def _composed(text: str) -> yaml.Node | None:
    loader = _Composer(text)
    try:
        root: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    return root


def _unreadable_character(error: ReaderError, text: str, file: str) -> RecipeError:
    line = text.count("\n", 0, error.position) + 1
    code = f"U+{ord(text[error.position]):04X}"
    return RecipeError(f"character {code} is not allowed in YAML", where=f"{file}:{line}", fix="remove it")


def _syntax_error(error: yaml.MarkedYAMLError, builder: _Builder) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    assert mark is not None, error
    problem = error.problem or error.context or "not valid YAML"
    said = f"{error.context} {problem}"
    fix = next((advice for part, advice in _ADVICE.items() if part in said), "check quotes, colons and indentation")
    origin = builder.origin(mark)
    return RecipeError(f"YAML: {problem}", where=origin.where, fix=fix, excerpt=origin.excerpt)


_ADVICE = {
    "'\\t'": "indent with spaces, not tabs",
    "mapping values are not allowed": "check the indentation; put quotes around text that holds a colon and a space",
    "undefined alias": "put quotes around text that begins with *",
    "but found another document": "keep one document: remove the --- line and what belongs to the other",
    "scanning an alias": "put quotes around text that begins with *",
    "levels": "a recipe needs no more than five",
    "values": "a recipe needs no more than a hundred",
}
