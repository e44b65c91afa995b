"""One pydantic model for each row of each table: what a recipe may write under a `type`.

No torch here. The factory registered under the same name takes exactly these fields, which a test compares.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

Resume = Literal["free", "recorded", "refused"]
"""What a resume may do with a changed key: take it, take it and record it in the journal, or refuse it."""


def key(default: Any, help: str, *, resume: Resume, unit: str | None = None, **bounds: Any) -> Any:
    """A recipe key: default, help, unit, bounds (gt, ge, lt, le, min_length), and what a resume may do with it."""
    extra: dict[str, Any] = {"resume": resume} | ({"unit": unit} if unit else {})
    return Field(default, description=help, json_schema_extra=extra, **bounds)


MOST_TOKENS = 10_000_000
"""Beyond every vocabulary there is; far beyond, libraries end the process instead of failing."""


class Section(BaseModel):
    """Frozen, strict, without unknown keys, NaN or infinity."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True, defer_build=True
    )


M = TypeVar("M", bound=Section)


def default(model: type[M]) -> M:
    """A model with its defaults. Its validator isn't built, which would take time at import."""
    return cast(M, model.model_construct())


# ---------------------------------------------------------------------------------------------------- tokenizers


class CharTokenizer(Section):
    """One token for each character of the data, and an unknown."""

    type: Literal["char"] = "char"
    vocab_size: int | None = key(
        None, "Keep only the most frequent characters, special tokens included; the rest become unknown. Default: all.",
        resume="refused", unit="tokens", ge=3, le=MOST_TOKENS,
    )  # fmt: skip


class ByteTokenizer(Section):
    """One token for each byte of UTF-8: 256 tokens and an end of text; lossless, nothing to train."""

    type: Literal["byte"] = "byte"


class BpeTokenizer(Section):
    """Byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019); lossless."""

    type: Literal["bpe"] = "bpe"
    vocab_size: int = key(
        8000, "Number of tokens, special tokens included.", resume="refused", unit="tokens", ge=258, le=MOST_TOKENS
    )
    min_frequency: int = key(2, "A pair seen less often is not merged.", resume="refused", ge=1)


class WordPieceTokenizer(Section):
    """WordPiece (Schuster and Nakajima, 2012), as in BERT; not lossless: white space is normalised."""

    type: Literal["wordpiece"] = "wordpiece"
    vocab_size: int = key(
        8000, "Number of tokens, special tokens included.", resume="refused", unit="tokens", ge=64, le=MOST_TOKENS
    )
    min_frequency: int = key(2, "A pair seen less often is not merged.", resume="refused", ge=1)
    lowercase: bool = key(False, "Lower-case the text and strip accents first.", resume="refused")


class UnigramTokenizer(Section):
    """Unigram language model (Kudo, 2018), as in T5, with byte fall-back; lossless."""

    type: Literal["unigram"] = "unigram"
    vocab_size: int = key(
        8000, "Number of tokens, special tokens included.", resume="refused", unit="tokens", ge=320, le=MOST_TOKENS
    )


class FileTokenizer(Section):
    """A trained tokenizer: a tokenizer.json of ours or of Hugging Face's tokenizers."""

    type: Literal["file"] = "file"
    path: str = key(..., "Path of the tokenizer.json.", resume="refused", min_length=1)


class NoTokenizer(Section):
    """No tokens: what images need."""

    type: Literal["none"] = "none"


Tokenizer = Annotated[
    CharTokenizer | ByteTokenizer | BpeTokenizer | WordPieceTokenizer | UnigramTokenizer | FileTokenizer | NoTokenizer,
    Field(discriminator="type"),
]

# -------------------------------------------------------------------------------------------------------- models


Init = Literal[
    "normal", "truncated_normal", "xavier", "xavier_normal", "he_uniform", "he_normal", "orthogonal", "depth_scaled",
    "zero_residual",
]  # fmt: skip
"""How matrices may begin, in every model."""


