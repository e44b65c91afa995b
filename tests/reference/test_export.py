"""A model that leaves as files comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trifecta.interop import hf
from trifecta.models import Gpt
from trifecta.training import files

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
