"""Every technique has a page, and what the pages say can be run."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from trifecta.experiments.techniques import TECHNIQUES, Technique, parse

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs" / "techniques"
HEADINGS = ("**Formula.**", "**Source.**", "**Keys.**", "**Cost.**", "## Measured", "## Where it does nothing")

pytestmark = pytest.mark.fast


def module_at(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md") if path.name != "README.md"}


def without_page(techniques: dict[str, Technique]) -> list[str]:
    return [name for name, technique in techniques.items() if technique.page not in pages()]


def test_every_technique_has_a_page_and_every_page_a_technique() -> None:
    assert without_page(dict(TECHNIQUES)) == []
    assert {technique.page for technique in TECHNIQUES.values()} == set(pages())


def test_every_technique_control_a_missing_page_is_noticed() -> None:
    assert without_page({"new": Technique("none-yet", {})}) == ["new"]


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_page_has_all_its_parts_and_names_its_toggles(name: str) -> None:
    text = pages()[name]
    places = [text.find(heading) for heading in HEADINGS]
    assert -1 not in places
    assert places == sorted(places)
    toggles = [toggle for toggle, technique in TECHNIQUES.items() if technique.page == name]
    named = re.findall(r"--toggle ([\w,.=]+)", text)
    assert set(toggles) & set(",".join(named).split(","))


def test_keys_on_the_pages_exist() -> None:
    from trifecta.recipe.keys import known_keys

    known = {key.key for key in known_keys()} | {"training.optimizer", "training.scheduler"}
    for name, text in pages().items():
        for key in re.findall(r"`((?:model|training|objective|execution|data)\.[a-z0-9_.]+)", text):
            assert key in known, (name, key)


def test_tables_and_index_are_up_to_date() -> None:
    for path, text in module_at(ROOT / "docs" / "generate.py").technique_pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"


def rows_of_index(text: str) -> dict[str, str]:
    """Toggle -> what the index says of its effect."""
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| [")]
    return {row[1].strip("`").partition("+")[0]: row[3] for row in rows}


def without_effect(index: dict[str, str], techniques: Iterable[str]) -> list[str]:
    """Techniques of which the index gives neither an effect nor a reason why there is none."""
    said = ("better: ", "worse: ", "no effect seen (", "what others are compared with", "not measured")
    return [name for name in techniques if not index.get(name, "").startswith(said)]


def test_the_index_has_every_technique_with_its_effect() -> None:
    index = rows_of_index((PAGES / "README.md").read_text(encoding="utf-8"))
    assert without_effect(index, TECHNIQUES) == []
    unmeasured = {name for name, effect in index.items() if effect == "not measured"}
    assert unmeasured <= {"fp16", "tf32", "cudnn_benchmark", "insert_words"}, "a GPU is wanted, or a thesaurus"


def test_the_index_control_a_technique_that_it_lacks_is_noticed() -> None:
    assert without_effect({"old": "worse: +0.1", "blank": ""}, ["old", "blank", "new"]) == ["blank", "new"]


def commands() -> list[list[str]]:
    """Every `trifecta` command of the pages' shell blocks, as words."""
    blocks = [
        block
        for path in PAGES.glob("*.md")
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("trifecta ")]


def test_commands_on_the_pages_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.main import get_command

    from trifecta.cli import options
    from trifecta.cli.main import app
    from trifecta.recipe.sources import collect

    monkeypatch.chdir(ROOT)
    known = get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands()) > 10
    for name, *words in commands():
        with known[name].make_context(name, list(words)) as context:
            given = context.params
        if name == "ablate":
            parse(given["toggle"])
            recipes, overrides, _ = options.split(given["data"])
            if recipes[0].startswith("docs/"):
                collect(config=recipes[0], overrides=overrides).resolve()


def test_results_are_of_the_commands_that_measure_them() -> None:
    measure = module_at(PAGES / "measure.py")
    results = json.loads((PAGES / "results.json").read_text(encoding="utf-8"))
    for name, result in results.items():
        if name != measure.ROBUST:
            assert result["command"].startswith(f"trifecta {measure.COMMANDS[name]}"), name
            assert {row["name"] for row in result["toggles"]} == {toggle.name for toggle in parse(_toggles(result))}


def _toggles(result: dict[str, Any]) -> list[str]:
    words = shlex.split(result["command"])
    return [words[words.index("--toggle") + 1]]
