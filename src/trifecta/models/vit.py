"""ViT: an image as a row of patches, read by an encoder (Dosovitskiy et al., 2020)."""

from __future__ import annotations

from torch import Tensor

from trifecta.errors import RecipeError
from trifecta.models.stack import Shape, Stack, rate
from trifecta.nn.init import initialise
from trifecta.nn.patches import Patches
from trifecta.types import Output


class Vit(Stack):
    """Patches with learned positions, pre-norm blocks without a causal mask. Arguments: `components.Vit`.

    vocab_size: of no use here; every architecture is given one.

    Raises:
        RecipeError: sizes that don't fit each other.
    """

    embedding: Patches

    def __init__(
        self,
        vocab_size: int = 0,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        channels: int = 3,
        d_model: int = 192,
        num_heads: int = 3,
        num_layers: int = 12,
        d_ff: int = 768,
        dropout: float = 0.0,
        attention_dropout: float | None = None,
        feedforward_dropout: float | None = None,
        embedding_dropout: float | None = None,
        drop_path: float = 0.0,
        pooling: str = "first",
        norm: str = "layernorm",
        norm_epsilon: float = 1e-6,
        activation: str = "gelu",
        qk_norm: bool = False,
        bias: bool = True,
        attention: str = "fused",
        init: str = "normal",
        init_std: float = 0.02,
    ):
        shape = Shape(
            d_model, num_heads, num_heads, num_layers, d_ff, rate(dropout, attention_dropout),
            rate(dropout, feedforward_dropout), "learned", 10000.0, norm, "pre", norm_epsilon, activation, qk_norm,
            bias, explicit=attention == "explicit", drop_path=drop_path,
        )  # fmt: skip
        if image_size % patch_size:
            raise RecipeError(
                f"model.patch_size {patch_size} doesn't divide model.image_size {image_size}",
                fix=f"make model.image_size a multiple of {patch_size}, or choose another model.patch_size",
            )
        embedding = Patches(
            image_size, patch_size, channels, d_model, first=pooling == "first",
            dropout=rate(dropout, embedding_dropout),
        )  # fmt: skip
        super().__init__(shape, embedding=embedding, causal=False)
        self.vocab_size, self.d_model, self.pooling = vocab_size, d_model, pooling
        self.image_size, self.channels = image_size, channels
        initialise(self, init, std=init_std, num_layers=num_layers)

    def hidden(self, pixels_BCXY: Tensor) -> Output:
        """The last hidden state, (B, T, D). pixels_BCXY: normalised images of image_size x image_size."""
        return Output(self.run(self.embedding(pixels_BCXY)))

    def pooled(self, hidden_BTD: Tensor) -> Tensor:
        """What a classifier judges by, (B, D): the first position, or the mean of all patches."""
        return hidden_BTD[:, 0] if self.pooling == "first" else hidden_BTD.mean(1)

    def drop_head(self) -> None:
        """Takes away what it hasn't: it predicts no tokens."""

    def forward(self, pixels_BCXY: Tensor) -> Tensor:
        """What a classifier judges by, (B, D)."""
        return self.pooled(self.hidden(pixels_BCXY).hidden_BTD)


def positions(image_size: int, patch_size: int, pooling: str) -> int:
    """Positions of an image: its patches, and [CLS] where that is what is judged by."""
    return (image_size // patch_size) ** 2 + (pooling == "first")
