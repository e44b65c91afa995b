"""What a run would be, without a step of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trifecta.recipe.dump import flat
from trifecta.recipe.objects import NAMED_NULLS
from trifecta.recipe.schema import Recipe
from trifecta.run.request import Request

if TYPE_CHECKING:
    from trifecta.inspection.estimate import Estimate
    from trifecta.inspection.rows import Rows

SAMPLES = 3


def check(
    request: Request, *, schema_only: bool = False, show_batch: bool = False, report: Any | None = None
) -> dict[str, Any]:
    """Everything that can be known before the first step, as plain values.

    Args:
        schema_only: keys and values only; neither data nor torch is touched.
        show_batch: three samples with their targets and masks.
        report: told what is being prepared, and which share of it is done.

    Raises:
        RecipeErrors: with every conflict. DataError: the data can't be trained on.
    """
    if schema_only:
        tree = request.tree()
        return {"preset": tree.preset, "recipe": nested(tree.resolve(None).recipe)}
    return _with_data(request, show_batch, report)


def nested(recipe: Recipe) -> dict[str, Any]:
    """The recipe as dicts, its keys in the schema's order."""
    tree: dict[str, Any] = {}
    for key, value in flat(recipe).items():
        *path, leaf = key.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = NAMED_NULLS.get(key) if value is None else value
    return tree


def _with_data(request: Request, show_batch: bool, report: Any | None) -> dict[str, Any]:
    import torch

    from trifecta.execution.device import describe, resolve_device, set_threads
    from trifecta.run import build, rates
    from trifecta.run.feed import Feeds
    from trifecta.run.length import check_length
    from trifecta.run.resolution import resolve, run_name, with_precision

    resolution = resolve(request, notify=lambda what: report(what, None) if report else None)
    recipe = resolution.recipe
    set_threads(recipe.execution.threads)
    recipe, timed = with_precision(recipe, resolve_device(recipe.execution.device))
    data = build.data_of(recipe, resolution.text, report)
    objective = build.objective_of(recipe, data.tokenizer)
    feeds = Feeds.of(recipe, objective, data.train, data.tokenizer).phases
    feed, plan = feeds[0], build.course_of(recipe, [len(feed.samples) for feed in feeds])
    total_steps = plan.total_steps(0, 0)
    vocab_size = objective.vocabulary.size
    notes = [*data.notes, *timed]
    if recipe.training.learning_rate is None:
        recipe, why = rates.automatic(recipe, build.count_parameters(recipe, vocab_size), total_steps)
        notes.append(why)
    notes += filter(None, [rates.batch_note(recipe, build.count_parameters(recipe, vocab_size))])
    notes += build.warnings_of(recipe, torch.device(recipe.execution.device), data)
    if recipe.execution.fit_batch:
        notes.append("batch size auto: how many sequences are computed at once is measured when the run starts")
    check_length(recipe, resolution.resolved, total_steps, plan.steps_per_epoch)
    device = resolve_device(recipe.execution.device)
    costs = [_cost(phase, feed, vocab_size, str(device), len(data.train) - 1)
             for phase, feed in zip(build.phases_of(recipe), feeds, strict=True)]  # fmt: skip
    first, largest = costs[0], max(costs, key=lambda cost: cost.expected.total_bytes)
    expected, rows, step_seconds = largest.expected, first.rows, first.step_seconds
    steps = {"tokens_per_step": first.tokens_per_step, "tokens_per_epoch": first.tokens_per_epoch}
    return {
        "preset": resolution.preset,
        "recipe": nested(recipe),
        "run_name": run_name(resolution),
        "data": {
            "name": resolution.text.name,
            "documents": data.scan.documents,
            "train_characters": data.train.characters,
            "validation_characters": data.validation.characters,
            "train_tokens": len(data.train),
            "validation_tokens": len(data.validation),
            "vocab_size": vocab_size,
            "notes": notes,
        },
        "parameters": {**expected.parameters, "total": sum(expected.parameters.values())},
        "memory": {
            "weights_bytes": expected.weight_bytes,
            "gradients_bytes": expected.gradient_bytes,
            "optimizer_bytes": expected.optimizer_bytes,
            "activations_bytes": expected.activation_bytes,
            "logits_bytes": expected.logit_bytes,
            "total_bytes": expected.total_bytes,
        },
        "steps": {
            **steps,
            "samples_per_epoch": len(feed.samples),
            "based_on": _basis(build.as_computed(recipe), rows),
            "steps_per_epoch": plan.steps_per_epoch,
            "warmup_steps": build.warmup_steps_of(recipe, total_steps),
            "total_steps": total_steps,
            **({} if len(feeds) == 1 else {"phases": len(feeds)}),
        },
        "time": {
            "device": describe(device),
            "threads": torch.get_num_threads(),
            "step_seconds": step_seconds,
            "tokens_per_second": round(steps["tokens_per_step"] / step_seconds),
            "training_seconds": _seconds(recipe, feeds, costs, total_steps),
        },
        **({"batch": [_sample(feed, i) for i in range(min(SAMPLES, len(feed.samples)))]}
           if show_batch else {}),
    }  # fmt: skip


@dataclass(frozen=True)
class _Cost:
    """What a phase costs, and the rows on which that is based; None where every row is full."""

    expected: Estimate
    rows: Rows | None
    tokens_per_step: int
    tokens_per_epoch: int
    step_seconds: float