class Gpt(Section):
    """A decoder that predicts the next token (Radford et al., 2018)."""

    type: Literal["gpt"] = "gpt"
    d_model: int = key(512, "Width of the hidden states.", resume="refused", ge=1, le=65536)
    num_heads: int = key(8, "Attention heads; must divide d_model.", resume="refused", ge=1, le=1024)
    num_kv_heads: int | None = key(
        None, "Key and value heads (grouped-query attention, Ainslie et al., 2023); must divide num_heads. "
        "Default: num_heads.", resume="refused", ge=1,
    )  # fmt: skip
    num_layers: int = key(6, "Transformer blocks.", resume="refused", ge=1, le=1000)
    d_ff: int = key(2048, "Inner width of the feed-forward layers.", resume="refused", ge=1, le=1_000_000)
    dropout: float = key(
        0.1, "Dropout rate of attention, feed-forward and embedding, unless one is set by itself.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    attention_dropout: float | None = key(
        None, "Dropout rate of attention weights and attention output. Default: dropout.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    feedforward_dropout: float | None = key(
        None, "Dropout rate of the feed-forward output. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    embedding_dropout: float | None = key(
        None, "Dropout rate of the embeddings. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    drop_path: float = key(
        0.0, "Rate at which the last block's sub-layers are left out while training, for a whole row at once; block i "
        "of L has i / L of it (stochastic depth, Huang et al., 2016).", resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    output_dropout: float = key(
        0.0, "Dropout rate of the last hidden state, before the head.", resume="recorded", ge=0, lt=1
    )
    position: Literal["rope", "learned", "sinusoidal", "alibi", "none"] = key(
        "rope", "How the model knows order: rotary (Su et al., 2021), a learned table, sines (Vaswani et al., 2017), "
        "linear biases (Press et al., 2021), or not at all.", resume="refused",
    )  # fmt: skip
    rope_theta: float = key(10000.0, "Base of the rotary frequencies.", resume="refused", gt=0)
    max_sequence_length: int | None = key(
        None, "Longest input that a learned position table can take. Default: data.sequence_length.",
        resume="refused", unit="tokens", ge=1, le=10_000_000,
    )  # fmt: skip
    norm: Literal["layernorm", "rmsnorm"] = key(
        "layernorm", "LayerNorm (Ba et al., 2016) with gain and shift, or RMSNorm (Zhang and Sennrich, 2019) with a "
        "gain.",
        resume="refused",
    )  # fmt: skip
    norm_position: Literal["pre", "post"] = key(
        "pre", "Normalise before each sub-layer, or after each addition.", resume="refused"
    )
    norm_epsilon: float = key(1e-5, "Added to the variance.", resume="refused", gt=0)
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu", "geglu_tanh"] = key(
        "gelu", "Feed-forward non-linearity; gelu_tanh is GPT-2's approximation of gelu; swiglu and geglu are gated "
        "(Shazeer, 2020) and have a third matrix; "
        "relu2 is squared ReLU (So et al., 2021).", resume="refused",
    )  # fmt: skip
    qk_norm: bool = key(False, "Normalise queries and keys of each head (Henry et al., 2020).", resume="refused")
    tie_embeddings: bool = key(True, "Use the token embedding as the head's matrix.", resume="refused")
    bias: bool = key(True, "Give the linear layers biases.", resume="refused")
    logit_soft_cap: float | None = key(
        None, "Squash logits to c * tanh(logits / c) (Gemma 2, 2024).", resume="refused", gt=0
    )
    attention: Literal["fused", "explicit"] = key(
        "fused", "Fused scaled-dot-product attention, or an explicit mask and softmax.", resume="recorded"
    )
    init: Init = key("normal", "How matrices begin; the table is in trifecta/nn/init.py.", resume="refused")
    init_std: float = key(0.02, "Standard deviation of normally distributed weights.", resume="refused", gt=0, le=100)


class Bert(Section):
    """An encoder that sees both sides (Devlin et al., 2018); by default with today's parts (Warner et al., 2024)."""

    type: Literal["bert"] = "bert"
    d_model: int = key(512, "Width of the hidden states.", resume="refused", ge=1, le=65536)
    num_heads: int = key(8, "Attention heads; must divide d_model.", resume="refused", ge=1, le=1024)
    num_kv_heads: int | None = key(
        None, "Key and value heads (grouped-query attention, Ainslie et al., 2023); must divide num_heads. "
        "Default: num_heads.", resume="refused", ge=1,
    )  # fmt: skip
    num_layers: int = key(6, "Transformer blocks.", resume="refused", ge=1, le=1000)
    d_ff: int = key(1376, "Inner width of the feed-forward layers.", resume="refused", ge=1, le=1_000_000)
    dropout: float = key(
        0.1, "Dropout rate of attention, feed-forward and embedding, unless one is set by itself.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    attention_dropout: float | None = key(
        None, "Dropout rate of attention weights and attention output. Default: dropout.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    feedforward_dropout: float | None = key(
        None, "Dropout rate of the feed-forward output. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    embedding_dropout: float | None = key(
        None, "Dropout rate of the embeddings. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    drop_path: float = key(
        0.0, "Rate at which the last block's sub-layers are left out while training, for a whole row at once; block i "
        "of L has i / L of it (stochastic depth, Huang et al., 2016).", resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    position: Literal["rope", "learned", "sinusoidal", "none"] = key(
        "rope", "How the model knows order: rotary (Su et al., 2021), a learned table, sines (Vaswani et al., 2017), "
        "or not at all.", resume="refused",
    )  # fmt: skip
    rope_theta: float = key(10000.0, "Base of the rotary frequencies.", resume="refused", gt=0)
    max_sequence_length: int | None = key(
        None, "Longest input that a learned position table can take. Default: data.sequence_length.",
        resume="refused", unit="tokens", ge=1, le=10_000_000,
    )  # fmt: skip
    segment_types: int = key(
        0, "Kinds of text with a vector of their own, such as the first and the second of a pair; BERT has 2.",
        resume="refused", ge=0, le=1024,
    )  # fmt: skip
    pooler: bool = key(False, "Pass the first position through tanh(dense) for what classifies it.", resume="refused")
    norm: Literal["layernorm", "rmsnorm"] = key(
        "layernorm", "LayerNorm (Ba et al., 2016) with gain and shift, or RMSNorm (Zhang and Sennrich, 2019) with a "
        "gain.", resume="refused",
    )  # fmt: skip
    norm_position: Literal["pre", "post"] = key(
        "pre", "Normalise before each sub-layer, or after each addition as BERT does.", resume="refused"
    )
    norm_epsilon: float = key(1e-5, "Added to the variance.", resume="refused", gt=0)
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu", "geglu_tanh"] = key(
        "geglu", "Feed-forward non-linearity; swiglu and geglu are gated (Shazeer, 2020) and have a third matrix.",
        resume="refused",
    )  # fmt: skip
    head_activation: Literal["gelu", "gelu_tanh", "relu"] = key(
        "gelu", "Non-linearity of the head for masked tokens.", resume="refused"
    )
    qk_norm: bool = key(False, "Normalise queries and keys of each head (Henry et al., 2020).", resume="refused")
    tie_embeddings: bool = key(True, "Use the token embedding as the head's matrix.", resume="refused")
    bias: bool = key(False, "Give the linear layers biases, as BERT does.", resume="refused")
    attention: Literal["fused", "explicit"] = key(
        "fused", "Fused scaled-dot-product attention, or an explicit mask and softmax.", resume="recorded"
    )
    init: Init = key("normal", "How matrices begin; the table is in trifecta/nn/init.py.", resume="refused")
    init_std: float = key(0.02, "Standard deviation of normally distributed weights.", resume="refused", gt=0, le=100)


