"""What `check` says of memory and time, against counts by hand."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from trifecta.inspection.estimate import Speed, _saved_bytes, estimate, measure_speed
from trifecta.models import Gpt

SMALL = partial(Gpt, 100, d_model=128, num_heads=4, num_layers=2, d_ff=512, dropout=0.0)
ANY = Speed(1e9, 1e-9)


@pytest.mark.parametrize(("optimizer", "floats"), [("adamw", 2 * 409_600), ("adam", 2 * 409_600), ("sgd", 409_600)])
def test_weights_gradients_and_states(optimizer: str, floats: int) -> None:
    found = estimate(SMALL, batch_size=2, sequence_length=16, optimizer=optimizer, speed=ANY)
    assert found.weight_bytes == found.gradient_bytes == 4 * 409_600
    assert found.optimizer_bytes == 4 * floats
    assert sum(found.parameters.values()) == 409_600


def test_muon_keeps_one_number_for_matrices() -> None:
    matrices = 2 * (4 * 128 * 128 + 2 * 128 * 512)
    found = estimate(SMALL, batch_size=2, sequence_length=16, optimizer="muon", speed=ANY)
    assert found.optimizer_bytes == 4 * (matrices + 2 * (409_600 - matrices))


@pytest.mark.parametrize(
    "build",
    [
        SMALL,
        partial(SMALL, dropout=0.1),
        partial(SMALL, norm="rmsnorm", activation="swiglu", position="alibi", qk_norm=True),
    ],
)
def test_activations_are_those_of_a_real_forward(build: partial[Gpt]) -> None:
    found = estimate(build, batch_size=3, sequence_length=32, speed=ANY, device="cuda")
    real = _saved_bytes(build(), 3, 32, None)
    assert found.activation_bytes == pytest.approx(real, rel=0.02)


def test_time_follows_the_formula() -> None:
    """All of it from matrix products when nothing else takes time; twice the micro-batches, twice the time."""
    only_products = Speed(1e9, 0.0)
    one = estimate(SMALL, batch_size=2, sequence_length=16, speed=only_products)
    two = estimate(SMALL, batch_size=2, sequence_length=16, gradient_accumulation_steps=2, speed=only_products)
    multiplied = 2 * (4 * 128 * 128 + 2 * 128 * 512) + 100 * 128
    attention = 12 * 2 * 16 * 128
    assert one.flops_per_step == 32 * (6 * multiplied + attention)
    assert one.seconds_per_step == pytest.approx(32 * (6 * multiplied + 3 * attention) / 1e9)
    assert two.seconds_per_step == pytest.approx(2 * one.seconds_per_step)
    assert two.tokens_per_second == pytest.approx(one.tokens_per_second)
    assert two.activation_bytes == one.activation_bytes


def test_averages_are_kept_and_passes_take_their_time() -> None:
    only_products = Speed(1e9, 0.0)
    one = estimate(SMALL, batch_size=2, sequence_length=16, speed=only_products)
    more = estimate(SMALL, batch_size=2, sequence_length=16, speed=only_products, averaged=True, passes=3)
    assert more.optimizer_bytes == one.optimizer_bytes + 4 * 409_600
    assert more.seconds_per_step == pytest.approx(3 * one.seconds_per_step)
    assert more.tokens_per_step == one.tokens_per_step


def test_flops_equal_torchs_own_count() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model, tokens = SMALL(), torch.zeros(2, 16, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    found = estimate(SMALL, batch_size=2, sequence_length=16, speed=ANY)
    assert found.flops_per_step == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_huge_models_are_estimated_without_their_memory() -> None:
    build = partial(Gpt, 50_000, d_model=8192, num_heads=64, num_layers=3, d_ff=32_768)
    found = estimate(build, batch_size=64, sequence_length=2048, autocast=torch.bfloat16, speed=ANY, logit_rows=1024)
    assert found.total_bytes > 200e9
    assert found.logit_bytes == pytest.approx(1.3 * 12 * 1024 * 50_000)


def test_speed_is_measured_and_leaves_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    speed = measure_speed(64, 32, 64)
    assert speed.flops_per_second > 0 < speed.seconds_per_saved_byte
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_small_model_is_estimated_without_torchs_compiler() -> None:
    """In a fresh process: importing the compiler would take two seconds."""
    program = """
import sys
import subprocess
import sys
from functools import partial
from trifecta.inspection.estimate import Speed, estimate
from trifecta.models import Gpt
small = partial(Gpt, 100, d_model=32, num_heads=4, num_layers=2, d_ff=64, init="xavier", tie_embeddings=False)
estimate(small, batch_size=2, sequence_length=16, speed=Speed(1e9, 1e-9))
print("torch._dynamo" in sys.modules)
import torch._dynamo
print("torch._dynamo" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "True"]


def test_a_large_model_is_estimated_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = estimate(SMALL, batch_size=5, sequence_length=16, speed=ANY)
    monkeypatch.setattr("trifecta.inspection.estimate._SMALL_MODEL", 0)
    pretended = estimate(SMALL, batch_size=5, sequence_length=16, speed=ANY)
    assert pretended.activation_bytes == pytest.approx(real.activation_bytes, rel=0.01)
