"""The benchmarks: their contenders, what is measured, and which limit of the machine applies. Imports no torch."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nudge import config as configs
from nudge.bench.runner import Contender
from nudge.config import Config, ModelConfig, TrainConfig
from nudge.errors import ConfigError, did_you_mean
from nudge.model import sizes

DTYPES = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes per weight
UPDATE_TOKENS = 4096  # per update, unless --batch is given
NANOGPT_ABSENT = "not given: --nanogpt DIR, a checkout of nanoGPT"
LLMC_ABSENT = "not given: --llmc DIR, a checkout of llm.c"

# README.md of nanoGPT, "I only have a macbook": 4 layers, 4 heads, 128 channels, context 64, batch 12, no dropout.
NANOGPT_MODEL = ModelConfig(n_layer=4, n_head=4, n_embd=128, block_size=64)
NANOGPT_TRAIN = TrainConfig(
    batch_tokens=12 * 64, lr=1e-3, steps=2000, warmup_steps=100, weight_decay=0.1, beta1=0.9, beta2=0.99
)


def shape(model: ModelConfig, *more: str) -> dict[str, int]:
    """Return the sizes of a network, but the vocabulary's, by the names that nanoGPT and we share."""
    return {name: getattr(model, name) for name in ("n_layer", "n_head", "n_embd", "block_size", *more)}


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of each round."""

    key: str
    label: str
    digits: int = 1

    @property
    def more_is_better(self) -> bool:
        return self.key.endswith("_per_s")

    def speed(self, value: float) -> float:
        """Return the figure, or its inverse per second if it is a time, so that more is better."""
        return value if self.more_is_better else (1000 if self.key.startswith(("ms_", "prefill_ms")) else 1) / value


TOKENS_PER_S = Measure("tokens_per_s", "tokens/s", 0)
MS_PER_TOKEN = Measure("ms_per_token", "ms per token", 2)
PREFILL_MS = Measure("prefill_ms", "prefill ms", 1)
MB_PER_S = Measure("mb_per_s", "MB/s", 2)
SECONDS = Measure("seconds", "seconds of updates", 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One benchmark: its contenders and measures. The limit belongs to the first measure."""

    name: str
    title: str
    measures: tuple[Measure, ...]
    contenders: tuple[Contender, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    limit_label: str = ""
    also: tuple[Measure, ...] = ()  # shown, not compared

    def only(self, peers: Sequence[str]) -> "Suite":
        """Return the suite with only ours and the named peers. Raises: ConfigError for an unknown name."""
        names = [contender.name for contender in self.contenders if not contender.ours]
        for peer in peers:
            if not any(_matches(peer, name) for name in names):
                raise ConfigError("unknown_peer", peer=peer, benchmark=self.name, closest=did_you_mean(peer, names))
        kept = [c for c in self.contenders if c.ours or not peers or any(_matches(peer, c.name) for peer in peers)]
        return replace(self, contenders=tuple(kept))


def _matches(peer: str, name: str) -> bool:
    return name == peer or name.startswith(f"{peer} ")


def machine(*, threads: int, device: str | None) -> Contender:
    """Return the measurement of the machine's limits, which takes its turn like a contender."""
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
    """Return the suite of full updates of a recipe's network by AdamW, with `context` as its block_size.

    Raises: ConfigError for sizes that do not fit each other.
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
    """Yield ours with the update that the probe chooses, or with each of `updates`."""
    for update in updates or ("",):
        chosen = configs.override(config, {"machine": {"update": update}}) if update else config
        yield Contender(
            name=f"nudge {update}".strip(),
            prepare="nudge.bench.training:own",
            options={**shared, "config": configs.to_dict(chosen)},
            ours=True,
        )


def _training_peers(nanogpt: Path | None, llmc: Path | None, work: Path) -> dict[str, dict[str, Any]]:
    """Return the peers in training by name: the settings in which they differ."""
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
    """Return the suite of writing the likeliest tokens after a prompt, with the weights in `work`.

    Raises: ConfigError if they do not fit the context.
    """
    if prompt + tokens > model.block_size:
        half, quarter = max(1, model.block_size // 2), max(1, model.block_size // 4)
        raise ConfigError(
            "bench_context", prompt=prompt, tokens=tokens, context=model.block_size, half=half, quarter=quarter
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
    """Yield the contenders in that dtype: the name, the function that prepares it, and the package it needs."""
    yield f"nudge {dtype}", "decoding:own", None
    if dtype != "int8":
        yield f"transformers {dtype}", "decoding:transformers", ("transformers", "transformers")
    if dtype != "bfloat16" or device != "cpu":
        yield f"ctranslate2 {dtype}", "ctranslate2:ctranslate2", ("ctranslate2", "ctranslate2")
    if device == "cpu":
        kind = "Q8_0" if dtype == "int8" else dtype
        yield f"llama.cpp {kind}", "llamacpp:llamacpp", ("llama_cpp", "llama-cpp-python gguf")


def tokenizing(paths: Sequence[str], *, field_name: str, cores: Sequence[int], n_bytes: int) -> Suite:
    """Return the suite of encoding text to GPT-2's ids, on each number of cores."""
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
    """Return the suite of updates until the loss on all of the validation text is at most `target`."""
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
