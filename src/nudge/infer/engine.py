"""A trained model in use: prompt in, text out, one token at a time.

    prompt -> [eot] + tokens -> prefill (all at once) -> logits of the next token -> draw -> decode (one by one) -> text

The keys and values of what was read are kept, so a new token costs one position. On a CPU with a C compiler that is
the work of fast/decoder.py; everywhere else of model/gpt.py and its cache.
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
from nudge.errors import CheckpointError, ConfigError, nearest
from nudge.fast import DTYPES, decoder
from nudge.fast.weights import DType, Weights, take_over
from nudge.infer.batching import finish
from nudge.infer.streams import Context, TextStream, TokenStream
from nudge.model.gpt import GPT
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint

DEFAULT_MAX_TOKENS = 200


class Sampling(TypedDict, total=False):
    """How tokens are drawn: keyword arguments of everything that writes. `None` switches a filter off."""

    max_tokens: int  # 200 if left out
    temperature: float  # 0.8; 0: always the likeliest token
    top_k: int | None  # draw among the k likeliest only
    top_p: float | None  # draw among the likeliest that have this share together
    seed: int  # 0; same seed, same text


def _sample_config(how: Sampling) -> SampleConfig:
    defaults: Sampling = {"max_tokens": DEFAULT_MAX_TOKENS, "temperature": 0.8, "top_k": None, "top_p": None, "seed": 0}
    if unknown := how.keys() - defaults.keys():
        raise TypeError(f"unknown way to draw tokens: {', '.join(sorted(unknown))}")
    return SampleConfig(**(defaults | how))


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A network and its tokenizer as one object that writes text.

    `path` is where it was loaded from; `notes` are words for the person: damaged files that were passed over, a
    checkpoint that was not verified, why decoding is not as fast as it can be. `weights` are the network's for the fast
    decoder of a CPU; without them the plain network decodes.
    """

    network: GPT
    tokenizer: Tokenizer
    step: int = 0
    verified: bool = False
    path: Path | None = None
    notes: tuple[str, ...] = ()
    weights: Weights | None = None

    def generate(self, prompt: str = "", *, stop: str | Sequence[str] | None = None, **how: Unpack[Sampling]) -> str:
        """The text that the model writes after `prompt`, without it. Same seed, same text.

        It ends after `max_tokens`, at the end-of-text token, or before the first of the `stop` strings. A network of
        examples (Tokenizer.opening is empty) ends with the token after a full context.

        Raises: ConfigError for a value no distribution can have, or a prompt longer than the context.
        """
        return "".join(self.stream(prompt, stop=stop, **how))

    def stream(
        self, prompt: str = "", *, stop: str | Sequence[str] | None = None, **how: Unpack[Sampling]
    ) -> TextStream:
        """What `generate` returns, in pieces as they are made. Raises: ConfigError, at once."""
        stops = _stops(stop)
        return TextStream(self.tokens(self.prompt_ids(prompt), **how), self.tokenizer, stops)

    def generate_batch(
        self, prompts: Sequence[str], *, stop: str | Sequence[str] | None = None, **how: Unpack[Sampling]
    ) -> list[str]:
        """What `generate` writes after each of several prompts, the first with `seed`, the second with seed + 1, ...

        On a CPU up to 64 are read together: each weight comes from memory once for all of them. The numbers that a
        text is drawn with then differ in the last digits, so two nearly equal tokens may change places.

        Raises: ConfigError as `generate` does.
        """
        stops, all_ids = _stops(stop), [self.prompt_ids(prompt) for prompt in prompts]
        first = _sample_config(how)
        samples = [replace(first, seed=first.seed + i) for i in range(len(prompts))]
        for ids, sample in zip(all_ids, samples, strict=True):
            self._check(ids, sample)
        tokens = (self._draw(ids, sample) for ids, sample in zip(all_ids, samples, strict=True))
        return finish(TextStream(stream, self.tokenizer, stops) for stream in tokens)

    def tokens(self, ids: Sequence[int], **how: Unpack[Sampling]) -> TokenStream:
        """The tokens drawn after `ids`, which are read as they are: put `tokenizer.opening` first to start a document.

        Raises: ConfigError as `generate` does, and for ids that are none of the vocabulary.
        """
        sample = _sample_config(how)
        self._check(ids, sample)
        return self._draw(ids, sample)

    def _check(self, ids: Sequence[int], sample: SampleConfig) -> None:
        configs.check_sampling(sample)
        _check_ids(ids, self.network.config)

    def _draw(self, ids: Sequence[int], sample: SampleConfig, *, ends_with_document: bool = True) -> TokenStream:
        block_size = self.network.config.block_size
        if not self.tokenizer.opening:
            sample = replace(sample, max_tokens=min(sample.max_tokens, block_size + 1 - len(ids)))
        room = min(len(ids) + sample.max_tokens, block_size)
        return TokenStream(
            Context(self.reader(room), room),
            ids,
            sample,
            n_known=self.tokenizer.vocab_size,
            eot=self.tokenizer.eot,
            ends_with_document=ends_with_document,
        )

    def reader(self, room: int | None = None) -> decoder.Reader:
        """What reads tokens and gives the logits of the next one, with room for so many (block_size if left out)."""
        room = min(room or self.network.config.block_size, self.network.config.block_size)
        if self.weights is None:
            return decoder.PlainReader(self.network, room)
        return decoder.Decoder(self.weights, room=room)

    def prompt_ids(self, prompt: str) -> list[int]:
        """The tokens that the network reads for a prompt: the end-of-text token that starts a document, then the text.

        A prompt that fills the context to the last position goes without the end-of-text token, and so does any
        prompt of a network that has none: an empty one is then the end of a line, as nanoGPT begins.
        Raises: ConfigError if there is nothing to read.
        """
        ids = self.tokenizer.encode(prompt)
        opening = list(self.tokenizer.opening)
        if not ids and not opening:
            raise ConfigError(
                "this network has no token that starts a document: it needs a prompt",
                f"give it some of its tokens, {self.tokenizer.decode(range(min(self.tokenizer.vocab_size, 9)))}",
            )
        opens = not ids or (self.tokenizer.has_eot and len(ids) < self.network.config.block_size)
        return opening + ids if opens else ids


