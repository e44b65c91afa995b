"""What the processor can do."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def has_fast_bf16(device: torch.device) -> bool:
    """True where bf16 products are computed by instructions of their own; elsewhere they are slower than fp32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_has_bf16()


@functools.cache
def _cpu_has_bf16() -> bool:
    import torch

    known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch doesn't have it
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
