"""Hugging Face folders of GPT-2 with config.json, the weights and the tokenizer: import and export.

Hugging Face's `Conv1D` stores [n_in, n_out] like nudge, so names map one to one and no tensor is transposed:

    transformer.h.3.attn.c_attn.weight  <->  blocks.3.attn.c_attn.weight
    transformer.wte.weight              <->  wte.weight                    (lm_head.weight is the same tensor: tied)

Source: transformers/models/gpt2/modeling_gpt2.py and configuration_gpt2.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert.formats import (
    OUR_TOKENIZER,
    SIZES,
    add_tensors,
    complete_state,
    hf_name,
    load_pickle,
    read_sizes,
    require_gpt2,
    tokenizer_json,
)
from nudge.data import published_vocab
from nudge.data import tokenizer as tokenizers
from nudge.data.published_vocab import GPT2_PATTERN
from nudge.data.tokenizer import EOT, GPT2_SHA256, MOST_WITHOUT_TEXT, BpeTokenizer, Tokenizer
from nudge.errors import FormatError, RunError, TokenizerError, first_line
from nudge.util import files, json_reader

T = TypeVar("T")

GPT2_VOCAB_SIZE = 50257

# The settings of config.json that decide whether the network computes the same as ours: allowed values, and the default
# in transformers.
_ALLOWED: dict[str, tuple[tuple[Any, ...], Any]] = {
    "model_type": (("gpt2",), None),
    "activation_function": (("gelu_new", "gelu_pytorch_tanh"), "gelu_new"),  # two names of the tanh form
    "layer_norm_epsilon": ((1e-5,), 1e-5),
    "scale_attn_weights": ((True,), True),
    "scale_attn_by_inverse_layer_idx": ((False,), False),
    "add_cross_attention": ((False,), False),
    "tie_word_embeddings": ((True,), True),
    "quantization_config": ((None,), None),
}
_SIZES = {**SIZES, "block_size": "n_positions"}
_DEFAULT_SIZES = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": GPT2_VOCAB_SIZE}
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_WEIGHTS = (*SAFETENSORS, "pytorch_model.bin", "pytorch_model.bin.index.json")  # the first that exists is read


def read(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the sizes and the float32 weights, by our names, of a Hugging Face folder. No code in it is executed.

    Raises: FormatError if the folder is damaged or incomplete, contains code, or holds another network than GPT-2.
    """
    config = _read_config(folder / "config.json")
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        add_tensors(state, _read_tensors(path), path)
    return config, complete_state(config, state, folder, sizes_in="config.json")


def write(folder: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer) -> tuple[str, ...]:
    """Fill `folder` with the files of `AutoModelForCausalLM` and `AutoTokenizer`, and with our tokenizer.

    Return notes for the user on what is left out. Raises: FormatError if the network is not a GPT-2; OSError.
    """
    require_gpt2(config)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eot if tokenizer.has_eot else None)
    described = {
        "architectures": ["GPT2LMHeadModel"],
        **{key: default for key, (_, default) in _ALLOWED.items() if default is not None},
        "model_type": "gpt2",
        **{key: getattr(config, ours) for ours, key in _SIZES.items()},
        **ends,
        "dtype": "float32",
    }
    # Ids beyond the tokenizer have no text: nudge never samples them, and transformers must not either.
    unused = {"suppress_tokens": list(range(tokenizer.vocab_size, config.vocab_size)) or None}
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "config.json", described)
    files.write_json(folder / "generation_config.json", {**ends, "pad_token_id": ends["eos_token_id"], **unused})
    tensors = {hf_name(name): tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}
    try:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise OSError(f"model.safetensors: {error}") from error
    tokenizer.save(folder / OUR_TOKENIZER)
    try:
        converted = tokenizer_json.build(tokenizer, config.vocab_size)
    except (FormatError, TokenizerError) as error:
        return (f"without tokenizer.json, so that AutoTokenizer cannot read the folder: {error.message}",)
    files.write_text(folder / "tokenizer.json", converted.to_str(pretty=True) + "\n")
    files.write_json(
        folder / "tokenizer_config.json", tokenizer_json.transformers_settings(tokenizer, config.block_size)
    )
    return ()


def read_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """Load a folder's tokenizer: nudge's file, else GPT-2-style files, else GPT-2's if the vocabulary size matches.

    Raises: FormatError if there is none, or nudge cannot reproduce it; TokenizerError if nudge's file is damaged.
    """
    if (folder / OUR_TOKENIZER).is_file():
        return tokenizers.load(folder / OUR_TOKENIZER)
    for name, read_file in (("merges.txt", _read_merges), ("tokenizer.json", _read_tokenizer_json)):
        if (folder / name).is_file():
            try:
                return read_file(folder / name)
            except ValueError as error:  # JSON of another structure
                raise FormatError("not_byte_pairs", path=folder / name, error=first_line(error)) from error
    if config.vocab_size == GPT2_VOCAB_SIZE:
        return tokenizers.get("gpt2")
    raise FormatError("no_tokenizer", folder=folder, ours=OUR_TOKENIZER)


