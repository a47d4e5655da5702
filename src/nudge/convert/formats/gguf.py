"""GGUF, the file that llama.cpp, Ollama and LM Studio load, with sizes, tokenizer and weights. Export only.

    wte.weight                   ->  token_embd.weight      (also the head, as there is no output.weight)
    blocks.3.attn.c_attn.weight  ->  blk.3.attn_qkv.weight  ([n_in, n_out] here, [n_out, n_in] there)

Source: ggml/docs/gguf.md and llama.cpp/src/llama-vocab.cpp.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert.formats import require_gpt2
from nudge.convert.formats.tokenizer_json import name_ids, printable_vocabulary
from nudge.data import bpe
from nudge.data.published_vocab import CL100K_PATTERN, GPT2_PATTERN
from nudge.data.tokenizer import BpeTokenizer, CharTokenizer, Tokenizer
from nudge.errors import FormatError, MachineError

# The types of the matrices; norms, biases and positions stay float32. q8_0: int8, with a scale for every 32 weights.
DTYPES = {"float32": "F32", "bfloat16": "BF16", "q8_0": "Q8_0"}
_Q8_0_GROUP = 32

_NORMS = {"ln_1": "attn_norm", "ln_2": "ffn_norm"}
_LINEARS = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
_MATRICES = tuple(f"{name}.weight" for name in ("token_embd", *_LINEARS.values()))

# llama.cpp's names for the ways to split text before bytes are merged. For cl100k it has only the original pattern.
# Ours takes the white space at the end of a text in one piece, which changes no id: no token of cl100k has spaces after
# its last newline, so no merge crosses the place where the original splits.
_SPLITS = {GPT2_PATTERN: "gpt-2", bpe.PATTERN: "llama-bpe", CL100K_PATTERN: "llama-bpe"}
_NO_MERGE = "\ufffd \ufffd"  # llama.cpp requires a merge; these two stand for no byte, so it is never applied
_SPACE = "\u2581"  # llama.cpp's space in tokens that are not made of bytes


def write(
    path: Path,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    tokenizer: Tokenizer | None,
    *,
    dtype: str = "float32",
) -> None:
    """Write the network as one file with its matrices in `dtype`. Without a tokenizer the file has only ids.

    Rows of the embedding beyond the tokenizer are left out: they have no text, and nudge never samples them.
    Raises: FormatError if the network is not a GPT-2, or llama.cpp cannot reproduce its tokenizer; MachineError without
    the package gguf; OSError.
    """
    require_gpt2(config)
    if dtype == "q8_0" and config.n_embd % _Q8_0_GROUP:
        raise FormatError("q8_0_width", group=_Q8_0_GROUP, n_embd=config.n_embd)
    try:
        import gguf
    except ImportError:
        raise MachineError("gguf_not_installed") from None
    n_rows = config.vocab_size if tokenizer is None else tokenizer.vocab_size
    out = gguf.GGUFWriter(path, "gpt2")
    out.add_type("model")
    out.add_name(path.stem)
    out.add_file_type(gguf.LlamaFileType["ALL_F32" if dtype == "float32" else f"MOSTLY_{DTYPES[dtype]}"])
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_sizes(out, config, n_rows)
    if tokenizer is None:
        out.add_tokenizer_model("none")
    else:
        _add_tokenizer(out, tokenizer)
    tensors = dict(_tensors(config, state, n_rows))
    types = {name: gguf.GGMLQuantizationType[DTYPES[dtype] if name.endswith(_MATRICES) else "F32"] for name in tensors}
    for name, tensor in tensors.items():
        n_bytes = int(np.prod(gguf.quant_shape_to_byte_shape(tensor.shape, types[name])))
        out.add_tensor_info(name, tensor.shape, np.dtype(np.float32), n_bytes, raw_dtype=types[name])
    try:
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_ti_data_to_file()
        for name, tensor in tensors.items():  # one at a time, so that memory holds no second network
            values = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
            out.write_tensor_data(gguf.quantize(values, types[name]))
    finally:
        out.close()


def modelfile(path: Path, config: ModelConfig) -> str:
    """Return a Modelfile for `ollama create NAME -f Modelfile`. num_ctx keeps Ollama from using a longer context."""
    return f"FROM ./{path.name}\nPARAMETER num_ctx {config.block_size}\n"


def _add_sizes(out: Any, config: ModelConfig, n_rows: int) -> None:
    out.add_block_count(config.n_layer)
    out.add_context_length(config.block_size)
    out.add_embedding_length(config.n_embd)
    out.add_feed_forward_length(4 * config.n_embd)
    out.add_head_count(config.n_head)
    out.add_layer_norm_eps(1e-5)
    out.add_vocab_size(n_rows)


def _tensors(config: ModelConfig, state: Mapping[str, Tensor], n_rows: int) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor with llama.cpp's name and layout."""
    yield "token_embd.weight", state["wte.weight"][:n_rows]
    yield "position_embd.weight", state["wpe.weight"]
    yield "output_norm.weight", state["ln_f.weight"]
    yield "output_norm.bias", state["ln_f.bias"]
    for layer in range(config.n_layer):
        for ours, stored_as in (_NORMS | _LINEARS).items():
            weight = state[f"blocks.{layer}.{ours}.weight"]
            yield f"blk.{layer}.{stored_as}.weight", weight.T if ours in _LINEARS else weight
            yield f"blk.{layer}.{stored_as}.bias", state[f"blocks.{layer}.{ours}.bias"]


