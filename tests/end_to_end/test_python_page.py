"""docs/python.md and examples/ do what they say: every block runs, and every name of the tutorials has its place."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text()
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

TUTORIAL_NAMES = [
    "TransformerTrainer",
    "LanguageModelTrainer",
    "ClassificationTrainer",
    "MixedPrecisionTrainer",
    "DistributedTrainer",
    "ModelParallelTransformer",
    "MemoryEfficientLLM",
    "ZeROLLM",
    "setup_zero_optimizer",
    "CosineAnnealingWarmupScheduler",
    "LabelSmoothingLoss",
    "init_weights",
    "train_with_gradient_accumulation",
    "calculate_perplexity",
    "monitor_training_metrics",
    "visualize_attention",
    "calculate_model_efficiency",
]


@pytest.mark.fast
def test_every_name_of_the_tutorials_has_a_heading() -> None:
    headings = " ".join(re.findall(r"^### (.*)$", PAGE, re.MULTILINE))
    assert [name for name in TUTORIAL_NAMES if name not in headings] == []


@pytest.mark.fast
def test_every_public_name_is_on_the_page_and_there() -> None:
    import trifecta

    for name in trifecta.__all__:
        assert getattr(trifecta, name) is not None
        assert f"{name}(" in PAGE or name in PAGE + "".join(path.read_text() for path in EXAMPLES), name


@pytest.mark.filterwarnings("ignore:.*tokens aren't in this model's vocabulary")
def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 12
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (tmp_path / "attention.png").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:.*tokens aren't in this model's vocabulary")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(example.read_text().splitlines()) < 30
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()
