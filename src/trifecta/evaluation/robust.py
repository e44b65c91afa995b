"""Loss and figures under the small change of the embeddings that hurts most."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from trifecta.optim.perturbations import Tap, ascent
from trifecta.types import Batch, LossSum


class Attacked(nn.Module):
    """A module, batch -> LossSum, whose embeddings are moved up the gradient of its loss (Goodfellow et al., 2015).

    Args:
        module: what is attacked. embedding: whose output is changed. epsilon: length of the change of each row (L2).
    """

    def __init__(self, module: nn.Module, embedding: nn.Module, epsilon: float):
        super().__init__()
        self.module = module
        self._tap, self._epsilon = Tap(embedding), epsilon
        self.train(module.training)

    def forward(self, batch: Batch) -> LossSum:
        """Sums and counts under the change; gradients of parameters aren't touched."""
        with torch.inference_mode(False):
            batch = replace(
                batch, inputs={name: tensor.clone() for name, tensor in batch.inputs.items()},
                targets={name: tensor.clone() for name, tensor in batch.targets.items()},
            )  # fmt: skip
            with torch.enable_grad(), self._tap.open():
                result: LossSum = self.module(batch)
                total = torch.stack([total for total, _ in result.terms.values()]).sum()
                output = self._tap.output
                (gradient,) = torch.autograd.grad(total, [output], allow_unused=True)
            if gradient is None:
                return result  # nothing to learn in this batch
            with torch.no_grad(), self._tap.open(ascent(gradient, self._epsilon)):
                attacked: LossSum = self.module(batch)
        return attacked
