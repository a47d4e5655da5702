"""Named configs: `recipe("tiny")`.

The sizes of the gpt2 recipes are from Radford et al. 2019, table 2, and OpenAI's released checkpoints. The docstrings
name the sources of the schedules.
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
from nudge.errors import ConfigError, did_you_mean


def llm_viz() -> Config:
    """Return a network that is small enough to show every number, 85,584 parameters. It sorts six letters A, B or C.

    Source: the llm-viz page, https://bbycroft.net/llm, for the sizes and the task.
    """
    return Config(
        recipe="llm_viz",
        model=ModelConfig(n_layer=3, n_head=3, n_embd=48, block_size=11, vocab_size=3),
        data=DataConfig(paths=(SORTING,), tokenizer="chars"),
        train=TrainConfig(steps=200, batch_tokens=64 * 11, optimizer="adamw", lr=1e-3, warmup_steps=20),
        eval=EvalConfig(every=20),
    )


def tiny() -> Config:
    """Return the default, 4.2M parameters. It learns the look of Python code in minutes on two CPU cores.

    In such a short run, many small updates on short contexts reach the lowest loss: in one minute on characters, 1.83
    with contexts of 64 tokens and 1.97 with 128. Muon needs a fraction of AdamW's updates.
    """
    return Config(
        recipe="tiny",
        model=ModelConfig(n_layer=4, n_head=4, n_embd=256, block_size=64, vocab_size=4096),
        data=DataConfig(tokenizer="bpe-4096"),
        train=TrainConfig(steps=1600, batch_tokens=1024, optimizer="muon", lr=1e-2, warmup_steps=20),
    )


def modern() -> Config:
    """Return `tiny` with rotary positions and an untied head, 5.3M parameters: the same loss in 2/3 of the updates.

    docs/decisions/0004-modern.md measures these changes and others. It is not a GPT-2, so it cannot be exported.
    """
    base = tiny()
    model = replace(base.model, rotary=True, untied=True, zero_init=True)
    return replace(base, recipe="modern", model=model, train=replace(base.train, schedule="wsd"))


def mini_24k() -> Config:
    """Return the model of the learning material, for Korean text: 20M parameters, a vocabulary of 24,000 tokens."""
    return Config(
        recipe="mini_24k",
        model=ModelConfig(n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=24_000),
        data=DataConfig(tokenizer="bpe-24000"),
        train=TrainConfig(steps=2000, batch_tokens=4096, optimizer="muon", lr=5e-3, warmup_steps=50),
        save=SaveConfig(every=200),
    )


def _gpt2(name: str, n_layer: int, n_head: int, n_embd: int, train: TrainConfig) -> Config:
    """Return a GPT-2 of a given size, with evaluations as in llm.c."""
    return Config(
        recipe=name,
        model=ModelConfig(n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=1024, vocab_size=50_257),
        data=DataConfig(tokenizer="gpt2"),
        train=train,
        sample=SampleConfig(every=20, max_tokens=64),
        eval=EvalConfig(every=250, tokens=20 * 8 * 64 * 1024),  # as in llm.c
        save=SaveConfig(every=500, keep_every=5000),
    )


def _llmc_schedule(steps: int, batch_tokens: int, lr: float) -> TrainConfig:
    """Return the schedule of llm.c's reproductions: 700 warm-up steps, then a cosine to zero.

    Source: llm.c's scripts/run_gpt2_*.sh.
    """
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
    """Return GPT-2 small, 124,439,808 parameters, trained as in llm.c's reproduction: 10B tokens."""
    return _gpt2("gpt2_small", 12, 12, 768, _llmc_schedule(19_560, 524_288, 6e-4))


def gpt2_medium() -> Config:
    """Return GPT-2 medium, 354,823,168 parameters, trained as in llm.c's reproduction: 31.5B tokens."""
    return _gpt2("gpt2_medium", 24, 16, 1024, _llmc_schedule(60_000, 524_288, 3e-4))


def gpt2_large() -> Config:
    """Return GPT-2 large, 774,030,080 parameters, trained as in llm.c's reproduction: 150B tokens."""
    return _gpt2("gpt2_large", 36, 20, 1280, _llmc_schedule(286_102, 524_288, 2.5e-4))


def gpt2_xl() -> Config:
    """Return GPT-2 XL, 1,557,611,200 parameters, trained as in the lecture: 33.55B tokens."""
    return _gpt2("gpt2_xl", 48, 25, 1600, _llmc_schedule(32_000, 1_048_576, 6e-4))


def gpt3() -> Config:
    """Return GPT-3 (about 175e9 parameters), for counting and planning only.

    Source: Brown et al. 2020, table 2.1.
    """
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
    """Return a recipe with some settings changed: `recipe("tiny", train={"steps": 40}, seed=1)`.

    Raises: ConfigError for an unknown recipe or setting; the hint names the closest ones.
    """
    if name not in RECIPES:
        raise ConfigError("unknown_recipe", name=name, closest=did_you_mean(name, RECIPES))
    return override(RECIPES[name](), settings)
