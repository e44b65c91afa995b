"""Objects over several lines, as in the guide that trifecta follows: with comments and a parenthesis at the left edge.

YAML can't read them, so they are taken out before it does.
"""

from __future__ import annotations

import re

_START = re.compile(r"(\s*(?:[\w.]+\.)?(?:optimizer|scheduler|learning_rate|lr)\s*:\s+)[A-Za-z_][\w.]*\(")
_PIECE = re.compile(r"""'[^']*'|"[^"]*"|#.*|[()\[\]{}]""")
_MOST_LINES = 100

Places = dict[tuple[int, int], str]
"""Line and column, from 0 -> the object that stands there."""


def without_objects(text: str) -> tuple[str, Places]:
    """The text with `x` in place of each object of several lines, whose lines stay as empty ones, and the objects."""
    lines, found, number = text.split("\n"), Places(), 0
    while number < len(lines):
        match = _START.match(lines[number])
        if match is not None and (end := _end(lines, number, match.end(1))) is not None:
            place = number, match.end(1)
            found[place] = "\n".join([lines[number][match.end(1) :], *lines[number + 1 : end + 1]])
            lines[number : end + 1] = [f"{match[1]}x", *[""] * (end - number)]
            number = end
        number += 1
    return "\n".join(lines), found


def _end(lines: list[str], first: int, column: int) -> int | None:
    """The line on which an object closes, if nothing follows it there."""
    depth = 0
    for number in range(first, min(len(lines), first + _MOST_LINES)):
        start = column if number == first else 0
        for piece in _PIECE.finditer(lines[number], start):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(piece[0], 0)
            if depth == 0 and piece[0] in ")]}":
                rest = lines[number][piece.end() :].strip()
                return number if not rest or rest.startswith("#") else None
    return None