class T5(Section):
    """An encoder, and a decoder that reads it (Raffel et al., 2020); by default as T5 v1.1 with a tied head."""

    type: Literal["t5"] = "t5"
    d_model: int = key(512, "Width of the hidden states.", resume="refused", ge=1, le=65536)
    num_heads: int = key(8, "Attention heads.", resume="refused", ge=1, le=1024)
    head_width: int | None = key(
        None, "Width of a head. Default: d_model / num_heads.", resume="refused", ge=1, le=65536
    )
    num_layers: int = key(6, "Blocks of the encoder.", resume="refused", ge=1, le=1000)
    num_decoder_layers: int | None = key(
        None, "Blocks of the decoder. Default: num_layers.", resume="refused", ge=1, le=1000
    )
    d_ff: int = key(1024, "Inner width of the feed-forward layers.", resume="refused", ge=1, le=1_000_000)
    dropout: float = key(
        0.1, "Dropout rate of attention, feed-forward, embedding and output, unless one is set by itself.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    attention_dropout: float | None = key(
        None, "Dropout rate of attention weights and attention output. Default: dropout.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    feedforward_dropout: float | None = key(
        None, "Dropout rate of the feed-forward output. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    embedding_dropout: float | None = key(
        None, "Dropout rate of the embeddings. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    drop_path: float = key(
        0.0, "Rate at which the last block's sub-layers are left out while training, for a whole row at once; block i "
        "of L has i / L of it (stochastic depth, Huang et al., 2016).", resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    output_dropout: float | None = key(
        None, "Dropout rate of each stack's last hidden state. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    relative_buckets: int = key(32, "Buckets of distances, each with a bias a head.", resume="refused", ge=4, le=4096)
    relative_max_distance: int = key(
        128, "Distance from which on all share the last bucket.", resume="refused", unit="tokens", ge=8, le=1_000_000
    )
    norm_epsilon: float = key(1e-6, "Added to the mean square.", resume="refused", gt=0)
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu", "geglu_tanh"] = key(
        "geglu_tanh", "Feed-forward non-linearity: relu in T5 v1.0, geglu_tanh in v1.1.", resume="refused"
    )
    tie_embeddings: bool = key(
        True, "Use the token embedding as the head's matrix, as T5 v1.0; v1.1 has one of its own.", resume="refused"
    )
    attention: Literal["fused", "explicit"] = key(
        "fused", "Fused scaled-dot-product attention, or an explicit mask and softmax.", resume="recorded"
    )
    init: Init | Literal["t5"] = key("t5", "How matrices begin; the table is in trifecta/nn/init.py.", resume="refused")
    init_std: float = key(1.0, "Standard deviation of normally distributed weights.", resume="refused", gt=0, le=100)


class Vit(Section):
    """An encoder that reads an image as a row of patches (Dosovitskiy et al., 2020)."""

    type: Literal["vit"] = "vit"
    image_size: int = key(
        224, "Side of what the model sees; images of another size are resized.", resume="refused", unit="pixels", ge=1,
        le=8192,
    )  # fmt: skip
    patch_size: int = key(
        16, "Side of a patch; must divide image_size.", resume="refused", unit="pixels", ge=1, le=8192
    )
    channels: int = key(
        3, "Channels of what the model sees: 3 for red, green, blue, 1 for grey; images are converted.",
        resume="refused", ge=1, le=3,
    )  # fmt: skip
    d_model: int = key(192, "Width of the hidden states.", resume="refused", ge=1, le=65536)
    num_heads: int = key(3, "Attention heads; must divide d_model.", resume="refused", ge=1, le=1024)
    num_layers: int = key(12, "Transformer blocks.", resume="refused", ge=1, le=1000)
    d_ff: int = key(768, "Inner width of the feed-forward layers.", resume="refused", ge=1, le=1_000_000)
    dropout: float = key(
        0.0, "Dropout rate of attention, feed-forward and embedding, unless one is set by itself.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    attention_dropout: float | None = key(
        None, "Dropout rate of attention weights and attention output. Default: dropout.",
        resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    feedforward_dropout: float | None = key(
        None, "Dropout rate of the feed-forward output. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    embedding_dropout: float | None = key(
        None, "Dropout rate of the embeddings. Default: dropout.", resume="recorded", ge=0, lt=1
    )
    drop_path: float = key(
        0.0, "Rate at which the last block's sub-layers are left out while training, for a whole row at once; block i "
        "of L has i / L of it (stochastic depth, Huang et al., 2016).", resume="recorded", ge=0, lt=1,
    )  # fmt: skip
    pooling: Literal["first", "mean"] = key(
        "first", "Judge by a first position of its own, [CLS], or by the mean of all patches, without [CLS] (Beyer et "
        "al., 2022).", resume="refused",
    )  # fmt: skip
    norm: Literal["layernorm", "rmsnorm"] = key(
        "layernorm", "LayerNorm (Ba et al., 2016) with gain and shift, or RMSNorm (Zhang and Sennrich, 2019) with a "
        "gain.", resume="refused",
    )  # fmt: skip
    norm_epsilon: float = key(1e-6, "Added to the variance.", resume="refused", gt=0)
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu", "geglu_tanh"] = key(
        "gelu", "Feed-forward non-linearity; swiglu and geglu are gated (Shazeer, 2020) and have a third matrix.",
        resume="refused",
    )  # fmt: skip
    qk_norm: bool = key(False, "Normalise queries and keys of each head (Henry et al., 2020).", resume="refused")
    bias: bool = key(True, "Give the linear layers of the blocks biases.", resume="refused")
    attention: Literal["fused", "explicit"] = key(
        "fused", "Fused scaled-dot-product attention, or an explicit mask and softmax.", resume="recorded"
    )
    init: Init = key("normal", "How matrices begin; the table is in trifecta/nn/init.py.", resume="refused")
    init_std: float = key(0.02, "Standard deviation of normally distributed weights.", resume="refused", gt=0, le=100)


Model = Annotated[Gpt | Bert | T5 | Vit, Field(discriminator="type")]

# ----------------------------------------------------------------------------------------------------- objectives


class Causal(Section):
    """Predict each next token."""

    type: Literal["causal"] = "causal"


class Masked(Section):
    """Predict masked tokens from both sides (Devlin et al., 2018); needs a BERT."""

    type: Literal["masked"] = "masked"
    rate: float = key(0.15, "Share of the tokens that are to be predicted.", resume="refused", gt=0, lt=1)
    masked_ratio: float = key(0.8, "Share of those that become [MASK].", resume="refused", ge=0, le=1)
    random_ratio: float = key(
        0.1, "Share of those that become another token; what is left stays as it is.", resume="refused", ge=0, le=1
    )
    choose: Literal["token", "word", "span"] = key(
        "token", "What is chosen: any tokens, whole words, or runs of tokens (Joshi et al., 2020).", resume="refused"
    )
    pairs: Literal["none", "next", "order"] = key(
        "none", "Tell besides whether a second text follows the first: half of them are from elsewhere (next, Devlin "
        "et al., 2018), or the two are exchanged (order, Lan et al., 2019).", resume="refused",
    )  # fmt: skip
    mean_span_length: float = key(
        3.8, "Mean length of a run, before it is cut at 10, with choose: span.", resume="refused", unit="tokens", gt=1,
        le=100,
    )  # fmt: skip


class Span(Section):
    """Write what stood in the gaps of a text (span corruption, Raffel et al., 2020); needs a T5."""

    type: Literal["span"] = "span"
    rate: float = key(0.15, "Share of the tokens that are taken out.", resume="refused", gt=0, le=0.9)
    mean_span_length: float = key(
        3.0, "Mean number of tokens in a gap.", resume="refused", unit="tokens", ge=1, le=1000
    )
    sentinels: int = key(100, "Tokens that stand for gaps.", resume="refused", unit="tokens", ge=1, le=100_000)
    sentinel_start_id: int | None = key(
        None, "Lowest id of a sentinel. Default: the first after the tokenizer's.", resume="refused", ge=0,
        le=MOST_TOKENS,
    )  # fmt: skip
    sentinel_order: Literal["ascending", "descending"] = key(
        "ascending", "Whether the first gap has the lowest id or the highest, as in T5.", resume="refused"
    )


class Classify(Section):
    """Classes, several of them, or a number for a text or a pair of texts; learned from labelled data."""

    type: Literal["classify"] = "classify"
    kind: Literal["auto", "single", "multi", "regression"] = key(
        "auto", "One class for a text, any number of them, or a number. auto: what the labels look like.",
        resume="refused",
    )  # fmt: skip
    labels: list[str] = key([], "The classes. Default: those in the data, in alphabetical order.", resume="refused")
    pooling: Literal["first", "mean"] = key(
        "first", "Judge by the first position, or by the mean of all.", resume="refused"
    )
    class_weights: Literal["equal", "auto"] = key(
        "equal", "auto: rare classes weigh more, so that each class weighs the same in all.", resume="refused"
    )
    label_counts: list[Annotated[int, Field(ge=0)]] = key(
        [], "Records of each class in the training data; found there.", resume="refused"
    )
    label_mean: float = key(0.0, "Mean of the numbers in the training data; found there.", resume="refused")
    label_scale: float = key(
        1.0, "Standard deviation of the numbers in the training data; found there.", resume="refused", gt=0
    )
    head_dropout: float = key(0.1, "Dropout rate before the head.", resume="recorded", ge=0, lt=1)
    mixup_alpha: float = key(
        0.0, "Alpha of Beta(alpha, alpha), from which the share is drawn with which two texts of a batch are blended "
        "before the head, labels and all (senMixup, Guo et al., 2019); 0: never.", resume="recorded", ge=0, le=100,
    )  # fmt: skip


class Seq2Seq(Section):
    """Write the target of a source: translate, summarise, answer (Raffel et al., 2020); needs a T5 and pairs."""

    type: Literal["seq2seq"] = "seq2seq"
    prefix: str = key("", "What stands before every source, such as `summarize: `.", resume="refused")
    max_target_length: int = key(
        128, "Longest target, its end included; longer ones are cut like sources (data.too_long).", resume="refused",
        unit="tokens", ge=2, le=1_048_576,
    )  # fmt: skip


class Prompted(Section):
    """Predict only what the assistant says, after a prompt or in a conversation; needs a GPT."""

    type: Literal["prompted"] = "prompted"
    template: str = key(
        "{system}\n\nUser: {user}\nAssistant: {assistant}", "How a conversation is written down. What stands between "
        "two fields belongs to the first one up to the line ends, and else to the second one. After {assistant} comes "
        "the end of text.", resume="refused", min_length=1,
    )  # fmt: skip


class Tag(Section):
    """A tag for each word of a text (BIO: named entities and the like); learned from labelled data."""

    type: Literal["tag"] = "tag"
    labels: list[str] = key(
        [], "The tags: O, and B-X and I-X of each kind of entity X. Default: those in the data.", resume="refused"
    )
    head_dropout: float = key(0.1, "Dropout rate before the head.", resume="recorded", ge=0, lt=1)


class Answer(Section):
    """Where a context answers a question, if it does; learned from labelled data; needs a BERT."""

    type: Literal["answer"] = "answer"
    stride: int = key(
        64, "Tokens by which the windows of a context longer than a row begin after each other; at most half a window.",
        resume="refused", unit="tokens", ge=1, le=1_048_576,
    )  # fmt: skip
    max_answer_tokens: int = key(30, "Longest answer that is given.", resume="free", unit="tokens", ge=1, le=1_048_576)
    no_answer: bool = key(
        True, "Whether a question may have no answer in its context; found in the data.", resume="refused"
    )
    no_answer_threshold: float = key(
        0.0, "No answer is given where its score is higher than the best answer's by more than this.", resume="free"
    )
    head_dropout: float = key(0.1, "Dropout rate before the head.", resume="recorded", ge=0, lt=1)


class Images(Section):
    """A class for an image; learned from folders of images, one a class, or from arrays; needs a ViT.

    What is random about a training image (crop, flip, colours, erasing) follows from the seed, the epoch and the
    image's number; a validation image is as it is.
    """

    type: Literal["images"] = "images"
    labels: list[str] = key([], "The classes. Default: those in the data, in their order.", resume="refused")
    class_weights: Literal["equal", "auto"] = key(
        "equal", "auto: rare classes weigh more, so that each class weighs the same in all.", resume="refused"
    )
    label_counts: list[Annotated[int, Field(ge=0)]] = key(
        [], "Images of each class in the training data; found there.", resume="refused"
    )
    mean: list[float] = key(
        [0.5], "Taken from each channel's values, which go from 0 to 1; one number for all channels, or one for each.",
        resume="refused", min_length=1,
    )  # fmt: skip
    std: list[Annotated[float, Field(gt=0)]] = key(
        [0.5], "What each channel's values are divided by then; one number, or one for each channel.",
        resume="refused", min_length=1,
    )  # fmt: skip
    crop_padding: int = key(
        0, "Frame each training image with this many black pixels and cut the old size out anywhere.",
        resume="recorded", unit="pixels", ge=0, le=4096,
    )  # fmt: skip
    flip: float = key(0.0, "Share of the training images that are mirrored.", resume="recorded", ge=0, le=1)
    brightness: float = key(
        0.0, "Multiply a training image's values by a factor of 1 - b to 1 + b.", resume="recorded", ge=0, le=1
    )
    contrast: float = key(
        0.0, "Scale a training image's distance from its mean grey by 1 - c to 1 + c.", resume="recorded", ge=0, le=1
    )
    saturation: float = key(
        0.0, "Scale a training image's distance from grey by 1 - s to 1 + s.", resume="recorded", ge=0, le=1
    )
    hue: float = key(
        0.0, "Turn a training image's hues by up to this share of the colour circle, either way.",
        resume="recorded", ge=0, le=0.5,
    )  # fmt: skip
    erase: float = key(
        0.0, "Share of the training images of which a rectangle, 2 to 33 % of the area, becomes the mean colour "
        "(random erasing, Zhong et al., 2017).", resume="recorded", ge=0, le=1,
    )  # fmt: skip
    mixup: float = key(
        0.0, "Alpha of Beta(alpha, alpha), from which the share is drawn with which two images of a batch are blended, "
        "labels and all (MixUp, Zhang et al., 2017); 0: never.", resume="recorded", ge=0, le=100,
    )  # fmt: skip
    cutmix: float = key(
        0.0, "Alpha of the share of an image that is replaced by a rectangle of another, labels in proportion (CutMix, "
        "Yun et al., 2019); 0: never. With mixup too, each batch takes one of them.", resume="recorded", ge=0, le=100,
    )  # fmt: skip
    head_dropout: float = key(0.0, "Dropout rate before the head.", resume="recorded", ge=0, lt=1)


Objective = Annotated[
    Causal | Masked | Span | Classify | Seq2Seq | Prompted | Tag | Answer | Images, Field(discriminator="type")
]

# ----------------------------------------------------------------------------------------------------- optimizers


class _Betas(Section):
    beta_1: float = key(0.9, "Decay of the mean of gradients.", resume="recorded", ge=0, lt=1)
    beta_2: float = key(0.999, "Decay of the mean of squared gradients.", resume="recorded", ge=0, lt=1)
    epsilon: float = key(1e-8, "Added to the root of the second moment.", resume="recorded", gt=0)


class AdamW(_Betas):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017)."""

    type: Literal["adamw"] = "adamw"
    weight_decay: float = key(
        0.01,
        "Decoupled decay of matrices; never of biases, norms or embeddings' gains.",
        resume="recorded",
        ge=0,
        le=100,
    )


class Adam(_Betas):
    """Adam (Kingma and Ba, 2014), without weight decay."""

    type: Literal["adam"] = "adam"


class Sgd(Section):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"] = "sgd"
    momentum: float = key(0.9, "Share of the previous update that is kept.", resume="recorded", ge=0, lt=1)
    nesterov: bool = key(False, "Look ahead (Nesterov, 1983); needs a momentum.", resume="recorded")
    weight_decay: float = key(0.0, "L2 penalty of matrices, added to their gradient.", resume="recorded", ge=0, le=100)


class Muon(_Betas):
    """Orthogonalised momentum for hidden matrices (Jordan et al., 2024), AdamW for everything else.

    Updates are scaled to AdamW's size, 0.2 * sqrt(max(rows, columns)) (Liu et al., 2025), so that one learning rate
    serves both.
    """

    type: Literal["muon"] = "muon"
    beta_2: float = key(0.95, "AdamW's decay of the mean of squared gradients.", resume="recorded", ge=0, lt=1)
    momentum: float = key(0.95, "Momentum of the hidden matrices.", resume="recorded", ge=0, lt=1)
    nesterov: bool = key(True, "Look ahead.", resume="recorded")
    newton_schulz_steps: int = key(5, "Iterations of the orthogonalisation.", resume="recorded", ge=1, le=20)
    weight_decay: float = key(0.01, "Decoupled decay of matrices.", resume="recorded", ge=0, le=100)
    adamw_learning_rate_ratio: float = key(
        1.0, "Learning rate of everything but the hidden matrices, as a share of training.learning_rate.",
        resume="recorded", gt=0, le=1000,
    )  # fmt: skip


class Lion(Section):
    """The sign of an interpolated momentum (Chen et al., 2023); wants a learning rate 3 to 10 times below AdamW's and
    a weight decay as much above it."""

    type: Literal["lion"] = "lion"
    beta_1: float = key(0.9, "Share of the momentum in each update.", resume="recorded", ge=0, lt=1)
    beta_2: float = key(0.99, "Decay of the momentum.", resume="recorded", ge=0, lt=1)
    weight_decay: float = key(0.1, "Decoupled decay of matrices.", resume="recorded", ge=0, le=100)


class Adafactor(Section):
    """Second moments as a row and a column of each matrix (Shazeer and Stern, 2018): next to no memory."""

    type: Literal["adafactor"] = "adafactor"
    decay_exponent: float = key(
        0.8, "The mean of squared gradients decays by 1 - t ** -decay_exponent at update t.", resume="recorded", gt=0,
        le=1,
    )  # fmt: skip
    epsilon: float = key(1e-30, "Added to squared gradients.", resume="recorded", gt=0)
    minimal_scale: float = key(
        1e-3, "Least root mean square of weights that scale_parameter counts with.", resume="recorded", gt=0
    )
    clip_threshold: float = key(1.0, "Longest root mean square of an update.", resume="recorded", gt=0)
    scale_parameter: bool = key(
        True, "Take the learning rate as a share of each matrix's root mean square.", resume="recorded"
    )
    relative_step: bool = key(True, "Use at most 1 / sqrt(t) for a learning rate at update t.", resume="recorded")
    weight_decay: float = key(0.0, "Decoupled decay of matrices.", resume="recorded", ge=0, le=100)


class Custom(Section):
    """Any installed torch.optim.Optimizer by its name; it is tried out before the run begins."""

    type: Literal["custom"] = "custom"
    class_name: str = key(
        ..., "Dotted name of an installed torch.optim.Optimizer, such as torch.optim.NAdam; its module is imported, "
        "and it is never a path or a file.", resume="refused", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
    )  # fmt: skip
    arguments: dict[str, Any] = key(
        {}, "Its arguments by name, less the parameters and lr, which is training.learning_rate. A weight_decay spares "
        "norms and biases.", resume="refused",
    )  # fmt: skip


Optimizer = Annotated[AdamW | Adam | Sgd | Muon | Lion | Adafactor | Custom, Field(discriminator="type")]

# ------------------------------------------------------------------------------------------------------ schedules


class _WithMinimum(Section):
    min_lr_ratio: float = key(0.1, "Last learning rate as a share of the peak.", resume="recorded", ge=0, le=1)


class Constant(Section):
    """The peak, always."""

    type: Literal["constant"] = "constant"


class Linear(_WithMinimum):
    """A straight line from the peak to the minimum at the last step."""

    type: Literal["linear"] = "linear"
    min_lr_ratio: float = key(0.01, "Last learning rate as a share of the peak.", resume="recorded", ge=0, le=1)


class Cosine(_WithMinimum):
    """Half a cosine from the peak to the minimum at the last step (Loshchilov and Hutter, 2016)."""

    type: Literal["cosine"] = "cosine"


class Step(Section):
    """Multiplies by gamma every step_size epochs."""

    type: Literal["step"] = "step"
    step_size: int = key(3, "Epochs between drops.", resume="recorded", unit="epochs", ge=1)
    gamma: float = key(0.5, "Factor of each drop.", resume="recorded", gt=0, le=1)


class Exponential(Section):
    """decay_rate ** (steps after warm-up / decay_steps)."""

    type: Literal["exponential"] = "exponential"
    decay_steps: int = key(10000, "Steps in which the rate falls by decay_rate.", resume="recorded", unit="steps", ge=1)
    decay_rate: float = key(0.96, "Factor of each decay_steps.", resume="recorded", gt=0, le=1)
    staircase: bool = key(False, "Fall in whole steps.", resume="recorded")


class Piecewise(Section):
    """One factor for each interval between boundaries; the first boundary belongs to the interval before it."""

    type: Literal["piecewise"] = "piecewise"
    boundaries: list[Annotated[int, Field(ge=1)]] = key(
        ..., "Last step of each interval but the final one, ascending.", resume="recorded", unit="steps", min_length=1,
    )  # fmt: skip
    factors: list[Annotated[float, Field(ge=0)]] = key(
        ..., "Share of the peak in each interval: one more than boundaries, never rising.", resume="recorded",
        min_length=2,
    )  # fmt: skip


class InverseSqrt(Section):
    """sqrt(w / n) after w warm-up steps (Vaswani et al., 2017)."""

    type: Literal["inverse_sqrt"] = "inverse_sqrt"


class OneCycle(Section):
    """Rises from start_ratio to the peak, then falls to end_ratio, both as half cosines (Smith, 2018)."""

    type: Literal["one_cycle"] = "one_cycle"
    rise_ratio: float = key(0.3, "Share of the steps that rise.", resume="recorded", gt=0, lt=1)
    start_ratio: float = key(0.04, "First learning rate as a share of the peak.", resume="recorded", gt=0, le=1)
    end_ratio: float = key(4e-6, "Last learning rate as a share of the peak.", resume="recorded", ge=0, le=1)


class Wsd(_WithMinimum):
    """Warm-up, stable, decay: the peak, then a straight line in the last part (Hu et al., 2024)."""

    type: Literal["wsd"] = "wsd"
    min_lr_ratio: float = key(0.0, "Last learning rate as a share of the peak.", resume="recorded", ge=0, le=1)
    decay_ratio: float = key(0.2, "Share of the steps that decay.", resume="recorded", gt=0, le=1)


class ExponentialDecay(Section):
    """Keras' ExponentialDecay: decay_rate ** (s / decay_steps) at update s + 1; no warm-up unless one is written."""

    type: Literal["exponential_decay"] = "exponential_decay"
    decay_steps: int = key(..., "Steps in which the rate falls by decay_rate.", resume="recorded", unit="steps", ge=1)
    decay_rate: float = key(..., "Factor of each decay_steps.", resume="recorded", gt=0, le=1)
    staircase: bool = key(False, "Fall in whole steps.", resume="recorded")


