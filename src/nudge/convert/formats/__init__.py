"""One file per format of another program. Here is what they share: which networks can leave, and what must arrive."""

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nudge.config import ModelConfig
from nudge.errors import FormatError, first_line
from nudge.model.gpt import GPT

OUR_TOKENIZER = "nudge_tokenizer.json"  # beside the weights of what can come back, so that the way loses nothing


def require_gpt2(config: ModelConfig) -> None:
    """Raises: FormatError if a network is none that the other programs know, naming what departs."""
    if not config.is_gpt2:
        raise FormatError(
            f"this network is no GPT-2, its config has {', '.join(config.departures)}: other programs would compute "
            "something else with its weights",
            "a model that can be exported is trained without these, for example: nudge train --recipe tiny",
        )


def read_sizes(values: Mapping[str, Any], source: Path) -> ModelConfig:
    """The sizes of a network, by our names, as a file gives them. Raises: FormatError if no network can have them."""
    for name, size in values.items():
        if type(size) is not int or size < 1:
            got = repr(size) if isinstance(size, int | float | str | None) else f"a {type(size).__name__}"
            raise FormatError(f"{source}: {name} is {got}, expected a whole number, at least 1")
    config = ModelConfig(**values)
    if config.n_embd % config.n_head:
        raise FormatError(f"{source}: n_embd {config.n_embd} is not divisible by n_head {config.n_head}")
    return config


def load_pickle(path: Path, *, instead: str) -> Any:
    """What torch.save wrote: only tensors and plain values are taken, code is refused, with `instead` as the hint.

    A file of today's kind is mapped, not copied: what is never looked at is never read. Raises: FormatError.
    """
    try:
        with warnings.catch_warnings():  # what torch thinks of an old or a foreign pickle is said below, if it matters
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise FormatError(
            f"{path} was refused: it is not a plain file of tensors and could run code when loaded", instead
        ) from error
    except Exception as error:  # damaged bytes make the zip reader and the unpickler stumble in every way there is
        raise FormatError(f"{path} cannot be read: {first_line(error)}", "fetch or copy the file again") from error


def is_plain(tensor: Any) -> bool:
    """Whether it is a tensor of numbers which are all in the file, once and in order: no larger than the file."""
    return (
        isinstance(tensor, Tensor)
        and not tensor.is_nested
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        and tensor.is_contiguous()
    )


def drop_tied_head(state: dict[str, Tensor], source: Path) -> None:
    """Take `lm_head.weight` out, which GPT-2 shares with the embedding. Raises: FormatError if it is another one."""
    head = state.pop("lm_head.weight", None)
    if head is not None and "wte.weight" in state and not _is_same(head, state["wte.weight"]):
        raise FormatError(
            f"{source}: lm_head.weight differs from wte.weight",
            "GPT-2's output head is its token embedding; a network with a head of its own cannot be imported",
        )


def _is_same(a: Tensor, b: Tensor) -> bool:
    """NaN is like NaN here, and the type may differ: what has diverged, or was rounded, may be tied all the same."""
    if a.shape != b.shape:
        return False
    if a.dtype == b.dtype and torch.equal(a, b):  # without the memory that the other way takes
        return True
    return torch.allclose(a.float(), b.float(), rtol=0, atol=0, equal_nan=True)


def turned(name: str, tensor: Tensor) -> Tensor:
    """A matrix of a layer the other way round, as a view; embeddings and vectors as they are. `name` is ours.

    GPT-2 and nudge store [n_in, n_out], torch.nn.Linear and with it nanoGPT and llm.c [n_out, n_in].
    """
    return tensor.t() if tensor.dim() == 2 and name.startswith("blocks.") else tensor


def check_parameters(
    config: ModelConfig, state: Mapping[str, Tensor], source: Path, *, asked_by: str, their_name: Callable[[str], str]
) -> list[str]:
    """Every parameter is there in its shape, and nothing else. Returns their names in the network's order.

    `asked_by` is what gave the sizes. Raises: FormatError.
    """

    def require(name: str, shape: tuple[int, ...]) -> None:
        if name not in state:
            raise FormatError(
                f"{source}: {their_name(name)} is missing", "the weights are incomplete: fetch them again"
            )
        if tuple(state[name].shape) != shape:
            raise FormatError(
                f"{source}: {their_name(name)} has shape {list(state[name].shape)}, {asked_by} asks for {list(shape)}"
            )

    # These three first: they bound what is built below, whatever hostile sizes ask for.
    require("wte.weight", (config.vocab_size, config.n_embd))
    require("wpe.weight", (config.block_size, config.n_embd))
    n_layer = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    if n_layer != config.n_layer:
        raise FormatError(f"{source}: {asked_by} says n_layer {config.n_layer}, the weights have {n_layer} layers")
    with torch.device("meta"):
        expected = GPT(config).state_dict()
    for name, parameter in expected.items():
        require(name, tuple(parameter.shape))
    unknown = sorted(state.keys() - expected.keys())
    if unknown:
        raise FormatError(f"{source} holds {len(unknown)} tensors that GPT-2 does not have, the first is {unknown[0]}")
    return list(expected)
