"""Accumulation over unequal micro-batches gives the gradient of the one big batch."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from objectives import causal, objective

from trifecta.execution.precision import LossScaler
from trifecta.models import MODELS, roles
from trifecta.objectives import LossModule
from trifecta.optim import OPTIMIZERS, Optimizers, Trainable
from trifecta.training.step import Update, update
from trifecta.types import Batch

ADAMW = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
LENGTHS = [9, 3, 7, 2, 9, 5, 4, 8]


def parts(dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> tuple[LossModule, Optimizers]:
    torch.manual_seed(0)
    model = MODELS["gpt"](31, d_model=32, num_heads=4, num_layers=2, d_ff=64, dropout=dropout).to(dtype)
    trainable = Trainable(dict(model.named_parameters()), roles(model))
    return LossModule(model, causal()), OPTIMIZERS["adamw"](trainable, 1e-3, **ADAMW)


def examples() -> list[Any]:
    rng = np.random.default_rng(0)
    return [causal().prepare(rng.integers(0, 31, n + 1)) for n in LENGTHS]


def batches(*sizes: int) -> list[Batch]:
    every, start, out = examples(), 0, []
    for size in sizes:
        out.append(causal().collate(every[start : start + size]))
        start += size
    assert start == len(LENGTHS)
    return out


def run(module: LossModule, optimizers: Optimizers, micro: list[Batch], **options: Any) -> Update:
    defaults: dict[str, Any] = {
        "number": 1, "learning_rate": 1e-3, "transforms": (), "seed": 1, "device": torch.device("cpu"),
        "autocast": nullcontext,
    }  # fmt: skip
    return update(module, optimizers, micro, **(defaults | options))


def gradients(module: LossModule, optimizers: Optimizers, micro: list[Batch]) -> tuple[Update, torch.Tensor]:
    """The gradients that the optimizer gets to see."""
    seen: list[torch.Tensor] = []
    optimizers.step = lambda: seen.append(  # type: ignore[method-assign]
        torch.cat([p.grad.flatten() for p in optimizers.parameters if p.grad is not None])
    )
    return run(module, optimizers, micro), seen[0]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.fast
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("sizes", [(4, 4), (2, 2, 2, 2), (3, 5), (3, 3, 2)])
def test_numeric_010_accumulation(dtype: torch.dtype, bound: float, sizes: tuple[int, ...]) -> None:
    """A batch split into unequal micro-batches gives the gradient of the whole batch, to a relative 1e-5, in fp64 to
    1e-12."""
    whole_update, whole = gradients(*parts(dtype), batches(8))
    split_update, split = gradients(*parts(dtype), batches(*sizes))
    assert relative(split, whole) <= bound
    assert split_update.loss == pytest.approx(whole_update.loss, rel=bound)
    assert split_update.weight == whole_update.weight == sum(LENGTHS)


@pytest.mark.fast
def test_numeric_010_control_mean_of_means_fails() -> None:
    """The mean of the micro-batches' means is off by more than 1 %."""
    _, whole = gradients(*parts(), batches(8))
    module, _ = parts()
    micro = batches(4, 4)
    for batch in micro:
        (term,) = module(batch).terms.values()
        (term[0] / term[1] / len(micro)).backward()
    wrong = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    assert relative(wrong, whole) > 0.01


KINDS = [("bert", "masked"), ("t5", "span")]
"""With learned positions: rotary ones are rounded to fp32 at a document's place in its row, which differs."""
RAGGED = [60, 3, 25, 9, 41, 1, 17, 50]


