"""Compiled blocks give the same losses, keep the names of checkpoints, and give way where they can't be compiled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SHORT, Killed, final_bytes, losses, same, train_here, write_text

from trifecta.execution import compile as compiling

EXACT: dict[str, Any] = SHORT | {"model.dropout": 0.0, "execution.precision": "fp32"}


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    return write_text(tmp_path / "words.txt", words=300)


def compiled(backend: str, **settings: Any) -> dict[str, Any]:
    return EXACT | {"execution.compile": True, "execution.compile_backend": backend} | settings


def values(out: Path) -> list[float]:
    return [float.fromhex(loss) for _, loss in losses(out)]


def notes(out: Path) -> list[str]:
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return [e["message"] for e in events if e["event"] == "note" and e["message"].startswith("not compiled")]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_losses_are_those_without_and_names_stay(text: Path, backend: str) -> None:
    """To a relative 1e-5, over a whole run with a smaller last batch; each parameter is found under its own name."""
    if backend == "inductor" and compiling.lacking(backend):
        pytest.skip("needs a C++ compiler")
    plain, run = text.parent / "plain", text.parent / "run"
    train_here(text, plain, **EXACT)
    torch._dynamo.utils.counters.clear()
    train_here(text, run, **compiled(backend))
    assert notes(run) == []
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "something was compiled"
    assert not torch._dynamo.utils.counters["graph_break"]
    assert values(run) == pytest.approx(values(plain), rel=1e-5)
    name = "checkpoints/final/model.safetensors"
    header = [(place / name).read_bytes()[:200] for place in (plain, run)]
    assert header[0] == header[1]
    assert b"_orig_mod" not in final_bytes(run)["model.safetensors"]


def test_a_compiled_run_is_resumed_exactly_and_another_way_of_computing_may_follow(text: Path) -> None:
    settings = compiled("eager")
    whole, run, other = (text.parent / name for name in ("whole", "run", "other"))
    train_here(text, whole, **settings)
    for out in (run, other):
        with pytest.raises(Killed):
            train_here(text, out, at_step=5, **settings)
    train_here(text, run, **settings)
    same(whole, run)
    train_here(text, other, **EXACT)
    assert values(other) == pytest.approx(values(whole), rel=1e-5)


def test_without_a_compiler_or_a_backend_the_run_goes_on_uncompiled(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(text, text.parent / "plain", **EXACT)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda _: None)
        train_here(text, text.parent / "none", **compiled("inductor"))
    train_here(text, text.parent / "xla", **compiled("openxla"))
    assert notes(text.parent / "none") == [
        "not compiled, so the blocks run as they are: the backend inductor needs a C++ compiler"
    ]
    assert notes(text.parent / "xla") == [
        "not compiled, so the blocks run as they are: the backend openxla needs the package torch_xla"
    ]
    same(text.parent / "plain", text.parent / "none")
    same(text.parent / "plain", text.parent / "xla")


def test_what_raises_in_the_first_step_is_told_once_and_the_run_goes_on(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(text, text.parent / "plain", **EXACT)

    def broken(*_: Any, **__: Any) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError("g++: internal error\nmore of it")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    train_here(text, text.parent / "run", **compiled("inductor", **{"model.num_layers": 2}))
    assert notes(text.parent / "run") == [
        "not compiled, so the blocks run as they are: RuntimeError: g++: internal error"
    ]
    monkeypatch.undo()
    train_here(text, text.parent / "plain2", **EXACT | {"model.num_layers": 2})
    same(text.parent / "plain2", text.parent / "run")


def test_a_backward_that_cant_be_compiled_is_noticed_before_the_forward_is_used(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.backends.common import aot_autograd

    compile_ = torch.compile

    def no_backward(*_: Any) -> Any:
        raise RuntimeError("no such kernel")

    def without(forward: Any, **_: Any) -> Any:
        return compile_(forward, backend=aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=no_backward))

    train_here(text, text.parent / "plain", **EXACT)
    monkeypatch.setattr(torch, "compile", without)
    train_here(text, text.parent / "run", **compiled("eager"))
    assert notes(text.parent / "run") == ["not compiled, so the blocks run as they are: RuntimeError: no such kernel"]
    same(text.parent / "plain", text.parent / "run")


def test_an_update_that_fails_in_a_compiled_backward_begins_again_without(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch compiled may fail when it is run, out of reach of the block, with half of the gradients there."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    compile_, times = torch.compile, []

    def fails_at_last(graph: Any, _: Any) -> Any:
        def run(*arguments: Any) -> Any:
            times.append(1)
            if len(times) == 5:
                raise RuntimeError("out of registers")
            return graph(*arguments)

        return make_boxed_func(run)

    def failing(forward: Any, **_: Any) -> Any:
        return compile_(forward, backend=aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=fails_at_last))

    settings: dict[str, Any] = {
        "model.num_layers": 2,
        "training.gradient_accumulation_steps": 2,
        "training.batch_size": 2,
    }
    train_here(text, text.parent / "plain", **EXACT | settings)
    monkeypatch.setattr(torch, "compile", failing)
    train_here(text, text.parent / "run", **compiled("eager", **settings))
    assert notes(text.parent / "run") == ["not compiled, so the blocks run as they are: RuntimeError: out of registers"]
    assert values(text.parent / "run") == pytest.approx(values(text.parent / "plain"), rel=1e-5)
    steps = [step for step, _ in losses(text.parent / "run")]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("backend", ["aot_eager", "eager"])
def test_activations_are_computed_again_in_compiled_blocks(text: Path, backend: str) -> None:
    train_here(text, text.parent / "plain", **EXACT)
    train_here(text, text.parent / "run", **compiled(backend, **{"execution.gradient_checkpointing": True}))
    assert notes(text.parent / "run") == []
    assert values(text.parent / "run") == pytest.approx(values(text.parent / "plain"), rel=1e-5)


def test_control_a_compiler_that_changes_numbers_is_noticed(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def coarse(forward: Any, **_: Any) -> Any:
        return lambda x_BTD, **kwargs: forward(x_BTD, **kwargs).roll(1, -1)

    monkeypatch.setattr(torch, "compile", coarse)
    train_here(text, text.parent / "plain", **EXACT)
    train_here(text, text.parent / "run", **compiled("eager"))
    assert values(text.parent / "run") != pytest.approx(values(text.parent / "plain"), rel=1e-5)