def _cost(recipe: Recipe, feed: Any, vocab_size: int, device: str, tokens: int) -> _Cost:
    """tokens: of an epoch of full rows."""
    from trifecta.run import build

    expected, rows = expected_of(recipe, feed, vocab_size, device)
    if rows is None:
        return _Cost(expected, rows, expected.tokens_per_step, tokens, expected.seconds_per_step)
    tokens = round(rows.tokens * len(feed.samples))
    steps = build.plan_of(recipe, len(feed.samples)).steps_per_epoch
    return _Cost(expected, rows, round(tokens / steps), tokens, expected.seconds_per_step * rows.typical)


def _seconds(recipe: Recipe, feeds: Any, costs: list[_Cost], total_steps: int) -> float:
    """Of the whole run: of one phase total_steps updates, of several each one's own."""
    from trifecta.run import build

    if len(costs) == 1:
        return costs[0].step_seconds * total_steps
    plans = [build.plan_of(phase, len(feed.samples))
             for phase, feed in zip(build.phases_of(recipe), feeds, strict=True)]  # fmt: skip
    return sum(cost.step_seconds * plan.total_steps(0, 0) for cost, plan in zip(costs, plans, strict=True))


def expected_of(recipe: Recipe, feed: Any, vocab_size: int, device: str) -> tuple[Estimate, Rows | None]:
    """What an update costs, and the rows on which that is based; None where every row is full.

    Where samples differ in length, the costs are those of the largest of the first micro-batches.
    """
    import torch

    from trifecta.inspection.estimate import estimate
    from trifecta.inspection.rows import enough, measure_rows
    from trifecta.objectives.loss import chunk_rows
    from trifecta.run import build

    recipe = build.as_computed(recipe)
    training, rows = recipe.training, None
    if not feed.full_rows and not getattr(feed.objective, "lazy", False):
        rows = measure_rows(feed.first(training.batch_size, enough(training.batch_size)))
    expected = estimate(
        lambda: build.adapted(recipe, build.bare_model_of(recipe, vocab_size)),
        batch_size=rows.rows if rows else training.batch_size,
        sequence_length=rows.length if rows else build.sequence_length_of(recipe),
        decoder_length=rows.decoder_length if rows else None,
        scored=rows.scored if rows else None,
        averaged=training.ema_decay is not None,
        passes=build.count_passes(recipe),
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        optimizer=training.optimizer.type,
        autocast=None if recipe.execution.precision == "fp32" else torch.bfloat16,
        device=device,
        logit_rows=chunk_rows(max(1, vocab_size)),
    )
    return expected, rows


def _basis(recipe: Recipe, rows: Rows | None) -> str:
    """In words, what is known of the rows: memory is that of the largest, time and tokens are of all on average."""
    batch_size = recipe.training.batch_size
    if rows is None:
        return f"{batch_size} full rows of {recipe.data.sequence_length} tokens"
    written = f" read and {rows.decoder_length} written" if rows.decoder_length is not None else ""
    samples = "sample" if batch_size == 1 else "samples"
    looked_at = "the first batch" if rows.batches == 1 else f"the first {rows.batches} batches"
    return (
        f"{looked_at} of {batch_size} {samples}: at most {rows.rows} x {rows.length} tokens{written}, "
        f"{rows.padding:.0%} padding"
    )


def _sample(feed: Any, position: int) -> Mapping[str, Any]:
    """One sample of the first epoch as text; the mask has a # where a target counts and a . where it doesn't."""
    from trifecta.types import IGNORE

    vocabulary = feed.objective.vocabulary
    batch = feed.at(0, position, position + 1)
    if "pixels_BCXY" in batch.inputs:
        record = feed.samples[int(feed.sampler.draws(0, position, position + 1)[1][0])]
        pixels_BCXY = batch.inputs["pixels_BCXY"]
        shown = f"{record.place}, as {' x '.join(map(str, pixels_BCXY.shape[1:]))} values"
        return {"input": f"{shown} from {pixels_BCXY.min():.2f} to {pixels_BCXY.max():.2f}", "target": record.label}
    tokens = [int(i) for i in batch.inputs["tokens_BT"][0]]
    if not any(name.startswith("targets_") for name in batch.targets):
        example = feed.samples[int(feed.sampler.draws(0, position, position + 1)[1][0])]
        return {"input": vocabulary.shown(tokens), "target": _target(feed.objective, example.arrays)}
    targets = [int(i) for i in next(iter(batch.targets.values()))[0]]
    return {
        "input": vocabulary.shown(tokens),
        "target": vocabulary.shown(i for i in targets if i != IGNORE),
        "mask": "".join("." if i == IGNORE else "#" for i in targets),
        "first_tokens": " | ".join(vocabulary.token_text(i) for i in tokens[:12]),
        "first_targets": " | ".join("(ignored)" if i == IGNORE else vocabulary.token_text(i) for i in targets[:12]),
    }


def _target(objective: Any, arrays: Mapping[str, Any]) -> str:
    """What is to be learned of a labelled text: its class, or every number that stands for it."""
    if "label" in arrays and getattr(objective, "kind", "") == "single":
        return str(objective.labels[int(arrays["label"][0])])
    others = {name: array.tolist() for name, array in arrays.items() if name not in ("tokens", "types")}
    return ", ".join(f"{name} {values[:24]}" for name, values in others.items())