def _stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in stops:
        raise ConfigError("a stop string must not be empty", "leave it out to stop at nothing")
    return stops


def _check_ids(ids: Sequence[int], config: configs.ModelConfig) -> None:
    if not ids:
        raise ConfigError("no token to start from", "a document starts with tokenizer.opening")
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
    tokens = model._draw(model.prompt_ids(sample.prompt or ""), sample, ends_with_document=False)
    documents: list[list[int]] = [[]]
    for token in tokens:
        if token == tokenizer.eot:
            documents.append([])
        else:
            documents[-1].append(token)
    return "\n".join(tokenizer.decode(document) for document in documents)


def load(
    source: str | os.PathLike[str] | None = None, *, device: str | None = None, dtype: DType | None = None
) -> LanguageModel:
    """The model that SOURCE names: a run folder, a checkpoint file, an imported folder, or (left out) the newest run.

    `device` is the GPU if there is one, else the CPU. `dtype` is the type its weights are kept in: float32 (exact, the
    default), bfloat16 (half the memory and about half the time of a token) or int8 (about a quarter of the time).

    Raises: CheckpointError if there is nothing to read, or network and tokenizer do not fit each other; ConfigError
    for another dtype.
    """
    dtype = dtype or "float32"
    if dtype not in DTYPES:
        raise ConfigError(f"weights cannot be {dtype!r}", nearest(dtype, DTYPES))
    checkpoint = checkpoints.find(source)
    tokenizer = tokenizers.load(checkpoints.tokenizer_path(checkpoint))
    check_tokenizer(checkpoint, tokenizer)
    notes = checkpoint.notes
    if not checkpoint.verified:
        notes += (f"{checkpoint.path.name} is not verified: no SHA-256 of it was recorded",)
    network = network_of(checkpoint).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
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
