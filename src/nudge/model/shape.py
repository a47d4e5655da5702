"""The sizes of networks that nudge counts and plans but does not train, such as a Llama. Without torch."""

from dataclasses import dataclass, fields

from nudge.config import ModelConfig, setting
from nudge.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(ModelConfig):
    """The sizes of a GPT-2, and those in which other networks differ from it. The defaults are GPT-2's.

    Source: Touvron et al. 2023 (Llama), section 2.2; Ainslie et al. 2023 (grouped queries); Shazeer 2020 (SwiGLU).
    """

    n_kv_head: int | None = setting(None, "[1, inf)")  # heads of keys and values, each for a group of queries
    ffn: int | None = setting(None, "[1, inf)")  # hidden width of the MLP; None: 4 * n_embd
    swiglu: bool = False  # three matrices in the MLP instead of two
    bias: bool = True  # in norms and linear layers; False is Llama's RMSNorm, too, which has as many weights

    @property
    def key_width(self) -> int:
        """The numbers in the keys of a token in a layer; the values have as many."""
        return self.n_embd // self.n_head * (self.n_kv_head or self.n_head)

    @property
    def hidden_width(self) -> int:
        """The numbers in the hidden layer of the MLP."""
        return self.ffn or 4 * self.n_embd

    @property
    def departures(self) -> tuple[str, ...]:
        """The settings that change GPT-2's architecture."""
        changed = {
            "rotary": self.rotary,
            "untied": self.untied,
            "n_kv_head": self.key_width != self.n_embd,
            "ffn": self.hidden_width != 4 * self.n_embd,
            "swiglu": self.swiglu,
            "bias": not self.bias,
        }
        return tuple(name for name, is_changed in changed.items() if is_changed)


_TRAINED = tuple(field.name for field in fields(ModelConfig))


def shape_of(model: ModelConfig) -> Shape:
    """Return the shape of a network that nudge can train; a shape itself as it is."""
    return model if isinstance(model, Shape) else Shape(**{name: getattr(model, name) for name in _TRAINED})


def as_trained(shape: Shape) -> ModelConfig:
    """Return the config of a shape that nudge can train; any other shape as it is."""
    if set(shape.departures) - {"rotary", "untied"}:
        return shape
    return ModelConfig(**{name: getattr(shape, name) for name in _TRAINED})


def check_shape(shape: Shape) -> None:
    """Check that the heads of a shape can be grouped. Raises: ConfigError."""
    if shape.n_head % (shape.n_kv_head or shape.n_head):
        raise ConfigError("groups_do_not_divide", n_head=shape.n_head, n_kv_head=shape.n_kv_head)
