"""Our models against Hugging Face's with copied weights, and the name maps both ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_hf import IMPORT_ONLY, VARIANTS, T, V, bert, gpt2, llama, modernbert, qwen3, roberta, t5
from torch import Tensor, nn

from trifecta.errors import CheckpointError, RecipeError
from trifecta.interop import hf
from trifecta.models import MODELS
from trifecta.nn import attention
from trifecta.types import IGNORE

TOLERANCE = 1e-5
U = 10
SEEN = torch.arange(T) < torch.tensor([T, 17, 9])[:, None]
"""Which positions of a batch of three are text."""


def ours_of(theirs: Any) -> nn.Module:
    found = hf.from_hf(theirs.config.to_dict(), theirs.state_dict())
    model = MODELS[found.kind](found.vocab_size, **found.fields).eval()
    model.load_state_dict(found.state)
    return model


def tokens(length: int = T) -> Tensor:
    """Ids of text; the lowest are special in some of their models."""
    return torch.randint(4, V, (3, length), generator=torch.Generator().manual_seed(1))


def run(model: Any, kind: str, *, ours: bool, padded: bool) -> tuple[Tensor, Tensor]:
    """Logits where there is text, and the loss: of next tokens, of every third token, or of what is written."""
    tokens_BT, written_BU = tokens(), tokens(U)
    seen_BT = SEEN if padded else torch.ones_like(SEEN)
    before_BU = F.pad(written_BU[:, :-1], (1, 0))
    if kind == "t5":
        targets = written_BU
        if ours:
            whole = torch.ones_like(written_BU)
            logits = model.logits(model.hidden(tokens_BT, before_BU, seen_BT.long(), whole).hidden_BTD)
        else:
            logits = model(input_ids=tokens_BT, attention_mask=seen_BT.long(), decoder_input_ids=before_BU).logits
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    if kind == "bert":
        chosen = seen_BT & (torch.arange(T) % 3 == 1)
        targets = tokens_BT.masked_fill(~chosen, IGNORE)
    else:
        targets = F.pad(tokens_BT[:, 1:].masked_fill(~seen_BT[:, 1:], IGNORE), (0, 1), value=IGNORE)
    if ours:
        segments = {"segments_BT": seen_BT.long()} if padded else {}
        logits = model.logits(model.hidden(tokens_BT, **segments).hidden_BTD)
    else:
        output = model(tokens_BT, attention_mask=seen_BT.long() if padded else None)
        logits = output.logits if "logits" in output else output.prediction_logits
    return logits[seen_BT], F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def differences(theirs: Any, ours: Any, *, padded: bool = False) -> tuple[float, float, float]:
    """Largest absolute difference of logits, of loss, and of any element of any gradient."""
    config = theirs.config.to_dict()
    kind = hf.kind_of(config)
    (their_logits, their_loss), (our_logits, our_loss) = (
        run(model, kind, ours=model is ours, padded=padded) for model in (theirs, ours)
    )
    their_loss.backward()
    our_loss.backward()
    ours_by_name = {name: gradient_of(parameter) for name, parameter in ours.named_parameters()}
    theirs_by_name = {name: gradient_of(parameter) for name, parameter in theirs.named_parameters()}
    wanted = hf.from_hf_state(theirs_by_name, config)
    assert ours_by_name.keys() == wanted.keys()
    gradient = max(float((ours_by_name[name] - wanted[name]).abs().max()) for name in wanted)
    logits, loss = (our_logits - their_logits).abs().max(), (our_loss - their_loss).abs()
    return logits.item(), loss.item(), gradient


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """Zeros where the loss doesn't depend on it, as of a pooler."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_numeric_031_logits_loss_and_every_gradient(variant: str, padded: bool) -> None:
    """Logits, loss and every gradient equal those of Hugging Face's GPT-2, Llama, Qwen3, Starcoder2, BERT, RoBERTa,
    DistilBERT, ModernBERT and T5 with the same weights, to 1e-5, with padded texts in the batch and without."""
    theirs = VARIANTS[variant]()
    assert max(differences(theirs, ours_of(theirs), padded=padded)) <= TOLERANCE


def test_numeric_031_control_swapped_query_and_key() -> None:
    """Query and key weights swapped: the logits are off by more than 1e-3."""
    theirs = llama()
    ours = ours_of(theirs)
    with torch.no_grad():
        layer = ours.blocks[0].attention
        layer.query.weight, layer.key.weight = layer.key.weight, layer.query.weight
    assert differences(theirs, ours)[0] > 100 * TOLERANCE


