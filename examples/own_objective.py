"""The loop with an objective of your own: our GPT learns the token after the next one."""

import torch

import trifecta


class AfterNext(torch.nn.Module):
    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: trifecta.Batch) -> trifecta.LossSum:
        logits_BTV = self.model(batch.inputs["tokens_BT"])[:, :-1]
        targets_BT = batch.targets["targets_BT"][:, 1:]
        total = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
        right = (logits_BTV.argmax(-1) == targets_BT).sum()
        count = targets_BT.numel()
        return trifecta.LossSum({"next_token": (total, count)}, {"accuracy": (right, count)})


model = trifecta.build(vocab_size=12, settings={"model.d_model": 32, "model.num_heads": 2, "model.num_layers": 2})
counting = [(torch.arange(17) * step + start) % 12 for step in (1, 5, 7) for start in range(12)]
loop = trifecta.Loop(AfterNext(model), counting, trifecta.collate_next_token, learning_rate=3e-3, epochs=20)
for report in loop:
    if report.step % 10 == 0:
        print(report.step, round(report.loss, 3), report.metrics)
