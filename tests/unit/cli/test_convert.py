"""`trifecta import` and `trifecta export`: folders of transformers, and what is never run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tiny_hf import V, bert, gpt2, llama, modernbert, roberta, t5
from tokenizers import decoders, models, pre_tokenizers

from trifecta.cli.main import main
from trifecta.errors import UnsafeError
from trifecta.interop import folders
from trifecta.run import load

TOLERANCE = 1e-5
WORDS = ["the", "cat", "sat", "on", "a", "mat", "##s", "dog"]


def words(special: list[str], size: int) -> tokenizers.Tokenizer:
    """A WordPiece tokenizer with these special tokens first, and so many tokens in all."""
    letters = "bcdefghijklmnopqrstuvwxyz"
    names = [*special, *WORDS, *letters, *(f"##{letter}" for letter in letters.replace("s", ""))]
    inner = tokenizers.Tokenizer(models.WordPiece({n: i for i, n in enumerate(names[:size])}, unk_token=special[1]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    inner.add_special_tokens(special)
    return inner


SPECIAL = {
    "gpt": ["<|endoftext|>", "<unk>"],
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "t5": ["<pad>", "<unk>", "</s>", "<extra_id_0>", "<extra_id_1>", "<extra_id_2>"],
}


def saved(folder: Path, model: Any, kind: str, *, size: int = V) -> Path:
    """The folder that save_pretrained writes, with a tokenizer."""
    model.save_pretrained(folder)
    words(SPECIAL[kind], size).save(str(folder / "tokenizer.json"))
    return folder


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "gpt2": (gpt2, "gpt"),
    "llama": (llama, "gpt"),
    "bert": (lambda: bert("BertForPreTraining"), "bert"),
    "roberta": (roberta, "roberta"),
    "modernbert": (modernbert, "bert"),
    "t5": (t5, "t5"),
}


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    extra = {"decoder_input_ids": tokens} if model.config.model_type == "t5" else {}
    output = model(input_ids=tokens, **extra)
    found: torch.Tensor = output.logits if "logits" in output else output.prediction_logits
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_becomes_a_run_that_is_the_same_model(name: str, tmp_path: Path, capsys: Any) -> None:
    make, kind = MODELS[name]
    theirs = make()
    folder = saved(tmp_path / "hf", theirs, kind, size=V - 8)  # fewer tokens than the model has rows
    assert main(["import", str(folder), "-o", str(tmp_path / "run")]) == 0
    assert f"and {V} tokens" in capsys.readouterr().out
    run = load(tmp_path / "run")
    tokens = torch.tensor([[6, 9, 12, 33, 7]])
    ours = run.model(tokens, tokens) if run.recipe.model.type == "t5" else run.model(tokens)
    assert (ours - logits_of(theirs, tokens)).abs().max() <= TOLERANCE
    assert run.tokenizer.vocab_size == run.objective.vocabulary.size == V
    plain = words(SPECIAL[kind], V - 8).encode("the cats sat zz", add_special_tokens=False).ids
    assert run.tokenizer.encode("the cats sat zz").tolist() == plain
    names = {"bert": ("[MASK]", "[MASK]"), "roberta": ("[MASK]", "<mask>"), "t5": ("<extra_id_1>", "<extra_id_1>")}
    if kind in names:
        assert run.objective.vocabulary[names[kind][0]] == SPECIAL[kind].index(names[kind][1])


@pytest.mark.parametrize("name", ["gpt2", "bert", "modernbert", "t5"])
def test_there_and_back_again(name: str, tmp_path: Path) -> None:
    make, kind = MODELS[name]
    theirs = make()
    folder = saved(tmp_path / "hf", theirs, kind)
    assert main(["import", str(folder), "-o", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--to", "hf", str(tmp_path / "back")]) == 0
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "back"))
    for key, tensor in after.items():
        assert torch.equal(tensor, before[key]), key
    again = type(theirs).from_pretrained(tmp_path / "back").eval()
    tokens = torch.tensor([[6, 9, 12, 33, 7]])
    assert torch.equal(logits_of(again, tokens), logits_of(theirs, tokens))


def test_an_imported_run_writes_and_is_measured(tmp_path: Path, capsys: Any) -> None:
    folder = saved(tmp_path / "hf", gpt2(), "gpt")
    run = str(tmp_path / "run")
    assert main(["import", str(folder), "-o", run]) == 0
    assert main(["generate", run, "--prompt", "the cat", "--max-tokens", "5", "--temperature", "0"]) == 0
    assert "the cat" in capsys.readouterr().out
    (tmp_path / "text.txt").write_text("the cat sat on a mat\n" * 30)
    assert main(["evaluate", run, "--data", str(tmp_path / "text.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["loss"] > 0


def test_shards_a_vocabulary_alone_and_half_precision(tmp_path: Path, capsys: Any) -> None:
    theirs = bert("BertModel").half()
    folder = tmp_path / "hf"
    theirs.save_pretrained(folder, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists()
    names = [*SPECIAL["bert"], *WORDS]
    names += [f"[unused{i}]" for i in range(V - len(names))]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n")
    assert main(["import", str(folder), "-o", str(tmp_path / "run")]) == 0
    assert "drawn anew: head_bias, head_dense.bias" in capsys.readouterr().out
    run = load(tmp_path / "run")
    assert run.tokenizer.encode("The CATS [MASK]").tolist()[:2] == [names.index("the"), names.index("cat")]
    tokens = torch.tensor([[2, 6, 9, 3]])
    wanted = theirs.float()(tokens).last_hidden_state
    assert (run.model.hidden(tokens).hidden_BTD - wanted).abs().max() <= TOLERANCE


def test_full_folders_unfitting_tokenizers_and_odd_weights_are_refused(tmp_path: Path, capsys: Any) -> None:
    folder = saved(tmp_path / "hf", gpt2(), "gpt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert main(["import", str(folder), "-o", str(tmp_path / "full")]) == 2
    assert main(["import", str(folder), "-o", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "full")]) == 2
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    config = json.loads((folder / "config.json").read_text())
    for change, said in [
        ({"vocab_size": 20}, "the model only 20"),
        ({"n_head": 5}, "model.num_heads"),
        ({"n_positions": 8}, r"embedding.position.weight is [24, 32], the model's is [8, 32]"),
        ({"model_type": "mamba"}, "use one of: gpt2, llama"),
    ]:
        (folder / "config.json").write_text(json.dumps(config | change))
        capsys.readouterr()
        assert main(["import", str(folder), "-o", str(tmp_path / "other")]) in (2, 4)
        assert said in capsys.readouterr().err
        assert not (tmp_path / "other").exists()
    (folder / "config.json").write_text(json.dumps(config))
    state = load_file(folder / "model.safetensors")
    save_file(state | {"transformer.ln_f.bias": torch.full((32,), torch.nan)}, folder / "model.safetensors")
    assert main(["import", str(folder), "-o", str(tmp_path / "other")]) == 4
    assert "norm.bias holds NaN" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- nothing is run


class Payload:
    """What a hostile pickle holds: it writes a file when it is loaded."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.write_text, (self.canary, "ran")


