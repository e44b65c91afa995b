"""Folders as Hugging Face's libraries write them: what is read of one, and what is never run."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trifecta.errors import CheckpointError, UnsafeError
from trifecta.interop.imports import READERS
from trifecta.interop.vocabularies import wordpiece_json

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
INDEX, PICKLE, VOCABULARY = "model.safetensors.index.json", "pytorch_model.bin", "vocab.txt"
IMAGES = "preprocessor_config.json"
_CODE = ("auto_map", "custom_pipelines", "custom_generate", "kernel_config", "use_kernels", "trust_remote_code")
"""Keys of config.json that name code or compiled kernels to load."""
_SAFE_TORCH = (2, 10)
"""Earlier versions could be made to run code by torch.load in spite of weights_only."""

Reader = Callable[[Path], Mapping[str, Tensor]]
"""Reads one safetensors file."""


@dataclass(frozen=True)
class Folder:
    """config: config.json. tokenizer: the text of a tokenizer.json, empty for models of images. notes: what was passed
    over. images: preprocessor_config.json, if there is one.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    tokenizer: str
    notes: tuple[str, ...]
    images: Mapping[str, Any] = field(default_factory=dict)


def read_folder(folder: Path, read: Reader, *, allow_pickle: bool = False) -> Folder:
    """Everything that is wanted of a folder. No code of it is ever run.

    Raises:
        CheckpointError: a file is missing or damaged, or the model isn't one that we know.
        UnsafeError: it needs code of its own, or its weights are pickled.
    """
    if not folder.is_dir():
        raise CheckpointError("no such folder", where=str(folder), fix="name a folder that holds a config.json")
    config = _read_json(folder / CONFIG, "name a folder that transformers' save_pretrained wrote")
    notes = _refuse_code(config, folder)
    sees = config.get("model_type") == "vit"
    tokenizer = "" if sees else _read_tokenizer(folder)  # before the weights, which take longer
    images = _read_json(folder / IMAGES, "") if sees and (folder / IMAGES).is_file() else {}
    return Folder(config, _read_weights(folder, read, allow_pickle), tokenizer, tuple(notes), images)


def _read_json(path: Path, fix: str) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"there is no {path.name}", where=str(path.parent), fix=fix)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"this isn't JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise CheckpointError("an object {...} was wanted", where=str(path))
    return content


def _refuse_code(config: Mapping[str, Any], folder: Path) -> list[str]:
    """What is said about code that a known model doesn't need."""
    named = [key for key in _CODE if config.get(key)]
    model_type = config.get("model_type")
    if named and model_type not in READERS:
        raise UnsafeError(
            f"this model ({model_type!r}) needs code of its own ({', '.join(named)}), which is never run",
            where=str(folder / CONFIG), fix=f"use a model of one of these types: {', '.join(READERS)}",
        )  # fmt: skip
    return [f"config.json names code of its own ({key}): not run, since {model_type} is known" for key in named]


def _read_weights(folder: Path, read: Reader, allow_pickle: bool) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        return dict(read(folder / WEIGHTS))
    if (folder / INDEX).is_file():
        return _read_shards(folder, INDEX, read)
    pickled = [name for name in (PICKLE, f"{PICKLE}.index.json") if (folder / name).is_file()]
    if not pickled:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".h5", ".msgpack", ".bin", ".gguf"))
        raise CheckpointError(
            f"there is no {WEIGHTS}{f', only {others[0]}' if others else ''}", where=str(folder),
            fix="load it with transformers, and save it again with save_pretrained(folder)",
        )  # fmt: skip
    if not allow_pickle:
        raise UnsafeError(
            f"the weights are pickled ({pickled[0]}), and a pickle can run code", where=str(folder),
            fix="get model.safetensors, or allow this with --allow-pickle: only tensors are read then, no code is run",
        )  # fmt: skip
    if pickled[0] == PICKLE:
        return read_pickle(folder / PICKLE)
    return _read_shards(folder, pickled[0], read_pickle)