class CosineDecay(Section):
    """Keras' CosineDecay: half a cosine over decay_steps, however long the run is, and a warm-up of its own."""

    type: Literal["cosine_decay"] = "cosine_decay"
    decay_steps: int = key(..., "Steps from the peak to the minimum.", resume="recorded", unit="steps", ge=1)
    alpha: float = key(0.0, "Last learning rate as a share of the peak.", resume="recorded", ge=0, le=1)
    warmup_steps: int = key(0, "Steps from start_ratio to the peak.", resume="recorded", unit="steps", ge=0)
    start_ratio: float = key(0.0, "First learning rate as a share of the peak.", resume="recorded", ge=0, le=1_000_000)


class PiecewiseConstantDecay(Section):
    """Keras' PiecewiseConstantDecay: factors[i] at update s + 1, where i boundaries are less than s."""

    type: Literal["piecewise_constant_decay"] = "piecewise_constant_decay"
    boundaries: list[Annotated[int, Field(ge=0)]] = key(
        ..., "Last step of each interval but the final one, counted from 0, ascending.", resume="recorded",
        unit="steps", min_length=1,
    )  # fmt: skip
    factors: list[Annotated[float, Field(ge=0)]] = key(
        ..., "Share of the peak in each interval: one more than boundaries.", resume="recorded", min_length=2
    )


