"""A checkpoint is whole or it isn't one."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import torch
from disks import Full
from safetensors.torch import load_file

from trifecta.errors import CheckpointError, ResourceError
from trifecta.models import MODELS, roles
from trifecta.optim import OPTIMIZERS, Trainable
from trifecta.training import checkpoint, files
from trifecta.training.state import Progress, TrainState

ADAMW = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
TEXTS = {"recipe.yaml": "model: {}\n", "tokenizer.json": "{}"}


def make_state(seed: int = 0, tie: bool = True) -> TrainState:
    torch.manual_seed(seed)
    model = MODELS["gpt"](17, d_model=8, num_heads=2, num_layers=1, d_ff=16, tie_embeddings=tie)
    trainable = Trainable(dict(model.named_parameters()), roles(model))
    optimizers = OPTIMIZERS["adamw"](trainable, 1e-3, **ADAMW)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers.step()
    return TrainState(model, optimizers, Progress(step=7, samples_seen=99, best_loss=0.1 + 0.2))


def save(root: Path, step: int = 7, seed: int = 0) -> checkpoint.Checkpoint:
    state = make_state(seed)
    state.progress.step = step
    return checkpoint.save(root, state, TEXTS, reason="steps")


@pytest.mark.fast
@pytest.mark.parametrize("tie", [True, False])
def test_round_trip_is_exact(tmp_path: Path, tie: bool) -> None:
    state, other = make_state(0, tie), make_state(1, tie)
    saved = checkpoint.save(tmp_path, state, TEXTS, reason="steps")
    checkpoint.load_state(checkpoint.verify(saved.folder), other)
    for (name, a), b in zip(state.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    one, two = state.optimizers.state_tensors(), other.optimizers.state_tensors()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert other.progress == state.progress


@pytest.mark.fast
def test_our_safetensors_are_what_the_library_reads(tmp_path: Path) -> None:
    tensors = {
        "b": torch.randn(3, 5), "a": torch.arange(7), "half": torch.randn(2, 2).bfloat16(),
        "flag": torch.tensor([True]),
        "scalar": torch.tensor(2.5), "turned": torch.randn(4, 6).T,
    }  # fmt: skip
    files.write_file(tmp_path / "x.safetensors", lambda w: files.write_safetensors(w, tensors))
    for read in (load_file(tmp_path / "x.safetensors"), files.read_safetensors(tmp_path / "x.safetensors")):
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)


@pytest.mark.fast
def test_numeric_041_tied_weights_are_one_storage_after_load(tmp_path: Path) -> None:
    """Tied weights are saved once, and are one storage after a checkpoint is loaded."""
    saved = save(tmp_path)
    state = make_state(1)
    checkpoint.load_state(saved, state)
    model: Any = state.model
    assert model.head_weight.data_ptr() == model.embedding.token.weight.data_ptr()
    names = files.read_safetensors(saved.folder / "model.safetensors").keys()
    assert len(names) == len({id(p) for p in model.parameters()}), "saved once"


def test_numeric_041_control_an_untied_copy_is_noticed() -> None:
    """A copied weight has a storage of its own."""
    model: Any = make_state().model
    weight = model.embedding.token.weight
    copied = weight.detach().clone()
    assert copied.data_ptr() != weight.data_ptr()


@pytest.mark.fast
def test_fault_008_files_are_synced_then_renamed_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls of a save come in this order: fsync of every file, the manifest last; fsync of the folder; the rename;
    fsync of the folder above. The order of the calls is shown, not a pulled plug."""
    calls: list[str] = []
    fsync, rename = files.os.fsync, Path.rename
    paths = {}
    original_open = files.open_binary

    def opening(path: Path) -> IO[bytes]:
        file = original_open(path)
        paths[file.fileno()] = path.name
        return file

    monkeypatch.setattr(files, "open_binary", opening)
    monkeypatch.setattr(files.os, "fsync", lambda fd: (calls.append(f"sync {paths.pop(fd, 'folder')}"), fsync(fd)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (calls.append("rename"), rename(self, to))[1])
    save(tmp_path)
    rename_at = calls.index("rename")
    synced = [call for call in calls[:rename_at] if call != "sync folder"]
    wanted = ["model.safetensors", "optimizer.safetensors", "recipe.yaml", "tokenizer.json", "state.json"]
    assert synced == [f"sync {name}" for name in [*wanted, "manifest.json"]]
    assert calls[rename_at - 1] == "sync folder"
    assert calls[rename_at + 1 :] == ["sync folder"]


@pytest.mark.fast
@pytest.mark.parametrize("room", [0, 100, 5000, 12000])
def test_fault_009_full_disk_leaves_the_old_checkpoint_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """A disk that fills up during a save ends it (6) with the bytes needed and free; the old checkpoint stays whole,
    and nothing half written is left."""
    old = save(tmp_path, step=7)
    opening, left = files.open_binary, [room]
    monkeypatch.setattr(files, "open_binary", lambda path: Full(opening(path), left))
    with pytest.raises(ResourceError) as caught:
        save(tmp_path, step=8)
    assert caught.value.exit_code == 6
    assert "disk is full" in str(caught.value)
    assert "needs" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [old.folder.name]
    assert checkpoint.newest(tmp_path, print) == old


@pytest.mark.fast
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_fault_011_truncated_file_is_named_and_the_previous_checkpoint_used(
    tmp_path: Path, name: str, share: float
) -> None:
    """A file cut to 0, 50 or 99 % is named, and the checkpoint before is used; where no whole one is left, that is an
    error (4)."""
    old, new = save(tmp_path, step=7), save(tmp_path, step=8)
    path = new.folder / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    warnings: list[str] = []
    assert checkpoint.newest(tmp_path, warnings.append) == old
    assert name in warnings[0]
    assert "step-00000008" in warnings[0]
    (old.folder / name).unlink()
    with pytest.raises(CheckpointError, match="none of the checkpoints is whole") as caught:
        checkpoint.newest(tmp_path, warnings.append)
    assert caught.value.exit_code == 4


@pytest.mark.fast
def test_fault_012_flipped_bit_anywhere_is_named(tmp_path: Path) -> None:
    """A bit flipped at the beginning, middle or end of any file of a checkpoint is noticed, the file is named, and the
    checkpoint before is used."""
    old, new = save(tmp_path, step=7), save(tmp_path, step=8)
    for path in new.folder.iterdir():
        whole = path.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            damaged = bytearray(whole)
            damaged[position] ^= 1
            path.write_bytes(bytes(damaged))
            warnings: list[str] = []
            assert checkpoint.newest(tmp_path, warnings.append) == old, (path.name, position)
            assert path.name in warnings[0] or path.name == "manifest.json"
        path.write_bytes(whole)
    assert checkpoint.newest(tmp_path, print) == new


@pytest.mark.fast
def test_fault_012_control_the_library_alone_loads_a_flipped_bit(tmp_path: Path) -> None:
    """The safetensors library alone loads a flipped bit without a word."""
    saved = save(tmp_path)
    path = saved.folder / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(bytes(damaged))
    load_file(path)


@pytest.mark.fast
def test_fault_013_no_manifest_or_a_file_missing_is_no_checkpoint(tmp_path: Path) -> None:
    """A folder without a manifest, or without a file that the manifest lists, isn't taken for a checkpoint."""
    old, new = save(tmp_path, step=7), save(tmp_path, step=8)
    (new.folder / "manifest.json").unlink()
    assert checkpoint.newest(tmp_path, lambda _: None) == old
    (old.folder / "optimizer.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors is missing"):
        checkpoint.newest(tmp_path, lambda _: None)


@pytest.mark.fast
def test_fault_014_stray_folders_are_ignored_and_cleaned(tmp_path: Path) -> None:
    """What a killed save left is never loaded, and is removed at the next start."""
    saved = save(tmp_path)
    (tmp_path / ".partial-step-00000009-123").mkdir()
    (tmp_path / ".partial-step-00000009-123" / "model.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path, print) == saved
    assert checkpoint.clean(tmp_path) == [".partial-step-00000009-123"]
    assert [p.name for p in tmp_path.iterdir()] == [saved.folder.name]


def test_fault_014_a_checkpoint_that_was_being_replaced_is_put_back(tmp_path: Path) -> None:
    """A checkpoint that was moved aside for a successor that never came is put back."""
    saved = save(tmp_path)
    saved.folder.rename(tmp_path / ".partial-replaced-step-00000007-123")
    checkpoint.clean(tmp_path)
    assert checkpoint.newest(tmp_path, print) == saved


@pytest.mark.fast
def test_fault_015_best_survives_keep_last_one(tmp_path: Path) -> None:
    """With `keep_last_n: 1` both the newest checkpoint and an older best one stay."""
    best = save(tmp_path, step=1)
    checkpoint.point(tmp_path, "best", best)
    for step in (2, 3):
        newest = save(tmp_path, step=step)
        checkpoint.prune(tmp_path, 1, {newest.folder})
    assert checkpoint.candidates(tmp_path) == [newest.folder, best.folder]
    assert checkpoint.verify((tmp_path / "best").resolve()).step == 1


@pytest.mark.fast
def test_fault_016_the_only_good_checkpoint_is_never_removed(tmp_path: Path) -> None:
    """Where the newest checkpoint is damaged, the older good one isn't removed."""
    save(tmp_path, step=1)
    broken = save(tmp_path, step=2)
    (broken.folder / "model.safetensors").write_bytes(b"")
    checkpoint.prune(tmp_path, 1, set())
    found = checkpoint.newest(tmp_path, lambda _: None)
    assert found is not None
    assert found.step == 1


@pytest.mark.fast
def test_fault_072_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    """No file of a checkpoint is a pickle or a zip of pickles."""
    import pickle
    import pickletools
    import zipfile

    saved = save(tmp_path)
    for path in saved.folder.iterdir():
        assert not zipfile.is_zipfile(path), path.name
        with pytest.raises((ValueError, pickle.UnpicklingError, IndexError, UnicodeDecodeError)):
            list(pickletools.genops(path.read_bytes()))


def write_header(path: Path, header: str, data: bytes = b"", length: int | None = None) -> None:
    text = header.encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234", 1 << 60),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
         b"123456", None),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
         b"1234", None),
        ("[" * 50_000, b"", None),
        ("", b"", None),
    ],
    ids=["huge header", "overlap", "duplicate", "deep", "empty"],
)  # fmt: skip
def test_fault_073_hostile_safetensors(tmp_path: Path, header: str, data: bytes, length: int | None) -> None:
    """A safetensors file with a huge header, overlapping tensors, a name twice, absurd depth or no content is refused
    (4)."""
    path = tmp_path / "x.safetensors"
    write_header(path, header, data, length)
    with pytest.raises(CheckpointError) as caught:
        files.read_safetensors(path)
    assert caught.value.exit_code == 4


