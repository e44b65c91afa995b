"""Writes docs/recipe.md from the schema, docs/reliability.md from the tests, docs/techniques' tables: `make docs`."""

from __future__ import annotations

import ast
import json
import re
import runpy
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trifecta.experiments.techniques import TECHNIQUES as REGISTERED
from trifecta.experiments.techniques import parse
from trifecta.recipe.keys import known_keys
from trifecta.recipe.presets import preset_names, preset_summary

PLACE = Path(__file__).parent / "recipe.md"
TECHNIQUES = PLACE.parent / "techniques"
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
    return bool(re.search(r"\d{3}_control(_|$)|_control$", node.name)) or (
        "_control_" in node.name and not re.match(r"test_(fault|numeric)_\d", node.name)
    )


def reliability() -> str:
    """Every case and check with its behaviour and its tests, as Markdown."""
    catalogue = runpy.run_path(str(TESTS / "support" / "catalogue.py"))
    lines = ["# Reliability", "", catalogue["SCOPE"].strip()]
    for title, kind, cases, absent in (
        ("Faults", "fault", catalogue["FAULTS"] | catalogue["MORE_FAULTS"], catalogue["ABSENT_FAULTS"]),
        ("Numerical checks", "numeric", catalogue["CHECKS"] | catalogue["MORE_CHECKS"], catalogue["ABSENT_CHECKS"]),
    ):
        found = {number: tests_ for (of, number), tests_ in numbered().items() if of == kind}
        if foreign := sorted(set(found) - set(cases)):
            raise ValueError(f"tests/support/catalogue.py has no title for {kind} {foreign}")
        lines += ["", f"## {title}", "", absent.strip()]
        for group in _groups(found):
            heading = "; ".join(f"{number}. {cases[number]}" for number in group)
            both = [pair for number in group for pair in found[number]]
            once = [pair for place, pair in enumerate(both) if pair not in both[:place]]
            lines += ["", f"### {heading}", "", *_entries(once)]
    lines += ["", "## What it costs", "", catalogue["COSTS"], ""]
    promises = [(place, node) for place, node in tests() if place == PROMISES]
    for place, node in promises:
        if not is_control(node):
            controls = [pair for pair in promises if is_control(pair[1]) and pair[1].name[:24] == node.name[:24]]
            first, *planted = _entries([(place, node), *controls])
            lines += [first, *(f"  {line}" for line in planted)]
    return "\n".join(lines) + "\n"


def _groups(found: dict[int, list[tuple[str, ast.FunctionDef]]]) -> list[list[int]]:
    """Numbers in their order; those that share a test stand together."""
    groups: list[list[int]] = []
    names: list[set[str]] = []
    for number, pairs in sorted(found.items()):
        shown = {node.name for _, node in pairs if not is_control(node)}
        if groups and names[-1] & shown:
            groups[-1].append(number)
            names[-1] |= shown
        else:
            groups.append([number])
            names.append(shown)
    return groups


def _entries(pairs: list[tuple[str, ast.FunctionDef]]) -> list[str]:
    """What tests show, then the bugs that are planted, as items of a list."""
    shown = [f"- {_behaviour(node)} {_link(place, node)}" for place, node in pairs if not is_control(node)]
    controls = [f"{_behaviour(node)} {_link(place, node)}" for place, node in pairs if is_control(node)]
    match controls:
        case []:
            return [*shown, "- *No bug is planted.*"]
        case [one]:
            return [*shown, f"- *Planted bug:* {one}"]
        case _:
            return [*shown, "- *Planted bugs:*", *(f"  - {control}" for control in controls)]


def _behaviour(node: ast.FunctionDef) -> str:
    """The first paragraph of its docstring; for a planted bug without one its name in words."""
    text = (ast.get_docstring(node) or "").partition("\n\n")[0]
    if not text and not is_control(node):
        raise ValueError(f"{node.name} needs a docstring, which docs/reliability.md shows")
    words = re.sub(r"^test_((fault|numeric)_(\d{3}_)+)?(control_)?", "", node.name).replace("_", " ")
    return " ".join((text or f"{words[0].upper()}{words[1:]}.").split())


def _link(place: str, node: ast.FunctionDef) -> str:
    sweep = ", sweep" if "/sweeps/" in place else ""
    return f"([`{node.name.removeprefix('test_')}`](../{place}){sweep})"


MARKER = re.compile(r"(<!-- measured: (\S+) (\S+) -->\n).*?(<!-- measured ends -->)", re.DOTALL)
"""A place for a table: a group of `results.json`, and which of its toggles."""
COMPARED_WITH = ("adamw", "cosine", "clip_norm", "no_dropout", "pre_norm", "fp32")
"""What the recipes have that the others are compared with."""


