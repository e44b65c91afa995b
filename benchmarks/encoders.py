"""Our legs on BERT and T5: training with gaps, beams, and the memory of an evaluation."""

from __future__ import annotations

import json
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ours import QUIET, run, sized
from benchmarks.pairs import Leg
from benchmarks.sentences import Sentences
from benchmarks.text import Moment, longer_text, peak_megabytes
from trifecta.types import Example

Size = tuple[int, int, int, int]

PLAIN: dict[str, Any] = {
    "model.dropout": 0.0, "training.optimizer": {"type": "adamw", "weight_decay": 0.0},
    "training.scheduler": {"type": "linear", "min_lr_ratio": 0.0}, "training.gradient_accumulation_steps": 1,
    "training.gradient_clip_norm": 1.0, "execution.precision": "fp32",
}  # fmt: skip
"""As Hugging Face's Trainer trains: fp32, linear decay to 0, no weight decay, gradients clipped at 1."""

BERT: dict[str, Any] = {"model.pooler": False, "objective.pairs": "none"}
T5: dict[str, Any] = {"objective.sentinel_order": "ascending"}


SHARPNESS = 4.0
"""Factor of the random head: with 1 all next tokens are about as likely."""


LABELS = ("asks", "tells")


def masked(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, length: int, steps: int,
    after: int, learning_rate: float,
) -> Leg:  # fmt: skip
    """Useful tokens a second of training a BERT as published, after `after` steps; loss of the held-out gaps."""
    settings = sized(*size) | _training(batch_size, steps, learning_rate, seed)
    settings |= BERT | {"model.max_sequence_length": length}
    return _trained(Sentences.of(text, folder, vocab_size, length), folder, "bert-base", settings, after)


def span(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, length: int, steps: int,
    after: int, learning_rate: float,
) -> Leg:  # fmt: skip
    """Useful tokens a second, read and written, of training a T5 v1.0 after `after` steps; loss of held-out gaps."""
    settings = sized(*size) | _training(batch_size, steps, learning_rate, seed) | T5
    return _trained(Sentences.of(text, folder, vocab_size, length), folder, "t5-base", settings, after)


def _training(batch_size: int, steps: int, learning_rate: float, seed: int) -> dict[str, Any]:
    return {
        "training.batch_size": batch_size, "training.max_steps": steps, "training.learning_rate": learning_rate,
        "training.seed": seed, "training.warmup_steps": steps // 10,
    }  # fmt: skip


def _trained(sentences: Sentences, folder: str, preset: str, settings: dict[str, Any], after: int) -> Leg:
    import trifecta

    with tempfile.TemporaryDirectory(dir=folder) as out:
        watch = run(sentences.train, f"{out}/run", preset, {**QUIET, **PLAIN, **sentences.settings, **settings})
        trained = trifecta.load(f"{out}/run")

    def sums_of(examples: list[Example]) -> tuple[float, float]:
        ((total, count),) = trained.objective.loss(trained.model, trained.objective.collate(examples)).terms.values()
        return float(total), count

    steps = [event for _, event in watch.seen if event["event"] == "step"]
    seconds, core = watch.at(after).until(watch.at(len(steps)))
    tokens = sum(event["tokens"] for event in steps[after:])
    loss = sentences.held_out_loss(trained.objective, sums_of)
    return {"value": tokens / seconds, "core": core, "loss": loss}


def classifier(sentences: Sentences, folder: str, size: Size) -> Path:
    """A run that tells questions from other sentences; trained for a few steps, once for all legs of a row."""
    import trifecta

    place = Path(folder) / "classifier"
    if (place / "checkpoints").exists():
        return place
    lines = sentences.train.read_text(encoding="utf-8").splitlines()
    asks = [line for line in lines if line.endswith("?")] or lines[::2]  # a text may have no questions
    tells = [line for line in lines if not line.endswith("?")]
    pairs = zip(asks[:200], tells[:200], strict=False)
    records = [{"text": line, "label": label} for pair in pairs for line, label in zip(pair, LABELS, strict=True)]
    data = Path(folder) / "labelled.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    settings = sentences.settings | sized(*size) | _training(16, 40, 5e-4, 0)
    settings |= {"model.max_sequence_length": sentences.length, "objective": {"type": "classify"}}
    del settings["data.samples"], settings["data.validation_paths"]
    trifecta.train(data, preset="bert-base", settings={**QUIET, **PLAIN, **settings}, out=place)
    return place


def predict(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, length: int, texts: int, batch_size: int
) -> Leg:
    """Texts a second that a classifier judges."""
    import trifecta

    del seed
    sentences = Sentences.of(text, folder, vocab_size, length)
    model = trifecta.load(classifier(sentences, folder, size))
    chosen = sentences.validation.read_text(encoding="utf-8").splitlines()[:texts]
    model.predict(chosen[:batch_size], batch_size=batch_size)
    started = Moment()
    found = model.predict(chosen, batch_size=batch_size)
    seconds, core = started.until(Moment())
    return {"value": len(chosen) / seconds, "core": core, "labels": [row["label"] for row in found]}


def t5(size: Size, vocab_size: int) -> Any:
    """A T5 with large random weights, so that no two next tokens are nearly as likely."""
    from trifecta import models

    layers, width, heads, inner = size
    torch.manual_seed(0)
    model = models.T5(
        vocab_size, d_model=width, num_heads=heads, num_layers=layers, d_ff=inner, dropout=0.0, activation="relu",
        tie_embeddings=False,
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.head_weight.mul_(SHARPNESS)
    return model


def sources(vocab_size: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Random tokens of several lengths, padded, and where they aren't padding; 0 is the padding, 1 the end."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(8, 32, batch_size).long()
    inside = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.randint(2, vocab_size, inside.shape, generator=generator)
    return tokens * inside, inside.long()


def beams(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, num_beams: int, tokens: int
) -> Leg:
    """Tokens a second that a beam search writes, best beams alone."""
    from trifecta.inference.sequences import write_sequences

    del text, folder, seed
    model = t5(size, vocab_size)
    tokens_BT, segments_BT = sources(vocab_size, batch_size)

    def once(count: int) -> list[list[int]]:
        return write_sequences(
            model, {"tokens_BT": tokens_BT, "segments_BT": segments_BT}, max_tokens=count, num_beams=num_beams,
            start_id=0, eos_id=1, pad_id=0,
        )  # fmt: skip

    once(4)
    started = Moment()
    written = once(tokens)
    seconds, core = started.until(Moment())
    return {"value": batch_size * tokens / seconds, "core": core, "tokens": list(chain(*written))}


def evaluate_masked(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, length: int, steps: int,
    megabytes: float,
) -> Leg:  # fmt: skip
    """Peak megabytes of a process that evaluates a small BERT on so much text."""
    from trifecta.run import evaluate

    with tempfile.TemporaryDirectory(dir=folder) as out:
        part = Path(out) / "part.txt"
        part.write_text(Path(text).read_text(encoding="utf-8")[:200_000], encoding="utf-8")
        settings = sized(*size) | _training(batch_size, steps, 1e-3, seed)
        settings |= BERT | {"tokenizer": {"type": "bpe", "vocab_size": vocab_size}, "data.sequence_length": length}
        run(part, f"{out}/run", "bert-base", {**QUIET, **PLAIN, **settings})
        result = evaluate(f"{out}/run", (str(longer_text(text, folder, megabytes)),))
    return {"value": peak_megabytes(), "loss": result["loss"], "tokens": result["tokens"]}