@pytest.mark.fast
def test_fault_078_wrong_shapes_and_nan_weights_are_named(tmp_path: Path) -> None:
    """Weights of another shape or with NaN are refused (4), each named."""
    state = make_state()
    with torch.no_grad():
        next(p for n, p in state.model.named_parameters() if n.endswith("norm.weight"))[0] = float("nan")
    saved = checkpoint.save(tmp_path, state, TEXTS, reason="steps")
    with pytest.raises(CheckpointError, match=r"norm\.weight holds NaN"):
        checkpoint.load_model(saved, make_state().model)
    torch.manual_seed(0)
    wider = MODELS["gpt"](18, d_model=8, num_heads=2, num_layers=1, d_ff=16)
    with pytest.raises(CheckpointError, match=r"embedding.*\[17, 8\].*\[18, 8\]"):
        checkpoint.load_model(save(tmp_path / "other"), wider)


@pytest.mark.fast
def test_progress_survives_json_bit_for_bit() -> None:
    before = Progress(step=3, best_loss=0.1 + 0.2, epoch_nats=1 / 3, fingerprints={"data": "x"})
    assert Progress.from_json(json.loads(json.dumps(before.to_json()))) == before
    with pytest.raises(KeyError, match="step"):
        Progress.from_json({k: v for k, v in before.to_json().items() if k != "step"})
    old = {k: v for k, v in before.to_json().items() if not k.startswith("recent_")}
    assert Progress.from_json(old) == before, "checkpoints from before spikes were watched for"


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Changes a file and makes the manifest agree: what only a person can do, not a fault."""
    import hashlib

    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.fast
@pytest.mark.parametrize(
    "manifest",
    ['{"files":{},"step":7,"format":1}', '{"files":[],"step":7,"format":1}', "[" * 100_000, "5", "\x00",
     '{"files":{"state.json":5},"step":7,"format":1}', '{"files":{"state.json":{}},"step":7,"format":1}',
     '{"files":{},"step":1e400,"format":1}'],
)  # fmt: skip
def test_fault_013_manifests_that_are_none(tmp_path: Path, manifest: str) -> None:
    """A folder whose manifest is empty, of another form or nested absurdly deep isn't taken for a checkpoint; the error
    is a message, not a crash."""
    saved = save(tmp_path)
    (saved.folder / "manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError):
        checkpoint.verify(saved.folder)


@pytest.mark.fast
def test_fault_013_a_manifest_of_another_step_is_none(tmp_path: Path) -> None:
    """A checkpoint whose folder was renamed to another step is refused, since its manifest says another step."""
    saved = save(tmp_path, step=7)
    saved.folder.rename(tmp_path / "step-00000009")
    with pytest.raises(CheckpointError, match="isn't this checkpoint's"):
        checkpoint.verify(tmp_path / "step-00000009")


@pytest.mark.fast
@pytest.mark.parametrize(
    "progress",
    [{"step": "x"}, {"step": 1.5}, {"step": -5}, {"step": 8}, {"samples_seen": -1}, {"tokens_seen": None},
     {"best_loss": "x"}, {"journal_offset": "x"}, {"versions": None}, {"surplus": 1}],
)  # fmt: skip
def test_fault_023_progress_of_another_kind_is_refused_by_name(tmp_path: Path, progress: dict[str, Any]) -> None:
    """State with a missing, surplus or impossible value is refused (4), the value named."""
    saved = save(tmp_path)
    state = json.loads((saved.folder / "state.json").read_text())
    state["progress"] |= progress
    rewrite(saved.folder, "state.json", json.dumps(state).encode())
    with pytest.raises(CheckpointError, match=r"state\.json") as caught:
        checkpoint.read_progress(checkpoint.verify(saved.folder))
    assert caught.value.exit_code == 4


@pytest.mark.fast
@pytest.mark.parametrize("content", ["null", "[]", '{"progress": null}', "[" * 100_000])
def test_fault_023_state_that_is_none(tmp_path: Path, content: str) -> None:
    """A state file that isn't what a save writes is refused (4)."""
    saved = save(tmp_path)
    rewrite(saved.folder, "state.json", content.encode())
    with pytest.raises(CheckpointError, match=r"state\.json"):
        checkpoint.load_state(checkpoint.verify(saved.folder), make_state())