def unequal(kind: str, name: str, dtype: torch.dtype, *sizes: int) -> tuple[LossModule, Optimizers, list[Batch]]:
    """A small BERT or T5, and ragged documents with gaps in micro-batches of so many."""
    made, rng, out, start = objective(name, 64, documents=True), np.random.default_rng(0), [], 0
    every = [made.corrupt(made.prepare(rng.integers(0, 256, length + 1)), rng) for length in RAGGED]
    for size in sizes:
        out.append(made.collate(every[start : start + size]))
        start += size
    torch.manual_seed(0)
    fields: dict[str, Any] = {"position": "learned", "max_sequence_length": 64} if kind == "bert" else {}
    sizes_: dict[str, Any] = {"d_model": 32, "num_heads": 4, "num_layers": 2, "d_ff": 64, "dropout": 0.0}
    model = MODELS[kind](made.vocabulary.size, **sizes_, **fields).to(dtype)
    trainable = Trainable(dict(model.named_parameters()), roles(model))
    return LossModule(model, made), OPTIMIZERS["adamw"](trainable, 1e-3, **ADAMW), out


@pytest.mark.fast
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("sizes", [(4, 4), (3, 3, 2), (1, 1, 1, 1, 1, 1, 1, 1)])
@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_numeric_010_accumulation_over_unequal_gaps(
    kind: str, name: str, sizes: tuple[int, ...], dtype: torch.dtype, bound: float
) -> None:
    """Ragged documents with unequal numbers of masked or written tokens, split into micro-batches, give the gradient of
    the whole batch, to a relative 1e-5, in fp64 to 1e-12, and the same loss and accuracy."""
    whole_update, whole = gradients(*unequal(kind, name, dtype, 8))
    *parts_, micro = unequal(kind, name, dtype, *sizes)
    assert len({batch.weights[name] for batch in micro}) > 1, "the counts do differ"
    split_update, split = gradients(*parts_, micro)
    assert relative(split, whole) <= bound
    assert split_update.loss == pytest.approx(whole_update.loss, rel=bound)
    assert split_update.weight == whole_update.weight
    assert split_update.metrics == pytest.approx(whole_update.metrics, rel=1e-12)
    assert (split_update.samples, split_update.tokens) == (whole_update.samples, whole_update.tokens)


@pytest.mark.fast
@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_numeric_010_control_mean_of_means_over_unequal_gaps_fails(kind: str, name: str) -> None:
    """The mean of the micro-batches' means of masked or written tokens is off by more than 5 %."""
    _, whole = gradients(*unequal(kind, name, torch.float32, 8))
    module, _, micro = unequal(kind, name, torch.float32, 4, 3, 1)
    for batch in micro:
        (term,) = module(batch).terms.values()
        (term[0] / max(term[1], 1.0) / len(micro)).backward()
    wrong = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    assert relative(wrong, whole) > 0.05


@pytest.mark.fast
def test_fault_031_nonfinite_loss_touches_neither_weights_nor_moments() -> None:
    """A NaN loss leaves weights and moments byte for byte as they were."""
    module, optimizers = parts()
    run(module, optimizers, batches(8))
    weights = [p.detach().clone() for p in module.parameters()]
    moments = {k: v.clone() for k, v in optimizers.state_tensors().items()}
    original = module.model.logits
    module.model.logits = lambda hidden: original(hidden) * float("nan")  # type: ignore[assignment]
    done = run(module, optimizers, batches(8), number=2)
    assert done.skipped
    assert all(torch.equal(a, b) for a, b in zip(weights, module.parameters(), strict=True))
    assert all(torch.equal(v, moments[k]) for k, v in optimizers.state_tensors().items())
    module.model.logits = original  # type: ignore[assignment]
    assert not run(module, optimizers, batches(8), number=3).skipped


@pytest.mark.fast
def test_fault_032_one_nan_gradient_is_skipped_and_the_next_good_step_is_taken() -> None:
    """Where one gradient is NaN the update is skipped, the moments stay finite, and the next good step is taken."""
    module, optimizers = parts()
    handle = next(iter(module.parameters())).register_hook(lambda g: g.index_fill(0, torch.tensor([0]), float("nan")))
    before = [p.detach().clone() for p in module.parameters()]
    assert run(module, optimizers, batches(8)).skipped
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    handle.remove()
    done = run(module, optimizers, batches(8), number=2)
    assert not done.skipped
    assert all(v.isfinite().all() for v in optimizers.state_tensors().values())


