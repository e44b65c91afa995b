"""Small folders of images, a folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"blue": (30, 60, 220), "green": (40, 200, 60), "red": (220, 40, 50)}


def array(name: str, number: int, side: int = 12) -> Any:
    """A noisy square of one colour, (side, side, 3)."""
    rng = np.random.default_rng([number, *name.encode()])
    noisy = np.array(COLOURS[name]) + rng.integers(-30, 30, (side, side, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def write_images(folder: Path, each: int = 6, side: int = 12, ending: str = "png") -> Path:
    """`each` images of every colour, in folders of the colours' names."""
    from PIL import Image

    for name in COLOURS:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(array(name, number, side)).save(folder / name / f"{number}.{ending}")
    return folder
