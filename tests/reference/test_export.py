"""A model that leaves as files comes back as it was, and is the same model to Hugging Face's transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from runs import SHORT, train_here, write_text

from trifecta.errors import RecipeError
from trifecta.inference.sequences import write_sequences
from trifecta.interop import hf
from trifecta.models import Gpt
from trifecta.objectives.template import Template
from trifecta.recipe import presets
from trifecta.recipe.schema import Recipe
from trifecta.recipe.sources import collect
from trifecta.run import Request, build, load
from trifecta.run.convert import export_run
from trifecta.run.folder import write_identity
from trifecta.run.resolution import resolve
from trifecta.training import checkpoint, files
from trifecta.training.state import Progress, TrainState

TOLERANCE = 1e-5
V, T = 61, 24
FIELDS: dict[str, dict[str, Any]] = {
    "gpt2": {"position": "learned", "max_sequence_length": T},
    "llama": {"norm": "rmsnorm", "activation": "swiglu", "bias": False, "tie_embeddings": False, "num_kv_heads": 2},
}


def make(kind: str, seed: int = 0) -> tuple[Gpt, dict[str, Any]]:
    fields = {"d_model": 32, "num_heads": 4, "num_layers": 2, "d_ff": 48, "dropout": 0.0, "init_std": 0.2}
    fields |= FIELDS[kind]
    torch.manual_seed(seed)
    return Gpt(V, **fields).eval(), fields


def tokens() -> torch.Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


def exported(model: Gpt, fields: dict[str, Any], folder: Path) -> Path:
    """config.json and model.safetensors under the names that other programs know."""
    defaults = Gpt.__init__.__kwdefaults__ or {}
    config = hf.to_hf_config(defaults | fields, V, eos_id=0)
    (folder / "config.json").write_text(json.dumps(config))
    state = hf.to_hf_state(model.state_dict(), config["model_type"])
    files.write_file(folder / "model.safetensors", lambda writer: files.write_safetensors(writer, state))
    return folder


def reloaded(folder: Path) -> Gpt:
    config = json.loads((folder / "config.json").read_text())
    fields, vocab_size = hf.from_hf_config(config)
    model = Gpt(vocab_size, **fields).eval()
    model.load_state_dict(hf.from_hf_state(files.read_safetensors(folder / "model.safetensors"), config))
    return model


@pytest.mark.parametrize("kind", FIELDS)
def test_numeric_042_an_exported_model_comes_back_with_the_same_logits(kind: str, tmp_path: Path) -> None:
    """Exported to files and read back, a model gives logits that differ by exactly 0, and every weight is the same."""
    model, fields = make(kind)
    again = reloaded(exported(model, fields, tmp_path))
    assert torch.equal(again(tokens()), model(tokens()))
    assert all(torch.equal(b, model.state_dict()[name]) for name, b in again.state_dict().items())


@pytest.mark.parametrize("kind", FIELDS)
def test_numeric_042_control_a_weight_left_behind_is_noticed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of a single norm changed by 1e-6 give other logits."""
    plain = hf.from_hf_state

    def forgetful(state: Any, config: Any) -> Any:
        ours = plain(state, config)
        ours["blocks.1.norm1.weight" if "blocks.1.norm1.weight" in ours else "norm.weight"] += 1e-6
        return ours

    monkeypatch.setattr(hf, "from_hf_state", forgetful)
    model, fields = make(kind)
    assert not torch.equal(reloaded(exported(model, fields, tmp_path))(tokens()), model(tokens()))


TEXT = "It was the best of times, it was the worst of times; é, ü and \U0001f600 came late.\n" * 40
BASES = sorted({
    yaml.safe_load(presets.preset_text(name)).get("base", name)
    for name in presets.preset_names() if "vit" not in name
})  # fmt: skip
"""Presets of models of text."""


def resolved(preset: str, flags: dict[str, Any]) -> Recipe:
    return collect(preset=preset, flags=flags).resolve().recipe


