"""One file per format of another program."""

from nudge.config import ModelConfig
from nudge.errors import FormatError


def require_gpt2(config: ModelConfig) -> None:
    """Raises: FormatError if a network is none that the other programs know, naming what departs."""
    if not config.is_gpt2:
        raise FormatError(
            f"this network is no GPT-2, its config has {', '.join(config.departures)}: other programs would compute "
            "something else with its weights",
            "a model that can be exported is trained without these, for example: nudge train --recipe tiny",
        )
