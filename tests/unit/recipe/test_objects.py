"""Optimizers and schedules written as objects: what they mean, where each value is, and what is refused where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trifecta.errors import RecipeErrors
from trifecta.optim import SCHEDULES, Span
from trifecta.recipe import Resolved, collect, dump
from trifecta.recipe import components as c
from trifecta.recipe.inert import value_of
from trifecta.run.build import fields, schedule_of, warmup_steps_of

Load = Callable[..., Resolved]
pytestmark = pytest.mark.fast

PIECES = c.PiecewiseConstantDecay(boundaries=[10000, 20000, 30000], factors=[1.0, 0.5, 0.1, 0.05])

# What a block of S3 says, and what it means.
MEANINGS: list[tuple[str, dict[str, Any]]] = [
    ("AdamW(learning_rate=2e-5, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01, clipnorm=1.0)",
     {"training.optimizer": c.AdamW(), "training.learning_rate": 2e-5, "training.gradient_clip_norm": 1.0}),
    ("Adam(learning_rate=0.0001, clipnorm=0.5)",
     {"training.optimizer": c.Adam(), "training.learning_rate": 1e-4, "training.gradient_clip_norm": 0.5}),
    ("Adam(learning_rate=0.0001, global_clipnorm=0.5, clipvalue=2)",
     {"training.gradient_clip_norm": 0.5, "training.gradient_clip_value": 2}),
    ("SGD(momentum=0.9, nesterov=True)", {"training.optimizer": c.Sgd(nesterov=True), "training.learning_rate": 3e-4}),
    ("SGD(0.1)", {"training.optimizer": c.Sgd(momentum=0.0), "training.learning_rate": 0.1}),
    ("SGD(0.1, 0.8, true, 0.5)", {"training.optimizer": c.Sgd(momentum=0.8, nesterov=True, weight_decay=0.5)}),
    ("AdamW(1e-3, 0.5, 0.8, 0.9, 1e-6)",
     {"training.optimizer": c.AdamW(weight_decay=0.5, beta_1=0.8, beta_2=0.9, epsilon=1e-6)}),
    ("Adam(1e-3, 0.8, 0.9, 1e-6)", {"training.optimizer": c.Adam(beta_1=0.8, beta_2=0.9, epsilon=1e-6)}),
    ("adamw(learning_rate=auto)", {"training.optimizer": c.AdamW(), "training.learning_rate": None}),
    ("Lion(1e-4, weight_decay=0.3)", {"training.optimizer": c.Lion(weight_decay=0.3), "training.learning_rate": 1e-4}),
    ("Adafactor()", {"training.optimizer": c.Adafactor()}),
    ("Muon(0.005, momentum=0.8)", {"training.optimizer": c.Muon(momentum=0.8), "training.learning_rate": 0.005}),
    ("Adam(learning_rate=ExponentialDecay(2e-5, 10000, 0.96))",
     {"training.optimizer": c.Adam(), "training.learning_rate": 2e-5,
      "training.scheduler": c.ExponentialDecay(decay_steps=10000, decay_rate=0.96)}),
    ("AdamW(learning_rate=ExponentialDecay(0.0001, decay_rate=0.98, decay_steps=50000, staircase=True), "
     "weight_decay=0.01)",
     {"training.scheduler": c.ExponentialDecay(decay_steps=50000, decay_rate=0.98, staircase=True)}),
    ("Adam(CosineDecay(1e-4, 50000))",
     {"training.learning_rate": 1e-4, "training.scheduler": c.CosineDecay(decay_steps=50000)}),
    ("Adam(CosineDecay(1e-5, 50000, 0.1, warmup_target=1e-4, warmup_steps=1000))",
     {"training.learning_rate": 1e-4,
      "training.scheduler": c.CosineDecay(decay_steps=50000, alpha=0.1, warmup_steps=1000, start_ratio=0.1)}),
    ("Adam(learning_rate=PiecewiseConstantDecay(boundaries=[10000, 20000, 30000], values=[1e-4, 5e-5, 1e-5, 5e-6]))",
     {"training.learning_rate": 1e-4, "training.scheduler": PIECES}),
    ("Adam(PiecewiseConstantDecay([10], [1e-5, 1e-4]))",
     {"training.learning_rate": 1e-4,
      "training.scheduler": c.PiecewiseConstantDecay(boundaries=[10], factors=[0.1, 1.0])}),
    ("torch.optim.NAdam",
     {"training.optimizer": c.Custom(class_name="torch.optim.NAdam"), "training.learning_rate": 3e-4}),
    ("torch.optim.RMSprop(lr=1e-3, alpha=0.9, centered=True, clipnorm=2)",
     {"training.optimizer": c.Custom(class_name="torch.optim.RMSprop", arguments={"alpha": 0.9, "centered": True}),
      "training.learning_rate": 1e-3, "training.gradient_clip_norm": 2}),
    ("a.b.C(learning_rate=CosineDecay(1e-4, 5), betas=(0.9, -1), name='x', more=None)",
     {"training.optimizer": c.Custom(class_name="a.b.C", arguments={"betas": [0.9, -1], "name": "x", "more": None}),
      "training.scheduler": c.CosineDecay(decay_steps=5), "training.learning_rate": 1e-4}),
]  # fmt: skip


@pytest.mark.parametrize("home", ["optimizer: {}", "training:\n  optimizer: {}", 'training: {{optimizer: "{}"}}'])
@pytest.mark.parametrize(("text", "meaning"), MEANINGS)
def test_meaning(text: str, meaning: dict[str, Any], home: str, load: Load) -> None:
    recipe = load(home.format(text)).recipe
    assert {key: value_of(recipe, key) for key in meaning} == meaning
    assert load(dump(recipe)).recipe == recipe, "what is stored with the run is the same"
    given = collect(overrides=[f"training.optimizer={text}"], preset="gpt-s0").resolve().recipe
    assert value_of(given, "training.optimizer") == value_of(recipe, "training.optimizer")


@pytest.mark.parametrize(
    "text",
    ["training: {learning_rate: 'CosineDecay(1e-4, 50000)'}", "training:\n  scheduler: CosineDecay(1e-4, 50000)",
     "LearningRate: CosineDecay(1e-4, 50000)", "training:\n  lr: CosineDecay(1e-4, 50000)",
     "optimizer:\n  type: Adam\n  learning_rate: CosineDecay(1e-4, 50000)",
     "training: {learning_rate: 1e-4, scheduler: {type: CosineDecay, decay_steps: 50000}}",
     "training: {learning_rate: 1e-4}\ntrain:\n  scheduler: cosine_decay(decay_steps=50000)"],
)  # fmt: skip
def test_places_of_a_schedule(text: str, load: Load) -> None:
    training = load(text).recipe.training
    assert (training.learning_rate, training.scheduler) == (1e-4, c.CosineDecay(decay_steps=50000))


def test_custom_as_keys(load: Load) -> None:
    wanted = c.Custom(class_name="torch.optim.RMSprop", arguments={"alpha": 0.9})
    for text in (
        "training: {optimizer: {type: custom, class: torch.optim.RMSprop, arguments: {alpha: 0.9}}}",
        "training: {optimizer: {type: custom, class_name: torch.optim.RMSprop}}\n"
        "training.optimizer.arguments.alpha: 0.9",
    ):
        assert load(text).recipe.training.optimizer == wanted
    base = "optimizer: torch.optim.RMSprop(alpha=0.5)"
    assert load(base, overrides=["training.optimizer.arguments={alpha: 0.9}"]).recipe.training.optimizer == wanted
    assert load(base, overrides=["training.optimizer.arguments.alpha=0.9"]).recipe.training.optimizer == wanted


def test_every_value_keeps_its_place(load: Load) -> None:
    resolved = load("training:\n  optimizer: AdamW(learning_rate=ExponentialDecay(2e-5, 10000, 0.96), clipnorm=0.5)\n")
    line = "  optimizer: AdamW(learning_rate=ExponentialDecay(2e-5, 10000, 0.96), clipnorm=0.5)"
    for key, text in {
        "training.optimizer.type": "AdamW", "training.scheduler.type": "Exponential", "training.learning_rate": "2e-5",
        "training.scheduler.decay_steps": "10000", "training.scheduler.decay_rate": "0.96",
        "training.gradient_clip_norm": "0.5)",
    }.items():  # fmt: skip
        origin = resolved.origins[key]
        assert (origin.file, origin.line, origin.column, origin.text) == (
            "recipe.yaml", 2, line.index(text) + 1, line,
        ), key  # fmt: skip


@pytest.mark.parametrize("style", ["|", ">", ""])
def test_places_over_several_lines(style: str, load: Load) -> None:
    body = ["Adam(", "  learning_rate=ExponentialDecay(", "    2e-5,", "    -10000, 0.96", "  )", ")"]
    lines = ["# é", f"optimizer: {style}" if style else f"optimizer: {body.pop(0)}", *(f"  {line}" for line in body)]
    with pytest.raises(RecipeErrors) as caught:
        load("\n".join(lines) + "\n")
    (error,) = caught.value.errors
    row = next(number for number, line in enumerate(lines) if "-10000" in line)
    assert error.where == f"recipe.yaml:{row + 1}:{lines[row].index('-10000') + 1}"
    assert error.excerpt is not None
    assert error.excerpt.splitlines()[0].endswith("-10000, 0.96")


def test_comments_in_a_block(load: Load) -> None:
    text = "optimizer: |\n  Adam(\n    learning_rate=ExponentialDecay(\n      2e-5,  # Peak\n      10000, # Steps\n"
    text += "      0.96   # Rate\n    )\n  )\n"
    resolved = load(text)
    assert resolved.recipe.training.scheduler == c.ExponentialDecay(decay_steps=10000, decay_rate=0.96)
    assert resolved.origins["training.scheduler.decay_rate"].where == "recipe.yaml:6:7"


GUIDE = """\
# as in the guide
optimizer: Adam(
  learning_rate=ExponentialDecay(
    2e-5,      # Peak learning rate (after warm-up
    10000,     # Decay after this many steps
    0.96       # Decay rate
  ),
  clipnorm=1.0  # Clip by global norm
)
train:
  epochs: 3
  scheduler_note: x
