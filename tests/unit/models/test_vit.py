"""ViT: patches, positions, what is judged by, and who reaches whom."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.errors import RecipeError
from trifecta.models import MODELS, Vit, part_sizes, roles
from trifecta.models.heads import Headed
from trifecta.models.layers import freeze, heights
from trifecta.models.vit import positions
from trifecta.nn.patches import Patches

pytestmark = pytest.mark.fast

SMALL: dict[str, Any] = {
    "image_size": 8, "patch_size": 4, "channels": 3, "d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 24,
}  # fmt: skip


def vit(**changes: Any) -> Vit:
    torch.manual_seed(0)
    return Vit(**(SMALL | {"init_std": 0.3} | changes)).eval()


def images(count: int = 3, channels: int = 3, side: int = 8) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_patches_are_a_convolution() -> None:
    """The map of patches is that convolution whose stride is its width."""
    torch.manual_seed(0)
    layer = Patches(12, 4, 3, 16, first=False, dropout=0.0).double()
    nn.init.zeros_(layer.position.weight)
    x = images(side=12).double()
    wanted = F.conv2d(x, layer.patch.weight.view(16, 3, 4, 4), layer.patch.bias, stride=4).flatten(2).transpose(1, 2)
    assert torch.allclose(layer(x), wanted, atol=1e-12)


def test_control_rows_and_columns_exchanged_are_noticed() -> None:
    torch.manual_seed(0)
    layer = Patches(12, 4, 3, 16, first=False, dropout=0.0)
    nn.init.zeros_(layer.position.weight)
    assert not torch.allclose(layer(images(side=12)), layer(images(side=12).transpose(2, 3)), atol=1e-3)


@pytest.mark.parametrize(("pooling", "count"), [("first", 5), ("mean", 4)])
def test_positions_and_what_is_judged_by(pooling: str, count: int) -> None:
    model = vit(pooling=pooling)
    hidden_BTD = model.hidden(images()).hidden_BTD
    assert hidden_BTD.shape == (3, count, 16)
    assert positions(8, 4, pooling) == count
    wanted = hidden_BTD[:, 0] if pooling == "first" else hidden_BTD.mean(1)
    assert torch.equal(model(images()), wanted)
    assert (model.embedding.first is None) == (pooling == "mean")


def test_an_image_alone_and_in_a_batch_are_judged_alike() -> None:
    model = vit().double()
    together = model(images().double())
    alone = torch.cat([model(image[None].double()) for image in images()])
    assert (together - alone).abs().max() < 1e-12


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_every_patch_reaches_the_judgement_and_order_counts(pooling: str) -> None:
    """Every pixel has a gradient; exchanged patches give another result, unless positions are all alike."""
    model, x = vit(pooling=pooling), images(1).requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
    swapped = x.detach().clone()
    swapped[:, :, :4, :4], swapped[:, :, 4:, 4:] = x.detach()[:, :, 4:, 4:], x.detach()[:, :, :4, :4]
    with torch.no_grad():
        assert (model(swapped) - model(x)).abs().max() > 1e-2
        model.embedding.position.weight[1:] = model.embedding.position.weight[1].clone()
        if pooling == "mean":
            model.embedding.position.weight[:] = model.embedding.position.weight[1].clone()
        assert (model(swapped) - model(x)).abs().max() < 1e-5


def test_every_parameter_has_a_role_a_part_and_a_height() -> None:
    model = Headed(vit(), 7)
    kinds, sizes = roles(model), part_sizes(model)
    assert kinds["body.embedding.patch.weight"] == "embedding"
    assert {kinds[name] for name in kinds if "attention.query.weight" in name} == {"matrix"}
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())
    assert sizes["position"] == 5 * 16
    assert sizes["embedding"] == 3 * 16 * 16 + 16 + 16
    found = heights(kinds)
    assert {found[name] for name in found if ".embedding." in name} == {3}
    freeze(model, body=True)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


def test_known_sizes() -> None:
    """ViT-B/16 and ViT-Ti/16 have as many parameters as published, with a head for 1,000 classes."""
    from trifecta.models import without_memory
    from trifecta.recipe.sources import collect
    from trifecta.run import build

    for preset, wanted in (("vit-base", 86_567_656), ("vit-tiny", 5_717_416)):
        with without_memory():
            model = Headed(build.bare_model_of(collect(preset=preset).resolve().recipe, 0), 1000)
        assert sum(parameter.numel() for parameter in model.parameters()) == wanted


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(RecipeError, match=r"model.patch_size 3 doesn't divide model.image_size 8"):
        vit(patch_size=3)
    assert MODELS["vit"] is Vit


def test_the_loss_module_trains_every_parameter() -> None:
    model = Headed(vit(qk_norm=True, activation="swiglu", norm="rmsnorm", bias=False, drop_path=0.2), 3)
    model.scores(model.pooled(model.hidden(images()).hidden_BTD)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
