"""What each switch of the model and the optimizer is worth: many short runs, one table.

    python bench/ablation.py TEXT [--tokenizer chars] [--field document] [--out results.jsonl] [--seeds 3] SETUP ...
    python bench/ablation.py --table results.jsonl

A setup is a name and its settings, `name:key=value,key=value`, on top of the common ones (4 layers, 4 heads, 128
channels, 64 tokens of context). Runs that the results hold already are not made again. The loss is that of the whole
validation text, in nats per token, after the last update.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nudge import config as configs
from nudge.config import Config
from nudge.data.batches import val_windows
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset
from nudge.model import sizes
from nudge.model.gpt import GPT, init_weights
from nudge.train import muon
from nudge.train.evaluation import compute_in, score
from nudge.train.loop import make_batches
from nudge.train.optimizer import Optimizer
from nudge.train.schedule import learning_rate

COMMON: dict[str, Any] = {
    "model": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64},
    "train": {"steps": 300, "batch_tokens": 12 * 64, "optimizer": "muon", "warmup_steps": 20},
}
FULL = ("rotary", "qk_norm", "relu2", "rms_norm", "untied", "zero_init")
# Only here: what was measured and left out of the package, or has one value there.
TRIALS = ("no_bias", "ns", "embed_norm", "wte_std", "ln_f", "adam_lr", "hidden_std")


def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """PyTorch's own, written out: on CPUs its kernel takes several times as long for short contexts in bfloat16."""
    future = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).triu(1)
    return (q @ k.mT * q.size(-1) ** -0.5).masked_fill(future, -torch.inf).softmax(-1) @ v


torch.nn.functional.scaled_dot_product_attention = attention


def make_config(settings: dict[str, str], dataset: Dataset, seed: int) -> Config:
    config = configs.override(Config(), COMMON)
    for key, value in settings.items():
        if key == "full":  # may be taken back: full,rotary=false
            config = configs.override(config, {"model": dict.fromkeys(FULL, True)})
        elif key not in TRIALS:
            section = "model" if hasattr(config.model, key) else "train"
            config = configs.override(config, {section: {key: value}})
    return configs.override(config, {"seed": seed, "model": {"vocab_size": dataset.tokenizer.vocab_size}})


def run(settings: dict[str, str], dataset: Dataset, seed: int, dtype: str) -> dict[str, Any]:
    config = make_config(settings, dataset, seed)
    configs.check(config)
    network = GPT(config.model)
    init_weights(network, seed)
    for name, parameter in network.named_parameters():
        if "no_bias" in settings and name.endswith("bias"):
            parameter.requires_grad_(False)
    if "embed_norm" in settings:
        network.wte.register_forward_hook(lambda module, args, x: torch.nn.functional.rms_norm(x, x.shape[-1:]))
    with torch.no_grad():
        network.wte.weight.mul_(float(settings.get("wte_std", 1.0)))
        for name, parameter in network.named_parameters():
            if "hidden_std" in settings and name.endswith(("c_attn.weight", "c_fc.weight")):
                parameter.mul_(float(settings["hidden_std"]) / 0.02)
        network.ln_f.weight.mul_(float(settings.get("ln_f", 1.0)))
    optimizer = Optimizer(network, config.train, dtype)
    optimizer.muon.steps = getattr(muon, settings.get("ns", "STEPS"))
    adam_lr = float(settings.get("adam_lr", config.train.lr)) / config.train.lr
    step = optimizer.adamw.step

    def adamw_step():
        for group in optimizer.adamw.param_groups:
            group["lr"] *= adam_lr
        step()

    optimizer.adamw.step = adamw_step
    batches, yes = make_batches(config, dataset), torch.tensor(True)
    step_s = []
    for done in range(config.train.steps):
        begun = time.process_time()
        x, y = (torch.from_numpy(array) for array in batches(done))
        with compute_in(torch.device("cpu"), dtype):
            loss = network.loss(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.train.grad_clip)
        optimizer.step(learning_rate(config.train, done), yes)
        optimizer.zero_grad()
        step_s.append(time.process_time() - begun)
    windows = val_windows(dataset.val, config.model.block_size, vocab_size=config.model.vocab_size)
    result = score(network, windows, n_bytes=dataset.tokenizer.n_bytes, dtype=dtype)
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
            told = {"text": Path(options.text).stem, "settings": settings, "seed": seed, "dtype": options.dtype}
            if any(all(result[key] == value for key, value in told.items()) for result in load(options.out)):
                continue
            result = told | run(settings, dataset, seed, options.dtype)
            with options.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(
                setup, seed, f"{result['loss']:.4f} {result['step_ms']:.1f} ms, {result['train_s']:.1f} s", flush=True
            )


if __name__ == "__main__":
    main()
