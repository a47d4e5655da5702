"""The losses of published runs of the same size, instead of a forecast of the loss.

A scaling law would give a number for any size, but its constants belong to other data and another tokenizer
(Chinchilla's: MassiveText, 32,000 tokens), so that number could not be compared with a loss measured by nudge.
"""

import math
from dataclasses import dataclass

from nudge.model.sizes import parameter_counts
from nudge.plan import facts
from nudge.plan.planner import Plan
from nudge.plan.published import QUALITY
from nudge.recipes import recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLoss:
    """The validation loss of one run, in nats per token of GPT-2's vocabulary."""

    recipe: str
    tokens: float | None  # None: never published
    loss: float
    data: str  # of the measurement: losses on different texts cannot be compared
    source: str


LOSSES = (
    *(PublishedLoss(**row) for row in facts.read("published.toml")["losses"]),
    *(
        PublishedLoss(
            recipe=row.recipe,
            tokens=None,
            loss=row.openwebtext_loss,
            data="OpenWebText",
            source="OpenAI's own checkpoint (nanoGPT's README)",
        )
        for row in QUALITY
    ),
)


def published_losses(plan: Plan) -> tuple[PublishedLoss, ...]:
    """Return the losses of networks of about the same size (within 10%), sorted by how near their tokens are."""
    n_params = plan.parameters.total
    alike = [row for row in LOSSES if 0.9 < parameter_counts(recipe(row.recipe).model).total / n_params < 1.1]

    def distance(row: PublishedLoss) -> float:
        return abs(math.log(row.tokens / plan.tokens)) if row.tokens else math.inf

    return tuple(sorted(alike, key=distance))