@pytest.mark.fast
def test_fault_035_batch_without_targets_is_finite_and_counted() -> None:
    """A batch without targets has a loss of exactly 0 and isn't skipped."""
    module, optimizers = parts()
    batch = batches(8)[0]
    nothing = {"targets_BT": torch.full_like(batch.targets["targets_BT"], -100)}
    empty = replace(batch, targets=nothing, weights={"next_token": 0.0})
    done = run(module, optimizers, [empty])
    assert (done.loss, done.weight, done.skipped) == (0.0, 0.0, False)


@pytest.mark.fast
def test_numeric_017_scaler_trace_on_scripted_infinities() -> None:
    """Over a written sequence of finite and infinite gradients the loss scale takes exactly the expected values."""
    scaler = LossScaler(scale=1024.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=3)
    trace = []
    for finite in (True, True, True, False, False, True, True, True, True):
        scaler.update(finite)
        trace.append((scaler.scale, scaler.good_steps))
    assert trace == [
        (1024, 1), (1024, 2), (2048, 0), (1024, 0), (512, 0), (512, 1), (512, 2), (1024, 0), (1024, 1),
    ]  # fmt: skip


@pytest.mark.fast
def test_numeric_017_scaled_step_equals_unscaled_step_and_infinity_skips() -> None:
    """A step with a loss scale equals the step without, to about 1e-6 relative and 1e-5 absolute; an infinite gradient
    skips the step and halves the scale."""
    (plain, plain_opt), (scaled, scaled_opt) = parts(), parts()
    scaler = LossScaler(scale=1024.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000)
    one = run(plain, plain_opt, batches(8))
    two = run(scaled, scaled_opt, batches(8), scaler=scaler)
    assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-6)
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    before = [p.detach().clone() for p in scaled.parameters()]
    handle = next(iter(scaled.parameters())).register_hook(lambda g: g * float("inf"))
    assert run(scaled, scaled_opt, batches(8), number=2, scaler=scaler).skipped
    handle.remove()
    assert scaler.scale == 512.0
    assert all(torch.equal(a, b) for a, b in zip(before, scaled.parameters(), strict=True))


@pytest.mark.fast
def test_numeric_014_activation_checkpointing_with_dropout_is_exact() -> None:
    """With dropout on, gradients with and without activation checkpointing are the same bit for bit."""
    from trifecta.execution.memory import checkpoint_activations

    results = []
    for every, policy in ((None, "full"), (1, "full"), (2, "full"), (1, "selective"), (2, "selective")):
        module, optimizers = parts(dropout=0.2)
        if every:
            checkpoint_activations(list(module.model.blocks)[::every], policy)  # type: ignore[arg-type]
        module.train()
        _, gradient = gradients(module, optimizers, batches(4, 4))
        results.append(gradient)
    plain, *recomputed = results
    assert all(torch.equal(plain, each) for each in recomputed)


