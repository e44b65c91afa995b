"""Python's syntax for calls with literals, each value with the place where it is written. Nothing is run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from trifecta.errors import RecipeError
from trifecta.recipe.tree import Node, Origin, Scalar, clip

_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None, "auto": "auto"}
"""Words without quotes that YAML knows and Python doesn't."""

_MOST_CHARACTERS = 5000


@dataclass(frozen=True)
class Call:
    """name(positional, name=value), each named value with the place of its name."""

    name: str
    positional: tuple[Value, ...]
    named: tuple[tuple[str, Origin, Value], ...]
    origin: Origin


Value = Node | Call


def parse(text: str, origin: Origin) -> Call:
    """The call that a text is.

    Args:
        origin: of the text; its lines are needed to tell the places inside.

    Raises:
        RecipeError: at its column.
    """
    return _Reader(text, origin).call()


class _Reader:
    def __init__(self, text: str, origin: Origin):
        self.text, self.origin = text.strip(), origin
        self._lines = self.text.splitlines()
        self._places = _places(self.text, origin)

    def call(self) -> Call:
        if len(self.text) > _MOST_CHARACTERS:
            raise self._refuse(f"an object of {len(self.text):,} characters", self.origin, "write the keys out")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # syntax warnings are about running it
                body = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            at = self._at(error.lineno or 1, (error.offset or 1) - 1)
            fix = "write it like AdamW(learning_rate=1e-4); inside {} or [] put quotes around it"
            raise self._refuse(f"not an object: {error.msg}", at, fix) from None
        except (ValueError, MemoryError, RecursionError):
            raise self._refuse("not an object", self.origin, "write it like AdamW(learning_rate=1e-4)") from None
        if not isinstance(body, ast.Call):
            at = self._at(1, 0)
            raise self._refuse("not an object", at, "write it like AdamW(learning_rate=1e-4)")
        return self._call(body, self._place(body))

    def _value(self, node: ast.expr) -> Value:
        here = self._place(node)
        if isinstance(node, ast.Call):
            return self._call(node, here)
        if isinstance(node, (ast.List, ast.Tuple)):
            return Node([self._item(item) for item in node.elts], here, here)
        if isinstance(node, ast.Name) and node.id in _WORDS:
            return Node(_WORDS[node.id], here, here)
        if isinstance(node, ast.Name):
            raise self._refuse(f"{clip(node.id)!r} is no value", here, "put quotes around text")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            number = self._value(node.operand)
            if isinstance(number, Node) and isinstance(number.value, (int, float)) and type(number.value) is not bool:
                return Node(-number.value if isinstance(node.op, ast.USub) else number.value, here, here)
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
            return Node(node.value, here, here)
        raise self._refuse("only numbers, texts, lists and objects can stand here", here, "write the value itself")

    def _item(self, node: ast.expr) -> Node:
        value = self._value(node)
        if isinstance(value, Call):
            raise self._refuse("an object can't stand in a list", value.origin, "write a number")
        return value

    def _call(self, node: ast.Call, here: Origin) -> Call:
        name = ast.unparse(node.func)
        if not re.fullmatch(r"\w+(\.\w+)*", name):
            raise self._refuse("an object begins with a name", here, "write it like AdamW(learning_rate=1e-4)")
        named = []
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self._refuse("** can't stand here", self._place(keyword.value), "write name=value")
            named.append((keyword.arg, self._at(keyword.lineno, keyword.col_offset, True), self._value(keyword.value)))
        return Call(name, tuple(self._value(item) for item in node.args), tuple(named), here)

    def _place(self, node: ast.expr) -> Origin:
        return self._at(node.lineno, node.col_offset, in_bytes=True)

    def _at(self, line: int, column: int, in_bytes: bool = False) -> Origin:
        """The place of a character of the text; columns of a syntax tree are counted in bytes of UTF-8."""
        before = self._lines[line - 1] if line <= len(self._lines) else ""
        before = before.encode()[:column].decode(errors="ignore") if in_bytes else before[:column]
        count = len(_solid("".join(self._lines[: line - 1]) + before))
        return self._places[min(count, len(self._places) - 1)] if self._places else self.origin

    def _refuse(self, what: str, at: Origin, fix: str) -> RecipeError:
        return RecipeError(what, where=at.where, excerpt=at.excerpt, fix=fix)


def _places(text: str, origin: Origin) -> list[Origin]:
    """The place of each character of a text that isn't white space, which is all that YAML may have changed.

    None where the source has other characters: escapes in quotes, say.
    """
    wanted = _solid(text)
    found = list(islice(_source(origin), len(wanted)))
    return [place for _, place in found] if "".join(c for c, _ in found) == wanted else []


def _source(origin: Origin) -> Iterator[tuple[str, Origin]]:
    """The solid characters from an origin on, with their places; quotes and the head of a block left out."""
    lines = [origin.text or "", *origin.below]
    start = origin.caret - 1
    first = lines[0][start : start + 1]
    if first in ("'", '"'):
        start += 1
    elif first in ("|", ">"):
        start = len(lines[0])
    for number, line in enumerate(lines):
        for column in range(start if number == 0 else 0, len(line)):
            if not line[column].isspace():
                at = None if origin.line is None else origin.line + number
                column_or_none = None if origin.column is None else column + 1
                yield (
                    line[column],
                    replace(origin, line=at, column=column_or_none, text=line, caret=column + 1, below=()),
                )


def _solid(text: str) -> str:
    return "".join(text.split())
