"""What the data turns out to be may silence a key; that is told before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

import trifecta
from trifecta.errors import RecipeError

SETTINGS = {
    "model": {"type": "bert", "d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 8},
    "tokenizer": {"type": "byte"}, "objective": {"type": "classify"}, "training.max_steps": 1,
    "data.sequence_length": 16,
}  # fmt: skip


@pytest.mark.parametrize(("labels", "refused"), [("numbers", True), ("names", False)])
def test_label_smoothing_of_numbers_is_refused(tmp_path: Path, labels: str, refused: bool) -> None:
    """`objective.kind: auto` becomes regression only once the numbers are seen."""
    values = [f"{n / 7:.3f}" if labels == "numbers" else "ab"[n % 2] for n in range(40)]
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"text {n},{value}\n" for n, value in enumerate(values)))
    run = tmp_path / "run"
    settings = {**SETTINGS, "training.label_smoothing": 0.1, "data.cache_dir": str(tmp_path / "cache")}
    if refused:
        with pytest.raises(RecipeError, match="label_smoothing can't take effect on this data"):
            trifecta.train(data, preset="bert-modern", settings=settings, out=run)
    else:
        assert trifecta.train(data, preset="bert-modern", settings=settings, out=run).step == 1
