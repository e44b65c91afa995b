"""What memory training takes, and what the means against it save.

Each figure comes from a process of its own with one thread: its highest resident memory above what it had before, as
the kernel counts it. Writes the tables in docs/memory.md.

    python -m benchmarks.memory [--only loss attention training] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "memory.md"
STATUS = "/proc/self/status"
MB = 1e6


def peak() -> int:
    """Highest resident bytes since `forget`."""
    line = next(line for line in Path(STATUS).read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def above(work: Callable[[], Any]) -> tuple[float, float]:
    """MB above the start and seconds of some work."""
    Path("/proc/self/clear_refs").write_text("5")
    before, began = peak(), time.perf_counter()
    work()
    return (peak() - before) / MB, time.perf_counter() - began


def loss(kind: str, vocab_size: int, tokens: int, width: int) -> tuple[float, float]:
    """Forward and backward of a head with its cross-entropy."""
    import torch
    from torch import nn

    from trifecta.objectives.loss import cross_entropy_sum

    torch.manual_seed(0)
    head = nn.Linear(width, vocab_size, bias=False)
    hidden_BTD = torch.randn(1, tokens, width, requires_grad=True)
    targets_BT = torch.randint(0, vocab_size, (1, tokens))

    def plain() -> None:
        nn.functional.cross_entropy(head(hidden_BTD[0]), targets_BT[0], reduction="sum").backward()  # type: ignore[no-untyped-call]

    def chunked() -> None:
        cross_entropy_sum(
            hidden_BTD, targets_BT, head, [head.weight], vocab_size=vocab_size, supervised=tokens
        ).backward()  # type: ignore[no-untyped-call]

    return above({"plain": plain, "chunked": chunked}[kind])


def attention(kind: str, length: int) -> tuple[float, float]:
    """Forward and backward of causal attention with 4 heads of 64, one row."""
    import torch

    from trifecta.nn.attention import attend

    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 4, length, 64, requires_grad=True) for _ in range(3))
    return above(lambda: attend(q, k, v, explicit=kind == "explicit").sum().backward())


def training(kind: str, d_model: int, num_layers: int, vocab_size: int, rows: int, length: int) -> tuple[float, float]:
    """Forward, backward and no update of a GPT; `plain` computes all logits at once."""
    from contextlib import nullcontext

    import torch

    from trifecta.execution.memory import checkpoint_activations
    from trifecta.models import Gpt
    from trifecta.objectives.loss import cross_entropy_sum

    torch.manual_seed(0)
    model = Gpt(vocab_size, d_model=d_model, num_heads=8, num_layers=num_layers, d_ff=4 * d_model, dropout=0.0)
    tokens_BT = torch.randint(0, vocab_size, (rows, length))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if "checkpointing" in kind or kind == "all":
        checkpoint_activations(model.blocks, "selective" if kind.startswith("selective") else "full")
    chunked = kind in ("chunked loss", "all")
    bf16 = torch.autocast("cpu", dtype=torch.bfloat16) if kind in ("bf16", "all") else nullcontext()

    def step(tokens_BT: torch.Tensor) -> None:
        with bf16:
            hidden_BTD = model.hidden(tokens_BT).hidden_BTD
            if chunked:
                total = cross_entropy_sum(
                    hidden_BTD, tokens_BT, model.logits, model.head_parameters(), vocab_size=vocab_size,
                    supervised=tokens_BT.numel(),
                )  # fmt: skip
            else:
                logits_NV = model.logits(hidden_BTD).flatten(0, 1)
                total = torch.nn.functional.cross_entropy(logits_NV, tokens_BT.flatten(), reduction="sum")
        total.backward()  # type: ignore[no-untyped-call]

    model.train()
    step(tokens_BT[:1, :16])  # what is imported on the way isn't counted
    return above(lambda: step(tokens_BT))


LEGS: dict[str, Callable[..., tuple[float, float]]] = {"loss": loss, "attention": attention, "training": training}


def measure(leg: str, *arguments: Any) -> tuple[float, float]:
    """One leg in a fresh process."""
    code = f"from benchmarks.memory import LEGS; print(*LEGS[{leg!r}](*{arguments!r}))"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    megabytes, seconds = done.stdout.split()[-2:]
    return float(megabytes), float(seconds)


def of_loss(rounds: int, quick: bool) -> list[str]:
    """Interleaved, medians."""
    sizes = (5_000, 1024, 128) if quick else (50_000, 4096, 512)
    found = [[measure("loss", kind, *sizes) for kind in ("plain", "chunked")] for _ in range(rounds)]
    megabytes = [statistics.median(pair[kind][0] for pair in found) for kind in (0, 1)]
    seconds = [statistics.median(pair[kind][1] for pair in found) for kind in (0, 1)]
    faster = statistics.median(plain[1] / chunked[1] for plain, chunked in found)
    return [
        f"Head and cross-entropy of {sizes[1]:,} tokens, {sizes[0]:,} scores each, width {sizes[2]}, fp32, forward and "
        f"backward; medians of {rounds} rounds in turns. The chunked loss takes {megabytes[1] / megabytes[0]:.2f} of "
        f"the memory at {faster:.2f} times the speed.",
        "",
        "| loss | MB above the start | seconds |",
        "|---|---|---|",
        *(f"| {name} | {megabytes[i]:,.0f} | {seconds[i]:.2f} |" for i, name in enumerate(("plain", "chunked"))),
    ]


def of_attention(rounds: int, quick: bool) -> list[str]:
    """Fused against explicit, by length."""
    del rounds
    lengths = (128, 256) if quick else (512, 1024, 2048, 4096, 8192)
    lines = [
        "Causal attention, one row of 4 heads of width 64, fp32, no dropout, forward and backward; MB above the start "
        "and seconds. An explicit matrix isn't computed beyond 4,096.",
        "",
        "| tokens | fused: MB | KB a token | seconds | explicit: MB | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for length in lengths:
        fused = measure("attention", "fused", length)
        explicit = measure("attention", "explicit", length) if length <= 4096 else None
        other = f"{explicit[0]:,.0f} | {explicit[1]:.2f}" if explicit else "- | -"
        each = 1000 * fused[0] / length
        lines.append(f"| {length:,} | {fused[0]:,.0f} | {each:.1f} | {fused[1]:.2f} | {other} |")
    return lines


def of_training(rounds: int, quick: bool) -> list[str]:
    """The means against memory, each alone and all together."""
    del rounds
    sizes = (32, 2, 500, 2, 32) if quick else (512, 8, 32_000, 8, 256)
    lines = [
        f"Forward and backward of a GPT of {sizes[1]} layers and width {sizes[0]}, {sizes[2]:,} tokens in its "
        f"vocabulary, {sizes[3]} x {sizes[4]} tokens, dropout 0; MB above weights and gradients.",
        "",
        "| | MB | of plain | seconds |",
        "|---|---|---|---|",
    ]
    plain = None
    for kind in ("plain", "checkpointing", "selective checkpointing", "chunked loss", "bf16", "all"):
        megabytes, seconds = measure("training", kind, *sizes)
        plain = plain or megabytes
        lines.append(f"| {kind} | {megabytes:,.0f} | {megabytes / plain:.2f} | {seconds:.1f} |")
    return lines


TABLES = {"loss": of_loss, "attention": of_attention, "training": of_training}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the tables and writes them between their marks."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--rounds", type=int, default=5, help="of the loss, in turns")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs; nothing is written")
    given = parser.parse_args(arguments)
    for name in given.only:
        lines = TABLES[name](given.rounds, given.quick)
        print("\n".join([*lines, ""]), flush=True)
        if not given.quick:
            _write(name, lines)
    return 0


def _write(name: str, lines: list[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    before, rest = text.split(begin)
    PAGE.write_text("\n".join([before + begin, *lines, end + rest.split(end)[1]]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