Scheduler = Annotated[
    Constant
    | Linear
    | Cosine
    | Step
    | Exponential
    | Piecewise
    | InverseSqrt
    | OneCycle
    | Wsd
    | ExponentialDecay
    | CosineDecay
    | PiecewiseConstantDecay,
    Field(discriminator="type"),
]

# ---------------------------------------------------------------------------------------------------- adversaries


class NoAdversary(Section):
    """Plain training."""

    type: Literal["none"] = "none"


class _Adversary(Section):
    epsilon: float = key(
        1.0, "Longest change of a row's embeddings (L2 norm over its positions and features).", resume="recorded", gt=0
    )


class Fgm(_Adversary):
    """One step against the gradient, and a second pass (fast gradient method, Miyato et al., 2017)."""

    type: Literal["fgm"] = "fgm"
    weight: float = key(0.5, "Share of the second pass in the loss.", resume="recorded", gt=0, lt=1)


class Pgd(_Adversary):
    """Several steps within epsilon, and one more pass (projected gradient descent, Madry et al., 2018)."""

    type: Literal["pgd"] = "pgd"
    weight: float = key(0.5, "Share of the last pass in the loss.", resume="recorded", gt=0, lt=1)
    steps: int = key(3, "Steps of the adversary.", resume="recorded", unit="steps", ge=1, le=100)
    step_size: float = key(0.5, "Length of its steps.", resume="recorded", gt=0)


