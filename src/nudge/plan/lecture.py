"""The lecture's question, what does a GPT-2 cost, and how far today's models are from it."""

from dataclasses import dataclass

from nudge.model.sizes import parameter_counts, training_flops_per_token
from nudge.plan.planner import Plan, make_ask, plan
from nudge.recipes import recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """A published model in numbers."""

    name: str
    year: int
    n_params: float
    n_active: float  # that one token meets: of a mixture of experts a part, else all
    context: int
    vocab_size: int
    tokens: float  # learned from
    flops: float
    source: str


def _gpt2() -> LanguageModel:
    config = recipe("gpt2_xl")
    n_params = parameter_counts(config.model).total
    tokens = config.train.steps * config.train.batch_tokens
    return LanguageModel(
        name="GPT-2 XL",
        year=2019,
        n_params=n_params,
        n_active=n_params,
        context=config.model.block_size,
        vocab_size=config.model.vocab_size,
        tokens=tokens,
        flops=tokens * training_flops_per_token(config.model),
        source="tokens: llm.c's reproduction of 2024; OpenAI's own number was never published",
    )


MODELS = (
    _gpt2(),
    LanguageModel(
        name="GPT-3", year=2020, n_params=174.6e9, n_active=174.6e9, context=2048, vocab_size=50_257, tokens=300e9,
        flops=3.14e23, source="Brown et al. 2020, tables 2.1 and D.1",
    ),
    LanguageModel(
        name="Llama-2 70B", year=2023, n_params=70e9, n_active=70e9, context=4096, vocab_size=32_000, tokens=2e12,
        flops=6 * 70e9 * 2e12, source="Touvron et al. 2023, table 1; work: 6ND",
    ),
    LanguageModel(
        name="Llama-3.1 405B", year=2024, n_params=405e9, n_active=405e9, context=131_072, vocab_size=128_256,
        tokens=15.6e12, flops=3.8e25, source="Grattafiori et al. 2024, section 3",
    ),
    LanguageModel(
        name="DeepSeek-V3", year=2024, n_params=671e9, n_active=37e9, context=131_072, vocab_size=129_280,
        tokens=14.8e12, flops=6 * 37e9 * 14.8e12, source="DeepSeek-V3 report; work: 6ND of the active parameters",
    ),
)  # fmt: skip


def gpt2_today() -> Plan:
    """GPT-2 XL as the lecture trains it: 8 x H100 at $3 an hour."""
    return plan(make_ask("gpt2_xl", gpu="h100", count=8))


def tokens_per_parameter(model: LanguageModel) -> float:
    """About 20 makes the most of the compute; more makes a smaller model as good, which is cheaper to use."""
    return model.tokens / model.n_active
