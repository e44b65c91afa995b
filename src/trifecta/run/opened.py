"""A trained run, opened: it writes text, and is measured."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from trifecta.data.store import Corpora, TokenStore
from trifecta.data.whole import tokenize_whole
from trifecta.errors import CheckpointError, RecipeError, TrifectaError
from trifecta.evaluation.evaluate import Evaluation
from trifecta.evaluation.evaluate import evaluate as run_evaluation
from trifecta.evaluation.robust import Attacked
from trifecta.execution.device import resolve_device
from trifecta.inference.generate import generate, generate_batch
from trifecta.nn.lora import merge
from trifecta.objectives.prompted import Prompted
from trifecta.objectives.template import Turn
from trifecta.recipe.schema import Recipe
from trifecta.run import build, folder
from trifecta.run.conversation import prompt_ids, replies, stream_reply
from trifecta.run.feed import Feed
from trifecta.run.samples import special_ids
from trifecta.run.tasks import is_task
from trifecta.tokenizers import StreamDecoder, Tokenizer, load_tokenizer
from trifecta.training import checkpoint

_WRITERS = ("causal", "prompted")
"""Objectives of models that go on with a text."""


@dataclass(frozen=True)
class Run:
    """A checkpoint with its recipe and tokenizer; the model is on the run's device.

    folder: the checkpoint's. step: updates it has had.
    """

    folder: Path
    recipe: Recipe
    tokenizer: Tokenizer
    step: int

    @cached_property
    def device(self) -> torch.device:
        """The device that the run was trained on, or the best there is where this machine hasn't got it."""
        try:
            return resolve_device(self.recipe.execution.device)
        except ValueError:
            return resolve_device("auto")

    @cached_property
    def objective(self) -> Any:
        """What it was trained for; knows the special tokens."""
        return build.objective_of(self.recipe, self.tokenizer)

    @cached_property
    def model(self) -> Any:
        """The model in evaluation mode, with the checkpoint's weights."""
        model = build.headed(build.bare_model_of(self.recipe, self.objective.vocabulary.size), self.objective)
        model = build.adapted(self.recipe, model)
        checkpoint.load_averaged(checkpoint.Checkpoint(self.folder, self.step), model)
        merge(model)
        return model.to(self.device).eval()

    def generate(self, prompt: str = "", **options: Any) -> str:
        """Prompt and continuation; of a run that answers, the answer.

        Args:
            options: max_tokens, temperature, top_k, top_p, repetition_penalty, seed.
        """
        self._require_writer()
        if self.answers:
            return "".join(self.reply([("user", prompt)], **options))
        ids = self._ids(prompt)
        new = list(generate(self.model, ids, **special_ids(self.tokenizer), **options))
        return prompt + self._continuation(ids, new)

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """The continuation or the answer, piece by piece as it is written; options as for `generate`."""
        self._require_writer()
        if self.answers:
            yield from self.reply([("user", prompt)], **options)
            return
        decoder = StreamDecoder(self.tokenizer)
        for new in generate(self.model, self._ids(prompt), **special_ids(self.tokenizer), **options):
            yield decoder.push(new)
        yield decoder.flush()

    def samples(self, prompt: str = "", count: int = 1, **options: Any) -> list[str]:
        """Several continuations of one prompt, each with the prompt, or several answers; options as for `generate`."""
        self._require_writer()
        if self.answers:
            ids = self._known(prompt_ids(self.objective, [("user", prompt)], options.get("max_tokens", 100)))
            return replies(self.model, self.objective, ids, count, **options)
        ids = self._ids(prompt)
        rows = generate_batch(self.model, ids, num_samples=count, **special_ids(self.tokenizer), **options)
        return [prompt + self._continuation(ids, row) for row in rows]

    def _require_writer(self) -> None:
        """Only a GPT goes on with a text.

        Raises:
            RecipeError: the model is another.
        """
        kind = self.recipe.objective.type
        if kind not in _WRITERS:
            raise RecipeError(
                f"a run with objective.type {kind} doesn't go on with a text", where=str(self.folder),
                fix="use trifecta predict",
            )  # fmt: skip

    @property
    def answers(self) -> bool:
        """Whether it answers what the user says, instead of going on with it."""
        return isinstance(self.objective, Prompted)

    def reply(self, turns: Sequence[Turn], *, max_tokens: int = 100, **options: Any) -> Iterator[str]:
        """What the assistant says next in a conversation, piece by piece; options as for `generate`.

        Args:
            turns: (role, text) in order; a role is system, user or assistant. The oldest are left out where there is no
                room for all.
        """
        ids = self._known(prompt_ids(self.objective, turns, max_tokens))
        return stream_reply(self.model, self.objective, ids, max_tokens=max_tokens, **options)

    def predict(self, texts: str | Path | Iterable[str | Path | Sequence[str]], **options: Any) -> list[dict[str, Any]]:
        """What the run says about each text, in their order: its class, its entities, the answer, what fills its gaps.

        Args:
            texts: texts, or pairs such as a question and its context; of a run on images, files and folders.
            options: context, batch_size, top_k; and how to write, for runs that write.

        Raises:
            RecipeError: the run predicts nothing. DataError: a text that can't be judged.
        """
        from trifecta.run.predicting import predict_texts

        return predict_texts(self, [str(texts)] if isinstance(texts, str | Path) else texts, **options)

    def _ids(self, prompt: str) -> list[int]:
        return self._known([int(i) for i in self.tokenizer.encode(prompt)])

    def _known(self, ids: list[int]) -> list[int]:
        """The ids of a prompt; warns of unknown ones."""
        unknown = ids.count(self.tokenizer.unk_id) if self.tokenizer.unk_id is not None else 0
        if unknown:
            warnings.warn(
                f"{unknown} of the prompt's {len(ids)} tokens aren't in this model's vocabulary", stacklevel=4
            )
        return ids

    def _continuation(self, prompt_ids: list[int], new: list[int]) -> str:
        """What the new tokens add to the prompt's text: a character may be made of tokens on both sides."""
        before = self.tokenizer.decode(prompt_ids)
        whole = self.tokenizer.decode([*prompt_ids, *new])
        return whole[len(before) :] if whole.startswith(before) else self.tokenizer.decode(new)


