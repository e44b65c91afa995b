"""BERT's weights in Keras's layout."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from tiny_hf import T, bert
from torch import nn

from trifecta.errors import CheckpointError
from trifecta.interop.h5 import read_keras_bert
from trifecta.models import Bert

TOLERANCE = 1e-5


def keras_place(name: str) -> str:
    """Where TFBertModel, or TFBertForPreTraining with its heads, keeps one of torch's tensors."""
    module, _, leaf = name.rpartition(".")
    module = module.replace(".", "/").replace("encoder/layer/", "encoder/layer_._")
    leaf = {"weight": "kernel"}.get(leaf, leaf)
    if "LayerNorm" in module:
        leaf = {"kernel": "gamma", "bias": "beta"}[leaf]
    elif module.endswith("word_embeddings"):
        leaf = "weight"
    elif module.endswith("_embeddings"):
        leaf = "embeddings"
    if module.startswith("cls"):
        return f"mlm___cls/tf_bert_for_pre_training/mlm___{module}/{leaf}:0"
    return f"bert/tf_bert_model/{module}/{leaf}:0"


def write_keras(path: Path, model: nn.Module, *, transpose: bool = True) -> Path:
    """The file that Keras would write."""
    with h5py.File(path, "w") as file:
        for name, tensor in model.state_dict().items():
            if "decoder" in name or "seq_relationship" in name:
                continue
            place = keras_place(name if name.startswith(("bert.", "cls.")) else f"bert.{name}")
            kernel = place.endswith("kernel:0") and transpose
            file.create_dataset(place, data=(tensor.t() if kernel else tensor).numpy())
        file.create_dataset("optimizer/iteration:0", data=7)
    return path


def tokens() -> torch.Tensor:
    return torch.randint(4, 61, (3, T), generator=torch.Generator().manual_seed(1))


def ours_of(path: Path) -> Bert:
    fields, state = read_keras_bert(path)
    model = Bert(len(state["embedding.token.weight"]), **fields).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("head_") for name in missing)
    return model


def test_hidden_states_and_pooler_are_those_of_the_model_that_was_written(tmp_path: Path) -> None:
    theirs: Any = bert("BertModel", hidden_size=128, num_attention_heads=2, initializer_range=0.05)
    ours = ours_of(write_keras(tmp_path / "tf_model.h5", theirs))
    hidden, wanted = ours.hidden(tokens()).hidden_BTD, theirs(tokens())
    assert (hidden - wanted.last_hidden_state).abs().max() <= TOLERANCE
    assert (ours.pooled(hidden[:, 0]) - wanted.pooler_output).abs().max() <= TOLERANCE


def test_control_kernels_that_are_not_turned_are_noticed(tmp_path: Path) -> None:
    theirs: Any = bert("BertModel", hidden_size=128, num_attention_heads=2, intermediate_size=128)
    ours = ours_of(write_keras(tmp_path / "tf_model.h5", theirs, transpose=False))
    assert (ours.hidden(tokens()).hidden_BTD - theirs(tokens()).last_hidden_state).abs().max() > 100 * TOLERANCE


def test_heads_come_from_a_config_beside_and_the_masked_head_from_the_file(tmp_path: Path) -> None:
    theirs: Any = bert("BertForPreTraining", hidden_act="relu")
    path = write_keras(tmp_path / "tf_model.h5", theirs)
    (tmp_path / "config.json").write_text(json.dumps(theirs.config.to_dict()))
    ours = ours_of(path)
    assert ours.num_heads == 4
    assert (ours(tokens()) - theirs(tokens()).prediction_logits).abs().max() <= TOLERANCE


@pytest.mark.fast
def test_other_files_are_refused_and_the_lack_of_h5py_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(CheckpointError, match="isn't a whole HDF5 file"):
        read_keras_bert(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("dense/kernel:0", data=[[1.0]])
    with pytest.raises(CheckpointError, match="no matrix embeddings/word_embeddings"):
        read_keras_bert(tmp_path / "other.h5")
    plain = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match=r"pip install 'trifecta\[h5\]'"):
        read_keras_bert(tmp_path / "other.h5")
