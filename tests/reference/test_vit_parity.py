"""Our ViT against Hugging Face's with copied weights, and folders both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from pictures import COLOURS, array, write_images
from PIL import Image
from tiny_hf import make
from torch import Tensor, nn

from trifecta.data.images import read_unlabelled_images
from trifecta.errors import CheckpointError, RecipeError
from trifecta.interop import folders, hf
from trifecta.models import Vit
from trifecta.models.heads import Headed
from trifecta.models.layers import bare
from trifecta.run import load
from trifecta.run.convert import export_run, import_folder

TOLERANCE = 1e-5
SIZES = {
    "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 48, "image_size": 12,
    "patch_size": 4, "num_labels": 3, "initializer_range": 0.1,
}  # fmt: skip


def theirs_of(**changes: Any) -> Any:
    return make("ViTForImageClassification", transformers.ViTConfig, **(SIZES | changes))


def ours_of(theirs: Any) -> Headed:
    found = hf.from_hf(theirs.config.to_dict(), theirs.state_dict())
    assert found.kind == "vit"
    model = Headed(Vit(**found.fields), len(found.labels)).eval()
    model.load_state_dict({name if name.startswith("head.") else f"body.{name}": t for name, t in found.state.items()})
    return model


def pixels(channels: int = 3) -> Tensor:
    return torch.randn(4, channels, 12, 12, generator=torch.Generator().manual_seed(1))


def scores(ours: Headed, x: Tensor) -> Tensor:
    return ours.scores(ours.pooled(ours.hidden(x).hidden_BTD))


def differences(theirs: Any, ours: Headed) -> tuple[float, float, float]:
    """Largest absolute difference of logits, of loss, and of any element of any gradient."""
    x, targets = pixels(theirs.config.num_channels), torch.tensor([0, 1, 2, 1])
    their_logits, our_logits = theirs(x).logits, scores(ours, x)
    losses = [F.cross_entropy(logits, targets) for logits in (their_logits, our_logits)]
    for loss in losses:
        loss.backward()
    by_name = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    wanted = hf.from_hf_state(by_name, theirs.config.to_dict())
    found = {bare(name): p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    gradient = max(float((found[name] - wanted[name]).abs().max()) for name in wanted)
    return float((their_logits - our_logits).abs().max().detach()), abs(losses[0].item() - losses[1].item()), gradient


@pytest.mark.parametrize("changes", [{}, {"num_channels": 1, "patch_size": 3}, {"hidden_act": "gelu_new"}])
def test_numeric_031_vit_logits_loss_and_every_gradient(changes: dict[str, Any]) -> None:
    """Logits, loss and every gradient equal those of Hugging Face's ViT with the same weights, to 1e-5."""
    theirs = theirs_of(**changes)
    assert max(differences(theirs, ours_of(theirs))) <= TOLERANCE


def test_numeric_031_control_vit_patches_read_by_columns() -> None:
    """Rows and columns of each patch exchanged: the logits are off by more than 1e-3."""
    theirs = theirs_of()
    ours = ours_of(theirs)
    with torch.no_grad():
        kernel = ours.body.embedding.patch.weight
        kernel.copy_(kernel.view(32, 3, 4, 4).transpose(2, 3).flatten(1))
    assert differences(theirs, ours)[0] > 100 * TOLERANCE


def test_numeric_031_control_vit_epsilon() -> None:
    """Another epsilon of the norms misses the tolerance."""
    theirs = theirs_of()
    ours = ours_of(theirs)
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-2
    assert differences(theirs, ours)[0] > TOLERANCE


def test_round_trip_is_exact() -> None:
    """Into our names, theirs of the file, and ours again: the same tensors."""
    theirs = theirs_of()
    config = theirs.config.to_dict()
    ours = hf.from_hf_state(theirs.state_dict(), config)
    files = hf.to_hf_state(ours, "vit")
    again = hf.from_hf_state(files, config)
    assert ours.keys() == again.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.items())
    assert "vit.encoder.layer.0.attention.attention.query.weight" in files


