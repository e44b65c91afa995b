"""The peers' legs on BERT and T5: Hugging Face's Trainer with its collators, and its beam search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.encoders import Size, classifier, sources, t5
from benchmarks.pairs import Leg
from benchmarks.sentences import Sentences, alone
from benchmarks.text import Moment
from trifecta.objectives.masked import SPECIAL
from trifecta.types import IGNORE, Example

Collator = Callable[[Sequence[Any]], dict[str, Tensor]]


def _train(
    model: Any, data: Sequence[Any], collator: Collator, folder: str, seed: int, batch_size: int, steps: int,
    after: int, learning_rate: float,
) -> tuple[float, float]:  # fmt: skip
    """Useful tokens a second of the Trainer once `after` steps have warmed it up, and the share of a core it had."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    times: dict[int, Moment] = {}
    useful: list[int] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            times[state.global_step] = Moment()

    def counted(examples: Sequence[Any]) -> dict[str, Tensor]:
        batch = collator(examples)
        written = int((batch["labels"] != IGNORE).sum()) if model.config.is_encoder_decoder else 0
        useful.append(int(batch["attention_mask"].sum()) + written)
        return batch

    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=batch_size, max_steps=steps, learning_rate=learning_rate,
        lr_scheduler_type="linear", warmup_steps=steps // 10, weight_decay=0.0, max_grad_norm=1.0, use_cpu=True,
        eval_strategy="no", save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, seed=seed,
        dataloader_pin_memory=False, remove_unused_columns=False,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=data, data_collator=counted, callbacks=[Clock()]).train()
    model.eval()
    seconds, core = times[after].until(times[steps])
    return sum(useful[after:steps]) / seconds, core


def masked(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, length: int, steps: int,
    after: int, learning_rate: float,
) -> Leg:  # fmt: skip
    """Useful tokens a second of the Trainer with Hugging Face's BERT and collator; loss of the held-out gaps."""
    from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, set_seed

    sentences = Sentences.of(text, folder, vocab_size, length)
    objective, tokenizer = sentences.masked(), _bert_tokenizer(sentences)
    pad = tokenizer.pad_token_id
    lines = sentences.train.read_text(encoding="utf-8").splitlines()
    read = tokenizer(lines, return_special_tokens_mask=True, return_attention_mask=False)
    data = [
        {"input_ids": ids, "special_tokens_mask": mask}
        for ids, mask in zip(read["input_ids"], read["special_tokens_mask"], strict=True)
    ]
    set_seed(seed)
    layers, width, heads, inner = size
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=inner, max_position_embeddings=length, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, pad_token_id=pad,
        )
    )  # fmt: skip
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    value, core = _train(model, data, collator, folder, seed, batch_size, steps, after, learning_rate)

    def sums_of(examples: list[Example]) -> tuple[float, float]:
        tokens, labels = alone(examples, "tokens", pad), alone(examples, "targets", IGNORE)
        return _sums(model(input_ids=tokens, attention_mask=(tokens != pad).long()).logits, labels)

    return {"value": value, "core": core, "loss": sentences.held_out_loss(objective, sums_of)}


def _bert_tokenizer(sentences: Sentences) -> Any:
    """The sentences' tokenizer with BERT's special tokens, which have the same ids as ours."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(sentences.tokenizer_path), model_max_length=sentences.length,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
    tokenizer.pad_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token = SPECIAL
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    assert ids == dict(sentences.masked().vocabulary.ids), "the sides number special tokens differently"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return tokenizer


def predict(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, length: int, texts: int, batch_size: int
) -> Leg:
    """Texts a second of the pipeline for classes, with the same weights."""
    from transformers import BertConfig, BertForSequenceClassification, pipeline

    import trifecta
    from trifecta.interop import hf

    del seed
    sentences = Sentences.of(text, folder, vocab_size, length)
    run = trifecta.load(classifier(sentences, folder, size))
    config = hf.to_hf_config(run.recipe.model.model_dump(), run.objective.vocabulary.size, kind="bert")
    labels = dict(enumerate(run.objective.labels))
    model: Any = BertForSequenceClassification(BertConfig(**config | {"id2label": labels}))
    body, head = run.model.body.state_dict(), run.model.head.state_dict()
    weights = hf.to_hf_state(body, "bert") | {f"classifier.{name}": tensor for name, tensor in head.items()}
    model.eval().load_state_dict(weights)
    judge = pipeline(
        "text-classification", model=model, tokenizer=_bert_tokenizer(sentences), batch_size=batch_size, device="cpu"
    )
    chosen = sentences.validation.read_text(encoding="utf-8").splitlines()[:texts]
    judge(chosen[:batch_size])
    started = Moment()
    found = judge(chosen)
    seconds, core = started.until(Moment())
    return {"value": len(chosen) / seconds, "core": core, "labels": [row["label"] for row in found]}


def _sums(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=IGNORE)
    return float(total), float((labels != IGNORE).sum())


class SpanCollator:
    """Span corruption as in Hugging Face's run_t5_mlm_flax.py, of one text after another, padded to the longest.

    Unlike there a text may end with a run that stays, as ours: else both sides would learn different gaps.

    Args:
        first_sentinel: its id; the next sentinel's is one more. end: of what is written, and the decoder's start.
    """

    def __init__(self, first_sentinel: int, end: int, rate: float = 0.15, mean_span_length: float = 3.0):
        self.first_sentinel, self.end, self.rate, self.mean_span_length = first_sentinel, end, rate, mean_span_length

    def __call__(self, examples: Sequence[Any]) -> dict[str, Tensor]:
        read, written = [], []
        for example in examples:
            tokens = np.asarray(example["input_ids"])
            noise = self.noise_mask(len(tokens))
            read.append(self.filtered(tokens, self.sentinels(noise)))
            target = self.filtered(tokens, self.sentinels(~noise))
            # A run that stays at the end has a sentinel like those before, and nothing to write after it.
            written.append(np.append(target if noise[-1] else target[:-1], self.end))
        inputs = _padded(read, self.end)
        mask = _padded([np.ones_like(row) for row in read], 0)
        return {"input_ids": inputs, "attention_mask": mask, "labels": _padded(written, IGNORE)}

    def noise_mask(self, length: int) -> Any:
        """Which tokens are taken out: runs that stay and runs that go in turn."""
        noise = min(max(round(length * self.rate), 1), length - 1)
        spans = min(max(round(noise / self.mean_span_length), 1), noise, length - noise)
        gone, kept = self.segments(noise, spans), self.segments(length - noise + 1, spans + 1)
        ends = np.cumsum(np.stack([kept[:-1], gone], axis=1).reshape(-1))
        begins = np.zeros(length + 1, dtype=np.int8)
        begins[ends] = 1
        begins = begins[:-1]
        return np.cumsum(begins) % 2 == 1

    @staticmethod
    def segments(items: int, segments: int) -> Any:
        """A random sum of so many positive numbers."""
        first = np.arange(items - 1) < segments - 1
        np.random.shuffle(first)
        return np.unique(np.cumsum(np.pad(first, [[1, 0]])), return_counts=True)[1]

    def sentinels(self, mask: Any) -> Any:
        """A sentinel's id where a run begins, -1 in the rest of it, 0 elsewhere."""
        begins = mask & ~np.concatenate([[False], mask[:-1]])
        ids = np.where(begins, self.first_sentinel + np.cumsum(begins) - 1, 0)
        return np.where(mask & ~begins, -1, ids)

    @staticmethod
    def filtered(tokens: Any, sentinels: Any) -> Any:
        """Sentinels instead of what they stand for."""
        merged = np.where(sentinels != 0, sentinels, tokens)
        return merged[merged >= 0]


