"""llama.cpp as a contender that decodes, through llama-cpp-python's bindings of its own functions."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from nudge.bench.rounds import WEIGHTS, NotHereError, Prepared, decoding_figures

TYPES = {"float32": "F32", "bfloat16": "BF16", "int8": "Q8_0"}  # theirs by ours; Q8_0: int8 in groups of 32


def llamacpp(
    *, model: dict[str, Any], work: str, dtype: str, threads: int, device: str, ids: list[list[int]], tokens: int
) -> Prepared:
    """Write a GGUF file of the weights and load it, with llama.cpp's own defaults."""
    import llama_cpp

    path = Path(work) / f"{dtype}.gguf"
    write_gguf(path, model, safetensors.numpy.load_file(Path(work) / WEIGHTS), TYPES[dtype])
    context = _Context(path, threads=threads, n_seq=len(ids), n_ctx=len(ids) * (len(ids[0]) + tokens + 1))
    prompt = np.array(ids)

    def play() -> Mapping[str, Any]:
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

    return f"llama-cpp-python {llama_cpp.__version__}", play


class _Context:
    """A loaded model and its cache of keys and values."""

    def __init__(self, path: Path, *, threads: int, n_seq: int, n_ctx: int) -> None:
        import llama_cpp as lib

        self.lib, self.n_seq = lib, n_seq
        lib.llama_backend_init()
        model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not model:
            raise NotHereError("llama.cpp cannot load the network: its standard error says why")
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = n_ctx + 256 * n_seq, n_seq  # it rounds the share of a sequence
        params.n_threads = params.n_threads_batch = threads
        self.context = lib.llama_init_from_model(model, params)
        self.n_batch = lib.llama_n_batch(self.context)
        self.batch = lib.llama_batch_init(self.n_batch, 0, 1)

    def forget(self) -> None:
        """Begin anew."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def read(self, ids: npt.NDArray[np.int64], *, at: int) -> npt.NDArray[np.int64]:
        """Read ids [B, T], the first at position `at`; the likeliest next token of each sequence, [B]."""
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


def write_gguf(path: Path, model: dict[str, Any], weights: Mapping[str, npt.NDArray[np.float32]], kind: str) -> None:
    """The network as llama.cpp reads it, matrices in `kind` (F32, BF16, Q8_0), without a vocabulary of strings."""
    import gguf

    if kind == "Q8_0" and model["n_embd"] % 32:
        raise NotHereError(f"Q8_0 groups 32 weights, and n_embd {model['n_embd']} is not divisible by that")
    dtype = getattr(gguf.GGMLQuantizationType, kind)
    out = gguf.GGUFWriter(str(path), "gpt2")
    out.add_block_count(model["n_layer"])
    out.add_context_length(model["block_size"])
    out.add_embedding_length(model["n_embd"])
    out.add_feed_forward_length(4 * model["n_embd"])
    out.add_head_count(model["n_head"])
    out.add_layer_norm_eps(1e-5)
    out.add_tokenizer_model("none")
    out.add_vocab_size(model["vocab_size"])

    def add(name: str, tensor: npt.NDArray[np.float32], *, matrix: bool) -> None:
        tensor = np.ascontiguousarray(tensor)
        if matrix and kind != "F32":
            out.add_tensor(name, gguf.quants.quantize(tensor, dtype), raw_dtype=dtype)
        else:
            out.add_tensor(name, tensor)

    add("token_embd.weight", weights["wte.weight"], matrix=True)
    add("position_embd.weight", weights["wpe.weight"], matrix=False)
    norms = {"output_norm": "ln_f"}
    linears: dict[str, str] = {}
    for layer in range(model["n_layer"]):
        ours, theirs = f"blocks.{layer}", f"blk.{layer}"
        norms |= {f"{theirs}.attn_norm": f"{ours}.ln_1", f"{theirs}.ffn_norm": f"{ours}.ln_2"}
        linears |= {
            f"{theirs}.attn_qkv": f"{ours}.attn.c_attn",
            f"{theirs}.attn_output": f"{ours}.attn.c_proj",
            f"{theirs}.ffn_up": f"{ours}.mlp.c_fc",
            f"{theirs}.ffn_down": f"{ours}.mlp.c_proj",
        }
    for theirs, ours in {**norms, **linears}.items():
        weight = weights[f"{ours}.weight"]
        add(f"{theirs}.weight", weight.T if theirs in linears else weight, matrix=theirs in linears)
        add(f"{theirs}.bias", weights[f"{ours}.bias"], matrix=False)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
