"""Use a trained model: prompt in, text out, one token at a time.

    prompt -> [eot] + tokens -> prefill (all at once) -> logits of the next token -> draw -> decode (one by one) -> text

The keys and values of the tokens read are kept, so a new token costs the work of one position. fast/decoder.py does
that on a CPU with a C compiler; model/gpt.py and its cache do it everywhere else.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

import torch

from nudge import config as configs
from nudge.config import SampleConfig
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.errors import CheckpointError, ConfigError, did_you_mean
from nudge.fast import DTYPES, decoder
from nudge.fast.weights import DType, Weights, fastest_dtype, take_over
from nudge.infer.batching import finish
from nudge.infer.streams import TextStream, TokenStream
from nudge.model.gpt import GPT
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint

DEFAULT_MAX_TOKENS = 200


class Sampling(TypedDict, total=False):
    """Settings of SampleConfig, as keyword arguments of the methods that write text."""

    max_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int


DEFAULT = SampleConfig(max_tokens=DEFAULT_MAX_TOKENS, top_k=None)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A network and its tokenizer as one object that writes text.

    `path` is where it was loaded from. `notes` are lines for the user: damaged files that were skipped, a checkpoint
    that is not verified, why decoding is not as fast as it could be. `weights` are for the fast decoder on a CPU;
    without them the plain network decodes.
    """

    network: GPT
    tokenizer: Tokenizer
    step: int = 0
    verified: bool = False
    path: Path | None = None
    notes: tuple[str, ...] = ()
    weights: Weights | None = None

    def generate(
        self,
        prompt: str = "",
        sample: SampleConfig = DEFAULT,
        *,
        stop: str | Sequence[str] | None = None,
        **changes: Unpack[Sampling],
    ) -> str:
        """Return the text that the model writes after `prompt`. The same seed gives the same text.

        `changes` replace settings of `sample`, such as `temperature=0`. The text ends after `max_tokens`, at the
        end-of-text token, or before the first of the `stop` strings. If `Tokenizer.opening` is empty, it also ends one
        token after the context is full.

        Raises: ConfigError for a setting out of its range, or a prompt longer than the context.
        """
        return "".join(self.stream(prompt, sample, stop=stop, **changes))

    def stream(
        self,
        prompt: str = "",
        sample: SampleConfig = DEFAULT,
        *,
        stop: str | Sequence[str] | None = None,
        **changes: Unpack[Sampling],
    ) -> TextStream:
        """Return `generate`'s text piece by piece, as it is made.

        Raises: ConfigError on this call, not on the first piece.
        """
        stops = _stop_strings(stop)
        return TextStream(self.tokens(self.prompt_ids(prompt), sample, **changes), self.tokenizer, stops)

    def generate_batch(
        self,
        prompts: Sequence[str],
        sample: SampleConfig = DEFAULT,
        *,
        stop: str | Sequence[str] | None = None,
        **changes: Unpack[Sampling],
    ) -> list[str]:
        """Return the text that `generate` returns for each prompt; the seed of prompt i is seed + i.

        On a CPU up to 64 prompts are decoded together: each weight is read from memory once for all of them. Logits
        then differ in the last digits, so another one of two almost equally likely tokens may be drawn.

        Raises: ConfigError as `generate` does.
        """
        sample, stops = replace(sample, **changes), _stop_strings(stop)
        all_ids = [self.prompt_ids(prompt) for prompt in prompts]
        for ids in all_ids:
            self._check(ids, sample)
        streams = (self._stream(ids, replace(sample, seed=sample.seed + i)) for i, ids in enumerate(all_ids))
        return finish(TextStream(stream, self.tokenizer, stops) for stream in streams)

    def tokens(self, ids: Sequence[int], sample: SampleConfig = DEFAULT, **changes: Unpack[Sampling]) -> TokenStream:
        """Return the tokens drawn after `ids`; to start a document, `ids` must start with `tokenizer.opening`.

        Raises: ConfigError as `generate` does, and for ids outside the vocabulary.
        """
        sample = replace(sample, **changes)
        self._check(ids, sample)
        return self._stream(ids, sample)

    def _check(self, ids: Sequence[int], sample: SampleConfig) -> None:
        """Check the prompt's tokens and the sampling settings. Raises: ConfigError."""
        configs.check_ranges(sample)
        _check_ids(ids, self.network.config)

    def _stream(self, ids: Sequence[int], sample: SampleConfig, *, ends_with_document: bool = True) -> TokenStream:
        """Return the tokens drawn after `ids`, which were checked; they may end at the end-of-text token."""
        block_size, tokenizer = self.network.config.block_size, self.tokenizer
        if not tokenizer.opening:
            sample = replace(sample, max_tokens=min(sample.max_tokens, block_size + 1 - len(ids)))
        room = min(len(ids) + sample.max_tokens, block_size)
        end = tokenizer.eot if ends_with_document else None
        return TokenStream(self.reader(room), ids, sample, room=room, n_known=tokenizer.vocab_size, end=end)

    def reader(self, room: int | None = None) -> decoder.Reader:
        """Return a token reader with an empty cache of `room` tokens (default and maximum: block_size)."""
        room = min(room or self.network.config.block_size, self.network.config.block_size)
        if self.weights is None:
            return decoder.PlainReader(self.network, room)
        return decoder.Decoder(self.weights, room=room)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt: the opening token (end-of-text), then the text.

        Omit the opening token if the prompt fills the context or the vocabulary has no end-of-text token. An empty
        prompt becomes `tokenizer.opening`: the end-of-text token, or a newline as in nanoGPT.

        Raises: ConfigError if both the prompt and `tokenizer.opening` are empty.
        """
        ids = self.tokenizer.encode(prompt)
        opening = list(self.tokenizer.opening)
        if not ids and not opening:
            tokens = self.tokenizer.decode(range(min(self.tokenizer.vocab_size, 9)))
            raise ConfigError("prompt_needed", tokens=tokens)
        add_opening = not ids or (self.tokenizer.has_eot and len(ids) < self.network.config.block_size)
        return opening + ids if add_opening else ids


def _stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the stop strings as a tuple. Raises: ConfigError if one is empty."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in stops:
        raise ConfigError("empty_stop")
    return stops


def _check_ids(ids: Sequence[int], config: configs.ModelConfig) -> None:
    """Check that there are tokens, that they fit the context, and that they are in the vocabulary.

    Raises: ConfigError.
    """
    if not ids:
        raise ConfigError("no_tokens")
    if len(ids) > config.block_size:
        raise ConfigError("prompt_too_long", n_tokens=len(ids), block_size=config.block_size)
    unknown = next((id_ for id_ in ids if not 0 <= id_ < config.vocab_size), None)
    if unknown is not None:
        raise ConfigError("unknown_token", token=unknown, vocab_size=config.vocab_size, last=config.vocab_size - 1)


def write_sample(network: GPT, tokenizer: Tokenizer, sample: SampleConfig) -> str:
    """Return the text that a network writes in the middle of a run. Neither the network nor any random state changes.

    After the end of a document, continue with another one on a new line, so that a model of short texts shows several.
    GPT has no dropout, so its training mode need not be changed.
    """
    model = LanguageModel(network, tokenizer)
    tokens = model._stream(model.prompt_ids(sample.prompt or ""), sample, ends_with_document=False)
    documents: list[list[int]] = [[]]
    for token in tokens:
        if token == tokenizer.eot:
            documents.append([])
        else:
            documents[-1].append(token)
    return "\n".join(tokenizer.decode(document) for document in documents)


def load(
    source: str | os.PathLike[str] | None = None, *, device: str | None = None, dtype: DType | None = "float32"
) -> LanguageModel:
    """Load the model that SOURCE names: a run folder, a checkpoint file or an imported folder; None: the newest run.

    `device` None: the GPU if there is one, else the CPU. `dtype` is the type of its weights in memory: float32 (exact),
    bfloat16 (half the memory) or int8 (a quarter of it); None: the fastest here that keeps the quality.
    docs/decoding.md compares them.

    Raises: CheckpointError if there is nothing to read, or network and tokenizer do not fit each other; ConfigError
    for an unknown dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError("unknown_choice", key="dtype", value=dtype, closest=did_you_mean(dtype, DTYPES))
    checkpoint = checkpoints.find(source)
    tokenizer = tokenizers.load(checkpoints.tokenizer_path(checkpoint))
    check_tokenizer(checkpoint, tokenizer)
    notes = checkpoint.notes
    if not checkpoint.verified:
        notes += (f"{checkpoint.path.name} is not verified: no SHA-256 of it was recorded",)
    network = network_of(checkpoint).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        dtype = fastest_dtype(network)
        if dtype != "float32":
            notes += (f"weights in {dtype}, which is faster here (--dtype float32: exact)",)
    weights, note = take_over(network, dtype)
    return LanguageModel(
        network=network,
        tokenizer=tokenizer,
        step=checkpoint.step,
        verified=checkpoint.verified,
        path=checkpoint.path,
        notes=(*notes, note) if note else notes,
        weights=weights,
    )


def network_of(checkpoint: Checkpoint) -> GPT:
    """Build the network that a checkpoint holds; its weights were checked when it was read."""
    with torch.device("meta"):  # allocates and initializes nothing: the checkpoint's weights are assigned below
        network = GPT(checkpoint.config.model)
    network.load_state_dict(checkpoint.model, assign=True)
    return network.eval()


def check_tokenizer(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """Check that a tokenizer is the one a checkpoint was trained with. Raises: CheckpointError."""
    file = checkpoint.path.name
    if checkpoint.tokenizer_sha256 and checkpoint.tokenizer_sha256 != tokenizer.sha256:
        expected = checkpoint.tokenizer_sha256[:12]
        raise CheckpointError("foreign_tokenizer", file=file, found=tokenizer.sha256[:12], expected=expected)
    if tokenizer.vocab_size > checkpoint.config.model.vocab_size:
        vocab_size = checkpoint.config.model.vocab_size
        raise CheckpointError("tokenizer_has_more", file=file, n_tokens=tokenizer.vocab_size, vocab_size=vocab_size)
