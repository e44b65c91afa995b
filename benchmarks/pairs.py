"""Interleaved pairs: our leg, the peer's, ours, the peer's, each in a fresh process with one thread.

A row's figure is the median over rounds of the ratio of neighbours, so that a slow minute of the machine hits both.
Run as a program this is one leg: it prints what the leg measured as its last line.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

Leg = dict[str, Any]
"""What a leg measured: `value`; `loss` or whatever else shows that both legs did the same work; `core`, the share of a
processor core that it had."""

RATIOS: dict[str, Callable[[float, float], float]] = {
    "ours / peer": lambda ours, peer: ours / peer,
    "peer / ours": lambda ours, peer: peer / ours,
    "ours - peer": lambda ours, peer: ours - peer,
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ours, peer: `module.function` of a leg and its arguments. quick: arguments that make it tiny, for both.
    ratio: a key of RATIOS. bound: what the median must be at least (or at most, with at_most).
    same: what both legs measured -> a text, and whether they did the same work; if not, the row has FAILED.
    reason: why the bound isn't reached, where it isn't. unless: why the row can't be measured here, or None.
    """

    name: str
    what: str
    ours: tuple[str, Mapping[str, Any]]
    peer: tuple[str, Mapping[str, Any]]
    unit: str
    ratio: str
    bound: float
    same: Callable[[Leg, Leg], tuple[str, bool]]
    quick: Mapping[str, Any] = field(default_factory=dict)
    at_most: bool = False
    rounds: int = 5
    reason: str = ""
    unless: Callable[[], str | None] = lambda: None


class LegError(RuntimeError):
    """A leg ended with an error."""


def run_leg(name: str, arguments: Mapping[str, Any]) -> Leg:
    """A leg in a fresh process."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    cache = {"TRIFECTA_CACHE": str(Path(arguments["folder"]) / "cache")}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pairs", name, json.dumps(arguments)], capture_output=True, text=True,
        env={**os.environ, **threads, **quiet, **cache, "PYTHONPATH": paths}, check=False,
    )  # fmt: skip
    if done.returncode:
        raise LegError(f"the leg {name} failed:\n{done.stderr[-2000:]}")
    leg: Leg = json.loads(done.stdout.splitlines()[-1])
    return leg


def call_leg(name: str, arguments: Mapping[str, Any]) -> Leg:
    """A leg in this process, with one thread."""
    import torch

    torch.set_num_threads(1)
    module, _, function = name.partition(".")
    home = importlib.import_module(f"benchmarks.{module}")
    started, used = time.perf_counter(), sum(os.times()[:4])
    leg: Leg = getattr(home, function)(**arguments)
    return {"core": (sum(os.times()[:4]) - used) / (time.perf_counter() - started), **leg}


def measure(
    row: Row, text: Path, rounds: int | None = None, *, quick: bool = False,
    run: Callable[[str, Mapping[str, Any]], Leg] = run_leg, say: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """All rounds of a row: what each leg measured, or why it wasn't measured, or how a leg failed."""
    if reason := row.unless():
        say(f"{row.name}: left out: {reason}")
        return {"quick": quick, "skipped": reason}
    pairs: list[list[Leg]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, (rounds or (1 if quick else row.rounds)) + 1):
            pair = []
            for name, arguments in (row.ours, row.peer):
                common = {"text": str(text), "folder": folder, "seed": number}
                small = {key: value for key, value in row.quick.items() if key in arguments} if quick else {}
                try:
                    pair.append(run(name, {**arguments, **small, **common}))
                except LegError as error:
                    say(f"{row.name} {number}: {error}")
                    return {"quick": quick, "error": f"{name}: {str(error).splitlines()[-1]}"}
            pairs.append(pair)
            ratio, (same, _) = RATIOS[row.ratio](*(leg["value"] for leg in pair)), row.same(*pair)
            say(f"{row.name} {number}: {pair[0]['value']:.4g} | {pair[1]['value']:.4g} {row.unit}, {ratio:.3f}; {same}")
    return {"date": time.strftime("%Y-%m-%d"), "quick": quick, "pairs": pairs}