def technique_pages() -> dict[Path, str]:
    """The pages of docs/techniques with the tables between their markers, and the index of all pages."""
    results = json.loads((TECHNIQUES / "results.json").read_text(encoding="utf-8"))
    pages, effects = {}, list[str]()
    for path in sorted(TECHNIQUES.glob("*.md")):
        if path.name == "README.md":
            continue
        text = path.read_text(encoding="utf-8")
        pages[path] = MARKER.sub(
            lambda match: match[1] + _measured(results.get(match[2]), _toggles(match[3])) + match[4], text
        )
        effects += _effects(path, text, results)
    index = ["# Techniques", "", (TECHNIQUES / "about.txt").read_text(encoding="utf-8").strip(), "",
             "| technique | `--toggle` | keys | effect on the loss, 95 % interval | time | memory | measured on |",
             "|---|---|---|---|---|---|---|", *effects]  # fmt: skip
    pages[TECHNIQUES / "README.md"] = "\n".join(index) + "\n"
    return pages


def _toggles(names: str) -> list[str]:
    """Those of a marker: commas within brackets part nothing."""
    return [toggle.name for toggle in parse([names])] if names != "all" else []


def _effects(path: Path, text: str, results: dict[str, Any]) -> Iterator[str]:
    """Rows of the index: each toggle of a page with what it did, in each recipe where it was measured."""
    title = f"[{text.partition(chr(10))[0].removeprefix('# ')}]({path.name})"
    unseen = [name for name, one in REGISTERED.items() if one.page == path.stem]
    for match in MARKER.finditer(text):
        found = results.get(match[2], {})
        rows = {row["name"]: row for row in found.get("toggles", [])}
        for name in (name for name in _toggles(match[3]) if name in rows):
            unseen = [other for other in unseen if other != name.partition("+")[0]]
            recipe = re.sub(r"^(docs|runs)/techniques/|(/recipe)?\.yaml$", "", found["recipe"].split()[0])
            recipe += ", last loss" if found["judge"] == "final" else ""
            cells = [
                _settings(name),
                _effect(rows[name]),
                *(_times(rows[name][f"{what}_ratio"]) for what in ("time", "memory")),
                recipe,
            ]
            yield f"| {title} | `{name}` | " + " | ".join(cells) + " |"
    for name in unseen:
        state = "what others are compared with" if name in COMPARED_WITH else "not measured"
        yield f"| {title} | `{name}` | {_settings(name)} | {state} | | | |"


def _settings(name: str) -> str:
    """The keys that the names in a toggle stand for."""
    parts = [REGISTERED[part].settings for part in name.split("+") if part in REGISTERED]
    return ", ".join(f"`{key}: {json.dumps(value)}`" for settings in parts for key, value in settings.items())


def _effect(row: dict[str, Any]) -> str:
    """A toggle's verdict with the interval, in one cell."""
    if (loss := row["loss"]) is None:
        return str(row["verdict"])
    interval = f"{loss['low']:+.4f} to {loss['high']:+.4f}"
    return f"{row['verdict']}: {loss['mean']:+.4f} ({interval})" if loss["seen"] else f"{row['verdict']} ({interval})"


def _measured(result: dict[str, Any] | None, names: list[str]) -> str:
    """The command and a table of these toggles' effects."""
    if result is None:
        return "Not measured yet.\n"
    lines = ["", "```bash", result["command"], "```", ""]
    if "rows" in result:
        lines += ["| | accuracy | under attack | least and most |", "|---|---|---|---|"]
        for name, row in result["rows"].items():
            mean, least, most = (f"{value:.1%}" for value in row["robust_accuracy"])
            lines.append(f"| {name} | {row['accuracy'][0]:.1%} | {mean} | {least} to {most} |")
        return "\n".join([*lines, "", ""])
    judged = [run[f"{result['judge']}_loss"] for run in result["runs"] if run["name"] == "baseline"]
    what = "Validation loss" if result["judge"] == "best" else "Last validation loss"
    metrics = [name for name in result["toggles"][0]["metrics"] if name == "accuracy"]
    lines += [
        f"{what} of the baseline: {sum(judged) / len(judged):.4f}, the mean of {len(judged)} seeds.", "",
        "| | loss | 95 % interval | | " + "".join(f"{name} | " for name in metrics) + "time | memory |",
        "|---|---|---|---|" + "---|" * len(metrics) + "---|---|",
    ]  # fmt: skip
    rows = {row["name"]: row for row in result["toggles"]}
    for row in (rows[name] for name in names):
        loss = row["loss"]
        cells = [f"{loss['mean']:+.4f}", f"{loss['low']:+.4f} to {loss['high']:+.4f}"] if loss else ["", ""]
        cells += [row["verdict"], *(_points(row["metrics"].get(name)) for name in metrics)]
        cells += [_times(row["time_ratio"]), _times(row["memory_ratio"])]
        lines.append(f"| `{row['name']}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", ""])


def _points(effect: dict[str, Any] | None) -> str:
    """A change of a share in points, with half of its interval."""
    if effect is None:
        return ""
    margin = (effect["high"] - effect["low"]) / 2
    return f"{100 * effect['mean']:+.1f} +- {100 * margin:.1f} points"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f}x"


if __name__ == "__main__":
    PLACE.write_text(reference(), encoding="utf-8")
    RELIABILITY.write_text(reliability(), encoding="utf-8")
    for page, text in technique_pages().items():
        page.write_text(text, encoding="utf-8")
