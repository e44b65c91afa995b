"""Which device, how many threads, and whether two runs must agree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trifecta.errors import ResourceError


def resolve_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:N` or `mps` means here.

    Raises:
        ResourceError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ResourceError(
                f"execution.device is {name!r}, but torch {torch.__version__} sees {count} CUDA devices here",
                fix="use --device cpu, or install a CUDA build of torch and check the driver with nvidia-smi",
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("execution.device is 'mps', but this machine has none", fix="use --device cpu")
    return device


def set_threads(threads: int | None) -> int:
    """Sets torch's CPU threads if a number is given; the number in force."""
    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def set_deterministic(deterministic: bool) -> None:
    """Makes torch refuse operations without a deterministic kernel, or lets it use them again."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    if deterministic == torch.are_deterministic_algorithms_enabled():
        return  # telling torch again would import its compiler, two seconds
    torch.use_deterministic_algorithms(deterministic)


@contextmanager
def switches(*, tf32: bool, cudnn_benchmark: bool) -> Iterator[None]:
    """Inside, a GPU's fp32 products may be rounded to TF32, and cuDNN may try out its algorithms; then as before."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    if tf32:
        matmul.allow_tf32 = cudnn.allow_tf32 = True
    if cudnn_benchmark:
        cudnn.benchmark = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def describe(device: torch.device) -> str:
    """`cpu`, or a GPU's name and memory."""
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
