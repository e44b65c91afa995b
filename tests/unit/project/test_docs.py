"""What the documentation says is so."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from catalogue import CHECKS, FAULTS

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate() -> Any:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.fast
def test_recipe_reference_is_up_to_date(generate: Any) -> None:
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == generate.reference(), "run `make docs`"


@pytest.mark.fast
def test_reliability_is_up_to_date(generate: Any) -> None:
    assert (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8") == generate.reliability(), "run `make docs`"


def lacking(generate: Any) -> list[str]:
    """Numbers of the catalogue without a test, or without a planted bug."""
    found = generate.numbered()
    wanted = [("fault", number) for number in FAULTS] + [("numeric", number) for number in CHECKS]
    return [
        f"{kind} {number}: {'a planted bug' if control else 'a test'}"
        for kind, number in wanted
        for control in (False, True)
        if control not in {generate.is_control(node) for _, node in found.get((kind, number), [])}
    ]


@pytest.mark.fast
def test_every_case_has_a_test_and_a_planted_bug(generate: Any) -> None:
    assert len(FAULTS) == 45
    assert len(CHECKS) == 38
    assert lacking(generate) == []


@pytest.mark.fast
def test_every_case_control_a_missing_one_is_noticed(generate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = generate.numbered()
    less = found | {("fault", 2): [pair for pair in found["fault", 2] if not generate.is_control(pair[1])]}
    less[("numeric", 42)] = []
    monkeypatch.setattr(generate, "numbered", lambda: less)
    assert lacking(generate) == ["fault 2: a planted bug", "numeric 42: a test", "numeric 42: a planted bug"]


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
def test_the_recipes_in_the_readme_load(tmp_path: Path) -> None:
    from trifecta.recipe.sources import collect

    found = []
    for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL):
        (tmp_path / "recipe.yaml").write_text(block)
        found.append(collect(config=tmp_path / "recipe.yaml").resolve().recipe)
    keras, phases, whole = found
    assert whole.model.d_model == 256
    assert keras.training.scheduler.type == "exponential_decay"
    assert [(p.sequence_length, p.batch_size, p.epochs) for p in phases.training.phases or []] == [
        (128, 64, 5),
        (512, 16, 5),
    ]
    assert (keras.training.learning_rate, keras.training.gradient_clip_norm) == (2e-5, 1.0)
