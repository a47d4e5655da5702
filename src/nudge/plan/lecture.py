"""The cost of a GPT-2, and its size compared with today's models, as in the lecture."""

from dataclasses import dataclass

from nudge.model.sizes import parameter_counts, training_flops_per_token
from nudge.plan import facts
from nudge.plan.planner import Plan, make_ask, plan
from nudge.recipes import recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """A published model in numbers."""

    name: str
    year: int
    n_params: float
    n_active: float  # parameters used by one token: a part of all in a mixture of experts
    context: int
    vocab_size: int
    tokens: float  # of its training
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


MODELS = (_gpt2(), *(LanguageModel(**row) for row in facts.read("published.toml")["models"]))


def gpt2_today() -> Plan:
    """Plan GPT-2 XL as the lecture trains it: on 8 x H100 at $3 per hour."""
    return plan(make_ask("gpt2_xl", gpu="h100", count=8))


def tokens_per_parameter(model: LanguageModel) -> float:
    """Return the tokens per active parameter. About 20 are compute-optimal."""
    return model.tokens / model.n_active