def _read_merges(path: Path) -> Tokenizer:
    """Read merges.txt and its vocab.json, the format in which OpenAI published GPT-2."""
    try:
        _, *lines = path.read_text(encoding="utf-8").splitlines()  # the first is `#version: 0.2`
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError("unreadable", path=path, error=first_line(error)) from error
    merges = [line.split(" ") for line in lines if line]
    vocab = _read_json(path.with_name("vocab.json"), dict[str, int], at_most=json_reader.LARGEST_VOCABULARY)
    return _bpe_tokenizer(path, vocab, merges)


@dataclass(frozen=True, slots=True, kw_only=True)
class _AddedToken:
    content: str
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _TokenizerJson:
    """What is read of tokenizer.json. `model` has another structure for each of its types."""

    model: dict[str, Any]
    pre_tokenizer: dict[str, Any] | None = None
    normalizer: Any = None
    added_tokens: list[_AddedToken] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _BytePairs:
    """What is read of the model of a tokenizer.json. A merge is two tokens, with a space between or in a list."""

    vocab: dict[str, int]
    merges: list[str | list[str]]


def _read_tokenizer_json(path: Path) -> Tokenizer:
    """Read a file of the `tokenizers` library. Raises: FormatError if it does not split and merge as GPT-2 does."""
    read = _read_json(path, _TokenizerJson, at_most=json_reader.LARGEST_VOCABULARY)
    model, split = read.model, read.pre_tokenizer or {}
    gpt2_split = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    if (
        model.get("type") != "BPE"
        or read.normalizer
        or {key: split.get(key, default) for key, default in gpt2_split.items()} != gpt2_split
    ):
        raise FormatError("other_tokenizer", path=path)
    pairs = json_reader.convert(model, _BytePairs)
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in pairs.merges]
    return _bpe_tokenizer(path, pairs.vocab | {token.content: token.id for token in read.added_tokens}, merges)


def _bpe_tokenizer(path: Path, vocab: Mapping[str, int], merges: Sequence[Sequence[str]]) -> Tokenizer:
    """Build a tokenizer from a GPT-2-style vocabulary, in which each byte is written as a printable character.

    Raises: FormatError if the ids are not in the order of the merges (256 bytes, then each merge's result): a token's
    id is its rank.
    """
    byte_of = {char: byte for byte, char in published_vocab.byte_alphabet().items()}
    learned = ["".join(merge) for merge in merges]
    in_order = [text for text, _ in sorted(vocab.items(), key=lambda entry: entry[1])][: 256 + len(learned)]
    consistent = (
        sorted(in_order[:256]) == sorted(byte_of)
        and in_order[256:] == learned
        and [vocab[text] for text in in_order] == list(range(len(in_order)))
        and EOT in vocab
        and all(text and id_ < len(in_order) + MOST_WITHOUT_TEXT for text, id_ in vocab.items())
        and len(set(vocab.values())) == len(vocab)
    )
    if not consistent:
        raise FormatError("token_order", path=path, eot=EOT)
    tokens = [bytes(byte_of[char] for char in text) for text in in_order]
    special = {text: id_ for text, id_ in vocab.items() if id_ >= len(tokens)}
    read = BpeTokenizer(f"bpe-{len(tokens) + 1}", tokens, pattern=GPT2_PATTERN, special=special)
    if read.sha256 == GPT2_SHA256:  # the size alone would not be proof
        read.name = "gpt2"
    return read


def _read_config(path: Path) -> ModelConfig:
    values = _read_json(path, dict[str, Any])
    for key, (allowed, default) in _ALLOWED.items():
        _require_setting(key, values.get(key, default), allowed, path)
    config = read_sizes(_DEFAULT_SIZES | values, path, _SIZES)
    _require_setting("n_inner", values.get("n_inner"), (None, 4 * config.n_embd), path)
    return config


def _require_setting(key: str, value: Any, allowed: tuple[Any, ...], path: Path) -> None:
    if (type(value), value) not in [(type(one), one) for one in allowed]:  # 1 is not true
        expected = ", ".join(map(json.dumps, allowed))
        raise FormatError("other_setting", path=path, key=key, got=json.dumps(value)[:80], expected=expected)


def _read_json(path: Path, kind: type[T], *, at_most: int = json_reader.LARGEST) -> T:
    _require_file(path)
    try:
        return json_reader.read(path, kind, at_most=at_most)
    except RunError as error:
        raise FormatError("unreadable", path=path, error=error.values["error"]) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise FormatError("missing_file", name=path.name, folder=path.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """What is read of an index of shards: the file of each tensor."""

    weight_map: dict[str, str]


def weight_files(folder: Path) -> list[Path]:
    """Return the file or the shards that hold the weights. Raises: FormatError."""
    found = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise FormatError("no_weights", folder=folder, names=", ".join(_WEIGHTS))
    if not found.name.endswith(".index.json"):
        return [found]
    names = sorted(set(_read_json(found, _Index).weight_map.values()))
    if not names:
        raise FormatError("no_shards", path=found)
    for name in names:
        try:
            files.check_name(name)
        except ValueError as error:
            raise FormatError("shard_outside", path=found, shard=name[:80]) from error
    return [folder / name for name in names]


def _read_tensors(path: Path) -> Any:
    """Read one file of weights. A .bin file is a pickle: code in it is refused. Raises: FormatError."""
    _require_file(path)
    if path.suffix != ".safetensors":
        return load_pickle(path)
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # safetensors and torch raise unrelated exception types
        raise FormatError("unreadable", path=path, error=first_line(error)) from error
