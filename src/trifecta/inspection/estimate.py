"""Memory and time of training before it starts: from a forward pass, and 0.1 s of measurement."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trifecta.models import T5, Bert, Gpt, Vit, part_sizes, roles, without_memory

_STATE_FLOATS = {
    "adamw": (2, 2), "adam": (2, 2), "sgd": (1, 1), "muon": (1, 2), "lion": (1, 1), "adafactor": (0, 0),
    "custom": (2, 2),
}  # fmt: skip
"""Optimizer -> numbers kept for each element of a hidden matrix, and of any other parameter. Rows and columns are next
to nothing; of a custom one nothing is known, so it counts like Adam."""

_HEAP_WASTE = 1.3
"""Peak resident activations on a CPU over what autograd holds: the C library's heap fragments (measured 1.0 to 2)."""

_ELEMENTWISE_RATIO = 1.4
"""Time outside matrix products per byte saved for backward, over the same of the probe (measured 1 to 2)."""

_ATTENTION_RATIO = 3
"""Time of one attention operation over that of one in a large matrix product: narrow heads, exponentials."""

_OPTIMIZER_BYTES = 8
"""An Adam update of one element takes about as long as the probe takes for this many saved bytes."""

_SMALL_MODEL, _SHORT = 1 << 24, 2048
"""Parameters and positions up to which a forward pass takes less time than pretending one."""


DECODER_SHARE = 0.25
"""Tokens that a decoder writes for each that its encoder reads: with 15 % in gaps of 3 it is 0.23."""

Model = Gpt | Bert | T5 | Vit


@dataclass(frozen=True)
class Speed:
    """flops_per_second: of matrix products. seconds_per_saved_byte: of everything else, forward and backward."""

    flops_per_second: float
    seconds_per_saved_byte: float


@dataclass(frozen=True)
class Estimate:
    """What one update costs, beyond the 0.3 GB that Python and torch take themselves. Bytes are of the device.

    parameters: count by part. activation_bytes: saved for backward by one micro-batch. logit_bytes: scores,
    probabilities and their gradient. flops_per_step: all micro-batches, forward and backward.
    """

    parameters: dict[str, int]
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    logit_bytes: int
    flops_per_step: int
    tokens_per_step: int
    seconds_per_step: float

    @property
    def total_bytes(self) -> int:
        """Expected peak."""
        lasting = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes
        return lasting + self.activation_bytes + self.logit_bytes

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on in a second."""
        return self.tokens_per_step / self.seconds_per_step


def estimate(
    build: Callable[[], Model],
    *,
    batch_size: int,
    sequence_length: int,
    gradient_accumulation_steps: int = 1,
    optimizer: str = "adamw",
    autocast: torch.dtype | None = None,
    device: str = "cpu",
    logit_rows: int | None = None,
    decoder_length: int | None = None,
    scored: int | None = None,
    averaged: bool = False,
    passes: int = 1,
    speed: Speed | None = None,
) -> Estimate:
    """Estimates one update; on a CPU peak memory and time came within a factor of 1.5 for models of 0.4 to 23 million
    parameters.

    What autograd saves is counted by running the model's forward: a small model's for real, on one and on two samples,
    a large one's on tensors that have a shape and no memory.

    Args:
        build: makes the model, what is frozen frozen; called where nothing is allocated.
        autocast: bf16 for mixed precision.
        logit_rows: positions whose logits exist at once; None: all of a micro-batch.
        decoder_length: tokens that a decoder writes in a row; None: DECODER_SHARE of those that are read.
        scored: positions of a micro-batch with a token to predict; None: all.
        averaged: a running average of the trained weights is kept. passes: forward and backward, over each micro-batch.
        speed: of this machine; None: measured.
    """
    tokens = batch_size * sequence_length
    scored = tokens if scored is None else scored
    with without_memory():
        model = build()
        kinds, shapes = roles(model), {name: tuple(p.shape) for name, p in model.named_parameters()}
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        sizes, d_model, vocab_size, num_layers = part_sizes(model), model.d_model, model.vocab_size, len(model.blocks)
        d_ff = max(max(shape) for name, shape in shapes.items() if kinds[name] == "matrix")
    matrix_elements = _elements(shapes, [name for name in shapes if kinds[name] == "matrix"])
    matrices = [name for name in trained if kinds[name] == "matrix"]
    trained_matrices, trained_elements = _elements(shapes, matrices), _elements(shapes, trained)
    elements = sum(sizes.values())
    saved_bytes = _saved_for_backward(build, elements, batch_size, sequence_length, decoder_length, autocast)
    micro_steps = gradient_accumulation_steps * passes
    flops = (6 * matrix_elements - 2 * (matrix_elements - trained_matrices)) * tokens * micro_steps
    if decoder_length is not None:
        of_decoder = _elements(shapes, [name for name in shapes if kinds[name] == "matrix" and _is_of_written(name)])
        flops += 6 * of_decoder * batch_size * (decoder_length - sequence_length) * micro_steps
    flops += 6 * vocab_size * d_model * scored * micro_steps
    flops += sum(_orthogonalisation_flops(shapes[name]) for name in matrices) if optimizer == "muon" else 0
    attention_flops = 12 * num_layers * sequence_length * d_model * tokens * micro_steps

    of_matrices, of_others = _STATE_FLOATS[optimizer]
    rows = scored if logit_rows is None else min(scored, logit_rows)
    waste = _HEAP_WASTE if device == "cpu" else 1.0
    speed = speed or measure_speed(tokens, d_model, d_ff, device=device, dtype=autocast or torch.float32)
    moved_bytes = (saved_bytes + 12 * scored * vocab_size) * micro_steps * _ELEMENTWISE_RATIO
    moved_bytes += _OPTIMIZER_BYTES * trained_elements
    return Estimate(
        parameters=sizes,
        weight_bytes=4 * elements,
        gradient_bytes=4 * trained_elements,
        optimizer_bytes=4 * (of_matrices * trained_matrices + of_others * (trained_elements - trained_matrices))
        + 4 * averaged * trained_elements,
        activation_bytes=int(saved_bytes * waste),
        logit_bytes=int(12 * rows * vocab_size * waste),
        flops_per_step=flops + attention_flops,
        tokens_per_step=tokens * gradient_accumulation_steps,
        seconds_per_step=(flops + _ATTENTION_RATIO * attention_flops) / speed.flops_per_second
        + moved_bytes * speed.seconds_per_saved_byte,
    )


def _is_of_written(name: str) -> bool:
    """Whether a matrix is multiplied with what is written; keys and values across are of what is read."""
    return name.startswith("decoder.") and "cross.key" not in name and "cross.value" not in name


def _elements(shapes: Mapping[str, tuple[int, ...]], names: Iterable[str]) -> int:
    return sum(math.prod(shapes[name]) for name in names)


def measure_speed(
    rows: int, d_model: int, d_ff: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Speed:
    """Times the model's own shapes on this machine for about 0.1 s: a feed-forward product, then a norm and a GELU."""
    rows = min(rows, 4096)
    with torch.random.fork_rng(devices=[]):
        a, b = (torch.rand(shape, device=device, dtype=dtype) for shape in ((rows, d_model), (d_model, d_ff)))
        x = torch.rand(rows, d_ff, device=device, requires_grad=True)

    def elementwise() -> None:
        F.gelu(F.layer_norm(x, (d_ff,))).sum().backward()  # type: ignore[no-untyped-call]

    flops_per_second = 2 * rows * d_model * d_ff / _seconds(lambda: a @ b, device)
    return Speed(flops_per_second, _seconds(elementwise, device) / (8 * x.numel()))


