"""The benchmarks: their contenders, measures, and the limit of the machine that applies. No torch."""

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
    """Return the sizes of a network, without the vocabulary's, by names that nanoGPT uses too."""
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
        """Return the figure, or its inverse per second if it is a time: more is better."""
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
    also: tuple[Measure, ...] = ()  # displayed, but not compared

    def select_peers(self, peers: Sequence[str]) -> "Suite":
        """Return the suite with nudge and only the named peers. Raises: ConfigError for an unknown name."""
        names = [contender.name for contender in self.contenders if not contender.ours]
        for peer in peers:
            if not any(_is_peer(peer, name) for name in names):
                raise ConfigError("unknown_peer", peer=peer, benchmark=self.name, closest=did_you_mean(peer, names))
        kept = [c for c in self.contenders if c.ours or not peers or any(_is_peer(peer, c.name) for peer in peers)]
        return replace(self, contenders=tuple(kept))


def _is_peer(peer: str, name: str) -> bool:
    return name == peer or name.startswith(f"{peer} ")


def machine(*, threads: int, device: str | None) -> Contender:
    """Return the measurement of the machine's limits, which takes turns like a contender."""
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
    """Return the suite of full updates of a recipe's network with AdamW, with `context` as its block_size.

    Raises: ConfigError for sizes that do not fit together.
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
    contenders = [*_nudge_updates(config, shared, updates), *peers.values()]
    limit = ("flops_per_s", float(sizes.training_flops_per_token(config.model)))
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
        limit_label="of the peak",
    )


def _nudge_updates(config: Config, shared: Mapping[str, Any], updates: Sequence[str]) -> Iterator[Contender]:
    """Yield nudge as a contender with the update that the probe chooses, or with each of `updates`."""
    for update in updates or ("",):
        chosen = configs.override(config, {"machine": {"update": update}}) if update else config
        yield Contender(
            name=f"nudge {update}".strip(),
            prepare="nudge.bench.training:nudge_update",
            options={**shared, "config": configs.to_dict(chosen)},
            ours=True,
        )


def _training_peers(nanogpt: Path | None, llmc: Path | None, work: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of the peers in training that are not shared, by name."""
    nanogpt_fields = {"prepare": "nudge.bench.training:nanogpt", "absent": "" if nanogpt else NANOGPT_ABSENT}
    hf_fields = {"prepare": "nudge.bench.training:transformers", "needs": ("transformers", "transformers")}
    bf16 = {"folder": str(nanogpt), "dtype": "bfloat16", "fused": True}
    return {
        "nanoGPT float32": {
            **nanogpt_fields,
            "options": {"folder": str(nanogpt), "dtype": "float32", "compiled": False, "fused": False},
        },
        "nanoGPT bfloat16": {**nanogpt_fields, "options": {**bf16, "compiled": False}},
        "nanoGPT bfloat16 compiled": {**nanogpt_fields, "options": {**bf16, "compiled": True}},
        "transformers float32": {**hf_fields, "options": {"dtype": "float32"}},
        "transformers bfloat16": {**hf_fields, "options": {"dtype": "bfloat16"}},
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
        contenders += [
            Contender(
                name=contender,
                prepare=f"nudge.bench.{prepare}",
                options=options,
                ours=prepare == "decoding:nudge_decoder",
                group=dtype,
                needs=needs,
                limit=limit,
            )
            for contender, prepare, needs in _decoding_contenders(dtype, device)
        ]
    return Suite(
        name="decode",
        title=f"decoding {name}, batch {batch}, {tokens} tokens after a prompt of {prompt}",
        measures=(MS_PER_TOKEN if batch == 1 else TOKENS_PER_S, PREFILL_MS),
        contenders=tuple(contenders),
        settings={"model": name, "batch": batch, "prompt": prompt, "tokens": tokens},
        limit_label="of the memory limit",
    )


def _decoding_contenders(dtype: str, device: str) -> Iterator[tuple[str, str, tuple[str, str] | None]]:
    """Yield the contenders in that dtype: name, function that prepares it, package that it needs."""
    yield f"nudge {dtype}", "decoding:nudge_decoder", None
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
        n_cores = f"{n} core" + ("s" if n > 1 else "")
        contenders += [
            Contender(
                name=f"nudge {n_cores}", prepare="nudge.bench.tokenizing:nudge_encoder", options=options, ours=True
            ),
            Contender(name=f"tiktoken {n_cores}", prepare="nudge.bench.tokenizing:tiktoken", options=options),
            Contender(name=f"tokenizers {n_cores}", prepare="nudge.bench.tokenizing:tokenizers", options=options),
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
    """Return the suite of training until the loss on all of the validation text is at most `target`."""
    shared = {"text": str(text), "target": target, "every": every, "threads": threads}
    nudge_options = {**shared, "config": configs.to_dict(config), "work": str(work)}
    contenders = [
        Contender(
            name=f"nudge {config.recipe}",
            prepare="nudge.bench.time_to_loss:nudge_run",
            options=nudge_options,
            ours=True,
        )
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