"""


def test_the_guides_blocks_as_they_are(load: Load) -> None:
    """Comments inside, the last parenthesis at the left edge: nothing that YAML could read."""
    text = GUIDE.replace("  scheduler_note: x\n", "")
    resolved = load(text)
    training = resolved.recipe.training
    assert (training.optimizer, training.learning_rate, training.epochs) == (c.Adam(), 2e-5, 3)
    assert training.scheduler == c.ExponentialDecay(decay_steps=10000, decay_rate=0.96)
    places = {key: resolved.origins[key].where for key in ("training.scheduler.decay_rate", "training.epochs")}
    assert places == {"training.scheduler.decay_rate": "recipe.yaml:6:5", "training.epochs": "recipe.yaml:11:11"}
    with pytest.raises(RecipeErrors, match=r"recipe.yaml:12:3: training.scheduler_note: unknown key"):
        load(GUIDE)
    nested = "training:\n" + "".join(f"  {line}\n" for line in text.splitlines()[1:9])
    assert load(nested).recipe.training == training.model_copy(update={"epochs": 10})
    two = f"{text}data:\n  shuffle: false\n  seed: [\n"
    with pytest.raises(RecipeErrors, match=r"recipe.yaml:15:1: YAML|recipe.yaml:14:\d+: YAML"):
        load(two)


@pytest.mark.parametrize(
    "text",
    ["optimizer: Adam(\n  1e-3  # x\n", "optimizer: Adam(\n  1e-3  # x\n) x\n", "optimizer: Adam(\n  1e-3]  # x\n)\n",
     "tracking:\n  prompt: Adam(\n    x # y\n )\n", "optimizer: Adam(  # x\n" * 3000],
)  # fmt: skip
def test_what_is_no_object_stays_an_error_of_yaml(text: str, load: Load) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load(text)
    assert "YAML" in str(caught.value) or "not an object" in str(caught.value)


def test_texts_that_look_like_objects_stay_texts(load: Load) -> None:
    prompt = "optimizer: Adam(\n  1e-3  # x\n)"
    lines = "".join(f"      {line}\n" for line in prompt.splitlines())
    text = f"tracking:\n  sample:\n    prompt: |-\n{lines}"
    assert load(text).recipe.tracking.sample.prompt == prompt


def test_a_later_source_overrides_a_part(load: Load) -> None:
    text = "optimizer: AdamW(learning_rate=CosineDecay(1e-4, 50), weight_decay=0.3)"
    overrides = ["training.learning_rate=2e-4", "training.optimizer=AdamW(beta_1=0.5)"]
    training = load(text, overrides=overrides).recipe.training
    assert (training.learning_rate, training.scheduler) == (2e-4, c.CosineDecay(decay_steps=50))
    assert training.optimizer == c.AdamW(weight_decay=0.3, beta_1=0.5)


# object -> the message's words, and the text that its caret stands under
REFUSED: list[tuple[str, str, str]] = [
    ("Adm(1e-3)", "unknown optimizer 'Adm'; did you mean 'Adam'?", "Adm"),
    ("Adamw(1e-3)", "did you mean 'AdamW'?", "Adamw"),
    ("Adam(learing_rate=1)", "Adam takes no 'learing_rate'; did you mean 'learning_rate'?", "learing"),
    ("Adam(1, learning_rate=2)", "learning_rate is given twice: without its name and with it", "2)"),
    ("Adam(beta_1=0.5, beta_1=0.6)", "beta_1 is given twice", "beta_1=0.6"),
    ("Adam(1, 2, 3, 4, 5)", "Adam takes only learning_rate, beta_1, beta_2, epsilon without a name", "5)"),
    ("Adam(weight_decay=0.1)", "adam has no such key; adamw, sgd", "0.1"),
    ("Adam(beta_1=2)", "training.optimizer.beta_1: should be less than 1, found 2", "2)"),
    ("Adam(learning_rate='x')", "training.learning_rate: should be a number, found the text 'x'", "'x'"),
    ("Adam(learning_rate=HPO(log_range(1e-5, 1e-3)))", "HPO is not supported yet", "HPO"),
    ("Adam(learning_rate=SGD(1))", "unknown scheduler 'SGD'; it is an optimizer", "SGD"),
    ("CosineDecay(1e-4, 5)", "unknown optimizer 'CosineDecay'; it is a schedule", "Cosine"),
    ("Adam(beta_1=CosineDecay(1, 2))", "beta_1: an object can't stand here", "Cosine"),
    ("Adam(ExpDecay(1, 2))", "unknown scheduler 'ExpDecay'; did you mean 'ExponentialDecay'?", "Exp"),
    ("Adam(ExponentialDecay(1e-3, 5))", "ExponentialDecay needs decay_rate", "Exp"),
    ("Adam(ExponentialDecay(1e-3, 5, rate=1))", "ExponentialDecay takes no 'rate'", "rate"),
    ("Adam(ExponentialDecay(1e-3, 0, 0.5))", "decay_steps: should be at least 1, found 0", "0, 0.5"),
    ("Adam(CosineDecay(1e-3, 5, warmup_steps=3))", "warmup_steps acts only with warmup_target", "3))"),
    ("Adam(CosineDecay(1e-3, 5, warmup_target=3))", "warmup_target acts only with warmup_steps", "3))"),
    ("Adam(CosineDecay('a', 5, warmup_target=3, warmup_steps=1))", "initial_learning_rate: should be a number", "'a'"),
    ("Adam(PiecewiseConstantDecay([1], 5))", "values: should be a list of numbers, found 5", "5)"),
    ("Adam(PiecewiseConstantDecay([1], [1, 'a']))", "values: should be a number, found the text 'a'", "'a'"),
    ("Adam(PiecewiseConstantDecay([1], [1, 2, 3]))", "factors has 3 items for 1 boundaries", "[1, 2"),
    ("Adam(PiecewiseConstantDecay([2, 1], [3, 2, 1]))", "training.scheduler.boundaries must ascend", "[2"),
    ("Adam(PiecewiseConstantDecay([1], [0, 0]))", "training.learning_rate: should be greater than 0", "0, 0"),
    (f"Adam(PiecewiseConstantDecay([1], [1, 1{400 * '0'}]))", "values: too large a number", "10"),
    ("Adam(1e-3", "not an object: '(' was never closed", "("),
    ("Adam(1e-3) + 1", "not an object", "Adam"),
    ("Adam(1/2)", "only numbers, texts, lists and objects can stand here", "1/2"),
    ("Adam(-true)", "only numbers, texts, lists and objects can stand here", "-true"),
    ("Adam(beta)", "'beta' is no value", "beta"),
    ("Adam(*[1])", "only numbers, texts, lists and objects can stand here", "*[1]"),
    ("Adam(**{})", "** can't stand here", "{}"),
    ("Adam([SGD(1)])", "an object can't stand in a list", "SGD"),
    ("Adam(1)(2)", "an object begins with a name", "Adam"),
    ("(lambda - 1)(2)", "not an object", "-"),
    ("__import__('os').system('x')", "an object begins with a name", "__"),
    ("torch.optim.NAdam(1)", "write arguments of a class with their names", "1)"),
    ("torch.optim.NAdam(a=SGD(1))", "a: an object can't stand here", "SGD"),
    ("torch.optim.NAdam(a=1, a=2)", "a is given twice", "a=2"),
    ("torch.optim.NAdam(lr=1, learning_rate=2)", "training.learning_rate is written twice", "2)"),
    (f"Adam({'(' * 300})", "not an object", "("),
    (f"Adam({'1, ' * 3000})", "an object of 9,006 characters", "Adam"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what", "at"), REFUSED)
def test_what_is_refused_and_where(text: str, what: str, at: str, load: Load) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load(f"training:\n  optimizer: {text}\n")
    (error,) = caught.value.errors
    assert what in error.what
    assert error.where is not None
    place = error.where.split(":")
    assert place[:2] == ["recipe.yaml", "2"]
    assert f"  optimizer: {text}"[int(place[2]) - 1 :].startswith(at), error


def test_nothing_in_an_object_is_run(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr("builtins.eval", lambda *_: ran.append(1))
    monkeypatch.setattr("builtins.print", lambda *_: ran.append(1))
    with pytest.raises(RecipeErrors, match="unknown optimizer 'print'"):
        load("optimizer: print(1)")
    assert ran == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("training:\n  optimizer: Adam(learning_rate=ExponentialDecay(2e-5, 10000, 0.96))\n  learning_rate: 1e-3",
      ["training.learning_rate is written twice", "optimizer.learning_rate=ExponentialDecay at recipe.yaml:2:50",
       "training.learning_rate at recipe.yaml:3:3"]),
     ("training:\n  learning_rate: 1e-3\n  scheduler: ExponentialDecay(2e-5, 10000, 0.96)",
      ["training.learning_rate is written twice", "training.learning_rate at recipe.yaml:2:3",
       "training.scheduler at recipe.yaml:3:31"]),
     ("optimizer: Adam(1e-3)\ntraining: {learning_rate: 1e-3}",
      ["training.learning_rate is written twice", "optimizer.learning_rate at recipe.yaml:1:17"]),
     ("optimizer: Adam(CosineDecay(1e-3, 5))\ntraining: {scheduler: linear}",
      ["training.scheduler.type is written twice", "optimizer.learning_rate=CosineDecay at recipe.yaml:1:17"]),
     ("optimizer: Adam(clipnorm=1)\ntraining: {gradient_clip_norm: 2}", ["gradient_clip_norm is written twice"]),
     ("optimizer: torch.optim.NAdam\ntraining: {optimizer: {type: adam}}", ["optimizer.type is written twice"])],
)  # fmt: skip
def test_two_that_say_the_same(text: str, wanted: list[str], load: Load) -> None:
    with pytest.raises(RecipeErrors) as caught:
        load(text)
    assert len(caught.value.errors) == 1
    assert all(part in str(caught.value) for part in wanted), str(caught.value)


def test_on_the_command_line_the_caret_stands_under_the_value() -> None:
    with pytest.raises(RecipeErrors) as caught:
        collect(preset="small", overrides=["training.optimizer=Adam(beta_1=2)"])
    assert caught.value.errors[0].excerpt == f"   | training.optimizer=Adam(beta_1=2)\n   | {' ' * 31}^"


@pytest.mark.parametrize(
    ("text", "values"),
    [("ExponentialDecay(2e-5, 10000, 0.96)", {1: 2e-5, 10_001: 2e-5 * 0.96, 20_001: 2e-5 * 0.96**2}),
     ("CosineDecay(1e-4, 50000)", {1: 1e-4, 25_001: 5e-5, 50_001: 0.0, 60_000: 0.0}),
     ("PiecewiseConstantDecay([10000, 20000, 30000], [1e-4, 5e-5, 1e-5, 5e-6])",
      {1: 1e-4, 10_001: 1e-4, 10_002: 5e-5, 20_002: 1e-5, 30_001: 1e-5, 30_002: 5e-6}),
     ("CosineDecay(0.0, 100, warmup_target=3e-4, warmup_steps=10)", {1: 0.0, 6: 1.5e-4, 11: 3e-4, 61: 1.5e-4})],
)  # fmt: skip
def test_group_009_rates_of_the_guides_objects(text: str, values: dict[int, float], load: Load) -> None:
    """Through the whole way: text, recipe, what is stored, and the loop's own product."""
    recipe = load(dump(load(f"optimizer: Adam(learning_rate={text})").recipe)).recipe
    schedule = schedule_of(recipe, 100_000, 100)
    assert warmup_steps_of(recipe, 100_000) == 0
    assert recipe.training.learning_rate is not None
    rates = {n: recipe.training.learning_rate * schedule(n) for n in values}
    assert rates == pytest.approx(values, rel=1e-12, abs=1e-18)


def test_group_009_control_the_schedules_of_other_names_count_from_one(load: Load) -> None:
    recipe = load("training: {scheduler: {type: exponential, decay_steps: 10000, decay_rate: 0.96}}").recipe
    section = recipe.training.scheduler
    assert SCHEDULES[section.type](Span(0, 100_000, 100), **fields(section))(10_000) == pytest.approx(0.96)
    assert warmup_steps_of(recipe, 100_000) == 100
