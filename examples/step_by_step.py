"""A notebook's way: the generator of a run, of which every update is in your hands."""

import trifecta

settings = {"data.builtin": "grammar", "model.d_model": 32, "model.num_heads": 2, "model.num_layers": 1,
            "training.max_steps": 60, "tracking.sample.every_n_epochs": None}  # fmt: skip
steps = trifecta.steps(settings=settings, out="runs/steps")
best = float("inf")
for report in steps:
    best = min(best, report.loss)
    print(f"{report.step:3} loss {report.loss:.3f} gradient {report.grad_norm:.2f} rate {report.learning_rate:.1e}")
    if report.step == 20 and best > 100:
        break  # it would not learn; the run's folder keeps what was saved
print("the same command goes on where it stopped:", trifecta.train(settings=settings, out="runs/steps").status)