def _read_shards(folder: Path, index: str, read: Reader) -> dict[str, Tensor]:
    """All files that an index names, which lie beside it."""
    places = _read_json(folder / index, "get the folder again").get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError("no weight_map in it", where=str(folder / index))
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(map(str, places.values()))):
        if Path(name).name != name:
            raise UnsafeError(f"it names a file elsewhere: {name!r}", where=str(folder / index))
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing", where=str(folder), fix="get the folder again")
        tensors |= read(folder / name)
    missing = sorted(places.keys() - tensors.keys())
    if missing:
        raise CheckpointError(f"{missing[0]} isn't in the file that the index names", where=str(folder / index))
    return tensors


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled file, if it holds tensors alone.

    Raises:
        UnsafeError: it holds something else, or this torch can't keep a pickle from running code.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise UnsafeError(
            f"torch {torch.__version__} can't keep a pickle from running code", where=str(path),
            fix=f"install torch {'.'.join(map(str, _SAFE_TORCH))} or newer, or get model.safetensors",
        )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # what it can't read fails anyway
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UnsafeError(
            f"the pickle holds more than tensors, or is damaged: {str(error).splitlines()[0]}", where=str(path),
            fix="don't load it anywhere; get model.safetensors",
        ) from error  # fmt: skip
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError("a table of tensors by name was wanted", where=str(path))
    return tensors


def _read_tokenizer(folder: Path) -> str:
    """tokenizer.json, or one made of BERT's vocab.txt."""
    path = folder / TOKENIZER
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if not (folder / VOCABULARY).is_file():
            raise CheckpointError(
                f"there is neither {TOKENIZER} nor {VOCABULARY}", where=str(folder),
                fix="load it with transformers' AutoTokenizer, and save it again with save_pretrained(folder)",
            )  # fmt: skip
        settings = folder / "tokenizer_config.json"
        lowercase = _read_json(settings, "").get("do_lower_case", True) if settings.is_file() else True
        return wordpiece_json((folder / VOCABULARY).read_text(encoding="utf-8"), lowercase=bool(lowercase))
    except UnicodeDecodeError as error:
        raise CheckpointError("the tokenizer isn't UTF-8 text", where=str(folder)) from error


def tokenizer_settings(special: Mapping[str, str | None], length: int | None, *, pairs: bool) -> dict[str, Any]:
    """tokenizer_config.json as a dict.

    Args:
        special: `eos_token` and the like -> the token. length: most tokens of a text. pairs: the model knows first and
            second texts apart.
    """
    inputs = ["input_ids", *(["token_type_ids"] if pairs else []), "attention_mask"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": inputs,
        **({"model_max_length": length} if length else {}),
        **{name: token for name, token in special.items() if token is not None},
    }


def image_settings(size: int, mean: list[float], std: list[float]) -> dict[str, Any]:
    """preprocessor_config.json as a dict: resize bilinearly to a square, scale to 0 to 1, normalise."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }


def read_image_settings(images: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of a preprocessor_config.json.

    Raises:
        CheckpointError: images are prepared in a way that ours aren't.
    """
    wanted = {"do_center_crop": (False, None), "do_rescale": (True,), "resample": (2,)}
    wrong = [key for key, accepted in wanted.items() if key in images and images[key] not in accepted]
    factor = images.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or abs(factor * 255 - 1) > 1e-3:
        wrong.append("rescale_factor")
    if wrong:
        raise CheckpointError("our images are resized bilinearly and scaled to 0 to 1, and nothing is cropped; theirs "
                              + ", ".join(f"have {key}={images[key]!r}" for key in wrong), where=IMAGES)  # fmt: skip
    if images.get("do_normalize") is False:
        return [0.0], [1.0]
    found = [images.get(key) or [0.5] for key in ("image_mean", "image_std")]
    mean, std = ([float(x) for x in (value if isinstance(value, list) else [value])] for value in found)
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise CheckpointError(f"image_mean has {len(mean)} numbers for {channels} channels", where=IMAGES)
    return mean, std


def as_json(content: Mapping[str, Any]) -> str:
    """As Hugging Face's libraries write it."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
