"""One token at a time on a CPU, where calling costs more than computing: the model's blocks with few calls.

It computes what `Gpt.hidden` and `Gpt.logits` compute for one position, from weights packed once: queries, keys and
values are one product, gate and up another, and the gain of an RMSNorm lives in the product that follows it. Matrices
are kept (in, out), because a row times such a matrix reads memory in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.models.gpt import Gpt, soft_capped
from trifecta.nn.block import Block
from trifecta.nn.cache import LayerCache
from trifecta.nn.lora import lora_layers
from trifecta.nn.norm import RmsNorm

Product = Callable[[Tensor], Tensor]


class Decoder:
    """The next position of a batch, for a model on a CPU with pre-norm blocks and no linear biases on the scores."""

    def __init__(self, model: Gpt):
        self._embedding, self._rotary, self._soft_cap = model.embedding, model.rotary, model.logit_soft_cap
        self._blocks = [_Step(block, model.num_heads) for block in model.blocks]  # type: ignore[arg-type]
        self._scores = _product([model.head_weight], [None], model.norm)

    @classmethod
    def of(cls, model: Gpt) -> Decoder | None:
        """A decoder where one serves; that of a model in eval mode is kept until its weights change."""
        if not cls.serves(model):
            return None
        if model.training:
            return cls(model)
        weights = tuple((parameter.data_ptr(), parameter._version) for parameter in model.parameters())
        kept = _KEPT.get(model)
        if kept is None or kept[0] != weights:
            kept = _KEPT[model] = (weights, cls(model))
        return kept[1]

    @staticmethod
    def serves(model: Gpt) -> bool:
        """True where this computes what the model does."""
        weight = model.head_weight
        pre = all(isinstance(block, Block) and block.pre for block in model.blocks)
        plain = weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.is_inference()
        return pre and plain and not model.alibi and not any(lora_layers(model))

    def logits(self, tokens_B: Tensor, cache: Sequence[LayerCache]) -> Tensor:
        """Scores after one more token a row, (B, V); the token is added to the cache."""
        position = cache[0].length
        x_BD = self._embedding(tokens_B[:, None], position)[:, 0]
        rotation = self._rotary(position, position + 1).chunk(2, -1) if self._rotary is not None else None
        for block, entry in zip(self._blocks, cache, strict=True):
            x_BD = block(x_BD, rotation, entry)
        return soft_capped(self._scores(x_BD), self._soft_cap)


_KEPT: WeakKeyDictionary[Gpt, tuple[tuple[tuple[int, int], ...], Decoder]] = WeakKeyDictionary()


class _Step:
    """A block at one position."""

    def __init__(self, block: Block, num_heads: int):
        attention, feedforward = block.attention, block.feedforward
        projections = [attention.query, attention.key, attention.value]
        self._project = _product([p.weight for p in projections], [p.bias for p in projections], block.attention_norm)
        self._heads, self._width = num_heads, attention.head_width
        self._rotated = num_heads + attention.key.out_features // self._width
        self._swapped = torch.arange(self._width).roll(self._width // 2)
        self._query_norm, self._key_norm = attention.query_norm, attention.key_norm
        self._out = _added(attention.out)
        inner = [feedforward.up] if feedforward.gate is None else [feedforward.gate, feedforward.up]
        self._expand = _product([p.weight for p in inner], [p.bias for p in inner], block.feedforward_norm)
        self._gated, self._activation = len(inner) == 2, feedforward.activation
        self._shrink = _added(feedforward.down)
        self._grouped = attention.key.out_features != attention.query.out_features

    def __call__(self, x_BD: Tensor, rotation: Sequence[Tensor] | None, cache: LayerCache) -> Tensor:
        projected_BHK = self._project(x_BD).view(x_BD.shape[0], -1, self._width)
        turned_BHK, v_BHK = projected_BHK[:, : self._rotated], projected_BHK[:, self._rotated :]
        if not isinstance(self._query_norm, nn.Identity):
            q_BHK, k_BHK = turned_BHK[:, : self._heads], turned_BHK[:, self._heads :]
            turned_BHK = torch.cat((self._query_norm(q_BHK), self._key_norm(k_BHK)), 1)
        if rotation is not None:
            cosines, signed_sines = rotation
            swapped_BHK = turned_BHK.index_select(-1, self._swapped)
            turned_BHK = torch.addcmul(turned_BHK * cosines, swapped_BHK, signed_sines)
        k_BHSK, v_BHSK = cache.extend(turned_BHK[:, self._heads :].unsqueeze(2), v_BHK.unsqueeze(2))
        q_BHTK = turned_BHK[:, : self._heads].unsqueeze(2)
        mixed_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, enable_gqa=self._grouped)
        x_BD = self._out(x_BD, mixed_BHTK.flatten(1))
        inner_BF = self._expand(x_BD)
        if self._gated:
            gate_BF, up_BF = inner_BF.chunk(2, -1)
            return self._shrink(x_BD, self._activation(gate_BF).mul_(up_BF))
        return self._shrink(x_BD, self._activation(inner_BF))


def _product(weights: Sequence[Tensor], biases: Sequence[Tensor | None], norm: nn.Module) -> Product:
    """norm, then the matrices side by side."""
    packed = (torch.cat(list(weights)) if len(weights) > 1 else weights[0]).detach().t().contiguous()
    bias = torch.cat([b.detach() for b in biases if b is not None]) if biases[0] is not None else None
    if not isinstance(norm, RmsNorm):
        if bias is None:
            return lambda x_BD: torch.mm(norm(x_BD), packed)
        return lambda x_BD: torch.addmm(bias, norm(x_BD), packed)
    packed.mul_(norm.weight.detach()[:, None])
    width, epsilon = len(packed), float(norm.eps or 0.0)

    def after_rms(x_BD: Tensor) -> Tensor:
        scale: Tensor | float
        if x_BD.shape[0] > 1:
            mean_square = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True).square_().div_(width)
            scale = mean_square.add_(epsilon).rsqrt_()
        else:
            row = x_BD[0]
            scale = (float(torch.dot(row, row)) / width + epsilon) ** -0.5
        out = torch.mm(x_BD, packed).mul_(scale)
        return out if bias is None else out.add_(bias)

    return after_rms


def _added(linear: nn.Linear) -> Callable[[Tensor, Tensor], Tensor]:
    """x + linear(y)."""
    packed = linear.weight.detach().t().contiguous()
    if linear.bias is None:
        return lambda x_BD, y_BF: torch.addmm(x_BD, y_BF, packed)
    bias = linear.bias.detach()
    return lambda x_BD, y_BF: torch.addmm(x_BD + bias, y_BF, packed)
