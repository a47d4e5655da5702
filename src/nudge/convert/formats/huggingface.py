"""Hugging Face folders of GPT-2: config.json, the weights and the tokenizer, in and out.

Their `Conv1D` stores [n_in, n_out] as we do, so names map one to one and no tensor is turned:

    transformer.h.3.attn.c_attn.weight  <->  blocks.3.attn.c_attn.weight
    transformer.wte.weight              <->  wte.weight                    (lm_head.weight is the same tensor: tied)

Source: transformers/models/gpt2/modeling_gpt2.py and configuration_gpt2.py.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert.formats import (
    OUR_TOKENIZER,
    check_parameters,
    drop_tied_head,
    is_plain,
    load_pickle,
    require_gpt2,
    tokenizer_json,
)
from nudge.data import published_vocab
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import EOT, GPT2_PATTERN, GPT2_SHA256, BpeTokenizer, Tokenizer
from nudge.errors import FormatError, TokenizerError, first_line
from nudge.util import files

GPT2_VOCAB_SIZE = 50257

# What config.json may say for the network to compute what ours does: the allowed values, and what transformers takes
# if it says nothing.
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
_SIZES = {  # ours, theirs, and what transformers takes if config.json says nothing
    "n_layer": ("n_layer", 12),
    "n_head": ("n_head", 12),
    "n_embd": ("n_embd", 768),
    "block_size": ("n_positions", 1024),
    "vocab_size": ("vocab_size", GPT2_VOCAB_SIZE),
}
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_WEIGHTS = (*SAFETENSORS, "pytorch_model.bin", "pytorch_model.bin.index.json")  # the first that is there is read
_FETCH = "fetch the folder again"
_MOST_IDS = 1 << 20  # a table has a place for each id up to the highest
_TOKENIZER_HINT = "tokenizers of GPT-2's own kind can be imported"
_MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # the causal triangle, which old files carry as a buffer


def read(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The sizes and the float32 weights, by our names, of a Hugging Face folder. Nothing in it is executed.

    Raises: FormatError if it is damaged or incomplete, wants to run code, or holds another network than GPT-2.
    """
    config = _read_config(folder / "config.json")
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        for name, tensor in _read_tensors(path).items():
            ours = our_name(name)
            if ours in state:
                raise FormatError(f"{folder} holds {name} twice")
            if ours is not None:
                state[ours] = tensor
    drop_tied_head(state, folder)
    names = check_parameters(config, state, folder, asked_by="config.json", their_name=their_name)
    return config, {name: state[name].to(torch.float32).contiguous() for name in names}


def write(folder: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer) -> tuple[str, ...]:
    """Fill `folder` with what `AutoModelForCausalLM` and `AutoTokenizer` read, and with our tokenizer.

    Returns words for the person: what is left out. Raises: FormatError if the network is none; OSError.
    """
    require_gpt2(config)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eot if tokenizer.has_eot else None)
    described = {
        "architectures": ["GPT2LMHeadModel"],
        **{key: default for key, (_, default) in _ALLOWED.items() if default is not None},
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for ours, (theirs, _) in _SIZES.items()},
        **ends,
        "dtype": "float32",
    }
    # Ids beyond the tokenizer stand for no text: nudge never draws them, and so should nobody.
    silent = {"suppress_tokens": list(range(tokenizer.vocab_size, config.vocab_size)) or None}
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "config.json", described)
    files.write_json(folder / "generation_config.json", {**ends, "pad_token_id": ends["eos_token_id"], **silent})
    tensors = {their_name(name): tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}
    try:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise OSError(f"model.safetensors: {error}") from error
    tokenizer.save(folder / OUR_TOKENIZER)
    try:
        theirs = tokenizer_json.build(tokenizer, config.vocab_size)
    except (FormatError, TokenizerError) as error:
        return (f"without tokenizer.json, so that AutoTokenizer cannot read the folder: {error.message}",)
    files.write_text(folder / "tokenizer.json", theirs.to_str(pretty=True) + "\n")
    files.write_json(folder / "tokenizer_config.json", tokenizer_json.settings(tokenizer, config.block_size))
    return ()


