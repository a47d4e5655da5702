"""llama.cpp as a contender in decoding, through llama-cpp-python's bindings of the C functions."""

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nudge.bench.peers import WEIGHTS, NotHereError, Prepared, decoding_figures
from nudge.config import ModelConfig
from nudge.errors import FormatError

TYPES = {"float32": "float32", "bfloat16": "bfloat16", "int8": "q8_0"}  # the suite's dtype: its name for GGUF


def llamacpp(
    *, model: dict[str, Any], work: str, dtype: str, threads: int, device: str, ids: list[list[int]], tokens: int
) -> Prepared:
    """Write the weights as a GGUF file and load it with llama.cpp's defaults."""
    import llama_cpp

    path = Path(work) / f"{dtype}.gguf"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:  # writing needs PyTorch
        try:
            other.submit(_write_gguf, path, ModelConfig(**model), Path(work) / WEIGHTS, TYPES[dtype]).result()
        except FormatError as error:
            raise NotHereError(error.message) from error
    context = _Context(path, threads=threads, n_seq=len(ids), n_ctx=len(ids) * (len(ids[0]) + tokens + 1))
    prompt = np.array(ids)

    def run_round() -> Mapping[str, Any]:
        written = []
        context.forget()
        begun = time.perf_counter()
        new = context.read(prompt, at=0)
        prefilled = time.perf_counter()
        for number in range(tokens):
            written.append(int(new[0]))
            new = context.read(new[:, None], at=prompt.shape[1] + number)
        ended = time.perf_counter()
        return decoding_figures(
            len(ids), tokens, prefill_s=prefilled - begun, decode_s=ended - prefilled, output=written
        )

    return f"llama-cpp-python {llama_cpp.__version__}", run_round


class _Context:
    """A loaded model and its cache of keys and values."""

    def __init__(self, path: Path, *, threads: int, n_seq: int, n_ctx: int) -> None:
        import llama_cpp as lib

        self.lib, self.n_seq = lib, n_seq
        lib.llama_backend_init()
        model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not model:
            raise NotHereError("llama.cpp cannot load the network: its standard error has the reason")
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = n_ctx + 256 * n_seq, n_seq  # llama.cpp rounds each sequence's share up
        params.n_threads = params.n_threads_batch = threads
        self.context = lib.llama_init_from_model(model, params)
        self.n_batch = lib.llama_n_batch(self.context)
        self.batch = lib.llama_batch_init(self.n_batch, 0, 1)

    def forget(self) -> None:
        """Clear the cache."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def read(self, ids: npt.NDArray[np.int64], *, at: int) -> npt.NDArray[np.int64]:
        """Read ids [B, T] from position `at` on; return the likeliest next token of each sequence, [B]."""
        n_tokens = ids.shape[1]
        rows = [(int(ids[b, t]), at + t, b, t == n_tokens - 1) for b in range(len(ids)) for t in range(n_tokens)]
        likeliest = np.zeros(len(ids), dtype=np.int64)
        for start in range(0, len(rows), self.n_batch):
            self._read(rows[start : start + self.n_batch], likeliest)
        return likeliest

    def _read(self, rows: Sequence[tuple[int, int, int, bool]], likeliest: npt.NDArray[np.int64]) -> None:
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if self.lib.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        for i, (_, _, sequence, wanted) in enumerate(rows):
            if wanted:
                logits = self.lib.llama_get_logits_ith(self.context, i)
                likeliest[sequence] = np.ctypeslib.as_array(logits, shape=(self.n_vocab,)).argmax()


def _write_gguf(path: Path, config: ModelConfig, weights: Path, dtype: str) -> None:
    import safetensors.torch

    from nudge.convert.formats import gguf

    gguf.write(path, config, safetensors.torch.load_file(weights), None, dtype=dtype)
