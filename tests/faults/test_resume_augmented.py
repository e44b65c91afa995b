"""A killed run on augmented and mixed texts continues as if nothing had happened, bit for bit."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Killed, final_bytes, losses, same, train, train_here

SETTINGS: dict[str, Any] = {
    "model.type": "bert", "objective.type": "classify", "objective.mixup_alpha": 0.4, "tokenizer.type": "byte",
    "data.sequence_length": 48, "data.near_duplicates": 0.7, "data.augment.share": 0.8, "data.augment.replace": 0.2,
    "data.augment.insert": 0.2, "data.augment.swap": 0.2, "data.augment.delete": 0.2, "data.augment.synonyms": "file",
    "data.augment.mask_tokens": 0.1, "data.augment.drop_tokens": 0.1, "training.save_every_n_steps": 3,
    "training.evaluate_every_n_steps": 4, "training.validation_split": 0.25,
}  # fmt: skip
WORDS = ["".join(random.Random(n).choices("abcdefgh", k=3)) for n in range(30)]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 texts, some of them twice but for a word: an epoch has four updates, of which the last is smaller."""
    place, rng = tmp_path_factory.mktemp("augmented"), random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=12)) for _ in range(30)]
    texts += [f"{text} end" for text in texts[:6]]
    rows = [json.dumps({"text": text, "label": "ab"[number % 2]}) for number, text in enumerate(texts)]
    (place / "records.jsonl").write_text("\n".join(rows) + "\n")
    (place / "own.tsv").write_text("".join(f"{word}\t{word}x\t{word}y\n" for word in WORDS))
    return place / "records.jsonl"


def settings(records: Path) -> dict[str, Any]:
    return SETTINGS | {"data.augment.synonyms_path": str(records.parent / "own.tsv")}


@pytest.fixture(scope="module")
def whole(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train(records, out, unrelated=True, config="bert-modern", **settings(records))
    assert done.returncode == 0, done.stderr
    return out


def test_fault_001_004_augmented_texts_killed_and_resumed_give_the_same_bytes(
    records: Path, whole: Path, tmp_path: Path
) -> None:
    """Killed before the first save and, with two data workers, in a later epoch, a run on edited, hidden and mixed
    texts ends with the same bytes as a run without workers."""
    out = tmp_path / "run"
    for step, workers in ((2, 0), (8, 2)):
        assert train(records, out, config="bert-modern", at_step=step, **settings(records),
                     **{"data.num_workers": workers}).returncode == -9  # fmt: skip
    assert train(records, out, config="bert-modern", **settings(records)).returncode == 0
    same(out, whole)


def test_fault_001_004_control_edits_drawn_from_one_generator(
    records: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edits drawn from a generator that goes on from text to text: after a kill the bytes are others."""

    def here(out: Path, step: int = -1) -> None:
        stream = np.random.default_rng(0)
        monkeypatch.setattr("trifecta.run.augmenting.numpy_generator", lambda *_: stream)
        train_here(records, out, config="bert-modern", at_step=step, **settings(records))

    here(tmp_path / "whole")
    with pytest.raises(Killed):
        here(tmp_path / "run", step=8)
    here(tmp_path / "run")
    assert losses(tmp_path / "run") != losses(tmp_path / "whole")
    assert final_bytes(tmp_path / "run") != final_bytes(whole)


TOGETHER: dict[str, Any] = {
    "training.phases": [{"batch_size": 4, "epochs": 1}, {"batch_size": 8, "steps": 5}], "training.ema_decay": 0.9,
    "training.gradient_noise": 0.01, "training.adversary": {"type": "pgd", "steps": 2}, "training.label_smoothing": 0.1,
    "training.gradient_clip_ratio": 0.05, "model.drop_path": 0.2,
}  # fmt: skip


def test_fault_001_004_phases_averages_noise_mixup_and_an_adversary_together(records: Path, tmp_path: Path) -> None:
    """With phases, weight averages, gradient noise, mixup, augmentation, an adversary and left-out blocks at once, a
    run killed in its first phase, and where its second begins, ends with the same bytes, averages among them."""
    chosen = settings(records) | TOGETHER
    assert train(records, tmp_path / "whole", config="bert-modern", **chosen).returncode == 0
    steps = [step for step, _ in losses(tmp_path / "whole")]
    for step in (2, steps[-5], steps[-3]):
        assert train(records, tmp_path / "run", config="bert-modern", at_step=step, **chosen).returncode == -9
    assert train(records, tmp_path / "run", config="bert-modern", **chosen).returncode == 0
    same(tmp_path / "run", tmp_path / "whole")
    assert [step for step, _ in losses(tmp_path / "run")] == steps
    assert "ema.safetensors" in final_bytes(tmp_path / "run")


def test_fault_001_004_control_noise_that_begins_anew_is_noticed(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradient noise that counts updates from where its process began gives other losses after a kill."""
    chosen = settings(records) | TOGETHER

    def here(out: Path, step: int = -1) -> None:
        updates = itertools.count()
        monkeypatch.setattr("trifecta.optim.gradients.key", lambda *_: next(updates))
        train_here(records, out, config="bert-modern", at_step=step, **chosen)

    here(tmp_path / "whole")
    with pytest.raises(Killed):
        here(tmp_path / "run", step=8)
    here(tmp_path / "run")
    assert losses(tmp_path / "run") != losses(tmp_path / "whole")


def test_fault_019_changed_synonyms_are_refused(records: Path, tmp_path: Path) -> None:
    """A table of synonyms whose content changed since the save is refused on resume (3); without synonyms the run goes
    on, which its journal says."""
    own = tmp_path / "own.tsv"
    own.write_bytes((records.parent / "own.tsv").read_bytes())
    chosen = SETTINGS | {"data.augment.synonyms_path": str(own)}
    assert train(records, tmp_path / "run", config="bert-modern", at_step=5, **chosen).returncode == -9
    own.write_text(own.read_text().replace("x\t", "z\t"))
    refused = train(records, tmp_path / "run", config="bert-modern", **chosen)
    assert refused.returncode == 3
    assert "the synonyms changed since this run was saved" in refused.stderr
    without = {key: value for key, value in SETTINGS.items() if "synonyms" not in key}
    without |= {"data.augment.replace": 0.0, "data.augment.insert": 0.0}
    assert train(records, tmp_path / "run", config="bert-modern", **without).returncode == 0
    journal = (tmp_path / "run" / "journal.jsonl").read_text()
    assert "changed on resume: data.augment.replace: 0.2 -> 0.0" in journal
