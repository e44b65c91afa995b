"""Writing: token after token from a model and a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from trifecta.errors import RecipeError
from trifecta.inference.decoder import FEW, Decoder
from trifecta.inference.sampling import Sampling, check
from trifecta.models.gpt import Gpt
from trifecta.nn.cache import LayerCache, new_cache
from trifecta.randomness import torch_generator


def generate(
    model: Gpt,
    prompt_ids: Sequence[int],
    *,
    max_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    eos_id: int | None = None,
    banned_ids: Sequence[int] = (),
    use_cache: bool = True,
) -> Iterator[int]:
    """Yields new token ids one by one; stops before eos_id, which is not yielded, and after max_tokens.

    banned_ids are never written (a tokenizer's unknown token, say).

    An empty prompt begins with eos_id, the end of the text before. When prompt and answer outgrow the model's
    max_sequence_length (None: never), the oldest quarter of the context is forgotten and the rest read again, whatever
    the kind of positions: the model has not learned to read further back. Dropout is off meanwhile, and the model's
    modes are restored when the iterator ends or is closed.

    Raises:
        RecipeError: an argument out of bounds, an id outside the vocabulary, an empty prompt without eos_id.
        NumericsError: the model's scores aren't numbers.
    """
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
    prompt = _checked(model, prompt_ids, max_tokens, eos_id)
    steps = _write(model, prompt, 1, max_tokens, sampling, seed, eos_id, banned_ids, use_cache)
    return (ids[0] for ids in steps if ids[0] is not None)


def generate_batch(
    model: Gpt,
    prompt_ids: Sequence[int],
    *,
    num_samples: int,
    max_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    eos_id: int | None = None,
    banned_ids: Sequence[int] = (),
    use_cache: bool = True,
) -> list[list[int]]:
    """num_samples answers to one prompt, written side by side; the first is what `generate` writes with this seed.

    Raises: as `generate`.
    """
    check("num_samples", num_samples, isinstance(num_samples, int) and num_samples >= 1, "a whole number from 1 up")
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
    prompt = _checked(model, prompt_ids, max_tokens, eos_id)
    samples: list[list[int]] = [[] for _ in range(num_samples)]
    for ids in _write(model, prompt, num_samples, max_tokens, sampling, seed, eos_id, banned_ids, use_cache):
        for sample, token in zip(samples, ids, strict=True):
            if token is not None:
                sample.append(token)
    return samples


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Dropout off inside; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _checked(model: Gpt, prompt_ids: Sequence[int], max_tokens: int, eos_id: int | None) -> list[int]:
    check("max_tokens", max_tokens, isinstance(max_tokens, int) and max_tokens >= 1, "a whole number from 1 up")
    prompt = [int(token) for token in prompt_ids]
    if not prompt and eos_id is None:
        raise RecipeError(
            "the prompt is empty and the tokenizer has no end-of-text token to begin with",
            where="--prompt",
            fix="give a prompt of at least one token",
        )
    prompt = prompt or [eos_id]  # type: ignore[list-item]
    outside = [token for token in prompt if not 0 <= token < model.vocab_size]
    if outside:
        raise RecipeError(
            f"token {outside[0]} of the prompt is outside the model's vocabulary of {model.vocab_size}",
            where="--prompt",
            fix="encode the prompt with the tokenizer that the model was trained with",
        )
    return prompt


def _write(
    model: Gpt,
    prompt: list[int],
    num_samples: int,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    eos_id: int | None,
    banned_ids: Sequence[int],
    use_cache: bool,
) -> Iterator[list[int | None]]:
    """Yields one id a row, None for rows that have met eos_id."""
    rows = [list(prompt) for _ in range(num_samples)]
    generators = [torch_generator(seed, "sampling", row) for row in range(num_samples)]
    done = [False] * num_samples
    start, cache = 0, None
    banned = torch.tensor(list(banned_ids), dtype=torch.int64, device=model.head_weight.device)
    decoder = Decoder.of(model) if use_cache and max_tokens > FEW else None
    with eval_mode(model):
        for _ in range(max_tokens):
            earlier, start = start, _context_start(len(rows[0]), start, model.max_sequence_length)
            if cache is None or start != earlier:
                cache = new_cache(len(model.blocks)) if use_cache else None
            logits_BV = _next_logits(model, rows, start, cache, decoder, banned)
            ids: list[int | None] = []
            for row, (context, generator) in enumerate(zip(rows, generators, strict=True)):
                token = sampling.choose(logits_BV[row], context[start:], generator)
                context.append(token)
                done[row] |= token == eos_id
                ids.append(None if done[row] else token)
            if all(done):
                return
            yield ids


def _context_start(length: int, start: int, limit: int | None) -> int:
    """Where the context begins: moved on by a quarter of the limit (or what a long prompt needs) when it's full."""
    if limit is None or length - start <= limit:
        return start
    return max(length - limit, start + limit // 4)


@torch.inference_mode()
def _next_logits(
    model: Gpt,
    rows: list[list[int]],
    start: int,
    cache: list[LayerCache] | None,
    decoder: Decoder | None,
    banned: torch.Tensor,
) -> torch.Tensor:
    """Scores of each row's next token, (B, V), having read what the cache doesn't hold yet; banned ones are -inf."""
    read = start + (cache[0].length if cache else 0)
    if decoder and cache and len(rows[0]) == read + 1:
        logits_BV = decoder.logits(torch.tensor([row[-1] for row in rows]), cache)
    else:
        tokens_BT = torch.tensor([row[read:] for row in rows], device=model.head_weight.device)
        logits_BV = model.logits(model.hidden(tokens_BT, cache).hidden_BTD[:, -1])
    return logits_BV.index_fill_(-1, banned, -torch.inf) if len(banned) else logits_BV
