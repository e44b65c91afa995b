"""First weights from runs, Hugging Face folders and Keras files; what doesn't fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SHORT, train_here, write_text
from safetensors.torch import save_file
from tiny_hf import bert
from torch import Tensor, nn

from trifecta.errors import CheckpointError, UnsafeError
from trifecta.interop import folders, h5, hf
from trifecta.models import MODELS
from trifecta.models.heads import Headed
from trifecta.run import initial
from trifecta.run.initial import read_base, require, take_weights

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [chr(ord("a") + i % 26) * (1 + i // 26) for i in range(56)]


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return bert()


@pytest.fixture(scope="module")
def hf_folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hf") / "tiny-bert"
    theirs.save_pretrained(place)
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return place


def fields_of(folder: Path) -> tuple[dict[str, Any], int]:
    return hf.from_hf_config(json.loads((folder / "config.json").read_text()))


def model_of(folder: Path, **changes: Any) -> tuple[Any, dict[str, Any]]:
    fields, vocab_size = fields_of(folder)
    fields = fields | changes
    return MODELS["bert"](vocab_size, **fields), fields


def scores(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(5, 17)[None])  # type: ignore[no-any-return]


def test_a_hugging_face_folder_gives_its_weights(hf_folder: Path, theirs: Any) -> None:
    model, fields = model_of(hf_folder)
    (note,) = take_weights(model, str(hf_folder), fields)
    assert "begins fresh" not in note
    with torch.no_grad():
        wanted = theirs(torch.arange(5, 17)[None]).logits
    torch.testing.assert_close(scores(model), wanted, rtol=0, atol=1e-5)


def test_a_new_head_begins_fresh_and_is_named(hf_folder: Path) -> None:
    body, fields = model_of(hf_folder, pooler=True)
    model = Headed(body, 3)
    before = model.head.weight.clone()
    (note,) = take_weights(model, str(hf_folder), fields)
    assert note.endswith("begins fresh: head.bias, head.weight, pooler.bias, pooler.weight")
    assert torch.equal(model.head.weight, before)


def test_a_keras_file_gives_its_weights(tmp_path: Path, hf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through what reads it (`interop/h5.py`, whose own tests read real files)."""
    state = dict(MODELS["bert"](61, **fields_of(hf_folder)[0]).state_dict())
    path = tmp_path / "bert.h5"
    path.write_bytes(b"")
    monkeypatch.setattr(h5, "read_keras_bert", lambda _: (fields_of(hf_folder)[0], dict(state)))
    model, fields = model_of(hf_folder)
    take_weights(model, str(path), fields)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"num_layers": 2}, ["blocks.2.attention.query.weight isn't part of this model"]),
        ({"num_layers": 4}, ["blocks.3.attention.query.weight is missing"]),
        ({"d_ff": 40}, ["blocks.0.feedforward.up.weight is [48, 32] there, [40, 32] here"]),
        ({"num_heads": 2}, ["model.num_heads is 4 there, 2 here"]),
        ({"norm_epsilon": 0.5, "activation": "relu"}, ["model.norm_epsilon is 1e-12 there, 0.5 here", "gelu there"]),
        ({"num_kv_heads": 4}, []),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_taken(
    hf_folder: Path, changes: dict[str, Any], wanted: list[str]
) -> None:
    model, fields = model_of(hf_folder, **changes)
    before = model.embedding.token.weight.clone()
    if not wanted:
        take_weights(model, str(hf_folder), fields)
        return
    with pytest.raises(CheckpointError) as caught:
        take_weights(model, str(hf_folder), fields)
    assert all(part in str(caught.value) for part in wanted), str(caught.value)
    assert torch.equal(model.embedding.token.weight, before)


def test_control_other_heads_would_be_taken_in_silence(hf_folder: Path) -> None:
    """No shape tells how many heads there are: without the settings the weights fit and mean something else."""
    model, _ = model_of(hf_folder, num_heads=2)
    same, fields = model_of(hf_folder)
    for each, given in ((model, None), (same, fields)):
        take_weights(each, str(hf_folder), given)
    assert (scores(model) - scores(same)).abs().max() > 1e-3


def test_weights_that_are_no_numbers_are_refused(theirs: Any, tmp_path: Path) -> None:
    place = tmp_path / "broken"
    theirs.save_pretrained(place)
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tensors = {name: tensor.clone() for name, tensor in initial.files.read_safetensors(place / folders.WEIGHTS).items()}
    tensors["bert.embeddings.LayerNorm.weight"][0] = float("nan")
    save_file(tensors, place / folders.WEIGHTS)
    model, fields = model_of(place)
    with pytest.raises(CheckpointError, match=r"embedding.norm.weight holds NaN"):
        take_weights(model, str(place), fields)


def test_nothing_there_names_what_is_near(hf_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        require(str(hf_folder.parent / "tiny-brt"))
    assert "did you mean 'tiny-bert'?; there: tiny-bert" in str(caught.value)
    with pytest.raises(CheckpointError, match="nothing is downloaded"):
        require(str(tmp_path / "nowhere" / "bert-base-uncased"))
    with pytest.raises(CheckpointError, match="nothing is here"):
        read_base("bert-base-uncased")
    require(str(hf_folder))


def test_pickled_weights_are_refused_with_the_way_round(hf_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "pickled"
    place.mkdir()
    for name in ("config.json", "vocab.txt"):
        (place / name).write_bytes((hf_folder / name).read_bytes())
    (place / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsafeError, match=r"trifecta import .* --allow-pickle"):
        read_base(str(place))


def test_the_base_of_a_folder_has_its_settings_and_all_of_its_tokens(hf_folder: Path) -> None:
    base = read_base(str(hf_folder))
    assert (base.recipe.model.type, base.recipe.model.num_heads, base.recipe.objective.type) == ("bert", 4, "masked")
    assert base.tokenizer.vocab_size == 61


def test_a_run_that_begins_with_nothing_fails_before_its_text_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_text(tmp_path / "words.txt", 200)
    monkeypatch.setattr("trifecta.run.build.data_of", lambda *_: pytest.fail("prepared"))
    with pytest.raises(CheckpointError, match="nothing is here to take weights from"):
        train_here(text, tmp_path / "run", **SHORT, **{"training.init_from": str(tmp_path / "none")})
    assert not (tmp_path / "run").exists()


def test_finetuning_a_hugging_face_folder(hf_folder: Path, tmp_path: Path) -> None:
    """Its settings, its weights and its tokenizer, another head."""
    from trifecta import run
    from trifecta.run.request import Request

    rows = ["text,label"] + [f"{word} b c d,{'x' if word == 'a' else 'y'}" for word in "abababababababab"]
    data = tmp_path / "rows.csv"
    data.write_text("\n".join(rows) + "\n")
    request = Request(
        data=(str(data),), flags={"training.max_steps": ("--max-steps", 2), "data.sequence_length": ("-", 24)}
    )
    final, place, _ = run.finetune(request, str(hf_folder), "classify", tmp_path / "run")
    run.train(final, out=place)
    opened = run.load(place)
    assert opened.recipe.model.num_heads == 4
    assert opened.recipe.training.init_from == str(hf_folder)
    notes = [json.loads(line).get("message", "") for line in (place / "journal.jsonl").read_text().splitlines()]
    assert any("begins fresh: head.bias, head.weight" in note for note in notes)
    start = hf.from_hf(json.loads((hf_folder / "config.json").read_text()), initial.files.read_safetensors(
        hf_folder / folders.WEIGHTS)).state["embedding.token.weight"]  # fmt: skip
    assert (opened.model.body.embedding.token.weight - start).abs().max() < 0.01
