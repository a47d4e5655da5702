"""Who competes in what: the contenders of each benchmark, what is measured, and what limits it. Imports no torch."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nudge import config as configs
from nudge.bench.runner import Contender
from nudge.config import Config, ModelConfig, TrainConfig
from nudge.errors import ConfigError, nearest
from nudge.model import sizes

DTYPES = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes of a weight
UPDATE_TOKENS = 4096  # of an update, unless told otherwise
NANOGPT_ABSENT = "not given: --nanogpt DIR, a checkout of nanoGPT"
LLMC_ABSENT = "not given: --llmc DIR, a checkout of llm.c"

# README.md of nanoGPT, "I only have a macbook": 4 layers, 4 heads, 128 channels, context 64, batch 12, no dropout.
NANOGPT_MODEL = ModelConfig(n_layer=4, n_head=4, n_embd=128, block_size=64)
NANOGPT_TRAIN = TrainConfig(
    batch_tokens=12 * 64, lr=1e-3, steps=2000, warmup_steps=100, weight_decay=0.1, beta1=0.9, beta2=0.99
)


def shape(model: ModelConfig, *more: str) -> dict[str, int]:
    """The sizes of a network by the names that nanoGPT and we share, without the vocabulary's."""
    return {name: getattr(model, name) for name in ("n_layer", "n_head", "n_embd", "block_size", *more)}


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure that every round brings."""

    key: str
    label: str
    digits: int = 1

    @property
    def more_is_better(self) -> bool:
        return self.key.endswith("_per_s")

    def speed(self, value: float) -> float:
        """The figure as something of which more is better; per second, where it is a time."""
        return value if self.more_is_better else (1000 if self.key.startswith(("ms_", "prefill_ms")) else 1) / value


TOKENS_PER_S = Measure("tokens_per_s", "tokens/s", 0)
MS_PER_TOKEN = Measure("ms_per_token", "ms per token", 2)
PREFILL_MS = Measure("prefill_ms", "prefill ms", 1)
MB_PER_S = Measure("mb_per_s", "MB/s", 2)
SECONDS = Measure("seconds", "seconds of updates", 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One benchmark: its contenders, and what is measured (the first measure is the one that the limit belongs to)."""

    name: str
    title: str
    measures: tuple[Measure, ...]
    contenders: tuple[Contender, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    limit_label: str = ""
    also: tuple[Measure, ...] = ()  # shown beside, not compared

    def only(self, peers: Sequence[str]) -> "Suite":
        """Ours and the named peers alone. Raises: ConfigError for a name that is none of theirs."""
        names = [contender.name for contender in self.contenders if not contender.ours]
        for peer in peers:
            if not any(_matches(peer, name) for name in names):
                raise ConfigError(f"no peer '{peer}' in nudge bench {self.name}", nearest(peer, names))
        kept = [c for c in self.contenders if c.ours or not peers or any(_matches(peer, c.name) for peer in peers)]
        return replace(self, contenders=tuple(kept))


def _matches(asked: str, name: str) -> bool:
    return name == asked or name.startswith(f"{asked} ")


def machine(*, threads: int, device: str | None) -> Contender:
    """Not a contender but what all are held against; it takes its turn like them."""
    return Contender(
        name="this machine", prepare="nudge.bench.limits:machine", options={"threads": threads, "device": device}
    )


def training(
    config: Config,
    *,
    batch: int | None,
    context: int | None,
    threads: int,
    turn_s: float,
    updates: Sequence[str],
    nanogpt: Path | None,
    llmc: Path | None,
    work: Path,
    cuda: bool,
) -> Suite:
    """Full updates of a recipe's network by AdamW. `context` is the network's block_size, too.

    Raises: ConfigError for sizes that do not go together.
    """
    T = context or config.model.block_size
    B = batch or max(1, min(config.train.batch_tokens, UPDATE_TOKENS) // T)
    config = configs.override(
        config,
        {
            "model": {"block_size": T},
            "train": {"batch_tokens": B * T, "optimizer": "adamw"},
            "machine": {"threads": threads},
        },
    )
    configs.check(config)
    shared = {"batch": B, "threads": threads, "turn_s": turn_s}
    peers = {
        name: Contender(name=name, options={**shared, "config": configs.to_dict(config), **peer.pop("options")}, **peer)
        for name, peer in _training_peers(nanogpt, llmc, work).items()
    }
    if cuda:
        del peers["llm.c"]
    contenders = [*_own_updates(config, shared, updates), *peers.values()]
    limit = ("bfloat16_flops_per_s", float(sizes.training_flops_per_token(config.model)))
    return Suite(
        name="train",
        title=f"training {config.recipe}, batch {B}, context {T}",
        measures=(TOKENS_PER_S,),
        contenders=tuple(replace(contender, limit=limit) for contender in contenders),
        settings={
            "recipe": config.recipe,
            "batch": B,
            "context": T,
            "turn_s": turn_s,
            "model": dataclasses.asdict(config.model),
        },
        limit_label="of the bf16 peak",
    )


def _own_updates(config: Config, shared: Mapping[str, Any], updates: Sequence[str]) -> Iterator[Contender]:
    """Ours on the path that the probe chooses, or on each of those that were asked for."""
    for update in updates or ("",):
        asked = configs.override(config, {"machine": {"update": update}}) if update else config
        yield Contender(
            name=f"nudge {update}".strip(),
            prepare="nudge.bench.training:own",
            options={**shared, "config": configs.to_dict(asked)},
            ours=True,
        )


def _training_peers(nanogpt: Path | None, llmc: Path | None, work: Path) -> dict[str, dict[str, Any]]:
    """Who else trains, by name: what differs between them."""
    in_nanogpt = {"prepare": "nudge.bench.training:nanogpt", "absent": "" if nanogpt else NANOGPT_ABSENT}
    in_hf = {"prepare": "nudge.bench.training:transformers", "needs": ("transformers", "transformers")}
    low = {"folder": str(nanogpt), "dtype": "bfloat16", "fused": True}
    return {
        "nanoGPT float32": {
            **in_nanogpt,
            "options": {"folder": str(nanogpt), "dtype": "float32", "compiled": False, "fused": False},
        },
        "nanoGPT bfloat16": {**in_nanogpt, "options": {**low, "compiled": False}},
        "nanoGPT bfloat16 compiled": {**in_nanogpt, "options": {**low, "compiled": True}},
        "transformers float32": {**in_hf, "options": {"dtype": "float32"}},
        "transformers bfloat16": {**in_hf, "options": {"dtype": "bfloat16"}},
        "llm.c": {
            "prepare": "nudge.bench.llmc:llmc",
            "absent": "" if llmc else LLMC_ABSENT,
            "options": {"folder": str(llmc), "work": str(work)},
        },
    }


def decoding(
    model: ModelConfig,
    *,
    name: str,
    batch: int,
    prompt: int,
    tokens: int,
    dtypes: Sequence[str],
    threads: int,
    device: str,
    work: Path,
) -> Suite:
    """Writing the likeliest tokens after a prompt, with the weights in `work`. Raises: ConfigError."""
    if prompt + tokens > model.block_size:
        raise ConfigError(
            f"{prompt} + {tokens} tokens do not fit the context of {model.block_size:,}",
            f"take fewer: --prompt {max(1, model.block_size // 2)} --tokens {max(1, model.block_size // 4)}",
        )
    ids = [[(7 * b + 31 * t + 1) % model.vocab_size for t in range(prompt)] for b in range(batch)]
    contenders = []
    for dtype in dtypes:
        options = {
            "model": shape(model, "vocab_size"),
            "work": str(work),
            "dtype": dtype,
            "threads": threads,
            "device": device,
            "ids": ids,
            "tokens": tokens,
        }
        limit = ("read_bytes_per_s", sizes.matmul_parameters(model) * DTYPES[dtype] / batch)
        rivals = _decoding_rivals(dtype, device)
        contenders += [
            Contender(
                name=rival,
                prepare=f"nudge.bench.{prepare}",
                options=options,
                ours=prepare.endswith(":own"),
                group=dtype,
                needs=needs,
                limit=limit,
            )
            for rival, prepare, needs in rivals
        ]
    return Suite(
        name="decode",
        title=f"decoding {name}, batch {batch}, {tokens} tokens after a prompt of {prompt}",
        measures=(MS_PER_TOKEN if batch == 1 else TOKENS_PER_S, PREFILL_MS),
        contenders=tuple(contenders),
        settings={"model": name, "batch": batch, "prompt": prompt, "tokens": tokens},
        limit_label="of the memory limit",
    )


def _decoding_rivals(dtype: str, device: str) -> Iterator[tuple[str, str, tuple[str, str] | None]]:
    """Who writes in that precision: the name, the function that prepares it, and the package it needs."""
    yield f"nudge {dtype}", "decoding:own", None
    if dtype != "int8":
        yield f"transformers {dtype}", "decoding:transformers", ("transformers", "transformers")
    if dtype != "bfloat16" or device != "cpu":
        yield f"ctranslate2 {dtype}", "ct2:ctranslate2", ("ctranslate2", "ctranslate2")
    if device == "cpu":
        kind = "Q8_0" if dtype == "int8" else dtype
        yield f"llama.cpp {kind}", "llamacpp:llamacpp", ("llama_cpp", "llama-cpp-python gguf")


def tokenizing(paths: Sequence[str], *, field_name: str, cores: Sequence[int], n_bytes: int) -> Suite:
    """Text to GPT-2's ids, on so many cores each."""
    contenders = []
    for n in cores:
        options = {"paths": list(paths), "field": field_name, "threads": n}
        on = f"{n} core" + ("s" if n > 1 else "")
        contenders += [
            Contender(name=f"nudge {on}", prepare="nudge.bench.tokenizing:own", options=options, ours=True),
            Contender(name=f"tiktoken {on}", prepare="nudge.bench.tokenizing:tiktoken", options=options),
            Contender(name=f"tokenizers {on}", prepare="nudge.bench.tokenizing:tokenizers", options=options),
        ]
    return Suite(
        name="tokenize",
        title=f"encoding {n_bytes / 1e6:,.1f} MB of text with GPT-2's vocabulary",
        measures=(MB_PER_S,),
        contenders=tuple(contenders),
        settings={"paths": list(paths), "n_bytes": n_bytes},
    )


def time_to_loss(
    config: Config,
    text: Path,
    *,
    target: float,
    every: int,
    threads: int,
    nanogpt: Path | None,
    tuned_lr: float,
    tuned_steps: int,
    work: Path,
) -> Suite:
    """Updates until the loss on all of the validation text is at most `target`."""
    shared = {"text": str(text), "target": target, "every": every, "threads": threads}
    own = {**shared, "config": configs.to_dict(config), "work": str(work)}
    contenders = [
        Contender(name=f"nudge {config.recipe}", prepare="nudge.bench.time_to_loss:own", options=own, ours=True)
    ]
    shipped = NANOGPT_TRAIN
    for name, lr, steps in (("as shipped", shipped.lr, shipped.steps), ("tuned", tuned_lr, tuned_steps)):
        contenders.append(
            Contender(
                name=f"nanoGPT {name}",
                prepare="nudge.bench.time_to_loss:nanogpt",
                options={**shared, "folder": str(nanogpt), "lr": lr, "steps": steps},
                absent="" if nanogpt else NANOGPT_ABSENT,
            )
        )
    return Suite(
        name="time-to-loss",
        title=f"time to a loss of {target:g} nats per character on {text.name}",
        measures=(SECONDS,),
        also=(Measure("updates", "updates", 0), Measure("loss", "last loss", 3)),
        contenders=tuple(contenders),
        settings={
            **shared,
            "nanogpt": {"lr": [shipped.lr, tuned_lr], "steps": [shipped.steps, tuned_steps]},
            "recipe": config.recipe,
            "steps": config.train.steps,
            "model": shape(config.model),
        },
    )