class FreeLb(_Adversary):
    """The mean of the gradients along several steps from a random place (FreeLB, Zhu et al., 2020)."""

    type: Literal["freelb"] = "freelb"
    steps: int = key(
        3, "Steps of the adversary, each a pass of its own.", resume="recorded", unit="steps", ge=1, le=100
    )
    step_size: float = key(0.5, "Length of its steps.", resume="recorded", gt=0)


Adversary = Annotated[NoAdversary | Fgm | Pgd | FreeLb, Field(discriminator="type")]


class NoWatch(Section):
    """Every finite update is made."""

    type: Literal["ignore"] = "ignore"


class _Watch(Section):
    window: int = key(
        128, "Updates with whose loss and gradient norm each is compared; the first half of them is taken as it is.",
        resume="recorded", unit="steps", ge=4, le=100_000,
    )  # fmt: skip
    sigma: float = key(
        6.0, "Standard deviations above their mean from which an update is a spike.", resume="recorded", gt=0, le=1000
    )


class SkipSpikes(_Watch):
    """Leaves weights and moments as they are (OLMo 2, 2024)."""

    type: Literal["skip"] = "skip"


class RollBack(_Watch):
    """Takes weights and moments of the last place that was kept; the data goes on behind the spike (PaLM, 2022)."""

    type: Literal["rollback"] = "rollback"
    every_n_steps: int = key(
        100, "How often a checkpoint is saved to go back to; before the first one a spike is skipped.",
        resume="recorded", unit="steps", ge=1,
    )  # fmt: skip


