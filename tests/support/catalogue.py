"""The cases that trifecta must survive and the checks of its mathematics, by their numbers, which never change.

Tests carry the numbers in their names: `test_fault_012_...`, `test_numeric_010_...`. A planted bug that is noticed is
a test of its own, with `control` in its name.
"""

from __future__ import annotations

FAULTS = {
    1: "Killed by signal 9 in a step, an evaluation or a save",
    2: "Killed at a stage of a save",
    3: "Two resumes from one checkpoint",
    4: "Dropout and shuffling on, killed",
    5: "Another number of data workers on resume",
    8: "Order of the writes of a save, for a loss of power",
    9: "Disk full",
    10: "Output can't be written",
    11: "A file of the newest checkpoint cut short",
    12: "One bit flipped anywhere",
    13: "No manifest, or a file missing",
    14: "Rubbish left by a killed save",
    15: "`keep_last_n: 1`, and the best is older",
    16: "Only one checkpoint is good",
    17: "The first metric is NaN",
    18: "Killed while early stopping counts",
    19: "The data changed since the save",
    20: "Model or tokenizer changed on resume",
    21: "A second process in the folder",
    22: "`resume`: `auto`, `must`, `never`",
    23: "State of another format",
    24: "SIGTERM",
    25: "Ctrl-C, once and twice",
    27: "Out of memory",
    31: "Loss that isn't finite",
    32: "One NaN in a gradient",
    33: "fp16 overflow: the scale halves, down to the smallest one",
    34: "A spike of the loss or of the gradient",
    36: "A metric that isn't finite in the journal",
    47: "One line of 2 GB",
    48: "A file larger than memory",
    51: "Labels that are blank, unknown or out of range",
    53: "A label set with one class only",
    54: "Labelled texts that are too long",
    55: "Text that looks like special tokens",
    56: "Sentinels that are tokens of the text, or too few",
    64: "YAML bombs: aliases, depth, recursion, length",
    65: "YAML tags that would run code",
    70: "Foreign weights that are pickles",
    71: "Foreign pickles under an older torch",
    72: "Pickles in a run's folder",
    73: "Hostile safetensors",
    76: "A foreign folder with code of its own",
    77: "A NumPy file of pickled objects as data",
    78: "Weights of wrong shape, or NaN",
}

MORE_FAULTS = {
    35: "A batch without targets",
    37: "A path that doesn't exist",
    38: "Nothing to read",
    39: "A text shorter than one sequence",
    40: "A validation part that is too short",
    41: "Invalid UTF-8",
    42: "UTF-16 and UTF-32",
    43: "A byte order mark",
    44: "Line ends",
    45: "NUL bytes",
    46: "Binary files as text",
    49: "Emoji, combining characters, mojibake",
    50: "Unseen characters",
    52: "Broken JSONL and CSV",
    57: "The same document in both parts",
    58: "Pipes, circles of links, unreadable files",
    59: "Numbers as `3e-4`",
    60: "Values that YAML 1.1 reads as something else",
    61: "An unknown key",
    62: "A key twice",
    63: "Values out of bounds or of a wrong type",
    66: "Keys that contradict each other",
    69: "Run names that lead elsewhere",
    84: "Escape sequences in generated text",
    91: "A damaged journal",
}
"""Cases with tests that the project began with; not each of them has a planted bug."""

CHECKS = {
    1: "Gradients of our own operations against finite differences",
    2: "Whole-model directional finite difference, fp64",
    3: "Loss begins at ln V",
    4: "Later tokens don't change earlier logits",
    5: "Future inputs have no gradient",
    6: "Cached generation equals uncached",
    7: "Padding",
    8: "A row alone and in a batch",
    9: "Permutation without positions",
    10: "Accumulation with unequal micro-batches",
    11: "The last, partial accumulation window",
    14: "Activation checkpointing with dropout",
    15: "bf16 autocast",
    17: "Loss scaler",
    18: "AdamW",
    19: "Weight decay groups",
    20: "Learning rate schedules",
    21: "Gradient clipping",
    22: "Label shift, by what is generated",
    23: "Target at t is token t + 1",
    24: "Cross-entropy at huge logits",
    25: "Ignored positions",
    26: "Nothing to learn",
    27: "Label smoothing",
    28: "Masked tokens: how many, which, and what becomes of them",
    29: "Span corruption: input and target give the text",
    30: "Tokenizer round trip",
    31: "Parity with the reference implementations",
    32: "Fused and explicit attention",
    33: "One batch overfitted",
    34: "Evaluation over ragged batches",
    35: "Perplexity",
    36: "Figures of fine-tuning tasks against scikit-learn, scipy, seqeval",
    37: "Seeds",
    39: "Sampling",
    40: "Modes and random state around evaluation",
    41: "Tied weights",
    42: "Export and reload",
}
MORE_CHECKS: dict[int, str] = {}
"""Checks with tests of which none plants a bug."""

ABSENT_FAULTS = """
The numbers are those of a fixed catalogue. The missing ones have no test under their number: most belong to parts that
don't exist yet (several processes, GPUs, a dashboard, a search).
"""

ABSENT_CHECKS = """
Missing numbers, as above: no test carries them, mostly since the part doesn't exist yet (several processes, GPUs).
"""

COSTS = "Counted in reads, calls, bytes and processor time, not on a clock."

SCOPE = """
Written by `make docs` from the tests; don't edit it. Each line says what one test shows, with its tolerance, and links
to the test; `pytest -k 'fault and 012'` runs the tests of fault 12. A *planted bug* is a test too: it puts a bug into
trifecta and shows that the check notices it, or shows what a simpler way or a library alone does wrong, or that good
input passes. `make test` runs all but those marked *sweep*, which `make faults` runs: kills at random moments, disks
that fill up, flipped bits, files cut short.

## What the tests cover, and what they don't

- **Where:** Linux, CPU, Python 3.11 and the versions of [constraints.txt](../constraints.txt). GPUs and other systems
  were never run, and for them, or for a resume under another version of torch, nothing is promised bit for bit.
- **"The same bytes"** are the bytes of the weights (`model.safetensors`) and of the optimizer's moments
  (`optimizer.safetensors`) of the last checkpoint, and the loss of every step as a hex float, compared with a run that
  nobody disturbed. Not meant are the seconds and journal offsets in `state.json`, the times in the journal, and the
  console.
- **They are the same** on the same machine, with the same version of torch, number of threads and precision. The
  tests train small models with `precision: auto` (bf16 where the processor has it) and one thread.
- **What is simulated:** a kill is signal 9 to a process; where a test must act within the process, an exception that
  trifecta doesn't catch stands for it. No machine lost its power: for that the order of the calls is shown (fault 8).
  One sweep fills a real small disk; elsewhere a file that refuses to grow stands for a full one.
- **A number in brackets** is the exit code of the command, and that of the exception in Python: (2) recipe or usage,
  (3) data, (4) checkpoint, (5) numerical, (6) resources: memory, disk, device or permission. The command also ends
  with 0 when done, 1 after an internal error, 130 after Ctrl-C and 143 after SIGTERM.
"""
"""What docs/reliability.md says before its lists."""