@pytest.mark.fast
def test_fault_078_foreign_moments_are_named(tmp_path: Path) -> None:
    """Moments of another shape, with NaN, of an unknown parameter or missing are refused (4), each named."""
    saved = save(tmp_path)
    moments = make_state().optimizers.state_tensors()
    name = "embedding.token.weight/exp_avg"
    for wrong, message in [
        ({**moments, name: torch.zeros(3, 3)}, r"exp_avg is \[3, 3\]"),
        ({**moments, name: torch.full_like(moments[name], float("nan"))}, "exp_avg holds NaN"),
        ({**moments, "other/exp_avg": torch.zeros(1)}, "of no parameter"),
        ({k: v for k, v in moments.items() if not k.startswith("embedding")}, "embedding.token.weight has no state"),
    ]:
        files.write_file(tmp_path / "moments", lambda w, t=wrong: files.write_safetensors(w, t))  # type: ignore[misc]
        rewrite(saved.folder, "optimizer.safetensors", (tmp_path / "moments").read_bytes())
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load_state(checkpoint.verify(saved.folder), make_state())


@pytest.mark.fast
def test_fault_014_rubbish_in_the_folder_is_no_obstacle(tmp_path: Path) -> None:
    """Stray files and empty folders among the checkpoints are no obstacle: the newest checkpoint is found."""
    saved = save(tmp_path)
    (tmp_path / ".partial-x").write_text("a file")
    (tmp_path / "step-00000099").mkdir()
    (tmp_path / "step-zzz").write_text("a file")
    checkpoint.clean(tmp_path)
    assert checkpoint.newest(tmp_path, lambda _: None) == saved


