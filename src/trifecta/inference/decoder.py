"""One token at a time on a CPU, where calling costs more than computing: the model's blocks with few calls.

It computes what `Gpt.hidden` and `Gpt.logits`, or `T5.next_logits`, compute for one position, from weights packed once:
queries, keys and values are one product, gate and up another, and the gain of an RMSNorm lives in the product that
follows it. Matrices are kept (in, out), because a few rows times such a matrix read memory in its order: 32 rows times
256 x 8,000 take 0.9 ms, with (out, in) 1.5 ms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.models.gpt import Gpt, soft_capped
from trifecta.models.t5 import T5, T5State
from trifecta.nn.attention import KeysValues
from trifecta.nn.block import Block
from trifecta.nn.cache import LayerCache
from trifecta.nn.lora import lora_layers
from trifecta.nn.norm import RmsNorm

FEW = 8
"""Tokens up to which packing the weights isn't worth while."""

Product = Callable[[Tensor], Tensor]
P = TypeVar("P", bound="Packed")


class Packed(ABC):
    """A model's weights as a step of one position reads them."""

    @abstractmethod
    def __init__(self, model: Any):
        """Packs them."""

    @classmethod
    def of(cls: type[P], model: nn.Module) -> P | None:
        """One where it serves; that of a model in eval mode is kept until its weights change."""
        if not cls.serves(model):
            return None
        if model.training:
            return cls(model)
        weights = tuple((parameter.data_ptr(), parameter._version) for parameter in model.parameters())
        kept = _KEPT.get(model)
        if kept is None or kept[0] != weights:
            kept = _KEPT[model] = (weights, cls(model))
        assert isinstance(kept[1], cls)
        return kept[1]

    @classmethod
    def serves(cls, model: Any) -> bool:
        """True where this computes what the model does: fp32 on a CPU, pre-norm blocks, no LoRA."""
        weight = model.head_weight
        pre = all(isinstance(block, Block) and block.pre for block in model.blocks)
        plain = weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.is_inference()
        return pre and plain and not any(lora_layers(model))


_KEPT: WeakKeyDictionary[nn.Module, tuple[tuple[tuple[int, int], ...], Packed]] = WeakKeyDictionary()


class Decoder(Packed):
    """The next position of a batch, for a GPT without linear biases on the scores."""

    def __init__(self, model: Gpt):
        self._embedding, self._rotary, self._soft_cap = model.embedding, model.rotary, model.logit_soft_cap
        self._blocks = [_Step(block, model.num_heads) for block in model.blocks]  # type: ignore[arg-type]
        self._scores = _product([model.head_weight], [None], model.norm)

    @classmethod
    def serves(cls, model: Any) -> bool:
        """See `Packed.serves`."""
        return isinstance(model, Gpt) and not model.alibi and super().serves(model)

    def logits(self, tokens_B: Tensor, cache: Sequence[LayerCache]) -> Tensor:
        """Scores after one more token a row, (B, V); the token is added to the cache."""
        position = cache[0].length
        x_BD = self._embedding(tokens_B[:, None], position)[:, 0]
        rotation = self._rotary(position, position + 1).chunk(2, -1) if self._rotary is not None else None
        for block, entry in zip(self._blocks, cache, strict=True):
            x_BD = block(x_BD, entry, rotation=rotation)
        return soft_capped(self._scores(x_BD), self._soft_cap)


class SequenceDecoder(Packed):
    """The next position of every beam, for a T5."""

    def __init__(self, model: T5):
        decoder = model.decoder
        self._embedding, self._relative, self._scale = model.embedding, decoder.relative, model.logit_scale
        self._blocks = [_Step(block, decoder.num_heads) for block in decoder.blocks]  # type: ignore[arg-type]
        self._scores = _product([model.head_weight], [None], decoder.norm)

    @classmethod
    def serves(cls, model: Any) -> bool:
        """See `Packed.serves`."""
        return isinstance(model, T5) and super().serves(model)

    def next_logits(self, state: T5State, ids_R: Tensor) -> Tensor:
        """What `T5.next_logits` gives."""
        assert self._relative is not None
        bias = state.grow(self._relative)
        x_RD = self._embedding(ids_R[:, None])[:, 0]
        for block, entry, read in zip(self._blocks, state.own, state.read, strict=True):
            x_RD = block(x_RD, entry, beams=state.num_beams, bias=bias, read=read, read_bias=state.read_bias)
        return self._scores(x_RD).mul_(self._scale)


