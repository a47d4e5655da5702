"""One module per format of another program. This file has the shared parts: names, sizes and checks."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nudge.config import ModelConfig
from nudge.errors import FormatError, first_line
from nudge.model import sizes
from nudge.runs.tensor_check import is_dense, unpacked_bytes

OUR_TOKENIZER = "nudge_tokenizer.json"  # in the folder of every export that can be imported again
SIZES = {name: name for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")}
_TIED_HEAD = "lm_head.weight"  # wte.weight once more
# DDP; torch.compile; FSDP; recomputed activations. They may wrap the whole network or a part of it.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# In Lightning and the like, the network is the attribute `model`.
_HOLDERS = re.compile(r"^((model|transformer)\.)+(?=(h|blocks|wte|wpe|ln_f|lm_head|head)\.)")
_MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # the causal mask, which old files store as a buffer


def our_name(name: str) -> str | None:
    """Convert a parameter's name in Hugging Face and nanoGPT to ours; None for a causal mask.

    `transformer.h.0.ln_1.weight` -> `blocks.0.ln_1.weight`. `transformer.` may be missing, and the names that wrappers
    add are dropped, in any order: they rename the parameters and change nothing else.
    """
    name = _HOLDERS.sub("", ".".join(part for part in name.split(".") if part not in _WRAPPERS))
    return None if _MASKS.fullmatch(name) else re.sub(r"^h\.", "blocks.", name)


def hf_name(name: str) -> str:
    """Convert our name of a parameter to Hugging Face's: `blocks.0.ln_1.weight` -> `transformer.h.0.ln_1.weight`."""
    return "transformer." + re.sub(r"^blocks\.", "h.", name)


def require_gpt2(config: ModelConfig) -> None:
    """Check that the architecture is exactly GPT-2's, for other programs. Raises: FormatError."""
    if not config.is_gpt2:
        raise FormatError("not_gpt2", departures=", ".join(config.departures))


def read_sizes(values: Mapping[str, Any], source: Path, names: Mapping[str, str] = SIZES) -> ModelConfig:
    """Return the sizes of a network from a file's settings. `names` maps our name of each size to the file's.

    Raises: FormatError for impossible sizes.
    """
    for key in names.values():
        size = values.get(key)
        if type(size) is not int or size < 1:
            got = repr(size) if isinstance(size, int | float | str | None) else type(size).__name__
            raise FormatError("bad_size", path=source, name=key, got=got)
    config = ModelConfig(**{ours: values[key] for ours, key in names.items()})
    if config.n_embd % config.n_head:
        raise FormatError("indivisible_heads", path=source, n_embd=config.n_embd, n_head=config.n_head)
    return config


def load_pickle(path: Path) -> Any:
    """Read a file of torch.save. Only tensors and plain values are accepted; code is refused.

    A zip file is memory-mapped, so tensors that are never used are never read. Raises: FormatError.
    """
    try:
        with warnings.catch_warnings():  # torch warns of old pickles, but reads them
            warnings.simplefilter("ignore")
            if (unpacked := unpacked_bytes(path)) > path.stat().st_size:
                raise FormatError("larger_than_file", path=path, total=unpacked, n_bytes=path.stat().st_size)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FormatError:
        raise
    except pickle.UnpicklingError as error:
        raise FormatError("runs_code", path=path) from error
    except Exception as error:  # damaged bytes make the zip reader and the unpickler raise almost anything
        raise FormatError("unreadable", path=path, error=first_line(error)) from error


def add_tensors(state: dict[str, Tensor], tensors: Any, source: Path) -> None:
    """Add the parameters in a file's `tensors` to `state`, by our names. Raises: FormatError."""
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):  # Lightning's
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict):
        raise FormatError("not_tensors", path=source)
    n_bytes = 0
    for name, tensor in tensors.items():
        ours = our_name(name) if isinstance(name, str) else None
        if not isinstance(name, str) or not (ours is None or _is_plain(tensor)):
            raise FormatError("not_tensors", path=source)
        if ours in state:
            raise FormatError("duplicate_tensor", path=source, tensor=name)
        if ours is not None:
            state[ours] = tensor
            n_bytes += 0 if ours == _TIED_HEAD else tensor.nbytes
    if n_bytes > source.stat().st_size:  # many tensors in the same bytes: a small file would take any memory
        raise FormatError("larger_than_file", path=source, total=n_bytes, n_bytes=source.stat().st_size)


def _is_plain(tensor: Any) -> bool:
    """Return whether it is a tensor of floats that are all in the file."""
    return is_dense(tensor) and tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def transpose_matrix(name: str, tensor: Tensor) -> Tensor:
    """Return a transposed view of a layer's matrix; embeddings and vectors stay unchanged. `name` is ours.

    GPT-2 and nudge store [n_in, n_out]; torch.nn.Linear, and so nanoGPT and llm.c, [n_out, n_in].
    """
    return tensor.t() if tensor.dim() == 2 and name.startswith("blocks.") else tensor


def complete_state(config: ModelConfig, state: dict[str, Tensor], source: Path, *, sizes_in: str) -> dict[str, Tensor]:
    """Check that the parameters are complete, and return them as float32 in the network's order.

    `sizes_in` names the source of the sizes, for the error message. Raises: FormatError.
    """
    _drop_tied_head(state, source)
    # Check these two first: a malicious file could otherwise name sizes for which a huge network is built below.
    _require(state, "wte.weight", [config.vocab_size, config.n_embd], source, sizes_in)
    _require(state, "wpe.weight", [config.block_size, config.n_embd], source, sizes_in)
    n_layer = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    if n_layer != config.n_layer:
        raise FormatError("other_n_layer", path=source, sizes_in=sizes_in, expected=config.n_layer, got=n_layer)
    expected = dict(sizes.parameter_shapes(config))
    for name, shape in expected.items():
        _require(state, name, list(shape), source, sizes_in)
    if unknown := sorted(state.keys() - expected.keys()):
        raise FormatError("unknown_tensors", path=source, n=len(unknown), first=unknown[0])
    return {name: state[name].to(torch.float32).contiguous() for name in expected}


def _require(state: Mapping[str, Tensor], name: str, shape: list[int], source: Path, sizes_in: str) -> None:
    """Check that a parameter is there and has that shape. Raises: FormatError."""
    tensor = hf_name(name)
    if name not in state:
        end = "." + tensor.removeprefix("transformer.")
        if longer := next((other for other in state if other.endswith(end)), None):
            raise FormatError("unknown_prefix", path=source, tensor=longer, prefix=longer.removesuffix(end[1:]))
        raise FormatError("missing_tensor", path=source, tensor=tensor)
    if (got := list(state[name].shape)) != shape:
        raise FormatError("wrong_shape", path=source, tensor=tensor, got=got, sizes_in=sizes_in, expected=shape)


def _drop_tied_head(state: dict[str, Tensor], source: Path) -> None:
    """Remove `lm_head.weight`, which GPT-2 shares with the embedding. Raises: FormatError if the two differ."""
    head = state.pop(_TIED_HEAD, None)
    if head is not None and "wte.weight" in state and not _is_same(head, state["wte.weight"]):
        raise FormatError("untied_head", path=source)


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Return whether the values are equal. NaN equals NaN, and types may differ, as networks diverge or are rounded."""
    if a.shape != b.shape:
        return False
    if a.dtype == b.dtype and torch.equal(a, b):  # without the copies that allclose needs
        return True
    return torch.allclose(a.float(), b.float(), rtol=0, atol=0, equal_nan=True)
