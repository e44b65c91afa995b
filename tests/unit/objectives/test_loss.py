"""The loss: exact figures, stability, independence of what is ignored, chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from objectives import causal
from torch import nn

from trifecta.objectives import loss as loss_module
from trifecta.objectives.causal import Causal
from trifecta.objectives.loss import cross_entropy_sum
from trifecta.types import IGNORE


def of_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of given logits: hidden states are the logits, the head changes nothing."""
    counted = int((targets != IGNORE).sum())
    return cross_entropy_sum(logits, targets, lambda x: x, [], vocab_size=logits.size(-1), supervised=counted)


@pytest.mark.fast
def test_group_017_softmax_cross_entropy_and_gradient() -> None:
    logits = torch.tensor([[2.1, -0.5, 3.4, 0.2, -1.2, 1.8]], dtype=torch.float64, requires_grad=True)
    loss = of_logits(logits, torch.tensor([2]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(0.4353, abs=1e-4)
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.1763, 0.0131, -0.3530, 0.0264, 0.0065, 0.1306], abs=1e-4)


@pytest.mark.fast
def test_group_017_position_losses_and_mean() -> None:
    logits = torch.tensor([[1.5, 0.2, 2.1, -0.5], [0.8, 2.3, 0.1, -0.2]], dtype=torch.float64)
    targets = torch.tensor([2, 1])
    losses = [float(of_logits(logits[i : i + 1], targets[i : i + 1])) for i in range(2)]
    assert losses == pytest.approx([0.5725, 0.3478], abs=1e-4)
    assert float(of_logits(logits, targets)) / 2 == pytest.approx(0.4602, abs=1e-4)


@pytest.mark.fast
@pytest.mark.parametrize(("p", "wanted"), [(0.99, 0.01), (0.5, 0.69), (0.1, 2.30), (0.01, 4.61)])
def test_group_017_minus_log_p(p: float, wanted: float) -> None:
    logits = torch.tensor([[p, 1 - p]], dtype=torch.float64).log()
    assert float(of_logits(logits, torch.tensor([0]))) == pytest.approx(wanted, abs=6e-3)


@pytest.mark.fast
def test_numeric_024_stable_at_huge_logits() -> None:
    """At logits up to 10,000 the loss equals the log-sum-exp in fp64, to 1e-6."""
    rng = np.random.default_rng(0)
    logits = rng.uniform(-1e4, 1e4, (50, 30))
    targets = rng.integers(0, 30, 50)
    shifted = logits - logits.max(1, keepdims=True)
    exact = (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(50), targets]).sum()
    ours = of_logits(torch.tensor(logits, dtype=torch.float32), torch.tensor(targets))
    assert torch.isfinite(ours)
    assert float(ours) == pytest.approx(exact, rel=1e-6)


@pytest.mark.fast
def test_numeric_025_ignored_positions_have_no_influence() -> None:
    """Loss and gradient don't depend on the logits of ignored places, exactly."""
    torch.manual_seed(0)
    targets = torch.tensor([[1, IGNORE, 3, IGNORE]])
    logits = torch.randn(1, 4, 5, requires_grad=True)
    loss = of_logits(logits, targets)
    (gradient,) = torch.autograd.grad(loss, logits)
    changed = logits.detach().clone()
    changed[0, [1, 3]] = torch.randn(2, 5) * 100
    changed.requires_grad_()
    other = of_logits(changed, targets)
    (other_gradient,) = torch.autograd.grad(other, changed)
    assert torch.equal(loss, other)
    assert torch.equal(gradient, other_gradient)
    assert (gradient[0, [1, 3]] == 0).all()