def small_run(preset: str, folder: Path, *, data: Path | None = None, **settings: Any) -> Path:
    """A run of a preset, untrained and small: fewer and narrower layers, fewer tokens, everything else as it is."""
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    wide = {"model.d_model": 32, "model.num_heads": 4, "model.num_layers": 2, "model.d_ff": 48}
    short = {"data.sequence_length": 40, "data.cache_dir": str(folder / "cache"), "execution.threads": 1}
    kind = resolved(preset, {}).tokenizer.type
    sizes = {"bpe": 290, "wordpiece": 90, "unigram": 340}
    tokens = {"tokenizer.vocab_size": sizes[kind]} if kind in sizes else {}
    if getattr(resolved(preset, {}).model, "max_sequence_length", None):
        short["model.max_sequence_length"] = 64
    flags = {key: ("settings", value) for key, value in (wide | short | tokens | settings).items()}
    resolution = resolve(Request(preset=preset, flags=flags, data=(str(data or text),)))
    recipe = resolution.recipe
    tokenizer = build.data_of(recipe, resolution.text).tokenizer
    objective = build.objective_of(recipe, tokenizer)
    torch.manual_seed(0)
    model = build.headed(build.bare_model_of(recipe, objective.vocabulary.size), objective)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_((0.05 if recipe.model.type == "t5" else 0.2) * torch.randn_like(parameter))
    place = folder / "run"
    place.mkdir()
    texts = write_identity(place, recipe, tokenizer.to_json())
    state = TrainState(model, build.optimizers_of(recipe, model), Progress())
    checkpoint.save(place / "checkpoints", state, texts, reason="test")
    return place


@pytest.mark.parametrize("preset", BASES)
def test_every_preset_is_the_same_model_to_transformers(preset: str, tmp_path: Path) -> None:
    """Loaded by the Auto classes: logits within 1e-5, the same ids, and the same text or the same five best guesses."""
    run = small_run(preset, tmp_path)
    made = export_run(run, tmp_path / "hf")
    ours = load(run)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.folder)
    assert len(tokenizer) == made.vocab_size == ours.model.vocab_size
    for text in ("It was  the\n worst", TEXT[:200], "times \U0001f600 é unseen: \u00d8"):
        assert tokenizer.encode(text, add_special_tokens=False) == ours.tokenizer.encode(text).tolist()
    {"gpt": same_continuation, "bert": same_guesses, "t5": same_answer}[ours.recipe.model.type](ours, made.folder)


def loaded(kind: str, folder: Path) -> Any:
    """transformers' model, which must find each of its weights in the folder and nothing more."""
    model, found = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"]
    assert all("pooler" in name or "seq_relationship" in name for name in found["unexpected_keys"])
    assert not found["mismatched_keys"]
    return model.eval()


