"""nanoGPT's ckpt.pt, in and out.

Its matrices are those of `torch.nn.Linear`, [n_out, n_in]: the transpose of ours. Names are Hugging Face's:

    transformer.h.3.attn.c_attn.weight [3C, C]  <->  blocks.3.attn.c_attn.weight [C, 3C]
    lm_head.weight                              is transformer.wte.weight once more (tied)

Its MLP bends with GELU in its exact form since May 2023, GPT-2 and nudge with the tanh form: with the same weights the
logits of the two programs differ in about the fourth digit.
Source: nanoGPT's model.py, train.py, sample.py and data/shakespeare_char/prepare.py; its commit 594068e7.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert.formats import (
    OUR_TOKENIZER,
    check_parameters,
    drop_tied_head,
    is_plain,
    load_pickle,
    read_sizes,
    require_gpt2,
    turned,
)
from nudge.convert.formats.huggingface import our_name, their_name
from nudge.data.foreign import meta_pkl
from nudge.data.tokenizer import CharTokenizer, Tokenizer
from nudge.errors import FormatError

GELU_NOTE = (
    "nanoGPT bends with GELU's exact form, GPT-2 and nudge with its tanh form: the logits of the two differ in about "
    "the fourth digit"
)
DATASET = "nudge"  # the name that an export gives its data: sample.py looks for data/nudge/meta.pkl
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_COMPILED = "_orig_mod."  # what torch.compile puts before each name
_NOT_YET = 1e9  # the best validation loss that train.py itself begins with


def read(path: Path) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    """The sizes, the float32 weights by our names, and in words what of a ckpt.pt is left behind or made equal.

    Nothing in it is executed. Raises: FormatError if it is damaged, wants to run code or is none of nanoGPT's.
    """
    content = _load(path)
    args, tensors = content.get("model_args"), content.get("model")
    if not isinstance(args, dict) or not isinstance(tensors, dict):
        missing = "model" if isinstance(args, dict) else "model_args"
        raise FormatError(f"{path} is not a checkpoint of nanoGPT: it holds no {missing}", _whose(content))
    config = read_sizes({name: args.get(name) for name in _SIZES}, path)
    state = _our_state(tensors, path)
    drop_tied_head(state, path)
    without_bias = args.get("bias", True) is False
    if without_bias:
        _add_zero_biases(state)
    names = check_parameters(config, state, path, asked_by="model_args", their_name=their_name)
    notes = [GELU_NOTE]
    if without_bias:
        notes.append("it has no biases: they are 0 here, which computes the same; training on would move them")
    if isinstance(dropout := args.get("dropout"), float) and dropout:
        notes.append(f"dropout {dropout} is left behind: nudge trains without")
    if "optimizer" in content and (done := content.get("iter_num")):
        notes.append(f"its optimizer's state after {done} updates is left behind")
    return config, {name: state[name].to(torch.float32).contiguous() for name in names}, tuple(notes)


def write(
    folder: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer, *, step: int
) -> tuple[str, ...]:
    """Fill `folder` with a ckpt.pt for sample.py and `train.py --init_from=resume`, and with the tokenizer.

    Its optimizer has not moved yet. Characters become a meta.pkl, which nanoGPT looks for in the folder of its data.
    Returns words for the person. Raises: FormatError if the network is no GPT-2; OSError.
    """
    require_gpt2(config)
    theirs = {their_name(name): _as_theirs(name, tensor) for name, tensor in state.items()}
    theirs["lm_head.weight"] = theirs["transformer.wte.weight"]
    speaks_gpt2 = tokenizer.name == "gpt2"  # what nanoGPT takes where it finds no meta.pkl
    content = {
        "model": theirs,
        "optimizer": _fresh_optimizer(state),
        "model_args": {**{name: getattr(config, name) for name in _SIZES}, "bias": True, "dropout": 0.0},
        "iter_num": step,
        "best_val_loss": _NOT_YET,
        "config": {} if speaks_gpt2 else {"dataset": DATASET},
    }
    try:
        with (folder / "ckpt.pt").open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch's zip writer wraps a failed write
        raise OSError(f"ckpt.pt: {error}") from error
    tokenizer.save(folder / OUR_TOKENIZER)
    if isinstance(tokenizer, CharTokenizer):
        meta_pkl.write(folder / meta_pkl.NAME, tokenizer)
        return GELU_NOTE, f"copy meta.pkl to data/{DATASET}/ of nanoGPT: its sample.py looks for the characters there"
    if not speaks_gpt2:
        return GELU_NOTE, f"nanoGPT knows GPT-2's tokens and characters: its sample.py cannot speak {tokenizer.name}"
    return (GELU_NOTE,)


def _load(path: Path) -> dict[str, Any]:
    content = load_pickle(path, instead="a ckpt.pt that nanoGPT's train.py wrote holds tensors and settings only")
    if not isinstance(content, dict):
        raise FormatError(f"{path} is not a checkpoint of nanoGPT: it holds no model_args")
    return content


def _whose(content: Mapping[str, Any]) -> str:
    if content.get("format") == "nudge checkpoint":
        return "it is nudge's own: give it to the other commands as it is, with the tokenizer.json of its run beside it"
    return "expected a ckpt.pt as nanoGPT's train.py writes it; of Hugging Face, give the folder"


def _our_state(tensors: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = our_name(name.removeprefix(_COMPILED)) if isinstance(name, str) else None
        if not isinstance(name, str) or not (ours is None or is_plain(tensor)):
            raise FormatError(f"{path}: its model does not hold plain tensors of floating-point numbers by name")
        if ours in state:
            raise FormatError(f"{path} holds {name} twice")
        if ours is not None:  # old files carry the causal triangle, which is no parameter
            state[ours] = turned(ours, tensor)
    return state


def _add_zero_biases(state: dict[str, Tensor]) -> None:
    """A sum with 0 is no sum: a network that was trained without biases computes the same with these."""
    zero = torch.zeros(())
    for name, weight in list(state.items()):
        if name.startswith(("blocks.", "ln_f.")) and name.endswith(".weight") and weight.dim():
            # Only a view until the shapes have been checked, so that no hostile one takes memory.
            state.setdefault(f"{name.removesuffix('weight')}bias", zero.expand(weight.shape[-1]))


def _as_theirs(name: str, tensor: Tensor) -> Tensor:
    return turned(name, tensor.detach().to("cpu", torch.float32)).contiguous()


def _fresh_optimizer(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state of the AdamW that nanoGPT makes for these parameters, before its first update, as train.py sets it."""
    empty = {dims: [torch.nn.Parameter(torch.empty(0)) for t in state.values() if t.dim() == dims] for dims in (2, 1)}
    groups = [{"params": empty[2], "weight_decay": 0.1}, {"params": empty[1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95)).state_dict()
