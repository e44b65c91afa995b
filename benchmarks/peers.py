"""The peers' legs: Hugging Face's Trainer and generate, and bare PyTorch loops."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pairs import Leg
from benchmarks.text import Moment, character_ids, halves, peak_megabytes, random_windows, split_loss

Size = tuple[int, int, int, int]


def _hf_gpt2(size: Size, vocab_size: int, length: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width, heads, inner = size
    return GPT2LMHeadModel(
        GPT2Config(
            n_layer=layers, n_embd=width, n_head=heads, n_inner=inner, n_positions=length, vocab_size=vocab_size,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


class _Windows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Windows that don't overlap, as the Trainer wants them."""

    def __init__(self, tokens: Tensor, length: int):
        self.windows = tokens[: len(tokens) // length * length].view(-1, length)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


def trainer(text: str, folder: str, seed: int, size: Size, batch_size: int, length: int, steps: int, after: int) -> Leg:
    """Tokens a second of Hugging Face's Trainer once `after` steps have warmed it up; validation loss at the end."""
    from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator, set_seed

    train, validation, vocab_size = character_ids(text)
    set_seed(seed)
    model = _hf_gpt2(size, vocab_size, length)
    times: dict[int, Moment] = {}

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            times[state.global_step] = Moment()

    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=batch_size, max_steps=steps, learning_rate=1e-3,
        lr_scheduler_type="linear", weight_decay=0.0, max_grad_norm=1.0, use_cpu=True, eval_strategy="no",
        save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, seed=seed,
        dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(
        model=model, args=arguments, train_dataset=_Windows(train, length), data_collator=default_data_collator,
        callbacks=[Clock()],
    ).train()  # fmt: skip
    model.eval()
    loss = split_loss(lambda inputs: model(inputs).logits, validation, length)
    seconds, core = times[after].until(times[steps])
    return {"value": (steps - after) * batch_size * length / seconds, "core": core, "loss": loss}


def _loop(
    loss_of: Callable[[Tensor, Tensor], Tensor], optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]], learning_rate: Callable[[int], float], steps: int,
) -> Iterator[tuple[int, Tensor]]:  # fmt: skip
    """The loop that everybody writes first; yields each step's number and loss."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number in range(1, steps + 1):
        inputs, targets = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number)
        loss = loss_of(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield number, loss.detach()


def _cross_entropy(logits_of: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda inputs, targets: F.cross_entropy(logits_of(inputs).flatten(0, 1), targets.flatten())


def bare_loop(
    text: str, folder: str, seed: int, size: Size, batch_size: int, length: int, steps: int, after: int
) -> Leg:
    """Tokens a second of a bare loop over trifecta's own model; validation loss at the end."""
    from trifecta.models import Gpt

    del folder
    train, validation, vocab_size = character_ids(text)
    layers, width, heads, inner = size
    torch.manual_seed(seed)
    model = Gpt(
        vocab_size, num_layers=layers, d_model=width, num_heads=heads, d_ff=inner,
        dropout=0.0, position="learned", max_sequence_length=length, activation="gelu", init="depth_scaled",
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    batches = random_windows(train, batch_size, length, seed)
    started = Moment()
    loop = _loop(_cross_entropy(model), optimizer, batches, lambda n: 1e-3 * (1 - (n - 1) / steps), steps)
    for number, _ in loop:
        if number == after:
            started = Moment()
    seconds, core = started.until(Moment())
    loss = split_loss(model.eval(), validation, length)
    return {"value": (steps - after) * batch_size * length / seconds, "core": core, "loss": loss}


class _Block(nn.Module):
    """Attention and feed-forward as in nanoGPT: no biases, exact GELU."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        query, key, value = (
            part.view(B, T, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm_1(x_BTD)).split(D, dim=2)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).reshape(B, T, D))
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD))))


class _Nano(nn.Module):
    """The GPT of nanoGPT's CPU recipe."""

    def __init__(self, size: Size, vocab_size: int, length: int):
        super().__init__()
        layers, width, heads, _ = size
        self.token, self.position = nn.Embedding(vocab_size, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.token(tokens_BT) + self.position.weight[: tokens_BT.shape[1]]
        logits_BTV: Tensor = F.linear(self.norm(self.blocks(x_BTD)), self.token.weight)
        return logits_BTV


def nano(
    text: str, folder: str, seed: int, target: float, size: Size, batch_size: int, length: int, steps: int,
    first: int, every: int,
) -> Leg:  # fmt: skip
    """Seconds until nanoGPT's CPU recipe has reached a validation loss; of all its steps if it doesn't."""
    del folder
    started = time.perf_counter()
    train, validation, vocab_size = character_ids(text)
    torch.manual_seed(seed)
    model = _Nano(size, vocab_size, length)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)

    def learning_rate(number: int) -> float:
        if number < 100:
            return 1e-3 * number / 100
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * (number - 100) / (steps - 100))) * (1e-3 - 1e-4)

    loop = _loop(
        _cross_entropy(model), optimizer, random_windows(train, batch_size, length, seed), learning_rate, steps
    )
    loss, spent, number = math.inf, 0.0, 0
    for number, _ in loop:
        if number == steps or (number >= first and number % every == 0):
            before = time.perf_counter()
            loss = split_loss(model.eval(), validation, length)
            model.train()
            spent += time.perf_counter() - before
            if loss <= target:
                break
    return {"value": time.perf_counter() - started - spent, "loss": loss, "steps": number}


