"""The loop with an optimizer of your own: signs of the gradient with momentum, in ten lines."""

import torch

import trifecta


class SignMomentum(torch.optim.Optimizer):
    def __init__(self, params, lr: float, beta: float = 0.9):
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["beta"])
                weight.sub_(momentum.sign(), alpha=group["lr"])


model = trifecta.build(vocab_size=12, settings={"model.d_model": 32, "model.num_heads": 2, "model.num_layers": 1})
counting = [(torch.arange(17) * step + start) % 12 for step in (1, 5, 7) for start in range(12)]
module = trifecta.NextToken(model)
loop = trifecta.Loop(
    module, counting, trifecta.collate_next_token, optimizer=SignMomentum, learning_rate=1e-3, epochs=20
)
print([round(report.loss, 2) for report in loop])
