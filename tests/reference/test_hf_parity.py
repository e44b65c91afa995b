"""Our GPT against Hugging Face's GPT-2 and Llama with copied weights, and the name maps both ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifecta.errors import CheckpointError, RecipeError
from trifecta.interop import hf
from trifecta.models import Gpt
from trifecta.nn import attention

TOLERANCE = 1e-5
V, T = 61, 24


def gpt2(**changes: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": T, "vocab_size": V, "initializer_range": 0.2}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**settings, bos_token_id=0, eos_token_id=0, **changes))
    return _unsettle(model)


def llama(**changes: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 48}
    torch.manual_seed(0)
    return _unsettle(LlamaForCausalLM(LlamaConfig(**settings, vocab_size=V, initializer_range=0.2, **changes)))


def _unsettle(model: nn.Module) -> nn.Module:
    """Biases and gains away from 0 and 1, where errors would hide."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def ours_of(theirs: Any) -> Gpt:
    config = theirs.config.to_dict()
    fields, vocab_size = hf.from_hf_config(config)
    model = Gpt(vocab_size, **fields).eval()
    model.load_state_dict(hf.from_hf_state(theirs.state_dict(), config))
    return model


def tokens() -> Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


def differences(theirs: Any, ours: Gpt) -> tuple[float, float, float]:
    """Largest absolute difference of logits, of loss, and of any element of any gradient."""
    tokens_BT = tokens()
    their_logits = theirs(tokens_BT).logits
    their_loss = theirs(tokens_BT, labels=tokens_BT).loss
    their_loss.backward()
    our_logits = ours(tokens_BT)
    our_loss = F.cross_entropy(our_logits[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten())
    our_loss.backward()
    ours_by_name = {name: parameter.grad for name, parameter in ours.named_parameters()}
    mapped = hf.to_hf_state(ours_by_name, theirs.config.model_type)
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert mapped.keys() == wanted.keys()
    gradient = max(float((mapped[name] - wanted[name]).abs().max()) for name in wanted)
    logits, loss = (our_logits - their_logits).abs().max(), (our_loss - their_loss).abs()
    return logits.item(), loss.item(), gradient


VARIANTS = {
    "gpt2": lambda: gpt2(),
    "gpt2 exact gelu, free head": lambda: gpt2(activation_function="gelu", tie_word_embeddings=False),
    "llama": lambda: llama(),
    "llama grouped": lambda: llama(num_key_value_heads=2),
    "llama one key head, tied, biases": lambda: llama(
        num_key_value_heads=1, tie_word_embeddings=True, attention_bias=True, mlp_bias=True
    ),
    "llama theta": lambda: llama(rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_numeric_031_logits_loss_and_every_gradient(variant: str) -> None:
    """Logits, loss and every gradient equal those of Hugging Face's GPT-2 and Llama with the same weights, to 1e-5."""
    theirs = VARIANTS[variant]()
    assert max(differences(theirs, ours_of(theirs))) <= TOLERANCE


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


@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_is_exact(variant: str) -> None:
    theirs = VARIANTS[variant]()
    ours = ours_of(theirs)
    model_type = theirs.config.model_type
    config = hf.to_hf_config(hf.from_hf_config(theirs.config.to_dict())[0], V, eos_id=0)
    state = hf.to_hf_state(ours.state_dict(), model_type)
    again = type(theirs)(type(theirs.config)(**config)).eval()
    missing, unexpected = again.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    assert torch.equal(again(tokens()).logits, theirs(tokens()).logits)
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


def test_missing_and_unknown_tensors_are_named() -> None:
    theirs = llama()
    state = dict(theirs.state_dict())
    state["model.norm.wieght"] = state.pop("model.norm.weight")
    with pytest.raises(CheckpointError, match=r"missing model\.norm\.weight; unknown model\.norm\.wieght"):
        hf.from_hf_state(state, theirs.config.to_dict())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"position": "alibi"}, "model.position: alibi"),
        ({"position": "learned", "max_sequence_length": 8, "bias": False}, "model.bias: False"),
        ({"position": "rope"}, "model.norm: layernorm, model.activation: gelu"),
        ({"norm": "rmsnorm", "activation": "swiglu", "qk_norm": True}, "model.qk_norm: True"),
    ],
)
def test_models_they_cannot_express_are_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        hf.to_hf_config(fields, V)
