"""The lecture's cheat sheets: the texts in lecture/, with computed numbers."""

import math
import re
from pathlib import Path

from nudge.data.tokenizer import CL100K_SPECIAL
from nudge.model.sizes import memory_of_run, parameter_counts
from nudge.plan import published
from nudge.plan.hardware import price
from nudge.recipes import recipe
from nudge.sheet.page import Language

PLACEHOLDER = re.compile(r"\{\{(\w*)\}\}")

_TEXTS = Path(__file__).with_name("lecture")


def filled_text(name: str, language: Language) -> str:
    """Return the Markdown of one of the lecture's sheets (catalog.LECTURE) with its numbers filled in."""
    values = numbers()
    return PLACEHOLDER.sub(lambda found: values[found[1]], template(name, language))


def template(name: str, language: Language) -> str:
    """Return the text of a sheet with `{{placeholders}}` for its numbers."""
    return (_TEXTS / f"{name}.{language}.md").read_text(encoding="utf-8")


def numbers() -> dict[str, str]:
    """Return the values of all placeholders, formatted."""
    return {**_sizes(), **_reproduction(), **_costs(), **_parameters()}


def _sizes() -> dict[str, str]:
    xl = recipe("gpt2_xl").model
    return {
        "xl_parameters": f"{parameter_counts(xl).total:,}",
        "xl_billions": f"{parameter_counts(xl).total / 1e9:.1f}B",
        "gpt2_context": f"{xl.block_size:,}",
        "gpt2_vocabulary": f"{xl.vocab_size:,}",
        "cl100k_vocabulary": f"{max(CL100K_SPECIAL.values()) + 1:,}",  # the last special token has the last id
        "random_loss": f"{math.log(xl.vocab_size):.1f}",  # if all tokens are equally likely
        "xl_loss": f"{published.QUALITY[-1].openwebtext_loss:.2f}",  # OpenAI's weights
    }


def _reproduction() -> dict[str, str]:
    """Return numbers of the run of 2024, and numbers that follow from the lecture's 7 seconds and one day."""
    train = recipe("gpt2_xl").train
    lecture_step_s, day_s = 7, 86_400
    return {
        "steps": f"{train.steps:,}",
        "steps_short": f"{train.steps // 1000}K",
        "step_tokens": f"{train.batch_tokens:,}",
        "step_tokens_short": f"{train.batch_tokens // 10**6}M",
        "run_tokens": f"{train.steps * train.batch_tokens / 1e9:.2f}B",
        "sample_every": str(recipe("gpt2_xl").sample.every),
        "hours_by_7_s": f"{lecture_step_s * train.steps / 3600:.0f}",
        "step_s_of_a_day": f"{day_s / train.steps:.1f}",
        "share_of_step_420": f"{420 / train.steps:.1%}",
    }


def _costs() -> dict[str, str]:
    first, measured, hoped = published.LECTURE_COSTS
    paid = next(run.usd for run in published.RUNS if run.name == "GPT-2 XL, llm.c, 8 x H100")
    nanochat = next(run.usd for run in published.RUNS if run.name == "nanochat d24, 8 x H100")
    rent = price("h100")
    assert rent is not None
    assert measured.hours is not None
    assert paid is not None
    assert nanochat is not None
    return {
        "usd_2019": f"${first.usd:,.0f}",
        "machine_2019": first.machine,
        "hours_2019": f"{first.hours:.0f}",
        "usd_2024": f"${measured.usd:,.0f}",
        "usd_hoped": f"${hoped.usd:,.0f}",
        "usd_nanochat": f"${nanochat:,.0f}",
        "usd_per_hour": f"${rent.usd_per_hour:.0f}",
        "usd_of_the_day": f"${8 * measured.hours * rent.usd_per_hour:,.0f}",
        "usd_paid": f"${paid:,.0f}",
        "times_cheaper": f"{first.usd / measured.usd:.0f}x",
        "times_hoped": f"{first.usd / hoped.usd:.0f}x",
    }


def _parameters() -> dict[str, str]:
    """Return the sizes of the learning material's networks. Shapes are GPT-2's: [n_in, n_out]."""
    material = recipe("mini_24k")
    model = material.model
    counts, C = parameter_counts(model), model.n_embd
    shapes = {
        "wte": (model.vocab_size, C),
        "wpe": (model.block_size, C),
        "c_attn": (C, 3 * C),
        "attn_c_proj": (C, C),
        "c_fc": (C, 4 * C),
        "mlp_c_proj": (4 * C, C),
    }
    saved = memory_of_run(material)
    return {
        "toy_parameters": f"{parameter_counts(recipe('llm_viz').model).total:,}",
        "small_parameters": f"{parameter_counts(recipe('gpt2_small').model).total:,}",
        "gpt3_billions": f"{parameter_counts(recipe('gpt3').model).total / 1e9:.1f}B",
        "mini_parameters": f"{counts.total:,}",
        "mini_embedding": f"{counts.wte + counts.wpe:,}",
        "mini_attention": f"{counts.attention:,}",
        "mini_mlp": f"{counts.mlp:,}",
        "mini_norms": f"{counts.norms:,}",
        "mini_layers": str(model.n_layer),
        "mini_channels": str(C),
        "mini_wide": str(4 * C),
        **{f"mini_{name}_shape": str(list(shape)) for name, shape in shapes.items()},
        **{f"mini_{name}": f"{math.prod(shape):,}" for name, shape in shapes.items()},
        "stored_transposed": str([3 * C, C]),  # c_attn as torch.nn.Linear stores it
        "saved_weights_mb": f"{saved.weights / 1e6:.0f}",
        "saved_moments_mb": f"{saved.moments / 1e6:.0f}",
    }