def test_numeric_031_control_wrong_rotary_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary positions on neighbouring pairs: the logits are off by more than 1e-3."""

    def interleaved(x: Tensor, rows: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        cosines, sines = rows[:, None, :half], rows[:, None, -half:]
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack((even * cosines - odd * sines, odd * cosines + even * sines), -1).flatten(-2)

    monkeypatch.setattr(attention, "rotate", interleaved)
    theirs = llama()
    assert differences(theirs, ours_of(theirs))[0] > 100 * TOLERANCE


def test_numeric_031_control_other_gelu() -> None:
    """The exact GELU in place of its approximation misses the tolerance."""
    theirs = gpt2()
    ours = ours_of(theirs)
    for block in ours.blocks:
        block.feedforward.activation = F.gelu
    assert differences(theirs, ours)[0] > TOLERANCE


def test_numeric_031_control_positions_of_roberta_from_the_first_row() -> None:
    """RoBERTa's table read from its first row on, as BERT's is: the logits are off by more than 1e-3."""
    theirs = roberta()
    ours = ours_of(theirs)
    with torch.no_grad():
        ours.embedding.position.weight.copy_(theirs.roberta.embeddings.position_embeddings.weight[:T])
    assert differences(theirs, ours)[0] > 100 * TOLERANCE


def test_numeric_031_control_gate_and_up_swapped() -> None:
    """The halves of ModernBERT's first matrix swapped: the logits are off by more than 1e-3."""
    theirs = modernbert()
    ours = ours_of(theirs)
    for block in ours.blocks:
        block.feedforward.gate, block.feedforward.up = block.feedforward.up, block.feedforward.gate
    assert differences(theirs, ours)[0] > 100 * TOLERANCE


def test_numeric_031_control_head_norms_after_rotation() -> None:
    """Query and key gains that a rotation mixes, as if norms came after it: off by more than 1e-3."""
    theirs = qwen3()
    ours = ours_of(theirs)
    with torch.no_grad():
        for block in ours.blocks:
            block.attention.query_norm.weight.copy_(block.attention.query_norm.weight.roll(4))
    assert differences(theirs, ours)[0] > 100 * TOLERANCE


def test_numeric_031_control_unscaled_t5_and_unseen_padding() -> None:
    """A tied T5 head without its factor, and padding that is read, are each off by more than 1e-3."""
    theirs = t5()
    ours = ours_of(theirs)
    ours.d_model = 1
    assert differences(theirs, ours)[0] > 100 * TOLERANCE
    theirs, ours = bert(), ours_of(bert())
    (padded, _), (whole, _) = (run(ours, "bert", ours=True, padded=padded) for padded in (True, False))
    assert (padded - whole[SEEN.flatten()] if padded.dim() < whole.dim() else padded[:T] - whole[:T]).abs().max() == 0
    assert (padded[T:] - whole.view(3, T, V)[1:][SEEN[1:]]).abs().max() > 100 * TOLERANCE


def inputs_of(kind: str) -> dict[str, Tensor]:
    return {"input_ids": tokens()} | ({"decoder_input_ids": tokens(U)} if kind == "t5" else {})


def logits_of(model: Any, kind: str) -> Tensor:
    output = model(**inputs_of(kind))
    found: Tensor = output.logits if "logits" in output else output.prediction_logits
    return found


@pytest.mark.parametrize("variant", sorted(VARIANTS.keys() - IMPORT_ONLY))
def test_round_trip_is_exact(variant: str) -> None:
    theirs = VARIANTS[variant]()
    ours = ours_of(theirs)
    found = hf.from_hf(theirs.config.to_dict(), theirs.state_dict())
    ids = {"pad_token_id": 0} if found.kind == "bert" else {"pad_token_id": 0, "decoder_start_token_id": 0}
    config = hf.to_hf_config(found.fields, V, kind=found.kind, eos_id=0, special=ids if found.kind != "gpt" else {})
    state = hf.to_hf_state(ours.state_dict(), config["model_type"])
    again = type(theirs)(type(theirs.config)(**config)).eval()
    if found.kind == "t5" and "lm_head.weight" in state:
        again.lm_head.weight = nn.Parameter(torch.empty_like(again.lm_head.weight))
    missing, unexpected = again.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith(("lm_head.weight", "embed_tokens.weight", "decoder.weight", "decoder.bias"))
               or "seq_relationship" in name for name in missing)  # fmt: skip
    if found.fields["tie_embeddings"]:
        again.tie_weights()
    assert torch.equal(logits_of(again, found.kind), logits_of(theirs, found.kind))
    back = hf.from_hf_state(state, config)
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.state_dict().items())


