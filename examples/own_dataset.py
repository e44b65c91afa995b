"""The loop with a data set of your own: anything with a length and samples by number. Killed, it goes on exactly."""

import torch

import trifecta


class Sums:
    """`3+8=11` as codes of characters: sample n is made when it is asked for."""

    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> torch.Tensor:
        text = f"{index // 20}+{index % 20}={index // 20 + index % 20}\n"
        return torch.tensor([ord(letter) for letter in text])


model = trifecta.build(vocab_size=128, settings={"model.d_model": 32, "model.num_heads": 2, "model.num_layers": 2})
loop = trifecta.Loop(trifecta.NextToken(model), Sums(), trifecta.collate_next_token, learning_rate=3e-3, max_steps=40)
loop.resume("runs/sums")
for report in loop:
    if report.step % 10 == 0:
        print(report.step, round(report.loss, 3), loop.save("runs/sums").name)
print("loss of all sums:", round(loop.evaluate(Sums()).loss, 3))