@pytest.mark.parametrize(
    ("changes", "what"), [({"qkv_bias": False}, "qkv_bias"), ({"image_size": [12, 16]}, "image_size"),
                          ({"hidden_act": "silu"}, "hidden_act")],
)  # fmt: skip
def test_what_ours_cannot_express_is_named(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(CheckpointError, match=what):
        hf.from_hf_config({**SIZES, "model_type": "vit", **changes})


def saved(folder: Path) -> Any:
    theirs = theirs_of(id2label=dict(enumerate(COLOURS)), label2id={name: n for n, name in enumerate(COLOURS)})
    theirs.save_pretrained(folder)
    settings = {"size": {"height": 12, "width": 12}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    transformers.ViTImageProcessorPil(**settings).save_pretrained(folder)
    return theirs


def test_a_folder_of_theirs_becomes_a_run_and_a_folder_again(tmp_path: Path) -> None:
    """An image file is judged alike by their processor and model, by the imported run, and by what it becomes."""
    theirs = saved(tmp_path / "theirs")
    made = import_folder(tmp_path / "theirs", tmp_path / "run")
    assert made.model_type == "vit"
    run = load(tmp_path / "run")
    assert run.recipe.objective.labels == list(COLOURS)  # type: ignore[union-attr]
    assert run.recipe.objective.mean == [0.1, 0.2, 0.3]  # type: ignore[union-attr]
    Image.fromarray(array("red", 0, 30)).save(tmp_path / "red.png")
    (image,) = read_unlabelled_images([str(tmp_path / "red.png")])
    batch = run.objective.collate([run.objective.prepare(image)])
    ours = run.objective.scores(run.model, batch)[0].softmax(0).detach().numpy()  # predict would take bf16
    export_run(tmp_path / "run", tmp_path / "again")
    for folder in (tmp_path / "theirs", tmp_path / "again"):
        processor = transformers.ViTImageProcessorPil.from_pretrained(folder)
        model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        inputs = processor(Image.open(tmp_path / "red.png"), return_tensors="pt")
        shares = model(**inputs).logits[0].softmax(0).detach().numpy()
        assert np.abs(shares - ours).max() < TOLERANCE
        assert {int(n): label for n, label in model.config.id2label.items()} == dict(enumerate(COLOURS))
    (found,) = run.predict(str(tmp_path / "red.png"))
    assert list(found["probabilities"].values()) == pytest.approx(ours.tolist(), abs=1e-2)
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "again")
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_an_imported_run_is_evaluated_and_learns_other_classes(tmp_path: Path) -> None:
    from trifecta.run import Request, evaluate, finetune, train

    saved(tmp_path / "theirs")
    data = write_images(tmp_path / "data", each=4)
    import_folder(tmp_path / "theirs", tmp_path / "run")
    figures = evaluate(tmp_path / "run", (str(data),))
    assert figures["records"] == 12
    (data / "red").rename(data / "rouge")
    (data / "violet").mkdir()
    for number in range(4):
        Image.fromarray(array("blue", number) // 2 + array("red", number) // 2).save(data / "violet" / f"{number}.png")
    short = {"training.max_steps": ("settings", 2), "execution.threads": ("settings", 1)}
    for source in ("run", "theirs"):
        request, place, _ = finetune(
            Request(data=(str(data),), flags=short), str(tmp_path / source), "images", tmp_path / f"new-{source}"
        )
        train(request, out=place)
        new = load(place)
        assert new.recipe.objective.labels == ["blue", "green", "rouge", "violet"]  # type: ignore[union-attr]
        assert new.recipe.objective.mean == [0.1, 0.2, 0.3]  # type: ignore[union-attr]
        moved = new.model.body.embedding.patch.weight - load(tmp_path / "run").model.body.embedding.patch.weight
        assert 0 < moved.abs().max() < 0.05, "its weights are where the training began"


def test_what_cannot_be_exported_or_imported_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Hugging Face's vit can't express model.pooling: mean"):
        hf.to_hf_config({"pooling": "mean"}, 0, kind="vit")
    saved(tmp_path / "theirs")
    path = tmp_path / "theirs" / folders.IMAGES
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_center_crop": True}))
    with pytest.raises(CheckpointError, match="do_center_crop=True"):
        import_folder(tmp_path / "theirs", tmp_path / "run")
    path.unlink()
    import_folder(tmp_path / "theirs", tmp_path / "run")
    assert load(tmp_path / "run").recipe.objective.mean == [0.5]  # type: ignore[union-attr]
