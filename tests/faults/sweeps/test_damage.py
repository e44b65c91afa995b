"""Bits that flip and files that end too early: named, passed over or made anew, and the same bytes in the end."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from runs import SHORT, Killed, same, train_here, write_text

from trifecta.errors import DataError
from trifecta.training import checkpoint

pytestmark = [pytest.mark.sweep, pytest.mark.timeout(560)]
FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "recipe.yaml", "state.json", "tokenizer.json"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("short") / "words.txt", words=300)


@pytest.fixture(scope="module")
def whole(text: Path) -> Path:
    train_here(text, text.parent / "whole", **SHORT)
    return text.parent / "whole"


@pytest.fixture(scope="module")
def killed(text: Path) -> Path:
    """A run killed at step 8, with checkpoints of steps 3 and 6."""
    out = text.parent / "killed"
    with pytest.raises(Killed):
        train_here(text, out, at_step=8, **SHORT)
    assert [p.name for p in checkpoint.candidates(out / "checkpoints")] == ["step-00000006", "step-00000003"]
    return out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("TRIFECTA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def goes_on(killed: Path, whole: Path, text: Path, out: Path, damage: Any) -> None:
    """Damages the newest checkpoint of a copy; the run names it, goes on from the one before, ends the same."""
    shutil.copytree(killed, out, symlinks=True)
    damage(out / "checkpoints" / "step-00000006")
    train_here(text, out, **SHORT)
    same(out, whole)
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert any("damaged checkpoint passed over: " in event.get("message", "") for event in events)
    assert [event["resumed_from"] for event in events if event["event"] == "start"][-1] == 3


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_fault_011_each_file_cut_short(
    killed: Path, whole: Path, text: Path, tmp_path: Path, name: str, share: float
) -> None:
    """Where a file of the newest checkpoint is cut to 0, 50 or 99 %, the run says so, goes on from the checkpoint
    before and ends with the same bytes."""

    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    goes_on(killed, whole, text, tmp_path / "run", cut)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("seed", range(4))
def test_fault_012_a_bit_of_each_file_and_the_run_goes_on(
    killed: Path, whole: Path, text: Path, tmp_path: Path, name: str, seed: int
) -> None:
    """Where a random bit of any file of the newest checkpoint is flipped, the run says so, goes on from the checkpoint
    before and ends with the same bytes."""
    rng = random.Random(f"{name} {seed}")
    goes_on(killed, whole, text, tmp_path / "run", lambda folder: flip(folder / name, rng))


@pytest.mark.parametrize("name", FILES)
def test_fault_012_hundreds_of_bits(killed: Path, tmp_path: Path, name: str) -> None:
    """Of 400 random bits of each file of a checkpoint, flipped one at a time, each is noticed, and the checkpoint
    before is used."""
    root = tmp_path / "checkpoints"
    shutil.copytree(killed / "checkpoints", root, symlinks=True)
    path, rng = root / "step-00000006" / name, random.Random(name)
    whole = path.read_bytes()
    for _ in range(400):
        flip(path, rng)
        found = checkpoint.newest(root, lambda _: None)
        assert found is not None
        assert found.step == 3
        path.write_bytes(whole)
    newest = checkpoint.newest(root, print)
    assert newest is not None
    assert newest.step == 6


@pytest.mark.parametrize("name", ["recipe.yaml", "tokenizer.json", "journal.jsonl", ".lock"])
@pytest.mark.parametrize("seed", range(2))
def test_fault_012_a_bit_beside_the_checkpoints(
    killed: Path, whole: Path, text: Path, tmp_path: Path, name: str, seed: int
) -> None:
    """A bit flipped in what lies beside the checkpoints (recipe, tokenizer, journal, lock) changes neither weights nor
    moments."""
    out = tmp_path / "run"
    shutil.copytree(killed, out, symlinks=True)
    (out / ".lock").write_text("process 1\n")
    flip(out / name, random.Random(f"{name} {seed}"))
    train_here(text, out, **SHORT)
    kept = [line for line in (out / "journal.jsonl").read_bytes().splitlines() if b'"event": "step"' in line]
    if name != "journal.jsonl":
        same(out, whole)
    assert len(kept) >= 8
    for file in ("model.safetensors", "optimizer.safetensors"):
        final = Path("checkpoints") / "final" / file
        assert (out / final).read_bytes() == (whole / final).read_bytes()


@pytest.mark.parametrize("name", ["train.tokens", "validation.tokens", "train.sums", "meta.json", "tokenizer.json"])
@pytest.mark.parametrize("seed", range(3))
def test_a_bit_of_the_cached_tokens(whole: Path, text: Path, tmp_path: Path, cache: Path, name: str, seed: int) -> None:
    """A flipped bit in the token cache: made anew at the start, or noticed when it is read (3) and made anew then."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train_here(text, out, at_step=8, **SHORT)
    (entry,) = (cache / "tokens").iterdir()
    flip(entry / name, random.Random(f"{name} {seed}"))
    if name in ("train.tokens", "validation.tokens", "train.sums"):
        with pytest.raises(DataError, match="the cached tokens are damaged between byte 0 and 65536") as caught:
            train_here(text, out, **SHORT)
        assert caught.value.exit_code == 3
    train_here(text, out, **SHORT)
    same(out, whole)


def test_fault_012_control_a_checkpoint_that_is_not_read_through_is_noticed(
    killed: Path, whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hashing, a flipped bit of a weight is trained on."""
    from trifecta.training import files

    def last_bit(folder: Path) -> None:
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-2] ^= 1 << 4
        (folder / "model.safetensors").write_bytes(bytes(content))

    def from_manifest(path: Path) -> str:
        return str(json.loads((path.parent / "manifest.json").read_text())["files"][path.name]["sha256"])

    monkeypatch.setattr(files, "sha256_of", from_manifest)
    with pytest.raises(AssertionError):
        goes_on(killed, whole, text, tmp_path / "run", last_bit)


def test_fault_011_012_control_tokens_that_are_not_summed_are_noticed(
    whole: Path, text: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sums, a flipped bit in the token cache is trained on."""
    from trifecta.data import TokenStore

    with pytest.raises(Killed):
        train_here(text, tmp_path / "run", at_step=8, **SHORT)
    (entry,) = (cache / "tokens").iterdir()
    content = bytearray((entry / "train.tokens").read_bytes())
    content[100::50] = bytes(byte ^ 1 for byte in content[100::50])
    (entry / "train.tokens").write_bytes(bytes(content))
    monkeypatch.setattr(TokenStore, "_check", lambda *_: None)
    train_here(text, tmp_path / "run", **SHORT)
    with pytest.raises(AssertionError):
        same(tmp_path / "run", whole)
