"""What the documentation says is so."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.fast
def test_recipe_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == module.reference(), "run `make docs`"


@pytest.mark.fast
def test_readme_has_a_row_for_each_folder_of_the_house() -> None:
    house = ROOT / "src" / "trifecta"
    folders = {p.name + "/" for p in house.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == set(re.findall(r"^\| `(\w+/)` \|", README, re.MULTILINE))


@pytest.mark.fast
def test_links_and_pictures_of_the_readme_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert "://" in target or (ROOT / target).exists(), target


def readme_commands() -> list[list[str]]:
    """Every `trifecta` command of the README's shell blocks, as words."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("trifecta ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.fast
def test_every_option_in_the_readme_exists() -> None:
    from typer.main import get_command

    from trifecta.cli.main import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert len(readme_commands()) > 10
    for name, *words in readme_commands():
        known = {option for parameter in commands[name].params for option in parameter.opts}
        for word in words:
            assert not word.startswith("-") or word in known, (name, word)


@pytest.mark.fast
def test_the_message_in_the_readme_is_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trifecta.errors import RecipeErrors
    from trifecta.recipe.sources import collect

    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("training:\n  epochs: 3\n  scheduler: cosin\n")
    with pytest.raises(RecipeErrors) as caught:
        collect(config="recipe.yaml")
    assert f"```text\n{caught.value}\n```" in README


@pytest.mark.fast
def test_the_recipe_in_the_readme_loads(tmp_path: Path) -> None:
    from trifecta.recipe.sources import collect

    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(block)
    assert collect(config=tmp_path / "recipe.yaml").resolve().recipe.model.d_model == 256
