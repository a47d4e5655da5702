"""A trained model in use: prompt in, text out, one token at a time.

    prompt -> [eot] + tokens -> prefill (all at once) -> logits of the next token -> draw -> decode (one by one) -> text

The keys and values of what was read are kept (nudge.model.gpt.Cache), so a new token costs one position.
"""

import codecs
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from nudge import checkpoint as checkpoints
from nudge import config as configs
from nudge.checkpoint import Checkpoint
from nudge.config import SampleConfig
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.errors import CheckpointError, ConfigError
from nudge.infer import sampling
from nudge.model.gpt import GPT, Cache

DEFAULT_MAX_TOKENS = 200


class Context:
    """The tokens the network sees now, at most block_size, and their keys and values."""

    def __init__(self, network: GPT, *, room: int | None = None) -> None:
        self.network = network
        self.room = min(room or network.config.block_size, network.config.block_size)
        self.ids: list[int] = []
        self.cache = Cache(network, room=self.room)
        self.slid = False

    @torch.inference_mode()
    def feed(self, ids: Sequence[int]) -> Tensor:
        """Read new tokens; return the logits [1, V] of the token after them, as float32 on the CPU.

        When the context is full the window slides: the newest half of it is kept and read again. GPT-2's positions
        are absolute and part of every key, so the keys of a token that moves to another position cannot be shifted
        (and with rotary ones, what a key says still depends on the tokens that were forgotten); keeping only half
        makes that second reading rare.
        """
        self.ids += ids
        if len(self.ids) > self.room:
            self.slid = True
            self.ids = self.ids[-max(1, self.room // 2) :]
            self.cache = Cache(self.network, room=self.room)
            ids = self.ids
        tokens = torch.tensor([ids], device=self.network.wte.weight.device)
        return self.network.logits(self.network.hidden(tokens, self.cache)[:, -1]).float().cpu()


class TokenStream(Iterator[int]):
    """The tokens that are drawn after `ids`, one by one.

    `slid` tells whether the oldest tokens had to be forgotten; `ended` why there are no more (None: there may be).
    """

    def __init__(
        self,
        network: GPT,
        ids: Sequence[int],
        sample: SampleConfig,
        *,
        n_known: int,
        eot: int,
        ends_with_document: bool = True,
    ) -> None:
        self.n_tokens = 0
        self._end = eot if ends_with_document else None
        self.ended: Literal["length", "end of text"] | None = None
        self._context = Context(network, room=len(ids) + sample.max_tokens)
        self._tokens = self._draw(ids, sample, n_known)

    @property
    def slid(self) -> bool:
        return self._context.slid

    def __next__(self) -> int:
        return next(self._tokens)

    def _draw(self, ids: Sequence[int], sample: SampleConfig, n_known: int) -> Iterator[int]:
        generator = torch.Generator().manual_seed(sample.seed)
        while self.n_tokens < sample.max_tokens:
            logits = self._context.feed(ids)[:, :n_known]  # an imported vocabulary may be padded with rows for no token
            probs = sampling.probabilities(
                logits, temperature=sample.temperature, top_k=sample.top_k, top_p=sample.top_p
            )
            token = int(sampling.draw(probs, generator))
            if token == self._end:
                self.ended = "end of text"
                return
            self.n_tokens += 1
            yield token
            ids = [token]
        self.ended = "length"


class TextStream(Iterator[str]):
    """The text of a token stream, piece by piece. A piece is never half a character nor part of a stop string.

    `slid`, `ended` and `n_tokens` are those of the token stream; `ended` may also be "stop".
    """

    def __init__(self, tokens: TokenStream, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.tokens = tokens
        self._stopped = False
        self._pieces = self._decode(tokenizer, stop)

    @property
    def slid(self) -> bool:
        return self.tokens.slid

    @property
    def n_tokens(self) -> int:
        return self.tokens.n_tokens

    @property
    def ended(self) -> Literal["length", "end of text", "stop"] | None:
        return "stop" if self._stopped else self.tokens.ended

    def __next__(self) -> str:
        return next(self._pieces)

    def _decode(self, tokenizer: Tokenizer, stop: Sequence[str]) -> Iterator[str]:
        # Bytes that can no longer become a character turn into U+FFFD; those that still may wait for the next token.
        # What waits when the tokens end is dropped: it is the beginning of a character that was not finished.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        held = ""  # may be the beginning of a stop string
        for token in self.tokens:
            held += decoder.decode(tokenizer.decode_bytes([token]))
            found = [position for text in stop if (position := held.find(text)) >= 0]
            if found:
                self._stopped = True
                held = held[: min(found)]
                break
            n_ready = len(held) - _overlap(held, stop)
            if n_ready:
                yield held[:n_ready]
                held = held[n_ready:]
        if held:
            yield held


def _overlap(text: str, stop: Sequence[str]) -> int:
    """How many of the last characters of `text` begin one of the stop strings."""
    longest = max((len(s) for s in stop), default=1) - 1
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stop)), 0)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A network and its tokenizer as one object that writes text.

    `path` is where it was loaded from; `notes` are words for the person: damaged files that were passed over, a
    checkpoint that was not verified.
    """

    network: GPT
    tokenizer: Tokenizer
    step: int = 0
    verified: bool = False
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def generate(
        self,
        prompt: str = "",
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        stop: str | Sequence[str] | None = None,
    ) -> str:
        """The text that the model writes after `prompt`, without it. Same seed, same text.

        It ends after `max_tokens`, at the end-of-text token, or before the first of the `stop` strings.

        Raises: ConfigError for a value no distribution can have, or a prompt longer than the context.
        """
        return "".join(
            self.stream(
                prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop
            )
        )

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        stop: str | Sequence[str] | None = None,
    ) -> TextStream:
        """What `generate` returns, in pieces as they are made. Raises: ConfigError, at once."""
        stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
        if "" in stops:
            raise ConfigError("a stop string must not be empty", "leave it out to stop at nothing")
        tokens = self.tokens(
            self.prompt_ids(prompt),
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        return TextStream(tokens, self.tokenizer, stops)

    def tokens(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> TokenStream:
        """The tokens drawn after `ids`, which are read as they are: put `tokenizer.eot` first to start a document.

        Raises: ConfigError as `generate` does, and for ids that are none of the vocabulary.
        """
        sample = SampleConfig(max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        configs.check_sampling(sample)
        _check_ids(ids, self.network.config)
        return TokenStream(self.network, list(ids), sample, n_known=self.tokenizer.vocab_size, eot=self.tokenizer.eot)

    def prompt_ids(self, prompt: str) -> list[int]:
        """The tokens that the network reads for a prompt: the end-of-text token that starts a document, then the text.

        A prompt that fills the context to the last position goes without the end-of-text token.
        """
        ids = self.tokenizer.encode(prompt)
        return ids if len(ids) >= self.network.config.block_size else [self.tokenizer.eot, *ids]


def _check_ids(ids: Sequence[int], config: configs.ModelConfig) -> None:
    if not ids:
        raise ConfigError("no token to start from", "a document starts with the tokenizer's end-of-text token")
    if len(ids) > config.block_size:
        raise ConfigError(
            f"the prompt has {len(ids):,} tokens, the context of this model holds {config.block_size:,}",
            "give a shorter prompt: only its end would be seen",
        )
    strange = next((id_ for id_ in ids if not 0 <= id_ < config.vocab_size), None)
    if strange is not None:
        raise ConfigError(f"token {strange} is not in this model's vocabulary of {config.vocab_size:,}")


def write_sample(network: GPT, tokenizer: Tokenizer, sample: SampleConfig) -> str:
    """What a network writes now, in the middle of a run. It changes neither the network nor any random state.

    Where a document ends the next one begins, on a new line: a model of short texts would show little otherwise.
    GPT has no dropout, so there is no training mode to leave and come back to.
    """
    model = LanguageModel(network, tokenizer)
    ids = model.prompt_ids(sample.prompt or "")
    tokens = TokenStream(
        network, ids, sample, n_known=tokenizer.vocab_size, eot=tokenizer.eot, ends_with_document=False
    )
    documents: list[list[int]] = [[]]
    for token in tokens:
        if token == tokenizer.eot:
            documents.append([])
        else:
            documents[-1].append(token)
    return "\n".join(tokenizer.decode(document) for document in documents)


def load(source: str | os.PathLike[str] | None = None, *, device: str | None = None) -> LanguageModel:
    """The model that SOURCE names: a run folder, a checkpoint file, an imported folder, or (left out) the newest run.

    `device` is the GPU if there is one, else the CPU.

    Raises: CheckpointError if there is nothing to read, or network and tokenizer do not fit each other.
    """
    checkpoint = checkpoints.find(source)
    tokenizer = tokenizers.load(checkpoints.tokenizer_path(checkpoint))
    check_tokenizer(checkpoint, tokenizer)
    notes = checkpoint.notes
    if not checkpoint.verified:
        notes += (f"{checkpoint.path.name} is not verified: no SHA-256 of it was recorded",)
    return LanguageModel(
        network=network_of(checkpoint).to(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        tokenizer=tokenizer,
        step=checkpoint.step,
        verified=checkpoint.verified,
        path=checkpoint.path,
        notes=notes,
    )


def network_of(checkpoint: Checkpoint) -> GPT:
    """The network that a checkpoint holds. Raises: CheckpointError if its weights do not fit its config."""
    with torch.device("meta"):  # no memory and no time for values that the checkpoint replaces
        network = GPT(checkpoint.config.model)
    try:
        network.load_state_dict(checkpoint.model, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights of {checkpoint.path.name} do not fit its own config: {_first_mismatch(error)}",
            "give another checkpoint: 'nudge runs' lists the runs here",
        ) from error
    return network.eval()


def _first_mismatch(error: RuntimeError) -> str:
    """torch lists every tensor below a headline; the first says enough."""
    lines = str(error).splitlines()
    return lines[min(1, len(lines) - 1)].strip()


def check_tokenizer(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """Raises: CheckpointError if the tokenizer is not the one that the checkpoint was trained with."""
    if checkpoint.tokenizer_sha256 and checkpoint.tokenizer_sha256 != tokenizer.sha256:
        raise CheckpointError(
            f"tokenizer.json is not the one {checkpoint.path.name} was trained with: its SHA-256 is "
            f"{tokenizer.sha256[:12]}, the checkpoint names {checkpoint.tokenizer_sha256[:12]}",
            "put the run's own tokenizer.json back beside the checkpoint",
        )
    if tokenizer.vocab_size > checkpoint.config.model.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, {checkpoint.path.name} knows only "
            f"{checkpoint.config.model.vocab_size:,}",
            "put the run's own tokenizer.json back beside the checkpoint",
        )
