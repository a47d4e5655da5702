"""The effect of each switch of the model and the optimizer: many short runs, one table.

    python bench/ablation.py TEXT [--tokenizer chars] [--field document] [--out results.jsonl] [--seeds 3] SETUP ...
    python bench/ablation.py --table results.jsonl

A setup is `base` (GPT-2) or `full` (the switches of `modern`) with settings, such as `full,lr=0.02,untied=false`, on
top of the common ones: 4 layers, 4 heads, 128 channels, 64 tokens. Runs that are among the results are not repeated.
The loss is that of the whole validation text, in nats per token, after the last update.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge import config as configs
from nudge.config import Config
from nudge.data.batches import val_windows
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset
from nudge.eval.loss import score
from nudge.model import sizes
from nudge.model.gpt import GPT, init_weights
from nudge.optim import muon
from nudge.optim.schedule import learning_rate
from nudge.train.loop import make_batches
from nudge.train.update import AutogradUpdate

COMMON: dict[str, Any] = {
    "model": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64},
    "train": {"steps": 300, "batch_tokens": 12 * 64, "optimizer": "muon", "warmup_steps": 20},
}
FULL = ("rotary", "untied", "zero_init")
# Switches that were measured and left out of the package.
TRIALS = ("qk_norm", "relu2", "rms_norm", "no_bias", "no_gain", "hidden_std", "ns")
POLAR_4 = (
    (8.3837, -24.7659, 18.3571),
    (3.9690, -2.8424, 0.5167),
    (3.4626, -2.4982, 0.4802),
    (2.4910, -1.7800, 0.4060),
)


def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Compute attention step by step: on CPUs PyTorch's kernel is several times slower for short bfloat16 contexts."""
    if "qk_norm" in now:  # rotary embeddings keep a vector's length, so this may come after them
        q, k = (F.rms_norm(x.float(), x.shape[-1:], eps=1e-5).to(v.dtype) for x in (q, k))
    future = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).triu(1)
    return (q @ k.mT * q.size(-1) ** -0.5).masked_fill(future, -torch.inf).softmax(-1) @ v


def activation(x: Tensor, approximate: str, gelu: Callable[..., Tensor] = F.gelu) -> Tensor:
    return F.relu(x).square() if "relu2" in now else gelu(x, approximate=approximate)


now: dict[str, str] = {}  # the settings of the current run
F.scaled_dot_product_attention, F.gelu = attention, activation


def make_config(settings: dict[str, str], dataset: Dataset, seed: int) -> Config:
    config = configs.override(Config(), COMMON)
    for key, value in settings.items():
        if key == "full":  # single ones can be undone: full,rotary=false
            config = configs.override(config, {"model": dict.fromkeys(FULL, True)})
        elif key not in TRIALS:
            section = "model" if hasattr(config.model, key) else "train"
            config = configs.override(config, {section: {key: value}})
    return configs.override(config, {"seed": seed, "model": {"vocab_size": dataset.tokenizer.vocab_size}})


def trial(config: Config, settings: dict[str, str]) -> GPT:
    """Return a new network with the trial switches."""
    network = GPT(config.model)
    for module in [network, *network.blocks] if "rms_norm" in settings else []:
        for name in [name for name, _ in module.named_children() if name.startswith("ln_")]:
            setattr(module, name, torch.nn.RMSNorm(config.model.n_embd, eps=1e-5))
    init_weights(network, config.seed)
    for name, parameter in network.named_parameters():
        if ("no_bias" in settings and name.endswith("bias")) or ("no_gain" in settings and "ln_" in name):
            parameter.requires_grad_(False)
        if name.endswith(("c_attn.weight", "c_fc.weight")):
            parameter.data.mul_(float(settings.get("hidden_std", 0.02)) / 0.02)
    return network


def run(settings: dict[str, str], dataset: Dataset, seed: int, dtype: str) -> dict[str, Any]:
    config = make_config(settings, dataset, seed)
    configs.check(config)
    now.clear()
    now.update(settings)
    network = trial(config, settings)
    machine = dataclasses.replace(config.machine, dtype=dtype, update="eager")  # type: ignore[arg-type]
    update = AutogradUpdate(network, dataclasses.replace(config, machine=machine))
    update.optimizer.muon.steps = {"5": muon.JORDAN, "4": POLAR_4, "3": muon.STEPS}[settings.get("ns", "3")]
    batches = make_batches(config, dataset)
    step_s = []
    for done in range(config.train.steps):
        begun = time.process_time()
        x, y = (torch.from_numpy(array) for array in batches(done))
        loss = update.forward_backward(x, y, 1.0)
        update.step(learning_rate(config.train, done), loss)
        step_s.append(time.process_time() - begun)
    windows = val_windows(dataset.val, config.model.block_size, vocab_size=config.model.vocab_size)
    result = score(update.loss, windows, n_bytes=dataset.tokenizer.n_bytes, device=update.device)
    flops = sizes.training_flops_per_token(config.model) * config.train.batch_tokens
    return {
        "loss": result.loss,
        "train_loss": loss.item(),
        "bits_per_byte": result.bits_per_byte,
        "step_ms": 1000 * statistics.median(step_s),
        "train_s": sum(step_s),
        "steps": config.train.steps,
        "gflop_per_update": flops / 1e9,
    }


def load(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(results: list[dict[str, Any]]) -> str:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in results:
        settings = ", ".join(f"{k}={v}" if v != "true" else k for k, v in result["settings"].items())
        groups.setdefault((result["text"], settings, result["dtype"]), []).append(result)
    lines = ["| text | settings | dtype | loss | seeds | CPU ms per update | CPU s |", "| --- " * 7 + "|"]
    for (text, settings, dtype), group in sorted(
        groups.items(), key=lambda item: (item[0][0], statistics.mean(r["loss"] for r in item[1]))
    ):
        losses = [r["loss"] for r in group]
        spread = statistics.stdev(losses) if len(losses) > 1 else 0.0
        lines.append(
            f"| {text} | {settings} | {dtype} | {statistics.mean(losses):.4f} ± {spread:.4f} | {len(losses)} | "
            f"{statistics.median(r['step_ms'] for r in group):.1f} | "
            f"{statistics.median(r['train_s'] for r in group):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?")
    parser.add_argument("setups", nargs="*", metavar="key=value,key=value", help="'base' for none")
    parser.add_argument("--tokenizer", default="chars")
    parser.add_argument("--field", default="text")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/ablation.jsonl"))
    parser.add_argument("--table", type=Path)
    options = parser.parse_intermixed_args()
    if options.table:
        print(table(load(options.table)))
        return
    data = configs.DataConfig(paths=(options.text,), tokenizer=options.tokenizer, field=options.field)
    preparing = prepare(data)
    while True:
        try:
            next(preparing)
        except StopIteration as done:
            dataset: Dataset = done.value
            break
    options.out.parent.mkdir(exist_ok=True)
    for seed in range(options.seeds):
        for setup in options.setups:
            pairs = [part.partition("=") for part in setup.split(",") if part != "base"]
            settings = {key: value or "true" for key, _, value in pairs}
            label = {"text": Path(options.text).stem, "settings": settings, "seed": seed, "dtype": options.dtype}
            if any(all(result[key] == value for key, value in label.items()) for result in load(options.out)):
                continue
            result = label | run(settings, dataset, seed, options.dtype)
            with options.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(
                setup, seed, f"{result['loss']:.4f} {result['step_ms']:.1f} ms, {result['train_s']:.1f} s", flush=True
            )


if __name__ == "__main__":
    main()