@pytest.mark.fast
def test_numeric_025_control_ignored_positions_that_count_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that counts ignored places fails the test."""

    def counting(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten().clamp(min=0), reduction="sum")

    monkeypatch.setitem(globals(), "of_logits", counting)
    with pytest.raises(AssertionError):
        test_numeric_025_ignored_positions_have_no_influence()


@pytest.mark.fast
def test_numeric_026_nothing_to_learn_is_zero_with_finite_gradient() -> None:
    """Where every place is ignored, loss and gradient are exactly 0."""
    hidden = torch.randn(2, 3, 5, requires_grad=True)
    loss = of_logits(hidden, torch.full((2, 3), IGNORE))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.0
    assert hidden.grad is not None
    assert (hidden.grad == 0).all()


def test_numeric_001_chunked_loss_gradcheck() -> None:
    """The gradient of the chunked loss passes torch's gradcheck in fp64 (relative 1e-3)."""
    torch.manual_seed(0)
    hidden = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(3, 4, dtype=torch.float64)
    targets = torch.tensor([0, 1, IGNORE, 3, 2, 1, 0])

    def loss(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        def apply(x: torch.Tensor) -> torch.Tensor:
            return x @ weight.T + bias

        return cross_entropy_sum(
            hidden, targets, apply, [weight, bias], vocab_size=4, supervised=6, chunk_elements=8  # type: ignore[list-item]
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, (hidden, head.weight, head.bias))


def test_chunked_loss_equals_whole_loss() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(4, 9, 8, requires_grad=True)
    head = nn.Linear(8, 11)
    targets = torch.randint(0, 11, (4, 9))
    results = []
    for chunk in (1 << 20, 11 * 5):
        hidden.grad = head.weight.grad = head.bias.grad = None
        loss = cross_entropy_sum(
            hidden, targets, head, list(head.parameters()), vocab_size=11, supervised=36, chunk_elements=chunk
        )
        (loss / 36).backward()
        results.append([loss.detach(), hidden.grad, head.weight.grad, head.bias.grad])
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(whole, chunked)


@pytest.mark.fast
def test_a_second_backward_pass_adds_the_same_gradients_again() -> None:
    """The first one's were handed out, and scaled in their place."""
    torch.manual_seed(0)
    hidden, head = torch.randn(1, 9, 8, requires_grad=True), nn.Linear(8, 11)
    loss = cross_entropy_sum(
        hidden, torch.randint(0, 11, (1, 9)), head, list(head.parameters()), vocab_size=11, supervised=9,
        chunk_elements=33,
    ) * 0.25  # fmt: skip
    loss.backward(retain_graph=True)
    once = [tensor.grad.clone() for tensor in (hidden, head.weight, head.bias) if tensor.grad is not None]
    loss.backward()
    for tensor, first in zip((hidden, head.weight, head.bias), once, strict=True):
        assert tensor.grad is not None
        torch.testing.assert_close(tensor.grad, 2 * first)


@pytest.mark.fast
def test_numeric_023_target_at_t_is_token_t_plus_one() -> None:
    """The target at place t is exactly token t + 1; padded places are ignored and don't count."""
    objective = causal()
    windows = [np.arange(10, 19), np.arange(50, 55)]
    batch = objective.collate([objective.prepare(w) for w in windows])
    tokens, targets = batch.inputs["tokens_BT"], batch.targets["targets_BT"]
    for row, window in enumerate(windows):
        for t in range(len(window) - 1):
            assert tokens[row, t] == window[t]
            assert targets[row, t] == window[t + 1]
    assert (targets[1, 4:] == IGNORE).all()
    assert batch.weights == {"next_token": 8.0 + 4.0}


@pytest.mark.fast
def test_group_006_shifted_example_of_the_seed() -> None:
    words = {word: i for i, word in enumerate(["The", "cat", "sat", "on", "the", "mat"])}
    example = causal().prepare(np.array([words[w] for w in ["The", "cat", "sat", "on", "the", "mat"]]))
    names = list(words)
    assert " ".join(names[i] for i in example.arrays["tokens"]) == "The cat sat on the"
    assert " ".join(names[i] for i in example.arrays["targets"]) == "cat sat on the mat"


def test_numeric_001_control_a_wrong_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss gradient wrong by 1 % fails gradcheck."""
    right = loss_module._ChunkedLoss.backward
    monkeypatch.setattr(
        loss_module._ChunkedLoss, "backward", staticmethod(lambda ctx, *grads: right(ctx, *(g * 1.01 for g in grads)))
    )
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        test_numeric_001_chunked_loss_gradcheck()


@pytest.mark.fast
def test_numeric_023_control_a_second_shift_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets shifted twice fail the test."""
    right = Causal.prepare
    monkeypatch.setattr(
        Causal, "prepare", lambda self, w: type(e := right(self, w))({"tokens": w[:-2], "targets": w[2:]} if e else {})
    )
    with pytest.raises((AssertionError, IndexError)):
        test_numeric_023_target_at_t_is_token_t_plus_one()


@pytest.mark.fast
def test_numeric_026_control_a_mean_over_nothing_is_noticed() -> None:
    """A mean over no places isn't finite."""
    hidden = torch.randn(2, 3, 5)
    mean = torch.nn.functional.cross_entropy(hidden.flatten(0, 1), torch.full((6,), IGNORE))
    assert not torch.isfinite(mean)


@pytest.mark.fast
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numeric_024_control_without_the_shift_it_breaks() -> None:
    """Cross-entropy without subtracting the largest logit isn't finite."""
    logits = np.random.default_rng(0).uniform(-1e4, 1e4, (50, 30))
    targets = np.random.default_rng(1).integers(0, 30, 50)
    naive = -np.log(np.exp(logits)[np.arange(50), targets] / np.exp(logits).sum(1) + 1e-10).sum()
    ours = of_logits(torch.tensor(logits, dtype=torch.float32), torch.tensor(targets))
    assert torch.isfinite(ours)
    assert not np.isfinite(naive)


@pytest.mark.fast
@pytest.mark.parametrize("chunk", [1 << 20, 11 * 5, 1])
def test_loss_without_gradients_in_chunks(chunk: int) -> None:
    """Validation of a large vocabulary: the head's parameters want gradients, but nothing records them."""
    head = nn.Linear(8, 11)
    hidden, targets = torch.randn(2, 18, 8), torch.randint(11, (2, 18))
    whole = nn.functional.cross_entropy(head(hidden).flatten(0, 1), targets.flatten(), reduction="sum")
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            loss = cross_entropy_sum(
                hidden, targets, head, list(head.parameters()), vocab_size=11, supervised=36, chunk_elements=chunk
            )
        torch.testing.assert_close(loss, whole.detach())
        assert not loss.requires_grad


@pytest.mark.fast
def test_what_does_not_count_is_neither_asked_nor_guessed() -> None:
    """Token 0 is the likeliest everywhere: as a sentinel it hides nothing, as a token like others it does."""
    logits = torch.tensor([[9.0, 2.0, 1.0], [9.0, 1.0, 2.0], [9.0, 1.0, 2.0]])
    targets = torch.tensor([1, 1, 0])
    found = []
    for counts in (None, torch.tensor([False, True, True])):
        right = loss_module.Right(torch.device("cpu"), counts)
        right.add(logits, targets)
        right.add(logits[:0], targets[:0])
        found.append((int(right.number), int(right.total)))
    assert found == [(1, 3), (1, 2)]
    assert float(logits[0, 0]) == 9.0