def read_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a Hugging Face folder: ours if nudge wrote it, else theirs, else GPT-2's if the size is.

    Raises: FormatError if there is none, or one that we cannot follow exactly; TokenizerError if ours is damaged.
    """
    if (folder / OUR_TOKENIZER).is_file():
        return tokenizers.load(folder / OUR_TOKENIZER)
    for name, read_theirs in (("merges.txt", _read_merges), ("tokenizer.json", _read_tokenizer_json)):
        if (folder / name).is_file():
            try:
                return read_theirs(folder / name)
            except (KeyError, TypeError, ValueError, AttributeError) as error:  # whatever else JSON may hold instead
                raise FormatError(f"{folder / name} is not a vocabulary of byte pairs: {error!r}", _FETCH) from error
    if config.vocab_size == GPT2_VOCAB_SIZE:
        return tokenizers.get("gpt2")
    raise FormatError(
        f"no tokenizer in {folder}", f"expected {OUR_TOKENIZER}, merges.txt with vocab.json, or tokenizer.json"
    )


def _read_merges(path: Path) -> Tokenizer:
    """merges.txt and vocab.json beside it, as OpenAI published GPT-2."""
    _, *lines = _read_text(path).splitlines()  # the first is `#version: 0.2`
    merges = [line.split(" ") for line in lines if line]
    return _byte_pairs(path, _read_json(path.with_name("vocab.json")), merges)


def _read_tokenizer_json(path: Path) -> Tokenizer:
    """The file of the `tokenizers` library, if it splits text and merges bytes as GPT-2 does."""
    values = _read_json(path)
    model, split = values.get("model") or {}, values.get("pre_tokenizer") or {}
    gpt2_split = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    if (
        model.get("type") != "BPE"
        or values.get("normalizer")
        or {key: split.get(key, default) for key, default in gpt2_split.items()} != gpt2_split
    ):
        raise FormatError(f"{path} is not a byte-level BPE that splits text as GPT-2 does", _TOKENIZER_HINT)
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", [])]
    added = {token["content"]: token["id"] for token in values.get("added_tokens", [])}
    return _byte_pairs(path, model.get("vocab", {}) | added, merges)


def _byte_pairs(path: Path, vocab: Mapping[str, int], merges: Sequence[Sequence[str]]) -> Tokenizer:
    """Our tokenizer from GPT-2's kind of vocabulary, in which every byte is written as a printable character.

    Ids have to be in the order of the merges (256 bytes, then each merge's result), because a token's id is its rank.
    """
    byte_of = {char: byte for byte, char in published_vocab.byte_alphabet().items()}
    learned = ["".join(merge) for merge in merges]
    in_order = [text for text, _ in sorted(vocab.items(), key=lambda entry: entry[1])][: 256 + len(learned)]
    consistent = (
        sorted(in_order[:256]) == sorted(byte_of)
        and in_order[256:] == learned
        and [vocab[text] for text in in_order] == list(range(len(in_order)))
        and EOT in vocab
        and max(vocab.values()) < _MOST_IDS
    )
    if not consistent:
        raise FormatError(
            f"{path}: its ids are not 256 bytes, then the merges in their order, then {EOT}", _TOKENIZER_HINT
        )
    tokens = [bytes(byte_of[char] for char in text) for text in in_order]
    special = {text: id_ for text, id_ in vocab.items() if id_ >= len(tokens)}
    read = BpeTokenizer(f"bpe-{len(tokens) + 1}", tokens, pattern=GPT2_PATTERN, special=special)
    if read.sha256 == GPT2_SHA256:  # others have 50,257 tokens of their own
        read.name = "gpt2"
    return read


def our_name(name: str) -> str | None:
    """`transformer.h.0.ln_1.weight` (the prefix may be missing) -> `blocks.0.ln_1.weight`; None: not a parameter."""
    name = name.removeprefix("transformer.")
    if _MASKS.fullmatch(name):
        return None
    return re.sub(r"^h\.", "blocks.", name)


def their_name(name: str) -> str:
    """`blocks.0.ln_1.weight` -> `transformer.h.0.ln_1.weight`."""
    return "transformer." + re.sub(r"^blocks\.", "h.", name)


def _read_config(path: Path) -> ModelConfig:
    values = _read_json(path)
    for key, (allowed, default) in _ALLOWED.items():
        _require(values.get(key, default) in allowed, path, key, values.get(key, default), allowed)
    sizes = {ours: values.get(theirs, default) for ours, (theirs, default) in _SIZES.items()}
    for ours, size in sizes.items():
        _require(type(size) is int and size >= 1, path, _SIZES[ours][0], size, ("a whole number, at least 1",))
    config = ModelConfig(**sizes)
    widths = (None, 4 * config.n_embd)
    _require(values.get("n_inner") in widths, path, "n_inner", values.get("n_inner"), widths)
    if config.n_embd % config.n_head:
        raise FormatError(f"{path}: n_embd {config.n_embd} is not divisible by n_head {config.n_head}")
    return config


def _require(holds: bool, path: Path, key: str, got: Any, allowed: tuple[Any, ...]) -> None:
    if not holds:
        expected = " or ".join(value if isinstance(value, str) else json.dumps(value) for value in allowed)
        raise FormatError(
            f"{path}: {key} is {json.dumps(got)}, a GPT-2 here needs {expected}",
            "only networks that compute exactly what GPT-2 does can be imported",
        )


def _read_json(path: Path) -> dict[str, Any]:
    _require_file(path)
    values = files.read_json(path, FormatError, _FETCH)
    if not isinstance(values, dict):
        raise FormatError(f"{path} holds no settings", _FETCH)
    return values


def _require_file(path: Path) -> None:
    if not path.exists():
        raise FormatError(
            f"no {path.name} in {path.parent}", "give the folder that holds config.json and model.safetensors"
        )


def _read_text(path: Path) -> str:
    _require_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read: {error}", _FETCH) from error


def weight_files(folder: Path) -> list[Path]:
    """The file or the shards that hold the weights."""
    found = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise FormatError(f"no weights in {folder}", "expected one of: " + ", ".join(_WEIGHTS))
    if not found.name.endswith(".index.json"):
        return [found]
    weight_map = _read_json(found).get("weight_map")
    names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    if not names:
        raise FormatError(f"{found} names no shards", _FETCH)
    outside = next((name for name in names if Path(name).name != name or name.startswith(".")), None)
    if outside is not None:
        raise FormatError(f"{found} names a shard outside its folder: {outside}")
    return [folder / name for name in names]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file. A .bin file is a pickle: only its plain tensors are taken, code in it is refused."""
    if not path.is_file():
        raise FormatError(f"the shard {path} is missing", _FETCH)
    if path.suffix == ".safetensors":
        try:
            tensors: Any = safetensors.torch.load_file(path)
        except Exception as error:  # its reader is one library, and what makes tensors of it another
            raise FormatError(f"{path} cannot be read: {first_line(error)}", "fetch it again") from error
    else:
        tensors = load_pickle(path, instead="look for a model.safetensors of the same network")
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and (our_name(name) is None or is_plain(tensor)) for name, tensor in tensors.items()
    ):
        raise FormatError(f"{path} does not hold plain tensors of floating-point numbers by name")
    return tensors
