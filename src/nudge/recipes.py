"""Named configs, as functions: `recipe("tiny")`. The sizes are GPT-2's own (Source: Radford et al. 2019, table 2,
and OpenAI's released checkpoints); the schedules say where they come from.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nudge.config import (
    SORTING,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    SampleConfig,
    SaveConfig,
    TrainConfig,
    override,
)
from nudge.errors import ConfigError, nearest


def llm_viz() -> Config:
    """85,584 parameters: the smallest real network to look into. It sorts six letters of A, B and C.

    Sizes and task are those of the llm-viz page (Source: https://bbycroft.net/llm).
    """
    return Config(
        recipe="llm_viz",
        model=ModelConfig(n_layer=3, n_head=3, n_embd=48, block_size=11, vocab_size=3),
        data=DataConfig(paths=(SORTING,), tokenizer="chars"),
        train=TrainConfig(steps=200, batch_tokens=64 * 11, optimizer="adamw", lr=1e-3, warmup_steps=20),
        eval=EvalConfig(every=20),
    )


def tiny() -> Config:
    """4.2M parameters: the default. Learns the look of Python from its standard library in minutes on two CPU cores.

    In so short a run many small updates on short contexts learn most: 64 tokens reached in one minute of characters a
    loss (1.83) that 128 tokens did not come near (1.97), and Muon needs a fraction of AdamW's updates.
    """
    return Config(
        recipe="tiny",
        model=ModelConfig(n_layer=4, n_head=4, n_embd=256, block_size=64, vocab_size=4096),
        data=DataConfig(tokenizer="bpe-4096"),
        train=TrainConfig(steps=1600, batch_tokens=1024, optimizer="muon", lr=1e-2, warmup_steps=20),
    )


def modern() -> Config:
    """5.3M parameters: `tiny` with rotary positions and a head of its own: two thirds of the updates to the same loss.

    What each is worth, and what else was tried: docs/decisions/0004-modern.md. It is no GPT-2: it cannot be exported.
    """
    base = tiny()
    model = replace(base.model, rotary=True, untied=True, zero_init=True)
    return replace(base, recipe="modern", model=model, train=replace(base.train, schedule="wsd"))


def mini_24k() -> Config:
    """20M parameters, 24,000 tokens: the model of the learning material, made for Korean text."""
    return Config(
        recipe="mini_24k",
        model=ModelConfig(n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=24_000),
        data=DataConfig(tokenizer="bpe-24000"),
        train=TrainConfig(steps=2000, batch_tokens=4096, optimizer="muon", lr=5e-3, warmup_steps=50),
        save=SaveConfig(every=200),
    )


def _gpt2(name: str, n_layer: int, n_head: int, n_embd: int, train: TrainConfig) -> Config:
    return Config(
        recipe=name,
        model=ModelConfig(n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=1024, vocab_size=50_257),
        data=DataConfig(tokenizer="gpt2"),
        train=train,
        sample=SampleConfig(every=20, max_tokens=64),
        eval=EvalConfig(every=250, tokens=20 * 8 * 64 * 1024),  # as llm.c measures it
        save=SaveConfig(every=500, keep_every=5000),
    )


def _llmc_schedule(steps: int, batch_tokens: int, lr: float) -> TrainConfig:
    """As llm.c's reproductions: 700 warm-up steps, then cosine to zero (Source: its scripts/run_gpt2_*.sh)."""
    return TrainConfig(
        steps=steps,
        batch_tokens=batch_tokens,
        optimizer="adamw",
        lr=lr,
        warmup_steps=700,
        final_lr_ratio=0.0,
        weight_decay=0.1,
    )


def gpt2_small() -> Config:
    """124,439,808 parameters. Trained as llm.c's reproduction: 10B tokens."""
    return _gpt2("gpt2_small", 12, 12, 768, _llmc_schedule(19_560, 524_288, 6e-4))


def gpt2_medium() -> Config:
    """354,823,168 parameters. Trained as llm.c's reproduction: 31.5B tokens."""
    return _gpt2("gpt2_medium", 24, 16, 1024, _llmc_schedule(60_000, 524_288, 3e-4))


def gpt2_large() -> Config:
    """774,030,080 parameters. Trained as llm.c's reproduction: 150B tokens."""
    return _gpt2("gpt2_large", 36, 20, 1280, _llmc_schedule(286_102, 524_288, 2.5e-4))


def gpt2_xl() -> Config:
    """1,557,611,200 parameters. Trained as in the lecture: 32,000 updates of 1,048,576 tokens, 33.55B in all."""
    return _gpt2("gpt2_xl", 48, 25, 1600, _llmc_schedule(32_000, 1_048_576, 6e-4))


def gpt3() -> Config:
    """About 175e9 parameters: to count and to plan with (Source: Brown et al. 2020, table 2.1)."""
    return Config(
        recipe="gpt3",
        model=ModelConfig(n_layer=96, n_head=96, n_embd=12_288, block_size=2048, vocab_size=50_257),
        data=DataConfig(tokenizer="gpt2"),
        train=TrainConfig(steps=93_750, batch_tokens=1600 * 2048, optimizer="adamw", lr=6e-5, warmup_steps=117),
    )


RECIPES: dict[str, Callable[[], Config]] = {
    recipe.__name__: recipe
    for recipe in (llm_viz, tiny, modern, mini_24k, gpt2_small, gpt2_medium, gpt2_large, gpt2_xl, gpt3)
}


def recipe(name: str, **settings: Any) -> Config:
    """Return a recipe by name, with some settings changed: `recipe("tiny", train={"steps": 40}, seed=1)`.

    Raises: ConfigError for an unknown recipe or setting, naming the closest.
    """
    if name not in RECIPES:
        raise ConfigError("unknown_recipe", name=name, closest=nearest(name, RECIPES))
    return override(RECIPES[name](), settings)