def _seconds(work: Callable[[], object], device: str, budget: float = 0.05) -> float:
    """Median seconds of one call, after one to warm up."""
    taken: list[float] = []
    while len(taken) < 4 or sum(taken) < budget:
        begin = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])


def _saved_for_backward(
    build: Callable[[], Model],
    elements: int,
    batch_size: int,
    sequence_length: int,
    decoder_length: int | None,
    autocast: torch.dtype | None,
) -> int:
    if elements <= _SMALL_MODEL and sequence_length <= _SHORT:
        with torch.random.fork_rng(devices=[]):
            model = build().train()
            one, two = (_saved_bytes(model, samples, sequence_length, autocast, decoder_length) for samples in (1, 2))
        return one + (batch_size - 1) * (two - one)
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes two seconds to import

    with FakeTensorMode():
        return _saved_bytes(build().train(), batch_size, sequence_length, autocast, decoder_length)


def _saved_bytes(
    model: Model,
    batch_size: int,
    sequence_length: int,
    autocast: torch.dtype | None,
    decoder_length: int | None = None,
) -> int:
    """Bytes that autograd holds after a forward, parameters aside; each storage once."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    held: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            held[storage._cdata] = storage
        return tensor

    tokens_BT = torch.zeros(batch_size, sequence_length, dtype=torch.int64)
    precision = torch.autocast("cpu", autocast) if autocast else nullcontext()
    with precision, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if isinstance(model, T5):
            length = int(sequence_length * DECODER_SHARE) if decoder_length is None else decoder_length
            model.hidden(tokens_BT, tokens_BT.new_zeros(batch_size, max(1, length)))
        elif isinstance(model, Vit):
            model.hidden(torch.zeros(batch_size, *model.embedding.shape))
        else:
            model.hidden(tokens_BT)
    return sum(storage.nbytes() for storage in held.values())


def _orthogonalisation_flops(shape: tuple[int, ...], iterations: int = 5) -> int:
    """Newton-Schulz on one matrix: X X^T, its square, and their product with X, `iterations` times."""
    short, long = min(shape), max(shape)
    return iterations * (4 * short * short * long + 2 * short**3)
