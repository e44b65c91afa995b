"""A validation says how far it is, to whoever listens, and nothing of it is journaled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trifecta.run import Request, train

SETTINGS: dict[str, Any] = {
    "model.d_model": 16, "model.num_heads": 2, "model.num_layers": 1, "model.d_ff": 32, "tokenizer.type": "byte",
    "data.sequence_length": 16, "training.batch_size": 2, "training.max_steps": 2,
    "training.evaluate_every_n_steps": 1, "execution.threads": 1,
}  # fmt: skip


def test_each_validation_is_reported_from_its_first_batch_to_its_last(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("to be or not to be " * 80)
    told: list[tuple[str, float | None]] = []
    request = Request(data=(str(tmp_path / "words.txt"),), flags={n: ("test", v) for n, v in SETTINGS.items()})
    result = train(request, out=tmp_path / "run", report=lambda stage, ratio: told.append((stage, ratio)))
    shares = [ratio for stage, ratio in told if stage == "validating"]
    assert len(shares) % 2 == 0
    one = shares[: len(shares) // 2]
    assert shares == one * 2, "two validations"
    assert len(one) > 2
    assert one == sorted(set(one), key=float)
    assert one[-1] == 1.0
    assert "validating" not in (result.folder / "journal.jsonl").read_text()


def test_a_report_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("to be or not to be " * 80)

    def report(stage: str, ratio: float | None) -> None:
        del ratio
        if stage == "validating":
            raise OSError("the terminal is gone")

    request = Request(data=(str(tmp_path / "words.txt"),), flags={n: ("test", v) for n, v in SETTINGS.items()})
    assert train(request, out=tmp_path / "run", report=report).status == "finished"
    assert (tmp_path / "run" / "journal.jsonl").read_text().count("the terminal is gone") == 1