@pytest.mark.fast
def test_numeric_014_control_without_the_random_state_it_differs() -> None:
    """Recomputing without the random state gives other gradients."""
    from torch.utils.checkpoint import checkpoint

    results = []
    for recompute in (False, True):
        module, optimizers = parts(dropout=0.2)
        if recompute:
            for block in module.model.blocks:  # type: ignore[union-attr]
                plain = block.forward

                def careless(*args: Any, _plain: Any = plain, **kwargs: Any) -> Any:
                    return checkpoint(_plain, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

                block.forward = careless
        module.train()
        results.append(gradients(module, optimizers, batches(4, 4))[1])
    assert not torch.equal(*results)


@pytest.mark.fast
def test_numeric_017_control_a_forgotten_reset_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scaler that doesn't start counting anew after an infinity ends at another scale."""
    right = LossScaler.update

    def forgetful(self: LossScaler, finite: bool) -> None:
        before = self.good_steps
        right(self, finite)
        if not finite:
            self.good_steps = before

    monkeypatch.setattr(LossScaler, "update", forgetful)
    scaler = LossScaler(scale=1024.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=3)
    for finite in (True, True, False, True):
        scaler.update(finite)
    assert scaler.scale == 1024.0, "with the reset it would be 512"


@pytest.mark.fast
def test_fault_031_control_a_step_on_a_nonfinite_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes every gradient for finite fails the test."""
    import trifecta.training.step as step_module

    monkeypatch.setattr(step_module.math, "isfinite", lambda _: True)
    with pytest.raises(AssertionError):
        test_fault_031_nonfinite_loss_touches_neither_weights_nor_moments()


@pytest.mark.fast
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_numeric_015_bf16_autocast_is_close_and_warns_of_nothing(norm: str) -> None:
    """Under bf16 autocast the loss is within 1 % of that in fp32, and the cosine between the gradients is at least
    0.999."""
    results = []
    for context in (nullcontext, lambda: torch.autocast("cpu", dtype=torch.bfloat16)):
        torch.manual_seed(0)
        model = MODELS["gpt"](
            31,
            d_model=32,
            num_heads=4,
            num_layers=2,
            d_ff=64,
            dropout=0.0,
            norm=norm,
            qk_norm=True,
            activation="swiglu",
        )
        optimizers = OPTIMIZERS["adamw"](Trainable(dict(model.named_parameters()), roles(model)), 1e-3, **ADAMW)
        seen: list[torch.Tensor] = []
        optimizers.step = lambda o=optimizers, s=seen: s.append(  # type: ignore[method-assign,misc]
            torch.cat([p.grad.flatten() for p in o.parameters])
        )
        done = run(LossModule(model, causal()), optimizers, batches(8), autocast=context)
        results.append((done.loss, seen[0]))
    (exact, exact_gradient), (loss, gradient) = results
    assert loss == pytest.approx(exact, rel=1e-2)
    assert loss != exact
    assert float(torch.nn.functional.cosine_similarity(gradient, exact_gradient, dim=0)) >= 0.999


def gradient_after(seed: int) -> torch.Tensor:
    """With dropout on, and torch's default generator in another state for each seed."""
    module, optimizers = parts(dropout=0.2)
    module.train()
    torch.manual_seed(seed)
    return gradients(module, optimizers, batches(4, 4))[1]


@pytest.mark.fast
def test_numeric_037_dropout_follows_from_the_seed_alone() -> None:
    """Dropout follows from the seed alone, not from torch's shared generator."""
    assert torch.equal(gradient_after(1), gradient_after(2))


@pytest.mark.fast
def test_numeric_037_control_shared_random_state_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout from torch's shared generator changes with its seed."""
    import trifecta.training.step as step_module

    monkeypatch.setattr(step_module, "seed_dropout", lambda *_: None)
    assert not torch.equal(gradient_after(1), gradient_after(2))


@pytest.mark.fast
def test_fault_032_control_a_step_on_a_nan_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes every gradient for finite fails the test."""
    import trifecta.training.step as step_module

    monkeypatch.setattr(step_module.math, "isfinite", lambda _: True)
    with pytest.raises(AssertionError):
        test_fault_032_one_nan_gradient_is_skipped_and_the_next_good_step_is_taken()


@pytest.mark.fast
def test_numeric_015_control_a_coarser_format_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products with three bits of mantissa instead of eight are no longer close."""
    linear = torch.nn.Linear.forward

    def coarse(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        out = linear(self, x)
        return out if not torch.is_autocast_enabled("cpu") else out + (out.to(torch.float8_e5m2).float() - out).detach()

    monkeypatch.setattr(torch.nn.Linear, "forward", coarse)
    with pytest.raises(AssertionError):
        test_numeric_015_bf16_autocast_is_close_and_warns_of_nothing("layernorm")