@pytest.mark.fast
def test_fault_012_a_damaged_recipe_in_the_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """Where the recipe in the newest checkpoint is damaged, that of the checkpoint before is used."""
    from trifecta.run.folder import recipe_file

    root = tmp_path / "checkpoints"
    old, new = save(root, step=7), save(root, step=8)
    assert recipe_file(tmp_path) == new.folder / "recipe.yaml"
    (new.folder / "recipe.yaml").write_text("model: {d_model: 5}\n")
    assert recipe_file(tmp_path) == old.folder / "recipe.yaml"
    (old.folder / "manifest.json").unlink()
    assert recipe_file(tmp_path) is None
    (tmp_path / "recipe.yaml").write_text("model: {}\n")
    assert recipe_file(tmp_path) == tmp_path / "recipe.yaml"


STAGES = ["begin", "model.safetensors", "optimizer.safetensors", "recipe.yaml", "tokenizer.json", "state.json",
          "manifest", "renamed"]  # fmt: skip


def killed_at(stage: str, act: Callable[[], object]) -> None:
    """Acts in a child process that a failpoint kills."""
    import os

    if (child := os.fork()) == 0:
        os.environ["TRIFECTA_FAILPOINT"] = stage
        act()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9, stage


def survivors(root: Path, saving: Callable[[Path, int], object], stages: Sequence[str] = STAGES) -> list[int | None]:
    """The step that loads after a kill at each stage of saving step 8 over step 7; None where neither does."""
    found: list[int | None] = []
    for stage in stages:
        place = root / stage
        save(place, step=7)
        killed_at(stage, lambda place=place: saving(place, 8))  # type: ignore[misc]
        checkpoint.clean(place)
        try:
            whole = checkpoint.newest(place, lambda _: None)
            found.append(whole.step if whole else None)
        except CheckpointError:
            found.append(None)
    return found


