"""Multi-head and grouped-query attention, over the same sequence or over another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.errors import ResourceError
from trifecta.nn.dropout import Dropout, dropout
from trifecta.nn.position import causal_bias, rotate

_SLOW_BF16_BELOW = 256
"""Queries from which on a CPU's fused kernel is faster in bf16 than in fp32, backward pass included (8 x 6 heads of 64:
37 against 35 ms; 12 x 4 heads of 32 and 64 queries: 10.6 against 1.9 ms)."""


Kernel = Literal["auto", "flash", "efficient", "math"]
"""Which of torch's kernels computes fused attention; auto: torch's own choice."""


class LayerCache(Protocol):
    """Keys and values of the positions that one layer has already seen."""

    @property
    def length(self) -> int:
        """Positions held."""

    def extend(self, keys_BHTK: Tensor, values_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Appends T positions and returns all S of them."""

    def reorder(self, rows_R: Tensor) -> None:
        """Keeps these rows of the batch, in this order."""


KeysValues = tuple[Tensor, Tensor]
"""Keys and values of a sequence, (B, H, S, K) each."""


class Attention(nn.Module):
    """softmax(scale * Q K^T + bias) V for each head, then one projection (Vaswani et al., 2017).

    With fewer key and value heads than heads, H / Hkv query heads share each (Ainslie et al., 2023). Three separate
    matrices: on a CPU one fused matrix was no faster (3.30 against 3.39 ms), and optimizers, initialisers and name maps
    would all have to cut it up again.

    Args:
        make_head_norm: makes the norm of queries and of keys over the head width (Henry et al., 2020); None for none.
        dropout: rate at the attention weights and at the output.
        explicit: explicit mask and softmax instead of the fused kernel.
        causal: without a bias a position sees itself and what is before it; otherwise everything.
        head_width: K; default d_model / num_heads. scale: default 1 / sqrt(K); T5 has 1.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        bias: bool,
        dropout: float,
        make_head_norm: Callable[[int], nn.Module] | None,
        explicit: bool,
        causal: bool = True,
        head_width: int | None = None,
        scale: float | None = None,
    ):
        super().__init__()
        self.head_width = head_width or d_model // num_heads
        self.dropout, self.explicit, self.causal, self.scale = dropout, explicit, causal, scale
        self.kernel: Kernel = "auto"
        self.query = nn.Linear(d_model, num_heads * self.head_width, bias=bias)
        self.key = nn.Linear(d_model, num_kv_heads * self.head_width, bias=bias)
        self.value = nn.Linear(d_model, num_kv_heads * self.head_width, bias=bias)
        self.query_norm = make_head_norm(self.head_width) if make_head_norm else nn.Identity()
        self.key_norm = make_head_norm(self.head_width) if make_head_norm else nn.Identity()
        self.out = nn.Linear(num_heads * self.head_width, d_model, bias=bias)
        self.out_dropout = Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        *,
        rotation: Tensor | None = None,
        bias: Tensor | None = None,
        cache: LayerCache | None = None,
        read: KeysValues | None = None,
    ) -> Tensor:
        """rotation: rows of a rotary table. bias: added to the scores, as wide as (B, H, T, S); None: causal or none.

        read: keys and values of another sequence, as `read_from` gives them, instead of this one's own.
        """
        q_BTHK = self.query_norm(self._heads(self.query(x_BTD)))
        if rotation is not None:
            q_BTHK = rotate(q_BTHK, rotation)
        k_BHSK, v_BHSK = self.read_from(x_BTD, rotation) if read is None else read
        if cache is not None:
            k_BHSK, v_BHSK = cache.extend(k_BHSK, v_BHSK)
        mixed_BHTK = attend(
            q_BTHK.transpose(1, 2), k_BHSK, v_BHSK, bias,
            dropout_rate=self.dropout if self.training else 0.0, explicit=self.explicit, causal=self.causal,
            scale=self.scale, kernel=self.kernel,
        )  # fmt: skip
        out: Tensor = self.out_dropout(self.out(mixed_BHTK.transpose(1, 2).flatten(2)))
        return out

    def read_from(self, x_BSD: Tensor, rotation: Tensor | None = None) -> KeysValues:
        """Keys and values (B, H, S, K) of a sequence."""
        k_BSHK = self.key_norm(self._heads(self.key(x_BSD)))
        if rotation is not None:
            k_BSHK = rotate(k_BSHK, rotation)
        return k_BSHK.transpose(1, 2), self._heads(self.value(x_BSD)).transpose(1, 2)

    def _heads(self, projected_BTD: Tensor) -> Tensor:
        B, T, _ = projected_BTD.shape
        return projected_BTD.view(B, T, -1, self.head_width)


def attend(
    q_BHTK: Tensor,
    k_BHSK: Tensor,
    v_BHSK: Tensor,
    bias: Tensor | None = None,
    *,
    dropout_rate: float = 0.0,
    explicit: bool = False,
    causal: bool = True,
    scale: float | None = None,
    kernel: Kernel = "auto",
) -> Tensor:
    """Scaled dot-product attention, (B, H, T, K).

    With a bias nothing else is masked. Without one and causal, the T queries are the last of the S positions.

    On a CPU the fused kernel knows no dropout and torch would fall back to a slow path, so the explicit one serves.

    Raises:
        ResourceError: the kernel that was asked for can't compute this here.
    """
    T, S = q_BHTK.shape[2], k_BHSK.shape[2]
    if explicit or (dropout_rate and q_BHTK.device.type == "cpu" and kernel == "auto"):
        if bias is None and causal:
            bias = causal_bias(T, S, q_BHTK)
        return _attend_explicitly(q_BHTK, k_BHSK, v_BHSK, bias, dropout_rate, scale)
    if bias is None and causal and 1 < T < S:
        bias = causal_bias(T, S, q_BHTK)
    fused = partial(
        F.scaled_dot_product_attention if kernel == "auto" else partial(_by_kernel, kernel),
        dropout_p=dropout_rate,
        is_causal=bool(bias is None and causal and 1 < T == S),  # a symbol where lengths are compiled as such
        scale=scale,
        enable_gqa=q_BHTK.shape[1] != k_BHSK.shape[1],  # faster than repeating the heads: 1.46 against 1.86 ms
    )
    if kernel != "auto" and bias is not None and bias.dim() == 3:
        bias = bias[None]  # of (H, T, S) the fused kernels know nothing
    slow = q_BHTK.device.type == "cpu" and v_BHSK.dtype == torch.bfloat16 and T < _SLOW_BF16_BELOW
    if slow and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            return fused(q_BHTK.float(), k_BHSK.float(), v_BHSK.float(), bias).to(v_BHSK.dtype)
    return fused(q_BHTK, k_BHSK, v_BHSK, None if bias is None else bias.to(q_BHTK.dtype))


def _by_kernel(kernel: Kernel, *args: Any, **kwargs: Any) -> Tensor:
    """Torch's fused attention, computed by one of its kernels and by no other."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = {
        "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH,
    }  # fmt: skip
    try:
        with sdpa_kernel(backends[kernel]):
            return F.scaled_dot_product_attention(*args, **kwargs)
    except RuntimeError as error:
        if "No available kernel" not in str(error) and "No viable backend" not in str(error):
            raise
        raise ResourceError(
            f"the attention kernel {kernel!r} can't compute this model's attention on {args[0].device.type}",
            fix="set execution.attention to auto",
        ) from error


def _attend_explicitly(
    q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, bias: Tensor | None, dropout_rate: float, scale: float | None
) -> Tensor:
    group = q_BHTK.shape[1] // k_BHSK.shape[1]
    if group > 1:
        k_BHSK, v_BHSK = k_BHSK.repeat_interleave(group, 1), v_BHSK.repeat_interleave(group, 1)
    scores_BHTS = (q_BHTK * (q_BHTK.shape[-1] ** -0.5 if scale is None else scale)) @ k_BHSK.transpose(-2, -1)
    if bias is not None:
        scores_BHTS = scores_BHTS + bias
    weights_BHTS = scores_BHTS.softmax(-1).to(v_BHSK.dtype)
    return (dropout(weights_BHTS, dropout_rate) if dropout_rate else weights_BHTS) @ v_BHSK