def _padded(rows: Sequence[Any], filler: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row) for row in rows], batch_first=True, padding_value=filler
    )


def span(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, length: int, steps: int,
    after: int, learning_rate: float,
) -> Leg:  # fmt: skip
    """Useful tokens a second of the Trainer with Hugging Face's T5, as above."""
    from transformers import T5Config, T5ForConditionalGeneration, set_seed

    sentences = Sentences.of(text, folder, vocab_size, length)
    objective = sentences.span()
    set_seed(seed)
    layers, width, heads, inner = size
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=objective.vocabulary.size, d_model=width, d_kv=width // heads, num_heads=heads,
            num_layers=layers, d_ff=inner, dropout_rate=0.0, pad_token_id=objective.pad_id,
            eos_token_id=objective.eos_id, decoder_start_token_id=objective.start_id,  # type: ignore[call-arg]
        )
    )  # fmt: skip
    data = [{"input_ids": ids} for ids in sentences.ids(sentences.train)]
    collator = SpanCollator(objective.vocabulary["<extra_id_0>"], objective.eos_id)
    value, core = _train(model, data, collator, folder, seed, batch_size, steps, after, learning_rate)

    def sums_of(examples: list[Example]) -> tuple[float, float]:
        inputs = alone(examples, "tokens", -1)
        mask, labels = inputs != -1, alone(examples, "targets", IGNORE)
        logits = model(
            input_ids=inputs * mask, attention_mask=mask.long(), decoder_input_ids=alone(examples, "decoder_tokens", 0)
        ).logits
        return _sums(logits, labels)

    return {"value": value, "core": core, "loss": sentences.held_out_loss(objective, sums_of)}


def beams(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, num_beams: int, tokens: int
) -> Leg:
    """Tokens a second that `generate` writes with the same weights, best beams alone."""
    from transformers import T5Config, T5ForConditionalGeneration

    from trifecta.interop import hf

    del text, folder, seed
    layers, width, heads, inner = size
    fields = {
        "d_model": width, "num_heads": heads, "num_layers": layers, "d_ff": inner, "activation": "relu",
        "tie_embeddings": False,
    }  # fmt: skip
    special: dict[str, int | None] = {"pad_token_id": 0, "decoder_start_token_id": 0, "bos_token_id": None}
    config = hf.to_hf_config(fields, vocab_size, kind="t5", eos_id=1, special=special)
    theirs: Any = T5Config(**config)
    theirs.tie_word_embeddings = False  # it makes this true whatever it is given
    model: Any = T5ForConditionalGeneration(theirs)
    weights = hf.to_hf_state(t5(size, vocab_size).state_dict(), "t5")
    weights |= {f"{stack}.embed_tokens.weight": weights["shared.weight"] for stack in ("encoder", "decoder")}
    model.eval().load_state_dict(weights)
    inputs, mask = sources(vocab_size, batch_size)

    def once(count: int) -> list[list[int]]:
        written = model.generate(
            inputs, attention_mask=mask, max_new_tokens=count, num_beams=num_beams, do_sample=False
        )
        rows = [row[1:] for row in written.tolist()]
        return [row[: row.index(1)] if 1 in row else row for row in rows]

    once(4)
    started = Moment()
    written = once(tokens)
    seconds, core = started.until(Moment())
    return {"value": batch_size * tokens / seconds, "core": core, "tokens": list(chain(*written))}
