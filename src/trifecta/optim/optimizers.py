"""Optimizers by name, parameter groups by role, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from trifecta.optim.adamw import AdamW, Optimizer
from trifecta.optim.muon import Muon

Role = str
"""matrix, embedding, head, bias or norm."""

DECAYED: frozenset[Role] = frozenset({"matrix", "embedding", "head"})


@dataclass(frozen=True)
class Trainable:
    """What an optimizer is given: parameters by name, none of them frozen, and each one's role.

    ratios: what the learning rate is multiplied by; 1 for names that aren't there.
    """

    parameters: Mapping[str, torch.nn.Parameter]
    roles: Mapping[str, Role]
    ratios: Mapping[str, float] = field(default_factory=dict)

    def groups(self, names: Iterable[str], weight_decay: float, lr_ratio: float = 1.0) -> list[dict[str, Any]]:
        """For each ratio one group that decays and one that doesn't: norms and biases never do. Each name is in one."""
        by_kind: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
        for name in names:
            kind = self.ratios.get(name, 1.0), self.roles[name] not in DECAYED
            by_kind.setdefault(kind, []).append(self.parameters[name])
        return [
            {"params": parameters, "weight_decay": 0.0 if spared else weight_decay, "lr_ratio": lr_ratio * ratio}
            for (ratio, spared), parameters in sorted(by_kind.items(), key=lambda item: item[0])
        ]


class Optimizers:
    """Several optimizers as one: each parameter belongs to exactly one of them."""

    def __init__(self, parts: Sequence[Optimizer], trainable: Trainable):
        self.parts = list(parts)
        self._names: dict[torch.Tensor, str] = {p: name for name, p in trainable.parameters.items()}
        self._parameters = list(trainable.parameters.values())
        owned = [p for part in self.parts for group in part.param_groups for p in group["params"]]
        assert len(owned) == len(set(owned)) == len(self._names), "each parameter belongs to exactly one group"

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Every parameter, in the model's order."""
        return self._parameters

    def set_learning_rate(self, learning_rate: float) -> None:
        """Gives each group learning_rate times its own ratio."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group["lr_ratio"]

    def step(self) -> None:
        """One update."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self._names:
            parameter.grad = None

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """All moments and counters as `parameter name/state name`, sharing memory with the optimizer."""
        tensors = {}
        for part in self.parts:
            for parameter, state in part.state.items():
                for name, value in state.items():
                    tensors[f"{self._names[parameter]}/{name}"] = value
        return dict(sorted(tensors.items()))

    def misfits(self, tensors: Mapping[str, torch.Tensor]) -> list[str]:
        """What keeps these from being this optimizer's state: foreign names or shapes, numbers that aren't finite, and
        parameters without a state where others have one."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        problems = []
        for key, tensor in tensors.items():
            name = key.rpartition("/")[0]
            if name not in parameters:
                problems.append(f"{key} is of no parameter of this model")
            elif tensor.shape not in (parameters[name].shape, torch.Size(())):
                problems.append(f"{key} is {list(tensor.shape)}, the parameter {list(parameters[name].shape)}")
            elif not tensor.isfinite().all():
                problems.append(f"{key} holds NaN or infinity")
        with_state = {key.rpartition("/")[0] for key in tensors}
        problems += [f"{name} has no state" for name in parameters if with_state and name not in with_state]
        return sorted(problems)

    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes over what `state_tensors` gave; the tensors must own their memory."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        owner = {p: part for part in self.parts for group in part.param_groups for p in group["params"]}
        for part in self.parts:
            part.state.clear()
        for key, tensor in tensors.items():
            name, _, state_name = key.rpartition("/")
            parameter = parameters[name]
            owner[parameter].state[parameter][state_name] = tensor


def adamw(
    trainable: Trainable, learning_rate: float, *, beta_1: float, beta_2: float, epsilon: float, weight_decay: float
) -> Optimizers:
    """p <- p - lr * (m / (sqrt(v) + epsilon) + weight_decay * p), moments corrected (Loshchilov and Hutter, 2017)."""
    groups = trainable.groups(trainable.parameters, weight_decay)
    part = AdamW(groups, lr=learning_rate, betas=(beta_1, beta_2), eps=epsilon)
    return Optimizers([part], trainable)


def adam(trainable: Trainable, learning_rate: float, *, beta_1: float, beta_2: float, epsilon: float) -> Optimizers:
    """AdamW without decay (Kingma and Ba, 2014)."""
    return adamw(trainable, learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=0.0)


def sgd(
    trainable: Trainable, learning_rate: float, *, momentum: float, nesterov: bool, weight_decay: float
) -> Optimizers:
    """buffer <- momentum * buffer + g + weight_decay * p; p <- p - lr * buffer."""
    groups = trainable.groups(trainable.parameters, weight_decay)
    part = torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=nesterov, foreach=True)
    return Optimizers([part], trainable)


def muon(
    trainable: Trainable,
    learning_rate: float,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    momentum: float,
    nesterov: bool,
    newton_schulz_steps: int,
    weight_decay: float,
    adamw_learning_rate_ratio: float,
) -> Optimizers:
    """Muon for hidden matrices, AdamW for embeddings, head, norms and biases."""
    hidden = [name for name in trainable.parameters if trainable.roles[name] == "matrix"]
    rest = [name for name in trainable.parameters if trainable.roles[name] != "matrix"]
    parts: list[Optimizer] = []
    if hidden:
        parts.append(
            Muon(
                trainable.groups(hidden, weight_decay),
                lr=learning_rate,
                momentum=momentum,
                nesterov=nesterov,
                newton_schulz_steps=newton_schulz_steps,
            )
        )
    groups = trainable.groups(rest, weight_decay, adamw_learning_rate_ratio)
    parts.append(AdamW(groups, lr=learning_rate, betas=(beta_1, beta_2), eps=epsilon))
    return Optimizers(parts, trainable)