def _add_tokenizer(out: Any, tokenizer: Tokenizer) -> None:
    if isinstance(tokenizer, CharTokenizer):
        _add_characters(out, tokenizer)
    else:
        _add_byte_level(out, tokenizer)
    out.add_bos_token_id(tokenizer.eot)
    out.add_eos_token_id(tokenizer.eot)
    out.add_add_bos_token(True)  # training documents and `nudge sample` prompts start with this token
    out.add_add_eos_token(False)


def _add_byte_level(out: Any, tokenizer: Tokenizer) -> None:
    # Without merges any split gives the same ids.
    pattern = tokenizer.pattern if isinstance(tokenizer, BpeTokenizer) else GPT2_PATTERN
    if pattern not in _SPLITS:
        raise FormatError("gguf_split", tokenizer=tokenizer.name)
    tokens, merges = printable_vocabulary(tokenizer)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(_SPLITS[pattern])
    out.add_token_merges([" ".join(pair) for pair in merges] or [_NO_MERGE])
    _add_tokens(out, tokens, tokenizer)


def _add_characters(out: Any, tokenizer: CharTokenizer) -> None:
    """Add the characters as T5's pieces, all equally likely: there is only one way to split a text into them.

    llama.cpp reads a character that is not in the vocabulary as end-of-text.
    """
    if not tokenizer.has_eot:
        raise FormatError("gguf_no_eot")
    bad = next((c for c in tokenizer.characters if c in ("\0", _SPACE) or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        raise FormatError("gguf_character", code=ord(bad))
    out.add_tokenizer_model("t5")
    out.add_unk_token_id(tokenizer.eot)
    out.add_add_space_prefix(False)
    out.add_remove_extra_whitespaces(False)
    out.add_token_scores([0.0] * tokenizer.vocab_size)
    _add_tokens(out, [_SPACE if c == " " else c for c in tokenizer.characters], tokenizer)


def _add_tokens(out: Any, tokens: Sequence[str], tokenizer: Tokenizer) -> None:
    """Add the list of tokens with their types: the `tokens` of text, then special and unused ids."""
    import gguf

    kinds = gguf.TokenType
    special = set(tokenizer.special.values())
    beyond = [kinds.CONTROL if id_ in special else kinds.UNUSED for id_ in range(len(tokens), tokenizer.vocab_size)]
    out.add_token_list(list(name_ids(tokens, tokenizer, tokenizer.vocab_size)))
    out.add_token_types([*[kinds.NORMAL] * len(tokens), *beyond])
