"""The contenders in decoding that run on PyTorch. Each reads a prompt and writes the likeliest tokens after it.

The functions run in the processes of the contenders (nudge.bench.worker). ctranslate2.py and llamacpp.py do not import
PyTorch, so that its threads are not in the same process as theirs.
"""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from nudge.bench import ours
from nudge.bench.limits import check_dtype
from nudge.bench.peers import WEIGHTS, NotHereError, Prepared, decoding_figures
from nudge.bench.training import huggingface_config
from nudge.config import ModelConfig
from nudge.fast.weights import DType
from nudge.machine.device import synchronize
from nudge.model.gpt import GPT, init_weights
from nudge.version import __version__

Read = Callable[[Tensor], Tensor]  # ids [B, T] -> logits [B, V] of the next token


def random_network(model: ModelConfig, seed: int = 0) -> GPT:
    """Return a network with random weights. It is as fast as a trained network."""
    network = GPT(model)
    init_weights(network, seed)
    return network.eval()


def save_weights(network: GPT, work: Path) -> None:
    """Write the weights for all contenders, in float32 and by our names."""
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(state, work / WEIGHTS)


def nudge_decoder(
    *, model: dict[str, Any], work: str, dtype: DType, threads: int, device: str, **prompt: Any
) -> Prepared:
    """Load nudge's decoder as a contender. Raises: NotHereError if it cannot run here."""
    torch.set_num_threads(threads)
    with torch.device("meta"):
        network = GPT(ModelConfig(**model))
    network.load_state_dict(_weights(work), assign=True)
    try:
        begin = ours.reader(
            network.eval().to(device),
            dtype,
            batch=len(prompt["ids"]),
            room=len(prompt["ids"][0]) + prompt["tokens"] + 1,
        )
    except NotImplementedError as error:
        raise NotHereError(str(error)) from error
    return f"nudge {__version__}", _make_round(begin, torch.device(device), **prompt)


def transformers(*, model: dict[str, Any], work: str, dtype: str, threads: int, device: str, **prompt: Any) -> Prepared:
    """Load Hugging Face's GPT2LMHeadModel, called token by token with its cache, which is less work than `generate`."""
    import transformers as hf

    check_dtype(dtype, torch.device(device))
    torch.set_num_threads(threads)
    with torch.device("meta"):
        network: Any = hf.GPT2LMHeadModel(huggingface_config(ModelConfig(**model)))
    state = {
        f"transformer.{re.sub('^blocks', 'h', name)}": tensor.to(device, getattr(torch, dtype))
        for name, tensor in _weights(work).items()
    }
    network.load_state_dict({**state, "lm_head.weight": state["transformer.wte.weight"]}, assign=True)
    network.eval()

    def begin() -> Read:
        cache = hf.DynamicCache()

        def read(ids: Tensor) -> Tensor:
            return network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]

        return read

    return f"transformers {hf.__version__}", _make_round(begin, torch.device(device), **prompt)


def _weights(work: str) -> dict[str, Tensor]:
    """Load copies of the weights, because a single tensor in use would keep the whole mapped file in memory."""
    return {name: tensor.clone() for name, tensor in safetensors.torch.load_file(Path(work) / WEIGHTS).items()}


def _make_round(
    begin: Callable[[], Read], device: torch.device, *, ids: list[list[int]], tokens: int
) -> Callable[[], Mapping[str, Any]]:
    """Return a function that reads the prompt `ids` [B, T], writes `tokens` more for each sequence, and times it."""
    prompt = torch.tensor(ids, device=device)

    @torch.inference_mode()
    def run_round() -> Mapping[str, Any]:
        written = []
        synchronize(device)
        begun = time.perf_counter()
        read = begin()
        new = read(prompt).argmax(-1, keepdim=True).to(device)
        synchronize(device)
        prefilled = time.perf_counter()
        for _ in range(tokens):
            written.append(new)
            new = read(new).argmax(-1, keepdim=True).to(device)
        synchronize(device)
        ended = time.perf_counter()
        output = torch.cat(written, dim=1)[0].tolist()
        return decoding_figures(
            len(ids), tokens, prefill_s=prefilled - begun, decode_s=ended - prefilled, output=output
        )

    return run_round