def pickled(folder: Path, content: Any) -> Path:
    """A folder whose weights are pickled only."""
    saved(folder, gpt2(), "gpt")
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(content, file)
    return folder


def test_fault_070_a_pickle_is_not_loaded(tmp_path: Path, capsys: Any) -> None:
    """A pickle that would run code, in a folder without safetensors, runs none and is refused (7), also when pickles
    are allowed."""
    canary = tmp_path / "canary"
    folder = pickled(tmp_path / "hf", {"weight": Payload(canary)})
    command = ["import", str(folder), "-o", str(tmp_path / "run")]
    assert main(command) == 7
    assert "--allow-pickle" in capsys.readouterr().err
    assert main([*command, "--allow-pickle"]) == 7
    assert not canary.exists()
    assert not (tmp_path / "run").exists()


def test_fault_070_control_a_reader_that_unpickles_is_noticed(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read with plain pickle, the payload runs, and the test fails."""
    monkeypatch.setattr(folders, "read_pickle", lambda path: pickle.loads(path.read_bytes()))
    with pytest.raises(AssertionError):
        test_fault_070_a_pickle_is_not_loaded(tmp_path, capsys)
    assert (tmp_path / "canary").exists()


def test_a_pickle_of_tensors_is_read_when_it_is_allowed(tmp_path: Path) -> None:
    theirs = gpt2()
    folder = saved(tmp_path / "hf", theirs, "gpt")
    (folder / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    assert main(["import", str(folder), "-o", str(tmp_path / "run")]) == 7
    assert main(["import", str(folder), "-o", str(tmp_path / "run"), "--allow-pickle"]) == 0
    tokens = torch.tensor([[6, 9, 12]])
    assert (load(tmp_path / "run").model(tokens) - theirs(tokens).logits).abs().max() <= TOLERANCE


@pytest.mark.parametrize("version", ["2.9.1", "2.5.0+cpu", "1.13.1"])
def test_fault_071_an_older_torch_loads_no_pickle(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a torch older than 2.10 no pickle is read, even when it is allowed (7)."""
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.ones(1)}, path)
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(UnsafeError, match="can't keep a pickle from running code") as caught:
        folders.read_pickle(path)
    assert caught.value.exit_code == 7