class _Step:
    """A block at one position of R rows: a sequence each, or G neighbours that are beams of one input."""

    def __init__(self, block: Block, num_heads: int):
        attention, feedforward = block.attention, block.feedforward
        projections = [attention.query, attention.key, attention.value]
        self._project = _product([p.weight for p in projections], [p.bias for p in projections], block.attention_norm)
        self._heads, self._width, self._scale = num_heads, attention.head_width, attention.scale
        self._rotated = num_heads + attention.key.out_features // self._width
        self._swapped = torch.arange(self._width).roll(self._width // 2)
        self._query_norm, self._key_norm = attention.query_norm, attention.key_norm
        self._out = _added(attention.out)
        if (cross := block.cross) is not None:
            assert block.cross_norm is not None
            self._ask = _product([cross.query.weight], [cross.query.bias], block.cross_norm)
            self._answer, self._cross_scale = _added(cross.out), cross.scale
        inner = [feedforward.up] if feedforward.gate is None else [feedforward.gate, feedforward.up]
        self._expand = _product([p.weight for p in inner], [p.bias for p in inner], block.feedforward_norm)
        self._gated, self._activation = len(inner) == 2, feedforward.activation
        self._shrink = _added(feedforward.down)
        self._grouped = attention.key.out_features != attention.query.out_features

    def __call__(
        self,
        x_RD: Tensor,
        cache: LayerCache,
        *,
        rotation: Sequence[Tensor] | None = None,
        beams: int = 1,
        bias: Tensor | None = None,
        read: KeysValues | None = None,
        read_bias: Tensor | None = None,
    ) -> Tensor:
        """The arguments are those of `Block`."""
        projected_RHK = self._project(x_RD).view(x_RD.shape[0], -1, self._width)
        turned_RHK, v_RHK = projected_RHK[:, : self._rotated], projected_RHK[:, self._rotated :]
        if not isinstance(self._query_norm, nn.Identity):
            q_RHK, k_RHK = turned_RHK[:, : self._heads], turned_RHK[:, self._heads :]
            turned_RHK = torch.cat((self._query_norm(q_RHK), self._key_norm(k_RHK)), 1)
        if rotation is not None:
            cosines, signed_sines = rotation
            swapped_RHK = turned_RHK.index_select(-1, self._swapped)
            turned_RHK = torch.addcmul(turned_RHK * cosines, swapped_RHK, signed_sines)
        keys, values = cache.extend(_side_by_side(turned_RHK[:, self._heads :], beams), _side_by_side(v_RHK, beams))
        x_RD = self._out(x_RD, self._mixed(turned_RHK[:, : self._heads], keys, values, bias, self._scale, beams))
        if read is not None:
            asked_RHK = self._ask(x_RD).view(x_RD.shape[0], -1, self._width)
            x_RD = self._answer(x_RD, self._mixed(asked_RHK, *read, read_bias, self._cross_scale, beams))
        inner_RF = self._expand(x_RD)
        if self._gated:
            gate_RF, up_RF = inner_RF.chunk(2, -1)
            return self._shrink(x_RD, self._activation(gate_RF).mul_(up_RF))
        return self._shrink(x_RD, self._activation(inner_RF))

    def _mixed(
        self, q_RHK: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float | None, beams: int
    ) -> Tensor:
        """Attention over (B, H, S, K): the heads side by side, (R, H * K)."""
        mixed_BHGK = F.scaled_dot_product_attention(
            _side_by_side(q_RHK, beams), keys, values, bias, scale=scale, enable_gqa=self._grouped
        )
        return mixed_BHGK.transpose(1, 2).reshape(len(q_RHK), -1)


def _side_by_side(x_RHK: Tensor, beams: int) -> Tensor:
    """(R, H, K) as (B, H, G, K): the beams of an input are positions."""
    R, H, K = x_RHK.shape
    return x_RHK.view(R // beams, beams, H, K).transpose(1, 2)


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
