"""The loss inside one module's forward: head applied at supervised positions only, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from trifecta.types import IGNORE, Batch, LossSum

CHUNK_ELEMENTS = 1 << 22
"""Most logits that exist at once: 16 MB in fp32; up to 16 times as many, so that products have LEAST_ROWS rows."""
LEAST_ROWS = 1024
"""The head's weight and its gradient are read and written once for each chunk, so chunks of few rows are slow."""
TILE_ELEMENTS = 1 << 18
"""Logits that become slopes together: 1 MB in fp32, which a core's cache holds from pass to pass."""


def chunk_rows(vocab_size: int, chunk_elements: int | None = None) -> int:
    """Positions whose logits exist at once."""
    if chunk_elements is not None:
        return max(1, chunk_elements // vocab_size)
    return max(1, CHUNK_ELEMENTS // vocab_size, min(LEAST_ROWS, 16 * CHUNK_ELEMENTS // vocab_size))


Head = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Penalties:
    """What training adds to a cross-entropy, so that the model isn't too sure of itself; validation adds nothing.

    label_smoothing: this share s of each target is spread evenly over all V choices (Szegedy et al., 2016):
    -(1 - s) log p[target] - s / V * sum(log p). z_loss: times log(sum(exp(logits)))^2, which keeps logits near 0
    (Chowdhery et al., PaLM, 2022).
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0


NO_PENALTIES = Penalties()


class LossModule(nn.Module):
    """Model and objective as one module, which DDP, FSDP and compile wrap as a whole.

    penalties: only while training.
    """

    def __init__(self, model: nn.Module, objective: Any, penalties: Penalties = NO_PENALTIES):
        super().__init__()
        self.model = model
        self.objective = objective
        self.penalties = penalties

    def forward(self, batch: Batch) -> LossSum:
        """Sums and counts of one batch."""
        extra = (self.penalties,) if self.training and self.penalties != NO_PENALTIES else ()
        result: LossSum = self.objective.loss(self.model, batch, *extra)
        return result


class Right:
    """How many targets were the likeliest token, and how many there were.

    Args:
        counts: for each id, whether it counts; the likeliest token is then that among the counted ones, and targets
            that don't count are left out. None: all do.
    """

    def __init__(self, device: torch.device, counts: torch.Tensor | None = None):
        self._counts = None if counts is None else counts.to(device)
        self.number = torch.zeros((), device=device)
        self.total = torch.zeros((), device=device)

    def add(self, logits_NV: torch.Tensor, targets_N: torch.Tensor) -> None:
        """More positions."""
        logits_NV = logits_NV.detach()
        if self._counts is None:
            self.number += (logits_NV.argmax(-1) == targets_N).sum()
            self.total += len(targets_N)
            return
        counted = self._counts[targets_N]
        guesses = logits_NV[counted].masked_fill_(~self._counts, -torch.inf).argmax(-1)
        self.number += (guesses == targets_N[counted]).sum()
        self.total += len(guesses)


def cross_entropy_sum(
    hidden_BTD: torch.Tensor,
    targets_BT: torch.Tensor,
    head: Head,
    head_parameters: Sequence[nn.Parameter],
    *,
    vocab_size: int,
    supervised: int,
    chunk_elements: int | None = None,
    right: Right | None = None,
    penalties: Penalties = NO_PENALTIES,
) -> torch.Tensor:
    """Sum over supervised positions of -log softmax(head(hidden))[target], in nats, as a scalar with gradient.

    Args:
        hidden_BTD, targets_BT: last hidden states, and target ids or IGNORE.
        head: hidden states (N, D) to logits (N, V).
        head_parameters: every parameter that `head` uses.
        vocab_size: V, the number of logits at a position.
        supervised: how many targets aren't IGNORE (the batch knows, so a GPU needn't be asked).
        chunk_elements: most logits at once, not the usual number; larger inputs are done in pieces whose gradients are
            computed during the forward pass, so that B x T x V logits never exist.
        right: told every position's scores, to count those whose likeliest token is the target.
        penalties: added at each supervised position.
    """
    hidden_ND = hidden_BTD.flatten(0, -2)
    targets_N = targets_BT.flatten()
    if supervised == 0:
        return hidden_ND.sum() * 0.0
    if supervised < targets_N.numel():
        positions = (targets_N != IGNORE).nonzero().squeeze(1)
        hidden_ND, targets_N = hidden_ND[positions], targets_N[positions]
    rows = chunk_rows(vocab_size, chunk_elements)
    if not torch.is_grad_enabled():
        starts = range(0, hidden_ND.size(0), rows)
        pieces = [_chunk_loss(hidden_ND[i : i + rows], targets_N[i : i + rows], head, right, penalties) for i in starts]
        return torch.stack(pieces).sum()
    if hidden_ND.size(0) <= rows:
        return _chunk_loss(hidden_ND, targets_N, head, right, penalties)
    total: torch.Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        hidden_ND, targets_N, head, rows, right, penalties, *head_parameters
    )
    return total


def _chunk_loss(
    hidden_ND: torch.Tensor, targets_N: torch.Tensor, head: Head, right: Right | None, penalties: Penalties
) -> torch.Tensor:
    logits_NV = head(hidden_ND)
    if right is not None:
        right.add(logits_NV, targets_N)
    at_least_fp32 = torch.promote_types(logits_NV.dtype, torch.float32)
    logits_NV = logits_NV.to(at_least_fp32)
    loss = F.cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=penalties.label_smoothing)
    if penalties.z_loss:
        loss = loss + penalties.z_loss * logits_NV.logsumexp(-1).square().sum()
    return loss


def _loss_and_slopes(
    logits_NV: torch.Tensor, targets_N: torch.Tensor, penalties: Penalties, *, in_place: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of `_chunk_loss` and its gradient, which takes the place of the logits where it may."""
    wide = torch.promote_types(logits_NV.dtype, torch.float32)
    slopes_NV = logits_NV if in_place else torch.empty_like(logits_NV)
    total = logits_NV.new_zeros((), dtype=wide)
    rows = max(1, TILE_ELEMENTS // logits_NV.shape[1])
    for start in range(0, len(logits_NV), rows):
        tile = slice(start, start + rows)
        scores_NV = logits_NV[tile].to(wide, copy=not (in_place and logits_NV.dtype == wide))
        total += _to_slopes(scores_NV, targets_N[tile, None], penalties)
        if scores_NV.data_ptr() != slopes_NV[tile].data_ptr():
            slopes_NV[tile] = scores_NV
    return total, slopes_NV


def _to_slopes(scores_NV: torch.Tensor, targets_N1: torch.Tensor, penalties: Penalties) -> torch.Tensor:
    """The loss of some rows of logits, which become its gradient.

    With p = softmax(logits), L = log(sum(exp(logits))), smoothing s and z-loss z the gradient is
    (1 + 2 z L) p - (1 - s) onehot(target) - s / V.
    """
    smoothing, z_loss = penalties.label_smoothing, penalties.z_loss
    highest_N1 = scores_NV.amax(-1, keepdim=True)
    scores_NV.sub_(highest_N1)
    chosen = scores_NV.gather(1, targets_N1).sum()
    mean = scores_NV.mean(-1).sum() if smoothing else 0.0
    sums_N1 = scores_NV.exp_().sum(-1, keepdim=True)
    logs_N1 = sums_N1.log()
    loss = logs_N1.sum() - (1 - smoothing) * chosen - smoothing * mean
    scores_NV.div_(sums_N1)
    if z_loss:
        normaliser_N1 = highest_N1 + logs_N1
        loss = loss + z_loss * normaliser_N1.square().sum()
        scores_NV.mul_(1 + 2 * z_loss * normaliser_N1)
    scores_NV.scatter_add_(1, targets_N1, scores_NV.new_full(targets_N1.shape, smoothing - 1))
    if smoothing:
        scores_NV.sub_(smoothing / scores_NV.shape[1])
    return loss


def guessed_loss(
    model: Any, batch: Batch, term: str, targets: str, penalties: Penalties, counts: torch.Tensor | None = None
) -> LossSum:
    """Sum of the cross-entropies of a batch's targets in nats, their count, and how many were the likeliest token.

    counts: for each id, whether the accuracy counts it; None: all.
    """
    output, count = model.hidden(**batch.inputs), batch.weights[term]
    right = Right(output.hidden_BTD.device, counts)
    total = cross_entropy_sum(
        output.hidden_BTD, batch.targets[targets], model.logits, model.head_parameters(),
        vocab_size=model.vocab_size, supervised=int(count), right=right, penalties=penalties,
    )  # fmt: skip
    return LossSum({term: (total, count)}, {"accuracy": (right.number, right.total)})


class _InPlace(TorchFunctionMode):
    """Inside, gradients of the weights of linear layers are added up in one place each, and so are their scores.

    A matrix of V rows would else be made anew for each chunk, and then added: more bytes than the logits themselves.
    """

    def __init__(self, weights: Sequence[nn.Parameter]):
        super().__init__()
        self._sums = {id(weight): torch.empty_like(weight) for weight in weights if weight.dim() == 2}
        self._begun: set[int] = set()
        self._cast: dict[int, torch.Tensor] = {}
        self._room: dict[int, torch.Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and len(args) > 1 and id(args[1]) in self._sums:
            x, weight, *bias = args
            bias = bias or [(kwargs or {}).get("bias")]
            if torch.is_autocast_enabled(x.device.type):
                x = x.to(torch.get_autocast_dtype(x.device.type))
            name = id(weight)
            if name not in self._cast:
                self._cast[name] = weight.detach().to(x.dtype)
                self._room[name] = x.new_empty((len(x), len(weight)))
            scores = _Linear.apply(x, self._cast[name], self._room[name], self, name)  # type: ignore[no-untyped-call]
            return scores if bias[0] is None else scores + bias[0].to(scores.dtype)
        return func(*args, **(kwargs or {}))

    def add(self, name: int, slopes_NV: torch.Tensor, x_ND: torch.Tensor) -> None:
        """slopes^T x to a weight's sum; the first one is the sum."""
        sum_VD, first = self._sums[name], name not in self._begun
        self._begun.add(name)
        if slopes_NV.dtype == sum_VD.dtype:
            torch.addmm(sum_VD, slopes_NV.T, x_ND, beta=0.0 if first else 1.0, out=sum_VD)
        elif first:
            sum_VD.copy_(slopes_NV.T @ x_ND)
        else:
            sum_VD += slopes_NV.T @ x_ND

    def sum_of(self, weight: nn.Parameter) -> torch.Tensor:
        """The whole gradient so far, 0 where no linear layer has used the weight."""
        if id(weight) not in self._begun:
            self._begun.add(id(weight))
            self._sums[id(weight)] = torch.zeros_like(weight)
        return self._sums[id(weight)]


class _WithSlopes(torch.autograd.Function):
    """A scalar whose gradient is known; slopes given to torch.autograd.grad would import its compiler, two seconds."""

    @staticmethod
    def forward(ctx: Any, logits_NV: torch.Tensor, slopes_NV: torch.Tensor) -> torch.Tensor:
        ctx.slopes = slopes_NV
        return logits_NV.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        del grad_outputs
        slopes_NV, ctx.slopes = ctx.slopes, None
        return slopes_NV, None


class _Linear(torch.autograd.Function):
    """x W^T, written where the chunk before had its own; in the backward pass the gradient of W goes to a sum."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: torch.Tensor, weight_VD: torch.Tensor, room_NV: torch.Tensor, sums: _InPlace, name: int
    ) -> torch.Tensor:
        ctx.save_for_backward(x_ND, weight_VD)
        ctx.sums, ctx.name = sums, name
        scores_NV = room_NV[: len(x_ND)].detach()
        return torch.mm(x_ND, weight_VD.T, out=scores_NV)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        x_ND, weight_VD = ctx.saved_tensors
        slopes_NV = grad_outputs[0]
        ctx.sums.add(ctx.name, slopes_NV, x_ND)
        return slopes_NV @ weight_VD, None, None, None, None


class _ChunkedLoss(torch.autograd.Function):
    """Loss and gradients of each chunk in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: torch.Tensor, targets_N: torch.Tensor, head: Head, rows: int,
        right: Right | None, penalties: Penalties, *parameters: nn.Parameter,
    ) -> torch.Tensor:  # fmt: skip
        ctx.again = partial(_with_gradients, hidden_ND, targets_N, head, rows, None, penalties, parameters)
        total, ctx.gradients = _with_gradients(hidden_ND, targets_N, head, rows, right, penalties, parameters)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        # Handed out, so that nobody has to copy them; whoever asks a second time has them made anew.
        hidden_grad, parameter_grads = ctx.gradients or ctx.again()[1]
        ctx.gradients = None
        scale = grad_outputs[0]
        scaled = (None if gradient is None else gradient.mul_(scale) for gradient in parameter_grads)
        return hidden_grad.mul_(scale), None, None, None, None, None, *scaled


Gradients = tuple[torch.Tensor, list[torch.Tensor | None]]
"""Of the hidden states, and of each of the head's parameters, None for those that are frozen."""


def _with_gradients(
    hidden_ND: torch.Tensor, targets_N: torch.Tensor, head: Head, rows: int, right: Right | None,
    penalties: Penalties, parameters: Sequence[nn.Parameter],
) -> tuple[torch.Tensor, Gradients]:  # fmt: skip
    """The loss, and its gradients, chunk by chunk."""
    total = hidden_ND.new_zeros((), dtype=torch.promote_types(hidden_ND.dtype, torch.float32))
    hidden_grad = torch.empty_like(hidden_ND)
    trained = [p for p in parameters if p.requires_grad]
    in_place = _InPlace(trained)
    others = {id(p): torch.zeros_like(p) for p in trained if p.dim() != 2}
    for start in range(0, hidden_ND.size(0), rows):
        piece = slice(start, start + rows)
        with torch.enable_grad(), in_place:
            chunk = hidden_ND[piece].detach().requires_grad_()
            logits_NV = head(chunk)
        if right is not None:
            right.add(logits_NV, targets_N[piece])
        # Neither keeps what it gave for its backward pass, so the slopes may stand in its place.
        own = type(logits_NV.grad_fn).__name__ in ("_LinearBackward", "AddBackward0")
        loss, slopes_NV = _loss_and_slopes(logits_NV.detach(), targets_N[piece], penalties, in_place=own)
        with torch.enable_grad():
            known = _WithSlopes.apply(logits_NV, slopes_NV)  # type: ignore[no-untyped-call]
        gradients = torch.autograd.grad(known, [chunk, *trained], allow_unused=True)
        del logits_NV, slopes_NV, known  # before the next chunk makes its own
        hidden_grad[piece] = gradients[0]
        for parameter, gradient in zip(trained, gradients[1:], strict=True):
            if gradient is not None:  # else it is in the sum already
                sum_ = others[id(parameter)] if id(parameter) in others else in_place.sum_of(parameter)
                sum_ += gradient
        total += loss
    made = {id(p): others[id(p)] if id(p) in others else in_place.sum_of(p) for p in trained}
    return total, (hidden_grad, [made.get(id(p)) for p in parameters])