def hf_generate(text: str, folder: str, seed: int, size: Size, vocab_size: int, tokens: int) -> Leg:
    """Tokens a second of `generate` with trifecta's weights in Hugging Face's Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmarks.ours import llama
    from trifecta.interop import hf

    del text, folder, seed
    layers, width, heads, inner = size
    fields = {
        "d_model": width, "num_heads": heads, "num_layers": layers, "d_ff": inner, "dropout": 0.0, "bias": False,
        "norm": "rmsnorm", "activation": "swiglu", "tie_embeddings": False, "max_sequence_length": 8 + tokens,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**hf.to_hf_config(fields, vocab_size))).eval()
    model.load_state_dict(hf.to_hf_state(llama(size, vocab_size, 8 + tokens).state_dict(), "llama"))
    prompt = torch.arange(1, 9)[None]

    def once(count: int) -> list[int]:
        written = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), min_new_tokens=count, max_new_tokens=count, do_sample=False,
            pad_token_id=0,
        )  # fmt: skip
        return [int(token) for token in written[0, 8:]]

    once(10)
    started = Moment()
    written = once(tokens)
    seconds, core = started.until(Moment())
    return {"value": tokens / seconds, "core": core, "tokens": written}


def bare_memory(
    text: str, folder: str, seed: int, size: Size, vocab_size: int, batch_size: int, length: int, steps: int
) -> Leg:
    """Peak megabytes of a bare loop over Hugging Face's GPT-2, fed random tokens; mean training loss."""
    del text, folder
    torch.manual_seed(seed)
    model = _hf_gpt2(size, vocab_size, length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    batches = random_windows(torch.randint(vocab_size, (20 * batch_size * length,)), batch_size, length, seed)
    loop = _loop(_cross_entropy(lambda x: model(x).logits), optimizer, batches, lambda n: 1e-3 * (1 - n / steps), steps)
    losses = [float(loss) for _, loss in loop]
    return {"value": peak_megabytes(), "loss": statistics.mean(losses)}


@torch.inference_mode()
def hf_evaluate(text: str, folder: str, seed: int, size: Size, batch_size: int, length: int) -> Leg:
    """Tokens a second of Hugging Face's forward pass with labels over the same split, with the same weights."""
    import trifecta
    from benchmarks.ours import trained
    from trifecta.interop import hf

    with tempfile.TemporaryDirectory(dir=folder) as out, torch.inference_mode(False):
        run = trifecta.load(trained(text, out, seed, size, batch_size, length))
        model = _hf_gpt2(size, run.tokenizer.vocab_size, length).eval()
        model.load_state_dict(hf.to_hf_state(run.model.state_dict(), "gpt2"), strict=False)
    tokens = torch.from_numpy(run.tokenizer.encode(halves(text)[1]).astype("int64"))
    batches = tokens[: len(tokens) // length * length].view(-1, length).split(batch_size)
    for batch in batches[:3]:
        model(batch, labels=batch)
    started = Moment()
    nats = sum(float(model(batch, labels=batch).loss) * len(batch) for batch in batches)
    seconds, core = started.until(Moment())
    count = sum(map(len, batches))
    return {"value": count * length / seconds, "core": core, "loss": nats / count}


def import_torch(text: str, folder: str, seed: int) -> Leg:
    """Seconds of `python -c "import torch"`."""
    del text, seed
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True, cwd=folder)
    return {"value": time.perf_counter() - started}
