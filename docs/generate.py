"""Writes docs/recipe.md from the schema: `make docs`."""

from __future__ import annotations

from pathlib import Path

from trifecta.recipe.keys import known_keys
from trifecta.recipe.presets import preset_names, preset_summary

PLACE = Path(__file__).parent / "recipe.md"


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


if __name__ == "__main__":
    PLACE.write_text(reference(), encoding="utf-8")
