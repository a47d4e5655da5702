"""The content of a tokenizer.json of nudge, by its kind. `bytes` has none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Characters:
    """A vocabulary of characters. Raises: ValueError."""

    characters: list[str]
    has_eot: bool = True

    def __post_init__(self) -> None:
        if any(len(character) != 1 for character in self.characters):
            raise ValueError("'characters' are not single characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class BytePairs:
    """A vocabulary of byte pairs."""

    name: str
    pattern: str
    tokens: list[bytes]  # in base64
    special_tokens: dict[str, int]
    vocab_size: int
