"""nanoGPT's ckpt.pt, import and export.

The matrices are laid out like `torch.nn.Linear`'s, [n_out, n_in]: the transpose of ours. Names are Hugging Face's:

    transformer.h.3.attn.c_attn.weight [3C, C]  <->  blocks.3.attn.c_attn.weight [C, 3C]
    lm_head.weight                              is transformer.wte.weight once more (tied)

Since May 2023 nanoGPT's MLP uses the exact form of GELU, while GPT-2 and nudge use the tanh form: with the same weights
the logits of the two programs differ in about the fourth digit.
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
    SIZES,
    add_tensors,
    complete_state,
    hf_name,
    load_pickle,
    read_sizes,
    require_gpt2,
    transpose_matrix,
)
from nudge.data.foreign import meta_pkl
from nudge.data.tokenizer import CharTokenizer, Tokenizer
from nudge.errors import FormatError

GELU_NOTE = (
    "nanoGPT uses GELU's exact form, GPT-2 and nudge its tanh form: the logits of the two differ in about the fourth "
    "digit"
)
DATASET = "nudge"  # the name of the data in an export: sample.py looks for data/nudge/meta.pkl
_FIRST_BEST_LOSS = 1e9  # train.py's initial best validation loss


def read(path: Path) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    """Return the sizes, the float32 weights by our names, and notes for the user on what is left out or replaced.

    No code in the file is executed. Raises: FormatError if it is damaged, contains code or is not from nanoGPT.
    """
    content = load_pickle(path)
    content = content if isinstance(content, dict) else {}
    args, tensors = content.get("model_args"), content.get("model")
    if content.get("format") == "nudge checkpoint":
        raise FormatError("own_checkpoint", path=path)
    if not isinstance(args, dict) or not isinstance(tensors, dict):
        raise FormatError("not_nanogpt", path=path, missing="model" if isinstance(args, dict) else "model_args")
    config = read_sizes(args, path)
    state: dict[str, Tensor] = {}
    add_tensors(state, tensors, path)
    state = {name: transpose_matrix(name, tensor) for name, tensor in state.items()}
    notes = [GELU_NOTE]
    if args.get("bias", True) is False:
        _add_zero_biases(state)
        notes.append("it has no biases: they are 0 here, which computes the same; training on would change them")
    if isinstance(dropout := args.get("dropout"), float) and dropout:
        notes.append(f"dropout {dropout} is not imported: nudge trains without")
    if "optimizer" in content and (done := content.get("iter_num")):
        notes.append(f"its optimizer's state after {done} updates is not imported")
    return config, complete_state(config, state, path, sizes_in="model_args"), tuple(notes)


def write(
    folder: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer, *, step: int
) -> tuple[str, ...]:
    """Fill `folder` with a ckpt.pt for sample.py and `train.py --init_from=resume`, and with the tokenizer.

    The optimizer's state is a fresh one. A vocabulary of characters becomes a meta.pkl, which nanoGPT looks for in the
    folder of its data. Return notes for the user. Raises: FormatError if the network is not a GPT-2; OSError.
    """
    require_gpt2(config)
    ours = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in state.items()}
    weights = {hf_name(name): transpose_matrix(name, tensor).contiguous() for name, tensor in ours.items()}
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    is_gpt2 = tokenizer.name == "gpt2"  # nanoGPT's default where there is no meta.pkl
    content = {
        "model": weights,
        "optimizer": _fresh_optimizer(state),
        "model_args": {**{name: getattr(config, name) for name in SIZES}, "bias": True, "dropout": 0.0},
        "iter_num": step,
        "best_val_loss": _FIRST_BEST_LOSS,
        "config": {} if is_gpt2 else {"dataset": DATASET},
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
    if not is_gpt2:
        return GELU_NOTE, f"nanoGPT's sample.py knows GPT-2's tokens and characters: it cannot write {tokenizer.name}"
    return (GELU_NOTE,)


def _add_zero_biases(state: dict[str, Tensor]) -> None:
    """Add biases of 0 to a network that was trained without biases; they do not change its output."""
    zero = torch.zeros(())
    for name, weight in list(state.items()):
        if name.startswith(("blocks.", "ln_f.")) and name.endswith(".weight") and weight.dim():
            # An expanded view takes no memory: the shapes, perhaps from a malicious file, are not checked yet.
            state.setdefault(f"{name.removesuffix('weight')}bias", zero.expand(weight.shape[-1]))


def _fresh_optimizer(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the state of train.py's AdamW for these parameters before its first update."""
    empty = {dims: [torch.nn.Parameter(torch.empty(0)) for t in state.values() if t.dim() == dims] for dims in (2, 1)}
    groups = [{"params": empty[2], "weight_decay": 0.1}, {"params": empty[1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95)).state_dict()
