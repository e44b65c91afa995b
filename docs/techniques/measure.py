"""Measures what the pages of this folder show and writes results.json: `python docs/techniques/measure.py [NAME...]`.

Runs that are there already, in runs/techniques, are not run again. Run it from the root of the repository.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"

FEW = "--task classify --batch-size 16 training.evaluate_every_n_steps=20 execution.threads=1 execution.precision=fp32"
DATA = "runs/techniques/data"

BEFORE = {
    "runs/techniques/bert": "trifecta train docs/techniques/bert.yaml -o runs/techniques/bert",
    "runs/techniques/agreement": "trifecta finetune runs/techniques/bert data.builtin=grammar-agreement "
    "--task classify --max-steps 60 --batch-size 16 --learning-rate 0.0005 training.evaluate_every_n_steps=20 "
    "execution.threads=1 execution.precision=fp32 -o runs/techniques/agreement",
    DATA: "python docs/techniques/small_data.py",
    "runs/techniques/plays": "trifecta train docs/techniques/plays.yaml -o runs/techniques/plays",
    "runs/techniques/marks": f"trifecta finetune runs/techniques/plays {DATA}/marks.jsonl "
    f"data.validation_paths=[{DATA}/marks-held-out.jsonl] data.sequence_length=48 --max-steps 160 "
    f"--learning-rate 0.001 {FEW} -o runs/techniques/marks",
    "runs/techniques/agreement-200": f"trifecta finetune runs/techniques/bert {DATA}/agreement.jsonl "
    f"data.validation_paths=[{DATA}/agreement-held-out.jsonl] --max-steps 60 --learning-rate 0.0005 {FEW} "
    "-o runs/techniques/agreement-200",
    f"{DATA}/marks-substituted.jsonl": f"trifecta augment {DATA}/marks.jsonl -o {DATA}/marks-substituted.jsonl "
    "--method substitute --model runs/techniques/plays --copies 2",
}  # fmt: skip
"""Runs that others begin with, and data."""

TEXT, DEEP, DIGITS = (f"docs/techniques/{name}.yaml" for name in ("text", "deep", "digits"))
AGREEMENT = "runs/techniques/agreement/recipe.yaml"
MARKS = "runs/techniques/marks/recipe.yaml"
NEIGHBOURS = (
    "data.augment.replace=0.1+data.augment.synonyms=embeddings+data.augment.synonyms_path=runs/techniques/plays"
)
BY_LOSS = "data.curriculum.type=reference_loss+data.curriculum.reference=runs/techniques/marks"

SHORT = f"ablate {TEXT} training.max_steps=150 training.evaluate_every_n_steps=150 --one-process"

WATCHED = "skip_spikes+training.spikes.window=32,roll_back+training.spikes.window=32+training.spikes.every_n_steps=50"
EQUAL = "data.curriculum.epochs=0.02+training.max_steps=177"
SPLIT = "data.validation_paths=[]+training.validation_split=0.25"
FEW_TEXTS = (
    f"ablate {MARKS} --one-process --toggle delete_words,swap_words,synonyms,{NEIGHBOURS},eda,mask_tokens,drop_tokens,"
    f"text_mixup,data.paths=[{DATA}/marks-substituted.jsonl]"
)

COMMANDS = {
    "optimizers": f"ablate {TEXT} --toggle adam,sgd,adafactor,lion,muon",
    "finetuning": f"ablate {AGREEMENT} --toggle lora,layer_decay,freeze_embeddings,freeze_body,fgm,pgd,freelb "
    "--one-process",
    "penalties": f"{SHORT} --toggle label_smoothing,z_loss,gradient_noise,training.ema_decay=0.98,drop_path,dropout",
    "spikes": f"{SHORT} --toggle {WATCHED}",
    "spikes-noisy": f"ablate {TEXT} data.paths=[{DATA}/noisy.txt] data.validation_paths=[{DATA}/other-plays.txt] "
    f"data.shuffle=false training.evaluate_every_n_steps=300 --one-process --toggle {WATCHED}",
    "norm": f"ablate {DEEP} training.max_steps=200 training.evaluate_every_n_steps=200 "
    "--toggle post_norm --one-process",
    "clipping": f"ablate {DEEP} training.learning_rate=0.03 --toggle no_clip,clip_value,clip_adaptive --one-process",
    "images": f"ablate {DIGITS} --toggle crop,flip,colours,erase,mixup,cutmix,label_smoothing --one-process",
    "execution": f"ablate {TEXT} model.num_layers=6 data.sequence_length=256 training.max_steps=6 "
    "training.evaluate_every_n_steps=6 --toggle checkpointing,selective_checkpointing,bf16",
    "speed": f"ablate {TEXT} model.num_layers=6 data.sequence_length=256 training.max_steps=12 "
    "training.evaluate_every_n_steps=12 --toggle explicit_attention,math_attention,flash_attention,batch_size_auto",
    "compile": f"ablate {TEXT} model.num_layers=6 data.sequence_length=256 training.max_steps=40 "
    "training.evaluate_every_n_steps=40 --toggle compile",
    "averages": f"{SHORT} --toggle ema",
    "more-schedules": f"{SHORT} --toggle exponential,exponential_decay,cosine_decay,piecewise,piecewise_constant_decay",
    "schedules": f"{SHORT} --toggle constant,linear,inverse_sqrt,one_cycle,wsd",
    "initialisation": f"{SHORT} --toggle xavier,he_normal,orthogonal,depth_scaled,zero_residual",
    "rate": f"{SHORT} training.learning_rate=1e-4 --toggle learning_rate_auto",
    "few": f"{FEW_TEXTS} --seeds 6",
    "few-final": f"{FEW_TEXTS} --seeds 6 --judge final",
    "few-scratch": f"ablate {MARKS} training.init_from=null --one-process --toggle eda,mask_tokens,text_mixup",
    "order": "ablate runs/techniques/agreement-200/recipe.yaml --one-process "
    "--toggle delete_words,swap_words,mask_tokens,drop_tokens,text_mixup",
    "near": f"ablate {MARKS} data.paths=[{DATA}/marks-near.jsonl] --one-process "
    f"--toggle {SPLIT},near_duplicates+{SPLIT}",
    "curriculum": f"ablate {MARKS} --one-process --toggle short_texts_first,common_words_first,{BY_LOSS}",
    "curriculum-text": f"{SHORT} data.samples=sentences --toggle short_texts_first+data.curriculum.epochs=0.02,"
    f"common_words_first+data.curriculum.epochs=0.02,short_texts_first+{EQUAL},common_words_first+{EQUAL},"
    "training.batch_size=14+training.max_steps=172",
    "corpora": f"{SHORT} data.paths=[{DATA}/plays.txt,{DATA}/python.txt] "
    f"data.validation_paths=[{DATA}/other-plays.txt] --toggle corpus_weights,data.weights=[1,3],"
    f"data.paths=[{DATA}/plays.txt]",
    "phases": f"ablate {TEXT} training.evaluate_every_n_steps=300 --one-process --toggle short_windows_first",
    "phases-long": f"ablate {TEXT} data.sequence_length=512 training.batch_size=2 "
    "training.evaluate_every_n_steps=300 --one-process --toggle short_windows_first",
    "accumulation": f"ablate {TEXT} training.batch_size=64 training.max_steps=30 training.evaluate_every_n_steps=30 "
    "--toggle accumulation+training.batch_size=16",
}  # fmt: skip
"""Name -> command; each has a folder of its own. NAME-final judges NAME's runs by their last loss."""


