"""Images with a class each: folders by class, and what a model sees of an image."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trifecta.data.files import InputFile, explain_read_errors, find_files, open_regular
from trifecta.data.tasks.labels import require_known
from trifecta.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
"""(height, width, channels), or (height, width) for grey."""

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP",
           ".tif": "TIFF", ".tiff": "TIFF"}  # fmt: skip
"""Endings of image files -> Pillow's names; no other decoder is ever called."""
ARRAYS = (".npz", ".npy")
INSTALL = "pip install 'trifecta[vision]'"
_MODES = {1: "L", 3: "RGB"}
_FIX = "mend or remove this file"


@dataclass(frozen=True)
class LabelledImage:
    """An image that is read when it is needed, and its class.

    label: empty where it isn't known. digest: SHA-256 of the content. area: pixels. source: a file's path, or the
    pixels themselves. place: the file, or `file[number]`.
    """

    label: str
    digest: str
    area: int
    place: str
    source: Path | Pixels = field(repr=False, compare=False)

    @property
    def identity(self) -> str:
        """What the image and its class are, wherever they lie."""
        return f"{self.digest} {self.label!r}"

    def pixels(self, size: int, channels: int) -> npt.NDArray[np.float32]:
        """Values from 0 to 1, (channels, size, size); resized (bilinear) and converted where it is otherwise.

        Raises:
            DataError: the file is damaged or gone.
        """
        if isinstance(self.source, np.ndarray) and self.source.shape[:2] == (size, size):
            array = self.source if self.source.ndim == 3 else self.source[:, :, None]
            if array.shape[2] == channels:
                return _scaled(array)
        with _explained(self.place):
            image = _image_of(self.source, self.place)
            if image.mode != _MODES[channels]:
                image = image.convert(_MODES[channels])
            if image.size != (size, size):
                from PIL.Image import Resampling

                image = image.resize((size, size), Resampling.BILINEAR)
            return _scaled(np.asarray(image).reshape(size, size, channels))


@dataclass(frozen=True)
class ImageSet:
    """records: in the order of the files. labels: the classes; numbers by size, other names by the alphabet."""

    records: list[LabelledImage]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_images(paths: Sequence[str], allowed: Sequence[str] | None = None) -> ImageSet:
    """Images of folders that hold a folder for each class, and of .npz and .npy files with labels.

    Args:
        allowed: the classes that there may be; None: those that are found.

    Raises:
        DataError: with the file: what is no image, no class at all, a class that isn't allowed.
    """
    from trifecta.data.image_arrays import read_arrays

    records: list[LabelledImage] = []
    others = 0
    for file in find_files(paths):
        suffix = file.path.suffix.lower()
        if suffix in ARRAYS and not file.path.stem.endswith("labels"):
            records += read_arrays(file, labelled=True)
        elif suffix in FORMATS:
            records.append(read_image(file, class_of(file)))
        elif file.folder:
            others += 1
        else:
            raise _not_an_image(file)
    if not records:
        raise DataError("there are no images here", where=", ".join(paths), fix=_layout())
    labels = tuple(allowed or in_order({record.label for record in records}))
    for record in records:
        require_known(record.label, labels, record.place)
    notes = [f"{others} files that are no images were passed over"] if others else []
    empty = [folder.name for path in paths for folder in _folders(path) if folder.name not in labels]
    if empty:
        notes.append(f"folders without an image aren't classes: {', '.join(empty)}")
    return ImageSet(records, labels, tuple(notes))


def _folders(path: str) -> list[Path]:
    """Folders right below a path; links aren't followed."""
    place = Path(path).expanduser()
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink()) if place.is_dir() else []


def read_unlabelled_images(paths: Iterable[str]) -> list[LabelledImage]:
    """Images without their classes: files, folders of any depth, and arrays.

    Raises:
        DataError: with the file: what is no image; a folder without one.
    """
    from trifecta.data.image_arrays import read_arrays

    records: list[LabelledImage] = []
    for path in paths:
        found = len(records)
        for file in find_files([path]):
            suffix = file.path.suffix.lower()
            if suffix in ARRAYS:
                records += read_arrays(file, labelled=False)
            elif suffix in FORMATS:
                records.append(read_image(file, ""))
            elif not file.folder:
                raise _not_an_image(file)
        if len(records) == found:
            raise DataError("there are no images here", where=path, fix=f"give {_kinds()} files")
    return records


def read_image(file: InputFile, label: str) -> LabelledImage:
    """One file: its content's digest and its size are read, its pixels later.

    Raises:
        DataError: it can't be read, or isn't an image at all.
    """
    with explain_read_errors(file.place), open_regular(file.path, file.place) as stream:
        content = stream.read()
    with _explained(file.place):
        width, height = _opened(content).size
    return LabelledImage(label, hashlib.sha256(content).hexdigest(), width * height, file.place, file.path)


def class_of(file: InputFile) -> str:
    """The first folder below the one that was given.

    Raises:
        DataError: there is none.
    """
    parts = file.path.relative_to(Path(file.folder).expanduser()).parts if file.folder else ()
    if len(parts) < 2:
        raise DataError("this image has no class", where=file.place, fix=_layout())
    return parts[0]


def in_order(labels: Iterable[str]) -> list[str]:
    """Numbers by their size, other names by the alphabet."""
    names = sorted(labels)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("images need the package pillow, which isn't installed", fix=INSTALL) from error
    return Image


def _opened(content: bytes) -> Image:
    image: Image = _pillow().open(io.BytesIO(content), formats=sorted(set(FORMATS.values())))
    return image


def _image_of(source: Path | Pixels, place: str) -> Image:
    """The whole image, upright."""
    from PIL import Image, ImageOps

    if isinstance(source, np.ndarray):
        return Image.fromarray(source if source.ndim == 2 or source.shape[2] > 1 else source[:, :, 0])
    with explain_read_errors(place), open_regular(source, place) as stream:
        image = _opened(stream.read())
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("an image of floating-point numbers, whose black and white aren't known", where=place,
                        fix="save it with 8 or 16 bits, or give an array of 0 to 255")  # fmt: skip
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert would cut off at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turns what Pillow raises about a file into a DataError; what it warns of, odd metadata, doesn't matter."""
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except pillow.DecompressionBombError as error:
        raise DataError("more pixels than any photograph has", where=place, fix=_FIX) from error
    except pillow.UnidentifiedImageError as error:
        raise DataError("this isn't an image", where=place, fix=_FIX) from error
    except (OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError, TypeError) as error:
        why = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise DataError(f"the image is damaged{why}", where=place, fix=_FIX) from error


def _scaled(array: Pixels) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def _not_an_image(file: InputFile) -> DataError:
    return DataError("this is no image, nor an array of images", where=file.place, fix=_layout())


def _kinds() -> str:
    return ", ".join((*FORMATS, *ARRAYS))


def _layout() -> str:
    return f"give a folder that holds a folder of images ({', '.join(FORMATS)}) for each class, or a .npz file"
