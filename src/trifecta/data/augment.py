"""What may be changed in an image without changing what it shows, and batches of images made of two each.

All of it is drawn from the generator that is given: an image's own stream, or that of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trifecta.errors import DataError
from trifecta.types import Example

if TYPE_CHECKING:
    import torch

Values = npt.NDArray[np.float32]
"""(C, X, Y) from 0 to 1."""

_ERASED, _RATIOS = (0.02, 0.33), (0.3, 3.3)
"""Share of the area, and height / width, of what is erased (Zhong et al., 2017)."""


@dataclass(frozen=True)
class Changes:
    """Crop, flip, colours, erasing, in this order, each as the recipe's keys of these names say.

    One image at a time, so that neither its neighbours in a batch nor the number of workers can change a bit. Colours
    are kornia's (Riba et al., 2020), which has no random state of its own here.

    fill: what is put where something is erased, for each channel or for all.
    """

    crop_padding: int = 0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erase: float = 0.0
    fill: tuple[float, ...] = (0.5,)

    @property
    def any(self) -> bool:
        """Whether anything is changed."""
        return bool(self.crop_padding or self.flip or self.erase or self._colours)

    @property
    def _colours(self) -> tuple[tuple[str, float], ...]:
        wanted = (("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation),
                  ("hue", self.hue))  # fmt: skip
        return tuple((name, amount) for name, amount in wanted if amount)

    def __call__(self, pixels: Values, generator: np.random.Generator) -> Values:
        """A changed copy."""
        pixels = pixels.copy()
        if border := self.crop_padding:
            framed = np.pad(pixels, ((0, 0), (border, border), (border, border)))
            top, left = (int(n) for n in generator.integers(0, 2 * border + 1, 2))
            pixels = framed[:, top : top + pixels.shape[1], left : left + pixels.shape[2]].copy()
        if self.flip and generator.random() < self.flip:
            pixels = pixels[:, :, ::-1].copy()
        if self._colours:
            pixels = self._coloured(pixels, generator)
        if self.erase and generator.random() < self.erase:
            area = float(generator.uniform(*_ERASED))
            ratio = math.exp(generator.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
            rows, columns = rectangle(pixels.shape[1:], area, ratio, generator)
            pixels[:, rows, columns] = np.array(self.fill, np.float32)[:, None, None]
        return pixels

    def _coloured(self, pixels: Values, generator: np.random.Generator) -> Values:
        import torch

        image = torch.from_numpy(pixels)[None]
        for name, amount in self._colours:
            drawn = float(generator.uniform(-amount, amount))
            if name in ("saturation", "hue") and image.shape[1] == 1:
                continue
            image = colours()[name](image, 2 * math.pi * drawn if name == "hue" else 1 + drawn)
        changed: Values = image[0].clamp(0, 1).numpy()
        return changed


@cache
def colours() -> dict[str, Callable[[torch.Tensor, float], Any]]:
    """kornia's functions of an image (B, C, X, Y) and a factor, or for hue an angle; its import takes a third of a
    second.

    Raises:
        DataError: it isn't installed.
    """
    try:
        from kornia import enhance
    except ImportError as error:
        raise DataError("changes of colour need the package kornia", fix="pip install 'trifecta[vision]'") from error
    return {
        "brightness": enhance.adjust_brightness_accumulative,
        "contrast": enhance.adjust_contrast_with_mean_subtraction,
        "saturation": enhance.adjust_saturation_with_gray_subtraction,
        "hue": enhance.adjust_hue,
    }


def mixed(examples: Sequence[Example], mixup: float, cutmix: float, generator: np.random.Generator) -> list[Example]:
    """Each example with its partner in a permutation of the batch, by one method and one share for all.

    MixUp (Zhang et al., 2017): share * x + (1 - share) * other, share ~ Beta(mixup, mixup). CutMix (Yun et al., 2019):
    a rectangle of 1 - share of the area, share ~ Beta(cutmix, cutmix), is the partner's; what of it lies outside the
    image doesn't count. With both each is as likely.

    Args:
        examples: pixels (C, X, Y), labels (2,) of one class twice, shares (2,). mixup, cutmix: 0 for never.
    """
    cuts = bool(cutmix) and (not mixup or generator.random() < 0.5)
    alpha = cutmix if cuts else mixup
    if not alpha or not examples:
        return list(examples)
    share = float(generator.beta(alpha, alpha))
    partners = generator.permutation(len(examples)).tolist()
    if cuts:
        rows, columns = rectangle(examples[0].arrays["pixels"].shape[1:], 1 - share, 1.0, generator)
        _, height, width = examples[0].arrays["pixels"].shape
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    made = []
    for example, partner in zip(examples, partners, strict=True):
        pixels, other = example.arrays["pixels"], examples[partner].arrays["pixels"]
        if cuts:
            pixels = pixels.copy()
            pixels[:, rows, columns] = other[:, rows, columns]
        else:
            pixels = np.float32(share) * pixels + np.float32(1 - share) * other
        labels = np.array([example.arrays["labels"][0], examples[partner].arrays["labels"][0]])
        made.append(Example({"pixels": pixels, "labels": labels, "shares": np.array([share, 1 - share])}))
    return made


def rectangle(shape: tuple[int, int], area: float, ratio: float, generator: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a rectangle whose middle lies anywhere in the image; what lies outside is cut off.

    Args:
        shape: height and width of the image. area: as a share of the image's. ratio: height / width, relative to the
            image's.
    """
    found = []
    for side, factor in zip(shape, (math.sqrt(ratio), 1 / math.sqrt(ratio)), strict=True):
        length = round(side * math.sqrt(area) * factor)
        middle = int(generator.integers(side))
        found.append(slice(max(0, middle - length // 2), min(side, middle - length // 2 + length)))
    return found[0], found[1]
