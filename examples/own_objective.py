"""The loop with an objective of your own: our GPT learns the token after the next one."""

import torch

import trifecta


class AfterNext(torch.nn.Module):
    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: trifecta.Batch) -> trifecta.LossSum:
        logits_BTV, targets_BT = self.model(batch.inputs["tokens_BT"]), batch.targets["targets_BT"]
        total = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
        right, count = (logits_BTV.argmax(-1) == targets_BT).sum(), targets_BT.numel()
        return trifecta.LossSum({"after_next": (total, count)}, {"accuracy": (right, count)})


def collate(rows: list[torch.Tensor]) -> trifecta.Batch:
    ids = torch.stack(rows)
    inputs, targets, count = {"tokens_BT": ids[:, :-2]}, {"targets_BT": ids[:, 2:]}, ids[:, 2:].numel()
    return trifecta.Batch(inputs, targets, {"after_next": count}, samples=len(rows), tokens=count)


model = trifecta.build(vocab_size=12, settings={"model.d_model": 32, "model.num_heads": 2, "model.num_layers": 2})
counting = [(torch.arange(17) * step + start) % 12 for step in (1, 5, 7) for start in range(12)]
for report in trifecta.Loop(AfterNext(model), counting, collate, learning_rate=3e-3, epochs=20):
    print(report.step, round(report.loss, 3), report.metrics)
