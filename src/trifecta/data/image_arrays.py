"""Images in NumPy files, and those that scikit-learn ships."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from trifecta.data.files import InputFile, open_regular
from trifecta.data.images import INSTALL, LabelledImage, Pixels
from trifecta.data.tasks.split import split_records
from trifecta.errors import DataError

_IMAGES, _LABELS = ("images", "x", "data", "arr_0"), ("labels", "y", "targets", "arr_1")
_SEED, _HELD_OUT = 0, 0.2

BUILTIN_IMAGES = ("digits",)
"""Names of images that need no download."""


def read_arrays(file: InputFile, *, labelled: bool) -> list[LabelledImage]:
    """Images of a .npz with images and labels, or of a .npy beside which `NAME_labels.npy` or `labels.npy` lies.

    Images are (N, height, width), with 1 or 3 channels before or after height and width; whole numbers from 0 to 255,
    or others from 0 to 1. Labels are numbers or texts, (N,).

    Raises:
        DataError: the file is damaged or holds Python objects, an array is lacking or of another kind.
    """
    loaded = _load(file.path, file.place)
    if isinstance(loaded, np.ndarray):
        images, labels = loaded, _beside(file.path) if labelled else None
    else:
        images = _named(loaded, _IMAGES, "images", file.place)
        labels = _named(loaded, _LABELS, "labels", file.place) if labelled else None
    pixels = _as_pixels(images, file.place)
    if labels is None:
        names = [""] * len(pixels)
    else:
        if labels.ndim != 1 or labels.dtype.kind not in "iuUSb":
            raise DataError(f"labels of shape {labels.shape} and kind {labels.dtype}", where=file.place,
                            fix="give one number or text for each image")  # fmt: skip
        if len(labels) != len(pixels):
            raise DataError(f"{len(pixels)} images, but {len(labels)} labels", where=file.place,
                            fix="give each image a label")  # fmt: skip
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in labels.tolist()]
    return [_record(image, name, f"{file.place}[{number}]") for number, (image, name) in enumerate(
        zip(pixels, names, strict=True))]  # fmt: skip


def digits() -> tuple[list[LabelledImage], list[LabelledImage]]:
    """1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, 1998), a fifth of each class held out.

    Raises:
        DataError: scikit-learn isn't installed.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError("the digits are in the package scikit-learn, which isn't installed", fix=INSTALL) from error
    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    records = [_record(image, str(label), f"digits[{number}]") for number, (image, label) in enumerate(
        zip(pixels, found.target.tolist(), strict=True))]  # fmt: skip
    return split_records(records, _HELD_OUT, _SEED, key=lambda record: record.label)


def _record(image: Pixels, label: str, place: str) -> LabelledImage:
    digest = hashlib.sha256(f"{image.shape} ".encode() + image.tobytes()).hexdigest()
    return LabelledImage(label, digest, image.shape[0] * image.shape[1], place, image)


def _load(path: Path, place: str) -> Any:
    """An array, or the arrays of a .npz by their names."""
    with open_regular(path, place) as stream:
        try:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return {name: loaded[name] for name in loaded.files}
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"this NumPy file is damaged, or holds Python objects: {str(error)[:200]}", where=place,
                            fix="save plain arrays with numpy.savez_compressed(file, images=..., labels=...)",
                            ) from error  # fmt: skip


def _beside(path: Path) -> Any:
    """The labels of a .npy file."""
    for name in (f"{path.stem}_labels.npy", "labels.npy"):
        if (other := path.with_name(name)).exists():
            return _load(other, str(other))
    raise DataError("there are no labels beside this file", where=str(path),
                    fix=f"put {path.stem}_labels.npy there, or give a .npz with images and labels")  # fmt: skip


def _named(arrays: dict[str, Any], names: tuple[str, ...], what: str, place: str) -> Any:
    folded = {name.lower(): name for name in arrays}
    for name in names:
        if name in folded:
            return arrays[folded[name]]
    raise DataError(f"no array of {what}; there are: {', '.join(arrays) or 'none'}", where=place,
                    fix=f"call it {what}: numpy.savez_compressed(file, images=..., labels=...)")  # fmt: skip


def _as_pixels(images: Any, place: str) -> list[Pixels]:
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)) or 0 in images.shape:
        raise DataError(f"images of shape {images.shape}", where=place,
                        fix="give (images, height, width), and 1 or 3 channels before or after those")  # fmt: skip
    if images.dtype.kind == "f":
        _require_between(images, 1, place)
        images = np.rint(images * 255)
    elif images.dtype.kind in "iu":
        _require_between(images, 255, place)
    elif images.dtype.kind != "b":
        raise DataError(f"images of the kind {images.dtype}", where=place, fix="give numbers")
    elif images.dtype.kind == "b":
        images = images * np.uint8(255)
    return list(np.ascontiguousarray(images, dtype=np.uint8))


def _require_between(images: Any, most: int, place: str) -> None:
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= most):  # NaN is neither
        raise DataError(f"values from {low} to {high}", where=place,
                        fix=f"scale them to 0 to {most}, or make them uint8 from 0 to 255")  # fmt: skip
