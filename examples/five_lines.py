"""Train, evaluate, generate, fill gaps, and build: a few lines each. Needs no data."""

import trifecta

TINY = {"model.d_model": 64, "model.num_heads": 2, "model.num_layers": 2, "training.max_steps": 150,
        "training.learning_rate": 3e-3, "data.sequence_length": 32, "tracking.sample.every_n_epochs": None}  # fmt: skip

gpt = trifecta.train(settings=TINY | {"data.builtin": "grammar"}, out="runs/gpt")
print("perplexity:", trifecta.evaluate(gpt.folder)["perplexity"])
print(trifecta.load(gpt.folder).generate("the", max_tokens=20, seed=1))

LABELLED = {"data.builtin": "grammar-agreement", "model.type": "bert", "objective.type": "classify"}
bert = trifecta.train(settings=TINY | LABELLED, out="runs/bert")
print(trifecta.predict(bert.folder, ["all old dogs sing.", "the dog sings."]))

model = trifecta.build(vocab_size=1000, preset="small")
print(sum(parameter.numel() for parameter in model.parameters()), "parameters")