def test_first_gpt2_checkpoints_lack_the_prefix_and_hold_masks() -> None:
    theirs = gpt2()
    bare = {name.removeprefix("transformer."): tensor for name, tensor in theirs.state_dict().items()}
    bare["h.0.attn.bias"] = torch.ones(1)
    ours = hf.from_hf_state(bare, theirs.config.to_dict())
    assert torch.equal(ours["embedding.token.weight"], theirs.state_dict()["transformer.wte.weight"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mamba"}, "model_type"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None}, "rope_type"),
        ({"head_dim": 16}, "head_dim"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"mlp_bias": True}, "mlp_bias"),
    ],
)
def test_settings_we_cannot_express_are_named(change: dict[str, Any], named: str) -> None:
    config = llama().config.to_dict() | change
    with pytest.raises(CheckpointError, match=named):
        hf.from_hf_config(config)


@pytest.mark.parametrize(
    ("theirs", "change", "named"),
    [
        (qwen3, {"head_dim": 16}, "head_dim=16"),
        (qwen3, {"use_sliding_window": True, "sliding_window": 8}, "sliding_window=8"),
        (bert, {"is_decoder": True}, "BERT can't express is_decoder=True"),
        (bert, {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        (modernbert, {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding_attention"),
        (modernbert, {"norm_bias": False}, "norm_bias=False"),
        (modernbert, {"mlp_bias": True}, "mlp_bias=True"),
        (t5, {"feed_forward_proj": "gated-mish"}, "T5 can't express feed_forward_proj"),
        (t5, {"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_more_settings_we_cannot_express_are_named(theirs: Any, change: dict[str, Any], named: str) -> None:
    config = theirs().config.to_dict()
    hf.from_hf_config(config)
    with pytest.raises(CheckpointError, match=named):
        hf.from_hf_config(config | change)


def test_a_bare_bert_has_no_head_and_old_names_are_known() -> None:
    theirs = bert("BertModel")
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    found = hf.from_hf(theirs.config.to_dict(), state)
    ours = MODELS["bert"](found.vocab_size, **found.fields).eval()
    missing, unexpected = ours.load_state_dict(found.state, strict=False)
    assert not unexpected
    assert set(missing) == {"head_dense.weight", "head_dense.bias", "head_norm.weight", "head_norm.bias", "head_bias"}
    hidden = ours.hidden(tokens()).hidden_BTD
    wanted = theirs(tokens())
    assert (hidden - wanted.last_hidden_state).abs().max() <= TOLERANCE
    assert (ours.pooled(hidden[:, 0]) - wanted.pooler_output).abs().max() <= TOLERANCE


def test_a_head_that_should_be_the_embedding_and_differs_is_refused() -> None:
    theirs = llama(tie_word_embeddings=True)
    state = theirs.state_dict() | {"lm_head.weight": torch.zeros(V, 32)}
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from the embedding"):
        hf.from_hf_state(state, theirs.config.to_dict())


def test_missing_and_unknown_tensors_are_named() -> None:
    theirs = llama()
    state = dict(theirs.state_dict())
    state["model.norm.wieght"] = state.pop("model.norm.weight")
    with pytest.raises(CheckpointError, match=r"missing model\.norm\.weight; unknown model\.norm\.wieght"):
        hf.from_hf_state(state, theirs.config.to_dict())


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("gpt", {"position": "alibi"}, "starcoder2 can't express model.position: alibi"),
        ("gpt", {"position": "learned", "max_sequence_length": 8, "bias": False}, "gpt2 can't express model.bias: Fal"),
        ("gpt", {"position": "rope", "activation": "swiglu", "qk_norm": True}, "activation: swiglu, model.qk_norm"),
        ("gpt", {"norm": "rmsnorm", "activation": "swiglu", "qk_norm": True}, "qwen3 can't express model.bias: True"),
        ("gpt", {"norm": "rmsnorm", "activation": "geglu"}, "llama can't express model.activation: geglu"),
        ("gpt", {"logit_soft_cap": 30.0}, "model.logit_soft_cap: 30.0"),
        ("bert", {"norm": "rmsnorm", "qk_norm": True}, "modernbert can't express model.norm: rmsnorm, model.qk_norm"),
        ("bert", {"norm_position": "post"}, "bert can't express model.position: rope"),
        ("bert", {"num_kv_heads": 2}, "model.num_kv_heads: 2"),
    ],
)
def test_models_they_cannot_express_are_named(kind: Any, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        hf.to_hf_config(fields, V, kind=kind)