def same_continuation(ours: Any, folder: Path) -> None:
    theirs = loaded("AutoModelForCausalLM", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer("It was the", return_tensors="pt")
    assert (theirs(**batch).logits - ours.model(batch["input_ids"])).abs().max() <= TOLERANCE
    ids = theirs.generate(**batch, do_sample=False, max_new_tokens=12)[0]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text == ours.generate("It was the", temperature=0, max_tokens=12)


def same_guesses(ours: Any, folder: Path) -> None:
    theirs = loaded("AutoModelForMaskedLM", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    vocabulary = ours.objective.vocabulary
    before, after = (ours.tokenizer.encode(text).tolist() for text in ("it was the", " of times"))
    ids = [vocabulary["[CLS]"], *before, vocabulary["[MASK]"], *after, vocabulary["[SEP]"]]
    hidden = ours.model.hidden(torch.tensor([ids])).hidden_BTD
    logits = ours.model.logits(hidden)
    assert (theirs(torch.tensor([ids])).logits - logits).abs().max() <= TOLERANCE
    wanted = logits[0, ids.index(vocabulary["[MASK]"])].topk(5).indices.tolist()
    if hasattr(ours.model, "pair_scores"):  # theirs has `together` first
        scores = loaded("AutoModelForPreTraining", folder)(torch.tensor([ids])).seq_relationship_logits
        assert (scores.flip(-1) - ours.model.pair_scores(hidden[:, 0])).abs().max() <= TOLERANCE
    pipe = transformers.pipeline("fill-mask", model=theirs, tokenizer=tokenizer, device="cpu")
    assert [guess["token"] for guess in pipe("it was the[MASK] of times", top_k=5)] == wanted


def same_answer(ours: Any, folder: Path) -> None:
    theirs = loaded("AutoModelForSeq2SeqLM", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    objective = ours.objective
    written = "It was the<extra_id_0> of times<extra_id_1>"
    batch = tokenizer(written, return_tensors="pt")
    read = batch["input_ids"]
    assert {objective.vocabulary["<extra_id_0>"], objective.vocabulary["<extra_id_1>"]} <= set(read[0].tolist())
    before = torch.tensor([[objective.start_id, 5, 6, 7]])
    assert (theirs(**batch, decoder_input_ids=before).logits - ours.model(read, before)).abs().max() <= TOLERANCE
    ids = theirs.generate(**batch, do_sample=False, max_new_tokens=12)[0].tolist()
    wanted = write_sequences(
        ours.model, {"tokens_BT": read}, max_tokens=12, start_id=objective.start_id, eos_id=objective.eos_id,
        pad_id=objective.pad_id,
    )[0]  # fmt: skip
    assert ids[1:] in (wanted, [*wanted, objective.eos_id])
    text = ours.objective.vocabulary.decode(wanted)
    if "\ufffd" not in text:  # where bytes make no character, the library replaces their neighbours too
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_what_transformers_cannot_express_is_refused_by_name(tmp_path: Path) -> None:
    """A BERT with RMSNorm and normed queries is no model of theirs."""
    run = small_run("bert-modern", tmp_path, **{"model.norm": "rmsnorm", "model.qk_norm": True})
    with pytest.raises(RecipeError, match=r"model\.norm: rmsnorm, model\.qk_norm: True"):
        export_run(run, tmp_path / "hf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run", "text.txt"]


TURNS = [
    {"role": "system", "content": "Be 'short'."}, {"role": "user", "content": "It was?"},
    {"role": "assistant", "content": "the worst"}, {"role": "user", "content": "of \"times\" {{ x }}"},
]  # fmt: skip


def chat_ids(tmp_path: Path) -> tuple[list[int], list[int], str]:
    """Ids of a conversation that is to be answered: ours, and those of the exported chat template; and its text."""
    data = tmp_path / "chat.jsonl"
    parts = [part for part in TEXT.split(",") if part.strip()]
    rows = [{"messages": [{"role": "user", "content": part}, {"role": "assistant", "content": part}]} for part in parts]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows * 20), encoding="utf-8")
    run = small_run("modern", tmp_path, data=data, objective={"type": "prompted"})
    made = export_run(run, tmp_path / "hf")
    ours = load(run)
    turns = [(turn["role"], turn["content"]) for turn in TURNS]
    wanted = ours.objective.template.prompt(turns, ours.tokenizer, 1000)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.folder)
    options: dict[str, Any] = {"add_generation_prompt": True}
    found = tokenizer.apply_chat_template(TURNS, **options)["input_ids"]
    return wanted, found, tokenizer.apply_chat_template(TURNS, tokenize=False, **options)


def test_a_chat_is_exported_with_its_template(tmp_path: Path) -> None:
    wanted, found, text = chat_ids(tmp_path)
    assert found == wanted
    said = [turn["content"] for turn in TURNS]
    end = text.partition(said[2])[2].partition("\n")[0].partition("User")[0]
    assert text == f"{said[0]}\n\nUser: {said[1]}\nAssistant: {said[2]}{end}User: {said[3]}\nAssistant:"
    assert end


def test_control_a_template_without_the_end_of_an_answer_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Template.jinja
    monkeypatch.setattr(Template, "jinja", lambda self, _: right(self, ""))
    wanted, found, _ = chat_ids(tmp_path)
    assert found != wanted


def check_averages(folder: Path, preset: str) -> None:
    """A few updates with training.ema_decay, exported: the tensors are those of ema.safetensors, not the last ones."""
    run = folder / "run"
    train_here(
        write_text(folder / "words.txt", words=200), run, config=preset,
        **SHORT | {"training.ema_decay": 0.9, "training.save_best": False, "tokenizer.type": "char"},
    )  # fmt: skip
    made = export_run(run, folder / "hf")
    found = files.read_safetensors(made.folder / "model.safetensors")
    final = run / "checkpoints" / "final"
    averages, last = (
        hf.to_hf_state(files.read_safetensors(final / name), made.model_type)
        for name in ("ema.safetensors", "model.safetensors")
    )
    assert found.keys() == averages.keys() == last.keys()
    assert all(torch.equal(found[name], average) for name, average in averages.items())
    assert not any(torch.equal(found[name], tensor) for name, tensor in last.items() if tensor.ndim == 2)


@pytest.mark.parametrize("preset", ["small", "bert-modern"])
def test_an_export_has_the_averaged_weights(preset: str, tmp_path: Path) -> None:
    check_averages(tmp_path, preset)


def test_control_an_export_of_the_last_weights_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "load_averaged", checkpoint.load_model)
    with pytest.raises(AssertionError):
        check_averages(tmp_path, "small")