@pytest.mark.fast
def test_fault_002_after_a_kill_at_any_stage_the_old_or_the_new_checkpoint_loads(tmp_path: Path) -> None:
    """A kill at any stage of a save leaves the old checkpoint or the new one, never neither."""
    assert survivors(tmp_path, lambda root, step: save(root, step)) == [7] * 7 + [8]


@pytest.mark.fast
def test_fault_002_saving_the_same_step_again_keeps_one_at_any_stage(tmp_path: Path) -> None:
    """A kill at any stage of saving a step a second time leaves one whole checkpoint of it."""
    stages = [*STAGES[:-1], "replaced", "renamed"]
    assert survivors(tmp_path, lambda root, _: save(root, 7), stages) == [7] * len(stages)


@pytest.mark.fast
def test_fault_002_control_a_save_in_place_is_noticed(tmp_path: Path) -> None:
    """A save that writes in place leaves no whole checkpoint after a kill."""

    def in_place(root: Path, _step: int) -> None:
        for name in STAGES[:6]:
            checkpoint.failpoint(name)
            files.write_file(root / "step-00000007" / name, lambda writer: writer.write(b""))
        for stage in STAGES[6:]:
            checkpoint.failpoint(stage)

    assert None in survivors(tmp_path, in_place)


@pytest.mark.fast
def test_fault_008_control_a_forgotten_sync_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save without fsync of its files fails the test."""

    def careless(path: Path, write: Callable[[files.HashingWriter], None]) -> dict[str, str | int]:
        with files.open_binary(path) as file:
            writer = files.HashingWriter(file)
            write(writer)
        return {"sha256": writer.sha256, "bytes": writer.length}

    monkeypatch.setattr(files, "write_file", careless)
    with pytest.raises(AssertionError):
        test_fault_008_files_are_synced_then_renamed_then_the_folder(tmp_path, monkeypatch)


@pytest.mark.fast
def test_fault_009_control_what_is_left_behind_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that doesn't clean up after an error fails the test."""
    monkeypatch.setattr(checkpoint, "shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
    with pytest.raises(AssertionError):
        test_fault_009_full_disk_leaves_the_old_checkpoint_and_no_rubbish(tmp_path, monkeypatch, 5000)


def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plants a reader that takes any folder of a checkpoint's name for one."""
    monkeypatch.setattr(checkpoint, "verify", lambda folder: checkpoint.Checkpoint(folder, int(folder.name[5:])))


@pytest.mark.fast
def test_fault_011_012_control_an_unchecked_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints taken without a check of their files fail the tests of both cases."""
    trust(monkeypatch)
    with pytest.raises(AssertionError):
        test_fault_011_truncated_file_is_named_and_the_previous_checkpoint_used(tmp_path / "a", "state.json", 0.5)
    with pytest.raises(AssertionError):
        test_fault_012_flipped_bit_anywhere_is_named(tmp_path / "b")


@pytest.mark.fast
def test_fault_013_control_a_folder_without_manifest_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints taken without a check of their files fail the test."""
    trust(monkeypatch)
    with pytest.raises(AssertionError):
        test_fault_013_no_manifest_or_a_file_missing_is_no_checkpoint(tmp_path)


@pytest.mark.fast
def test_fault_014_control_a_folder_left_behind_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that cleans nothing up fails the test."""
    monkeypatch.setattr(checkpoint, "clean", lambda _: [])
    with pytest.raises(AssertionError):
        test_fault_014_stray_folders_are_ignored_and_cleaned(tmp_path)


@pytest.mark.fast
def test_fault_015_016_control_pruning_by_age_alone_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing all but the newest checkpoints, whatever they are, loses the best one and the only good one."""

    def by_age(root: Path, keep_last_n: int, _keep: set[Path]) -> None:
        for folder in checkpoint.candidates(root)[keep_last_n:]:
            shutil.rmtree(folder)

    monkeypatch.setattr(checkpoint, "prune", by_age)
    with pytest.raises(AssertionError):
        test_fault_015_best_survives_keep_last_one(tmp_path / "a")
    with pytest.raises(CheckpointError):
        test_fault_016_the_only_good_checkpoint_is_never_removed(tmp_path / "b")


@pytest.mark.fast
def test_fault_015_a_folder_in_the_place_of_a_link_gives_way(tmp_path: Path) -> None:
    """Where a copying program made a folder of the link `best`, its checkpoint can be read, and the next best replaces
    it."""
    old = save(tmp_path, step=7)
    shutil.copytree(old.folder, tmp_path / "best")
    assert checkpoint.verify(tmp_path / "best").step == 7
    new = save(tmp_path, step=8)
    checkpoint.point(tmp_path, "best", new)
    assert (tmp_path / "best").resolve() == new.folder.resolve()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", old.folder.name, new.folder.name]


@pytest.mark.fast
def test_fault_023_control_a_lenient_reader_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that ignores odd values fails the test."""

    def lenient(values: dict[str, Any]) -> Progress:
        return Progress(**{k: v for k, v in values.items() if k != "surplus"} | {"step": 7})

    monkeypatch.setattr(Progress, "from_json", lenient)
    for wrong in ({"tokens_seen": None}, {"surplus": 1}):
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            test_fault_023_progress_of_another_kind_is_refused_by_name(tmp_path, wrong)


@pytest.mark.fast
def test_fault_072_control_a_pickle_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights written by torch.save or pickle fail the test."""
    import pickle

    for write in (torch.save, lambda tensors, file: pickle.dump(list(tensors), file)):
        with monkeypatch.context() as patch:

            def pickled(
                writer: files.HashingWriter, tensors: dict[str, torch.Tensor], _write: Any = write
            ) -> None:  # fmt: skip
                content = io.BytesIO()
                _write(tensors, content)
                writer.write(content.getvalue())

            patch.setattr(files, "write_safetensors", pickled)
            with pytest.raises((AssertionError, pytest.fail.Exception)):
                test_fault_072_a_checkpoint_holds_no_pickle(tmp_path)


@pytest.mark.fast
def test_fault_073_control_the_library_alone_takes_the_last_of_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The safetensors library alone takes the last of two tensors of one name."""
    monkeypatch.setattr(files, "_refuse_repeated_names", lambda _: None)
    entry = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_fault_073_hostile_safetensors(tmp_path, f"{{{entry},{entry}}}", b"1234", None)


@pytest.mark.fast
def test_fault_078_control_weights_taken_unseen_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights taken without a look for NaN fail the test."""
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: torch.ones_like(self, dtype=torch.bool))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_fault_078_wrong_shapes_and_nan_weights_are_named(tmp_path)