def trifecta(command: str) -> str:
    """What a command prints."""
    words = [sys.executable, "-m", "trifecta.cli.main", *shlex.split(command)]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


def is_there(place: Path) -> bool:
    """Whether a run is over, or data is written."""
    return any(path.exists() for path in (place / "checkpoints" / "final", place / "marks.jsonl")) or place.is_file()


def write(found: dict[str, object]) -> None:
    """What is known, in the order of the commands."""
    kept = {key: found[key] for key in (*COMMANDS, ROBUST) if key in found}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


ATTACK = 4.0
ROBUST = "robust"


def robust() -> dict[str, object]:
    """Accuracy of fine-tuned models, and under `trifecta evaluate --attack`: (mean, least, most) of three seeds."""
    from trifecta.run import evaluate

    rows = {}
    for name in ("baseline", "fgm", "pgd", "freelb"):
        runs = sorted(Path("runs/techniques/finetuning", name).glob("seed-*/"))
        found = [evaluate(run, (), None, ATTACK) for run in runs if run.is_dir()]
        rows[name] = {
            key: [sum(values) / len(values), min(values), max(values)]
            for key in ("accuracy", "robust_accuracy", "loss", "robust_loss")
            if (values := [one[key] for one in found])
        }
    command = f"trifecta evaluate runs/techniques/finetuning/fgm/seed-42 --attack {ATTACK:g}"
    return {"command": command, "rows": rows}


def main(names: list[str]) -> None:
    """Measures, and writes after each command what is known."""
    for place, command in BEFORE.items():
        if not is_there(Path(place)):
            name, rest = command.split(" ", 1)
            subprocess.run([sys.executable, *shlex.split(rest)], check=True) if name == "python" else trifecta(rest)
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in names or [*COMMANDS, ROBUST]:
        if name == ROBUST:
            write(found | {ROBUST: robust()})
            continue
        seeds = "" if "--seeds" in COMMANDS[name] else " --seeds 3"
        command = f"{COMMANDS[name]}{seeds} -o runs/techniques/{name.removesuffix('-final')}"
        result = json.loads(trifecta(f"{command} --json"))
        found[name] = {"command": f"trifecta {command}", **result}
        write(found)


if __name__ == "__main__":
    main(sys.argv[1:])