Spikes = Annotated[NoWatch | SkipSpikes | RollBack, Field(discriminator="type")]


# ---------------------------------------------------------------------------------------------------- what comes when


class Phase(Section):
    """A part of a run with a batch or a length of its own; it lasts for its epochs or its steps."""

    epochs: int | None = key(None, "Passes over the text.", resume="refused", unit="epochs", ge=1)
    steps: int | None = key(None, "Updates, instead of epochs.", resume="refused", unit="steps", ge=1)
    sequence_length: int | None = key(
        None, "Tokens in one sequence. Default: data.sequence_length, which is also the most.", resume="refused",
        unit="tokens", ge=1,
    )  # fmt: skip
    batch_size: int | None = key(None, "Default: training.batch_size.", resume="refused", unit="sequences", ge=1)
    gradient_accumulation_steps: int | None = key(
        None, "Default: training.gradient_accumulation_steps.", resume="refused", ge=1
    )


class NoCurriculum(Section):
    """Every sample from the start."""

    type: Literal["none"] = "none"


class _Curriculum(Section):
    pacing: Literal["linear", "root", "exponential"] = key(
        "root", "How the share of samples that may be seen grows to all of them: in a straight line, fast at first, or "
        "fast at last.", resume="refused",
    )  # fmt: skip
    start_ratio: float = key(
        0.1, "Share of the samples, the easiest ones, to begin with.", resume="refused", gt=0, le=1
    )
    epochs: float = key(
        1.0, "Until every sample may be seen, in epochs.", resume="refused", unit="epochs", gt=0, le=1000
    )


class LengthCurriculum(_Curriculum):
    """Short samples first (Platanios et al., 2019)."""

    type: Literal["length"] = "length"


class RarityCurriculum(_Curriculum):
    """Samples of frequent tokens first: by the sum of -log p(token) (Platanios et al., 2019)."""

    type: Literal["rarity"] = "rarity"


class LossCurriculum(_Curriculum):
    """Samples that another run finds easy first: by its loss (Hacohen and Weinshall, 2019)."""

    type: Literal["reference_loss"] = "reference_loss"
    reference: str = key(..., "The run, of the same objective and the same tokenizer.", resume="recorded", min_length=1)


Curriculum = Annotated[NoCurriculum | LengthCurriculum | RarityCurriculum | LossCurriculum, Field(discriminator="type")]