def load(path: str | Path) -> Run:
    """Opens a run's newest checkpoint, or the very checkpoint that the path names.

    Everything is read now: while the run is trained, its older checkpoints go.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    while True:
        found = folder.find_checkpoint(Path(path), lambda message: warnings.warn(message, stacklevel=2))
        try:
            run = Run(
                folder=found.folder,
                recipe=folder.read_recipe(found.folder),
                tokenizer=load_tokenizer(found.folder / folder.TOKENIZER),
                step=found.step,
            )
            _ = run.model
        except (TrifectaError, OSError):
            if found.folder.exists():
                raise
        else:
            return run


def evaluate(
    path: str | Path,
    data: tuple[str, ...] = (),
    progress: build.Report | None = None,
    attack: float | None = None,
) -> dict[str, Any]:
    """Loss, perplexity, bits per byte and counted tokens of a run on files, or on its own validation split.

    Of a fine-tuned run, loss and the figures of its task (`judging.JUDGES`).

    Args:
        attack: also under the change of each row's embeddings, this long (L2), that hurts most: `robust_loss` and,
            where the objective counts right guesses, `robust_accuracy`.

    Raises:
        CheckpointError: no such run, or its validation text changed. DataError: the files can't be used. RecipeError:
            an attack of no length.
    """
    if attack is not None and not 0 < attack < math.inf:
        raise RecipeError(f"an attack has a length above 0, not {attack:g}", where="--attack", fix="try 1")
    run = load(path)
    if is_task(run.recipe):
        from trifecta.run.judging import evaluate_task

        return evaluate_task(run, str(path), data, progress, attack)
    store, what = _store(run, data, progress)
    feed = Feed.of(run.recipe, run.objective, store, training=False)
    result = measure(run, feed, progress, text_bytes=store.bytes if run.objective.covers_text else None)
    if store.unknowns:
        warnings.warn(
            f"{store.unknowns:,} of {len(store):,} tokens aren't in this model's vocabulary and were counted as "
            "<unk>, so bits per byte say little here", stacklevel=2,
        )  # fmt: skip
    return {
        "run": str(path), "step": run.step, "data": what,
        "loss": result.loss, "perplexity": result.perplexity, "bits_per_byte": result.bits_per_byte,
        **result.metrics, **robust(run, feed, progress, attack),
        "tokens": result.tokens, "unknown_tokens": store.unknowns,
        "characters": store.characters, "bytes": store.bytes, "seconds": result.seconds,
    }  # fmt: skip


def measure(
    run: Run, feed: Feed, progress: build.Report | None, *, text_bytes: int | None = None, attack: float | None = None
) -> Evaluation:
    """Loss and counts over all samples of a feed."""
    module: torch.nn.Module = build.module_of(run.recipe, run.model, run.objective)
    if attack is not None:
        module = Attacked(module, build.embedding_of(run.model), attack)
    total, what = max(1, len(feed.samples)), "evaluating" if attack is None else "attacking"
    result = run_evaluation(
        module,
        feed.in_order(build.rows_at_once(run.recipe)),
        device=run.device,
        autocast=build.autocast_of(run.recipe, run.device),
        text_bytes=text_bytes,
        progress=lambda done: progress(what, done / total) if progress else None,
    )
    assert result is not None
    return result


def robust(run: Run, feed: Feed, progress: build.Report | None, attack: float | None) -> dict[str, float]:
    """Loss and metrics under an attack; nothing without one."""
    if attack is None:
        return {}
    found = measure(run, feed, progress, attack=attack)
    return {f"robust_{name}": value for name, value in {"loss": found.loss, **found.metrics}.items()}


def _store(run: Run, data: tuple[str, ...], progress: build.Report | None) -> tuple[TokenStore | Corpora, str]:
    if data:
        text = build.sources(run.recipe.data, run.recipe.tokenizer.type, data)
        store = tokenize_whole(text, run.tokenizer, cache_dir=build.cache_dir(run.recipe.data), progress=progress)
        return store, ", ".join(data)
    text = build.sources(run.recipe.data, run.recipe.tokenizer.type)
    prepared = build.data_of(run.recipe, text, progress)
    saved = checkpoint.read_progress(checkpoint.Checkpoint(run.folder, run.step)).fingerprints.get("data")
    if prepared.fingerprint != saved:
        raise CheckpointError(
            "the text that this run was trained on has changed, so its validation split is gone",
            where=str(run.folder), fix="name a file to evaluate on with --data",
        )  # fmt: skip
    return prepared.validation, "validation split"