def verdict(row: Row, pairs: Sequence[Sequence[Leg]]) -> dict[str, Any]:
    """A row's figures: medians of both sides, of the neighbours' ratios with their range, and what they amount to."""
    ratios = [RATIOS[row.ratio](ours["value"], peer["value"]) for ours, peer in pairs]
    median = statistics.median(ratios)
    used = [RATIOS[row.ratio](_used(row, ours), _used(row, peer)) for ours, peer in pairs]
    checks = [row.same(*pair) for pair in pairs]
    reached = median <= row.bound if row.at_most else median >= row.bound
    return {
        "ours": statistics.median(ours["value"] for ours, _ in pairs),
        "peer": statistics.median(peer["value"] for _, peer in pairs),
        "ratio": median, "least": min(ratios), "most": max(ratios), "used": statistics.median(used),
        "reached": "yes" if reached else "no",
        "same": next((text for text, good in checks if not good), checks[-1][0]),
        "failed": not all(good for _, good in checks),
    }  # fmt: skip


def _used(row: Row, leg: Leg) -> float:
    """What a leg would have measured had it had a core to itself, as far as that can be known."""
    core = leg.get("core", 1.0)
    factors = {"tokens/s": 1 / core, "s": core, "s/MB": core}
    return float(leg["value"] * factors.get(row.unit, 1.0))


def table(rows: Sequence[Row], results: Mapping[str, dict[str, Any]], command: str) -> str:
    """The results as Markdown; what isn't reached or did other work is marked, with its reason below."""
    dates = sorted({result["date"] for result in results.values() if "date" in result}) or ["never"]
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    lines = [
        f"{machine()}; one thread; measured {when} by `{command}`.",
        "*Found* is the median over the rounds of neighbouring pairs, a ratio or in seconds a difference, with the",
        "least, the most and the number of rounds. Then the same by processor time, which differs where something else",
        "ran too.",
        "",
        "| row | ours | peer | found | by processor time | wanted | reached | the same work |",
        "|---|---|---|---|---|---|---|---|",
    ]
    notes: list[str] = []
    for row in rows:
        result = results.get(row.name)
        if result is None:
            continue
        unit = f" {row.unit} more" if " - " in row.ratio else "x"
        wanted = f"{'at most' if row.at_most else 'at least'} {row.bound:g}{unit}"
        if "pairs" not in result:
            why = f"left out: {result['skipped']}" if "skipped" in result else f"FAILED: {result['error']}"
            lines.append(f"| {row.name} | | | | | {wanted} | {why} | |")
            continue
        found = verdict(row, result["pairs"])
        mark = "FAILED" if found["failed"] else found["reached"]
        if mark == "no" and row.reason:
            notes.append(row.reason)
            mark += f" [{len(notes)}]"
        sides = " | ".join(f"{_figure(found[side])} {row.unit}" for side in ("ours", "peer"))
        rounds = len(result["pairs"])
        ratio = f"{found['ratio']:.2f}{unit} ({found['least']:.2f}..{found['most']:.2f}, {rounds})"
        same = found["same"] or "-"
        lines.append(f"| {row.name} | {sides} | {ratio} | {found['used']:.2f} | {wanted} | {mark} | {same} |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), *([""] if notes else [])]
    lines += [f"- `{row.name}`: {row.what} ({row.ratio})." for row in rows if row.name in results]
    return "\n".join(lines) + "\n"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine() -> str:
    """Processor, cores and versions."""
    from importlib.metadata import PackageNotFoundError, version

    def of(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"no {package}"

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores; "
        f"{of('torch')}, {of('transformers')}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    print(json.dumps(call_leg(sys.argv[1], json.loads(sys.argv[2]))))
