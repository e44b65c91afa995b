"""Writes docs/recipe.md from the schema and docs/reliability.md from the tests: `make docs`."""

from __future__ import annotations

import ast
import re
import runpy
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from trifecta.recipe.keys import known_keys
from trifecta.recipe.presets import preset_names, preset_summary

PLACE = Path(__file__).parent / "recipe.md"
RELIABILITY = PLACE.with_name("reliability.md")
TESTS = PLACE.parent.parent / "tests"
PROMISES = "tests/faults/test_promises.py"


def reference() -> str:
    """Every key of a recipe and every preset, as Markdown."""
    lines = [
        "# Recipe reference",
        "",
        "Written by `make docs` from `src/trifecta/recipe`; don't edit it.",
        "",
        "A changed key on resume is taken (free), taken and noted in the journal (recorded), or refused.",
        "",
        "## Presets",
        "",
        *(f"- `{name}`: {preset_summary(name).partition(': ')[2]}" for name in preset_names()),
    ]
    section = ""
    for key in known_keys():
        head = key.key.rpartition(".")[0] + (f" ({key.component})" if key.component else "")
        if head != section:
            section = head
            lines += ["", f"## {section}", "", "| key | type | default | bounds | unit | on resume | |"]
            lines += ["|---|---|---|---|---|---|---|"]
        cells = [
            f"`{key.key}`",
            key.type,
            _default(key.default),
            ", ".join(key.bounds),
            key.unit or "",
            key.resume,
            key.help,
        ]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    return "" if value is None else f"`{value}`"


def tests() -> Iterator[tuple[str, ast.FunctionDef]]:
    """File and syntax of every test, in the order of their places."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield path.relative_to(TESTS.parent).as_posix(), node


def numbered() -> dict[tuple[str, int], list[tuple[str, ast.FunctionDef]]]:
    """Tests by ("fault" or "numeric", number); one whose name has several numbers is there several times."""
    found = defaultdict(list)
    for place, node in tests():
        if match := re.match(r"test_(fault|numeric)_((?:\d{3}_)+)", node.name):
            for number in re.findall(r"\d{3}", match[2]):
                found[match[1], int(number)].append((place, node))
    return dict(found)


def is_control(node: ast.FunctionDef) -> bool:
    """Whether a test plants a bug and shows that it is noticed."""
    return "control" in node.name


def reliability() -> str:
    """Every case and check with its behaviour and its tests, as Markdown."""
    catalogue = runpy.run_path(str(TESTS / "support" / "catalogue.py"))
    lines = [
        "# Reliability",
        "",
        "Written by `make docs` from the tests; don't edit it. What a row says is what its test shows. The last column "
        "names the tests that plant a bug and show that it would be noticed. `make test` runs all but those in "
        "`tests/faults/sweeps`, which `make faults` runs: kills at random moments, disks that fill up, flipped bits, "
        "files cut short.",
    ]
    for title, kind, cases in (
        ("Faults", "fault", catalogue["FAULTS"]),
        ("Numerical checks", "numeric", catalogue["CHECKS"]),
    ):
        lines += ["", f"## {title}", "", "| | case | behaviour | test | planted bug |", "|---|---|---|---|---|"]
        for number, case in sorted(cases.items()):
            found = numbered().get((kind, number), [])
            shown = [(place, node) for place, node in found if not is_control(node)]
            controls = [_short(node) for _, node in found if is_control(node)]
            for row, (place, node) in enumerate(shown):
                first = [str(number), case] if row == 0 else ["", ""]
                cells = [*first, _behaviour(node), _link(place, node), "<br>".join(controls) if row == 0 else ""]
                lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## What it costs", "", "| behaviour | test | planted bug |", "|---|---|---|"]
    promises = [node for place, node in tests() if place == PROMISES]
    for node in promises:
        if not is_control(node):
            control = [_short(other) for other in promises if is_control(other) and other.name[:24] == node.name[:24]]
            lines.append(f"| {_behaviour(node)} | {_link(PROMISES, node)} | {'<br>'.join(control)} |")
    return "\n".join(lines) + "\n"


def _behaviour(node: ast.FunctionDef) -> str:
    """The first paragraph of its docstring, else its name in words."""
    text = (ast.get_docstring(node) or "").partition("\n\n")[0]
    words = re.sub(r"^test_(fault|numeric)_(\d{3}_)+", "", node.name).replace("_", " ")
    return " ".join((text or words[0].upper() + words[1:]).split()).replace("|", "\\|")


def _short(node: ast.FunctionDef) -> str:
    return "`" + re.sub(r"^test_((fault|numeric)_(\d{3}_)+)?", "", node.name) + "`"


def _link(place: str, node: ast.FunctionDef) -> str:
    return f"[`{node.name}`](../{place})"


if __name__ == "__main__":
    PLACE.write_text(reference(), encoding="utf-8")
    RELIABILITY.write_text(reliability(), encoding="utf-8")
