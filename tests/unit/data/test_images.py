"""Images: which class, which pixels, and what can't be read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import COLOURS, array, write_images
from PIL import Image

from trifecta.data.files import InputFile
from trifecta.data.image_arrays import digits
from trifecta.data.images import LabelledImage, in_order, read_image, read_images, read_unlabelled_images
from trifecta.errors import DataError

pytestmark = pytest.mark.fast


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "colours", each=2)


def image_of(path: Path) -> LabelledImage:
    return read_image(InputFile(path, str(path), "text"), "")


def test_folders_are_classes_and_pixels_are_the_files(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / "yellow").mkdir()
    (folder / "red" / ".hidden.png").write_text("no image")
    (folder / "red" / "deep").mkdir()
    Image.fromarray(array("red", 9)).save(folder / "red" / "deep" / "x.PNG")
    found = read_images([str(folder)])
    assert found.labels == tuple(COLOURS)
    assert [record.label for record in found.records] == ["blue"] * 2 + ["green"] * 2 + ["red"] * 3
    assert found.notes == (
        "1 files that are no images were passed over", "folders without an image aren't classes: yellow",
    )  # fmt: skip
    wanted = array("blue", 1).transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(found.records[1].pixels(12, 3), wanted)
    assert found.records[1].area == 144
    assert found.records[1].place.endswith("blue/1.png")


def test_the_same_image_elsewhere_has_the_same_identity(folder: Path, tmp_path: Path) -> None:
    other = write_images(tmp_path / "other", each=2)
    one, two = (read_images([str(place)]).records for place in (folder, other))
    assert [record.identity for record in one] == [record.identity for record in two]
    assert len({record.identity for record in one}) == 6


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((5, 7)).astype(np.float32)).save(tmp_path / "x.tif")
    (record,) = read_unlabelled_images([str(tmp_path / "x.tif")])
    with pytest.raises(DataError, match="floating-point"):
        record.pixels(5, 1)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_kinds_of_pixels_are_converted(tmp_path: Path, mode: str, channels: int) -> None:
    grey = np.full((5, 7), 200, np.uint8)
    if mode == "I;16":
        made = Image.fromarray(np.full((5, 7), 200 * 257, np.uint16))
    else:
        made = Image.fromarray(grey).convert("1" if mode == "1" else mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    made.save(path)
    pixels = image_of(path).pixels(4, channels)
    assert pixels.shape == (channels, 4, 4)
    assert pixels.dtype == np.float32
    assert mode == "1" or np.abs(pixels * 255 - 200).max() <= 2


def test_control_sixteen_bits_cut_off_at_255_are_noticed(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 7), 200 * 257, np.uint16)).save(tmp_path / "x.png")
    assert np.asarray(Image.open(tmp_path / "x.png").convert("L")).min() == 255


def test_an_image_is_turned_upright_and_resized_as_transformers_does(tmp_path: Path) -> None:
    from transformers import ViTImageProcessorPil

    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    made = Image.fromarray(pixels)
    made.save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    made.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    plain, turned = (image_of(tmp_path / name).pixels(16, 3) for name in ("plain.png", "turned.png"))
    assert np.array_equal(plain, turned)
    theirs = ViTImageProcessorPil(size={"height": 16, "width": 16})(made, return_tensors="np")["pixel_values"][0]
    assert np.abs((plain - 0.5) / 0.5 - theirs).max() < 1e-6


@pytest.mark.parametrize(
    ("images", "side"),
    [(np.zeros((4, 6, 6), np.uint8), 6), (np.zeros((4, 6, 6, 1)), 6), (np.ones((4, 3, 6, 6), np.float32), 6),
     (np.full((4, 6, 6, 3), 255), 6), (np.ones((4, 5, 5), np.bool_), 5)],
)  # fmt: skip
def test_arrays(tmp_path: Path, images: Any, side: int) -> None:
    np.savez(tmp_path / "a.npz", X=images, y=np.array([10, 9, 10, 9]))
    np.save(tmp_path / "b.npy", images)
    np.save(tmp_path / "b_labels.npy", np.array(["x", "y", "x", "y"]))
    found = read_images([str(tmp_path / "a.npz")])
    assert found.labels == ("9", "10")
    assert [record.label for record in found.records] == ["10", "9", "10", "9"]
    assert found.records[0].place.endswith("a.npz[0]")
    pixels = found.records[0].pixels(side, 3)
    assert pixels.shape == (3, side, side)
    assert np.all(pixels == (images.max() > 0))
    assert read_images([str(tmp_path / "b.npy")]).labels == ("x", "y")
    assert len(read_unlabelled_images([str(tmp_path / "a.npz")])) == 4


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array("red", 0, 64)).save(stream, "PNG")
    return stream.getvalue()


BROKEN: dict[str, tuple[bytes, str]] = {
    "red/cut.png": (png()[:-900], "the image is damaged"),
    "red/text.png": (b"hello", "this isn't an image"),
    "red/empty.jpg": (b"", "this isn't an image"),
    "red/flipped.png": (png()[:200] + b"\x00" * 40 + png()[240:], "the image is damaged"),
    "loose.png": (png(), "this image has no class"),
    "pickled.npz": (b"PK\x03\x04 nothing", "this NumPy file is damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named(folder: Path, name: str) -> None:
    content, what = BROKEN[name]
    (folder / name).write_bytes(content)

    def read() -> None:
        for record in read_images([str(folder)]).records:
            record.pixels(8, 3)

    with pytest.raises(DataError, match=what) as caught:
        read()
    assert str(caught.value.where).endswith(name)
    assert caught.value.exit_code == 3
    assert caught.value.fix


def test_fault_077_a_numpy_file_of_pickled_images_is_refused(tmp_path: Path) -> None:
    """Images as pickled objects of a NumPy file are refused, and nothing of them is run."""

    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "a.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds Python objects"):
        read_images([str(tmp_path / "a.npy")])
    assert not (tmp_path / "ran").exists()


def test_fault_077_control_numpy_itself_would_run_it(tmp_path: Path) -> None:
    """numpy.load with allow_pickle runs what the file of the test above holds."""

    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "a.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"images": np.zeros((2, 4, 4)), "labels": np.zeros(3, int)}, "2 images, but 3 labels"),
        ({"images": np.zeros((2, 4, 4))}, "no array of labels"),
        ({"pictures": np.zeros((2, 4, 4)), "labels": np.zeros(2, int)}, "no array of images; there are: pictures"),
        ({"images": np.zeros((2, 4, 4, 2)), "labels": np.zeros(2, int)}, r"images of shape \(2, 4, 4, 2\)"),
        ({"images": np.full((2, 4, 4), 1.5), "labels": np.zeros(2, int)}, "values from 1.5 to 1.5"),
        ({"images": np.full((2, 4, 4), np.nan), "labels": np.zeros(2, int)}, "values from nan"),
        ({"images": np.full((2, 4, 4), -1), "labels": np.zeros(2, int)}, "values from -1"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.zeros((2, 2))}, "labels of shape"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], what: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=what) as caught:
        read_images([str(tmp_path / "a.npz")])
    assert str(caught.value.where).endswith("a.npz")


def test_no_images_and_no_image(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for read in (read_images, read_unlabelled_images):
        with pytest.raises(DataError, match="this is no image"):
            read([str(tmp_path / "a.txt")])
        with pytest.raises(DataError, match="this folder has no files"):
            read([str(tmp_path / "empty")])
    (tmp_path / "empty" / "b.txt").write_text("text")
    for read in (read_images, read_unlabelled_images):
        with pytest.raises(DataError, match="there are no images here"):
            read([str(tmp_path / "empty")])
    with pytest.raises(DataError, match="'red' isn't one of"):
        read_images([str(folder)], ["blue", "green"])
    assert read_images([str(folder)], ["red", "blue", "green"]).labels == ("red", "blue", "green")


def test_digits_are_fixed_and_divided_by_class() -> None:
    train, validation = digits()
    assert (len(train), len(validation)) == (1438, 359)
    assert not {r.place for r in train} & {r.place for r in validation}
    counts = [sum(r.label == str(n) for r in validation) for n in range(10)]
    assert min(counts) >= 35
    assert [r.place for r in digits()[1]] == [r.place for r in validation]
    assert train[0].pixels(8, 1).max() == 1.0
    assert train[0].pixels(16, 3).shape == (3, 16, 16)


def test_numbers_are_ordered_by_size() -> None:
    assert in_order(["10", "9", "1"]) == ["1", "9", "10"]
    assert in_order(["b", "10", "9"]) == ["10", "9", "b"]
