"""Optimizers by name, parameter groups by role, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from trifecta.optim.adafactor import Adafactor
from trifecta.optim.adamw import AdamW, Optimizer
from trifecta.optim.foreign import Foreign
from trifecta.optim.lion import Lion
from trifecta.optim.muon import Muon
from trifecta.optim.state import decode, encode

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
        """All moments and counters as `parameter name/state name`; tensors share memory with the optimizer.

        Raises:
            RecipeError: an optimizer of the user's keeps what can't be saved.
        """
        tensors = {}
        for part in self.parts:
            for parameter, state in part.state.items():
                for name, value in state.items():
                    key, tensor = encode(self._names[parameter], name, value)
                    tensors[key] = tensor
            if isinstance(part, Foreign):
                tensors |= dict(encode(owner, name, value) for owner, name, value in part.changed_settings())
        return dict(sorted(tensors.items()))

    def misfits(self, tensors: Mapping[str, torch.Tensor]) -> list[str]:
        """What keeps these from being this optimizer's state: foreign names or shapes, numbers that aren't finite, and
        parameters without a state where others have one."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        owners, settings = self._owners(), self._settings()
        problems, with_state = [], set()
        for key, tensor in tensors.items():
            name, state_name, value = decode(key, tensor)
            with_state.add(name)
            parameter = parameters.get(name)
            if parameter is None and name not in settings:
                problems.append(f"{key} is of no parameter of this model")
            elif parameter is not None and not _fits(owners[parameter], parameter, state_name, value):
                problems.append(f"{key} is {list(tensor.shape)}, the parameter {list(parameter.shape)}")
            elif not tensor.isfinite().all():
                problems.append(f"{key} holds NaN or infinity")
        for name, parameter in parameters.items():
            part = owners[parameter]
            if with_state - settings.keys() and name not in with_state and getattr(part, "keeps_state_of_each", True):
                problems.append(f"{name} has no state")
        return sorted(problems)

    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes over what `state_tensors` gave, on each parameter's device; the tensors must own their memory."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        owners, settings = self._owners(), self._settings()
        for part in self.parts:
            part.state.clear()
        for key, tensor in tensors.items():
            name, state_name, value = decode(key, tensor)
            if name in settings:
                settings[name][state_name] = value
                continue
            parameter = parameters[name]
            part = owners[parameter]
            stays = state_name == "step" and getattr(part, "steps_on_cpu", False)
            if isinstance(value, torch.Tensor) and not stays:
                value = value.to(parameter.device)
            part.state[parameter][state_name] = value

    def _owners(self) -> dict[torch.Tensor, Optimizer]:
        return {p: part for part in self.parts for group in part.param_groups for p in group["params"]}

    def _settings(self) -> dict[str, dict[str, Any]]:
        """The groups of users' optimizers, whose settings are state too."""
        foreign = [part for part in self.parts if isinstance(part, Foreign)]
        return {name: group for part in foreign for name, group in part.named_groups().items()}


def _fits(part: Optimizer, parameter: torch.Tensor, name: str, value: Any) -> bool:
    """Whether a saved value has a shape that this optimizer keeps for the parameter."""
    if isinstance(part, Foreign) or not isinstance(value, torch.Tensor) or value.dim() == 0:
        return True
    shapes = getattr(part, "state_shapes", None)
    return tuple(value.shape) == (tuple(parameter.shape) if shapes is None else shapes(parameter).get(name))


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


def lion(
    trainable: Trainable, learning_rate: float, *, beta_1: float, beta_2: float, weight_decay: float
) -> Optimizers:
    """p <- p - lr * (sign(beta_1 * m + (1 - beta_1) * g) + weight_decay * p) (Chen et al., 2023)."""
    groups = trainable.groups(trainable.parameters, weight_decay)
    return Optimizers([Lion(groups, lr=learning_rate, betas=(beta_1, beta_2))], trainable)


def adafactor(
    trainable: Trainable, learning_rate: float, *, decay_exponent: float, epsilon: float, minimal_scale: float,
    clip_threshold: float, scale_parameter: bool, relative_step: bool, weight_decay: float,
) -> Optimizers:  # fmt: skip
    """Second moments as rows and columns (Shazeer and Stern, 2018)."""
    part = Adafactor(
        trainable.groups(trainable.parameters, weight_decay), lr=learning_rate, decay_exponent=decay_exponent,
        epsilon=epsilon, minimal_scale=minimal_scale, clip_threshold=clip_threshold, scale_parameter=scale_parameter,
        relative_step=relative_step,
    )  # fmt: skip
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
