"""What a tiny run does, seen from outside: graph, data, updates, outputs, files and switches, but not its recipe."""

from __future__ import annotations

import contextlib
import hashlib
import io
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

Observed = dict[str, Any]


def observe(
    settings: Mapping[str, Any], out: Path, patch: pytest.MonkeyPatch, *, written: Mapping[str, Any] | None = None,
    after: bool = False,
) -> Observed:  # fmt: skip
    """Trains from these settings alone, and from what a user has written besides; says what could be seen.

    graph: modules, parameters and which are trained. init: first weights. data, validation: batches. update: losses,
    rates, norms and last weights. outputs: validation losses and metrics; samples: what was written. calls: forward
    passes of modules. kernels: matrix products, where activations are computed again. folder: checkpoints; files: what
    else was written. events: what happened when. console: lines of steps. switches: threads, determinism, worker
    processes. error: how it ended, if it failed. predicted: what the run says afterwards (`after`: of a question).
    scaler: how fp16's loss scale moves.
    """
    from trifecta.errors import TrifectaError
    from trifecta.run import trainer
    from trifecta.run.request import Request
    from trifecta.tracking.console import PlainConsole

    seen: Observed = {
        "data": [], "validation": [], "update": [], "outputs": [], "samples": [], "events": [], "calls": 0,
        "switches": set(), "error": None,
    }  # fmt: skip
    spoken = io.StringIO()

    def hook(event: dict[str, Any]) -> None:
        _note(seen, event)
        console(event)

    flags = {key: ("test", value) for key, value in (written or {}).items()}
    request = Request(base=dict(settings), flags=flags)
    counts = "execution.gradient_checkpointing" in {**settings, **(written or {})}
    with patch.context() as patched, _switches_restored(), _Products(seen) if counts else contextlib.nullcontext():
        patched.setattr(trainer.build, "module_of", _watching(seen, trainer.build.module_of))
        console = PlainConsole(spoken)
        before = set(Path.cwd().rglob("*"))
        try:
            seen["scaler"] = _scales(request)
            trainer.train(request, out=out, hooks=[hook])
        except TrifectaError as error:
            seen["error"] = f"{type(error).__name__}: {error}".replace(str(out), "")
        if "module" in seen:
            seen["update"].append(_hash(seen.pop("module").state_dict()))
    seen["console"] = [line.split(" | ")[:2] for line in spoken.getvalue().splitlines() if " | Loss" in line]
    seen["folder"] = sorted(path.name for path in (out / "checkpoints").glob("*"))
    new = set(Path.cwd().rglob("*")) - before
    seen["files"] = sorted(path.parts[len(Path.cwd().parts)] for path in new if out not in [path, *path.parents])
    seen["predicted"] = _predicted(out) if after else None
    return seen


class _Products(TorchDispatchMode):
    """Counts matrix products that are computed."""

    def __init__(self, seen: Observed):
        super().__init__()
        self.seen = seen
        seen["kernels"] = 0

    def __torch_dispatch__(self, kernel: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen["kernels"] += kernel in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return kernel(*args, **(kwargs or {}))


def _note(seen: Observed, event: dict[str, Any]) -> None:
    seen["events"].append((event["event"], event.get("step"), event.get("reason"), event.get("status")))
    match event["event"]:
        case "step":
            seen["update"].append([event[name] for name in ("loss", "learning_rate", "grad_norm", "skipped")])
            workers = len(multiprocessing.active_children())
            state = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), workers)
            seen["switches"].add(state)
        case "evaluation":
            seen["outputs"].append({k: v for k, v in event.items() if k not in ("seconds", "time")})
        case "sample":
            seen["samples"].append((event["prompt"], event["text"]))


def _watching(seen: Observed, make: Callable[..., Any]) -> Callable[..., Any]:
    """`build.module_of`, whose module tells what goes through it."""

    def made(recipe: Any, model: Any, *others: Any) -> Any:
        module = make(recipe, model, *others)
        compiled = [part.forward for part in module.modules() if hasattr(part.forward, "backend")]
        seen["switches"].add((len(compiled), *{forward.backend for forward in compiled}))
        named = [(name, tuple(p.shape), p.requires_grad) for name, p in module.named_parameters()]
        seen["graph"] = [repr(model), named, [(name, tuple(b.shape)) for name, b in module.named_buffers()]]
        seen["init"] = _hash(module.state_dict())
        seen["module"] = module

        def batch_comes(inner: Any, inputs: Any) -> None:
            (batch,) = inputs
            seen["data" if inner.training else "validation"].append(_hash({**batch.inputs, **batch.targets}))

        def called(*_: Any) -> None:
            seen["calls"] += 1

        module.register_forward_pre_hook(batch_comes)
        for part in module.modules():
            part.register_forward_pre_hook(called)
        return module

    return made


def _hash(tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        array = np.ascontiguousarray(tensor.detach().to("cpu").numpy())
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()[:16]


def _scales(request: Any) -> list[float] | None:
    """The loss scale through good and bad steps: fp16 trains on GPUs alone."""
    from trifecta.run import build

    scaler = build.scaler_of(request.tree().resolve(None).recipe)
    if scaler is None:
        return None
    found = [scaler.scale]
    for finite in (False, *[True] * 2100):
        scaler.update(finite)
        found.append(scaler.scale)
    return found


def _predicted(out: Path) -> Any:
    from trifecta.run import load, predict_texts

    found = predict_texts(load(out), ["what?"], context="abc def, abba. fade bad cafe")
    return [repr(prediction) for prediction in found]


@contextlib.contextmanager
def _switches_restored() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def differences(one: Observed, other: Observed) -> set[str]:
    """Which of the things that can be seen differ."""
    return {name for name in {*one, *other} if one.get(name) != other.get(name)}
