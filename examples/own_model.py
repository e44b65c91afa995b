"""The loop with a model of your own: a recurrent network that predicts the next character."""

import torch

import trifecta

TEXT = "the cat sat on the mat. the dog lay in the hall. " * 60
LETTERS = sorted(set(TEXT))
CODES = torch.tensor([LETTERS.index(letter) for letter in TEXT])


class Recurrent(torch.nn.Module):
    def __init__(self, width: int = 48):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(LETTERS), width)
        self.layers = torch.nn.GRU(width, width, batch_first=True)
        self.head = torch.nn.Linear(width, len(LETTERS))

    def forward(self, batch: trifecta.Batch) -> trifecta.LossSum:
        logits_BTV = self.head(self.layers(self.embedding(batch.inputs["tokens_BT"]))[0])
        targets_BT = batch.targets["targets_BT"]
        total = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
        return trifecta.LossSum({"next_token": (total, targets_BT.numel())})


windows = [CODES[start : start + 33] for start in range(0, len(CODES) - 33, 8)]
for report in trifecta.Loop(Recurrent(), windows, trifecta.collate_next_token, learning_rate=1e-2, epochs=3):
    if report.step % 10 == 0:
        print(report.step, round(report.loss, 3))