def test_fault_071_control_a_torch_that_is_not_asked_for_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a least version the pickle is read, and the test fails."""
    monkeypatch.setattr(folders, "_SAFE_TORCH", (0, 0))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_fault_071_an_older_torch_loads_no_pickle("2.9.1", tmp_path, monkeypatch)


def with_code(folder: Path, canary: Path, **config: Any) -> Path:
    """A folder that asks for code of its own."""
    saved(folder, gpt2(), "gpt")
    (folder / "modeling_custom.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).write_text('ran')\n")
    asked = {"auto_map": {"AutoModelForCausalLM": "modeling_custom.Model"}, **config}
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | asked))
    return folder


def test_fault_076_code_of_a_folder_is_never_run(tmp_path: Path, capsys: Any) -> None:
    """A folder with auto_map is refused (7) where its model needs that code; where we know the model, its code is
    passed over with a note. A shard elsewhere is refused (7) too."""
    canary = tmp_path / "canary"
    unknown = with_code(tmp_path / "unknown", canary, model_type="custom")
    assert main(["import", str(unknown), "-o", str(tmp_path / "one")]) == 7
    assert "auto_map" in capsys.readouterr().err
    known = with_code(tmp_path / "known", canary)
    assert main(["import", str(known), "-o", str(tmp_path / "two")]) == 0
    assert "note: config.json names code of its own (auto_map): not run" in capsys.readouterr().out
    (known / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"transformer.wte.weight": "../elsewhere.safetensors"}}
    (known / "model.safetensors.index.json").write_text(json.dumps(index))
    assert main(["import", str(known), "-o", str(tmp_path / "three")]) == 7
    assert not canary.exists()


def test_fault_076_control_a_folder_whose_code_runs_is_noticed(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing the module that auto_map names makes the canary, and the test fails."""

    def trusting(config: Any, folder: Path) -> list[str]:
        module = str(config["auto_map"]["AutoModelForCausalLM"]).partition(".")[0]
        exec((folder / f"{module}.py").read_text())
        return []

    monkeypatch.setattr(folders, "_refuse_code", trusting)
    with pytest.raises(AssertionError):
        test_fault_076_code_of_a_folder_is_never_run(tmp_path, capsys)
    assert (tmp_path / "canary").exists()


@pytest.mark.fast
def test_what_is_missing_is_said(tmp_path: Path, capsys: Any) -> None:
    assert main(["import", str(tmp_path / "nowhere")]) == 4
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "hf").mkdir()
    assert main(["import", str(tmp_path / "hf"), "-o", str(tmp_path / "run")]) == 4
    assert "there is no config.json" in capsys.readouterr().err
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "gpt2"}')
    assert main(["import", str(tmp_path / "hf"), "-o", str(tmp_path / "run")]) == 4
    assert "neither tokenizer.json nor vocab.txt" in capsys.readouterr().err
    words(SPECIAL["gpt"], 30).save(str(tmp_path / "hf" / "tokenizer.json"))
    (tmp_path / "hf" / "tf_model.h5").touch()
    assert main(["import", str(tmp_path / "hf"), "-o", str(tmp_path / "run")]) == 4
    assert "there is no model.safetensors, only tf_model.h5" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "hf")
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "hf")]) == 4
    assert "no such run" in capsys.readouterr().err
