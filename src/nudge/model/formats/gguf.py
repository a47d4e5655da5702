"""GGUF, the one file that llama.cpp, Ollama and LM Studio load: sizes, tokenizer and weights. Out only.

    wte.weight                  ->  token_embd.weight        (without an output.weight it is the head, too)
    blocks.3.attn.c_attn.weight ->  blk.3.attn_qkv.weight    (ours is [n_in, n_out], theirs [n_out, n_in])

Source: ggml/docs/gguf.md and llama.cpp/src/llama-vocab.cpp.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nudge.config import ModelConfig
from nudge.data import bpe, ranks
from nudge.data.tokenizer import GPT2_PATTERN, BpeTokenizer, ByteTokenizer, CharTokenizer, Tokenizer
from nudge.errors import FormatError, MachineError, TokenizerError
from nudge.model.formats import require_gpt2

# The matrices' type, and what llama.cpp calls such a file. Norms, biases and positions stay float32.
DTYPES = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
Q8_0_GROUP = 32  # weights that share a scale

# Where a layer's tensors go. The last four are matrices, which llama.cpp stores with a row for each output.
_LAYER = {
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_TURNED = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")

# The names under which llama.cpp knows how text is split before bytes are merged. cl100k's split has none: white space
# with a newline in it that ends a text is one piece there, two in llama.cpp.
_SPLITS = {GPT2_PATTERN: "gpt-2", bpe.PATTERN: "llama-bpe"}
_NO_MERGE = "\ufffd \ufffd"  # llama.cpp wants at least one; these two stand for no byte, so they never meet
_SPACE = "\u2581"  # how llama.cpp spells a space where tokens are not made of bytes


def write(
    path: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer | None, dtype: str = "f32"
) -> None:
    """Write the network as one file, its matrices in `dtype`; without a tokenizer it reads and writes ids only.

    Raises: FormatError if it is no GPT-2, or llama.cpp cannot follow its tokenizer exactly; MachineError without the
    package gguf; OSError.
    """
    require_gpt2(config)
    if dtype not in DTYPES:
        raise FormatError(f"a GGUF file here holds {', '.join(DTYPES)}, not {dtype}", "--dtype f32")
    if dtype == "q8_0" and config.n_embd % Q8_0_GROUP:
        raise FormatError(
            f"q8_0 scales {Q8_0_GROUP} weights together, and n_embd {config.n_embd} is not divisible by that",
            "--dtype bf16, or f32",
        )
    gguf = _library()
    out = gguf.GGUFWriter(path, "gpt2")
    out.add_type("model")
    out.add_name(path.stem)
    out.add_file_type(gguf.LlamaFileType[DTYPES[dtype]])
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_block_count(config.n_layer)
    out.add_context_length(config.block_size)
    out.add_embedding_length(config.n_embd)
    out.add_feed_forward_length(4 * config.n_embd)
    out.add_head_count(config.n_head)
    out.add_layer_norm_eps(1e-5)
    out.add_vocab_size(config.vocab_size)
    if tokenizer is None:
        out.add_tokenizer_model("none")
    else:
        _add_tokenizer(out, tokenizer, config.vocab_size)
    tensors = {theirs: (tensor, _type(gguf, theirs, dtype)) for theirs, tensor in _tensors(config, state)}
    for theirs, (tensor, kind) in tensors.items():
        n_bytes = int(np.prod(gguf.quant_shape_to_byte_shape(tensor.shape, kind)))
        out.add_tensor_info(theirs, tensor.shape, np.dtype(np.float32), n_bytes, raw_dtype=kind)
    try:
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_ti_data_to_file()
        for tensor, kind in tensors.values():  # converted one at a time, so that no second network is held
            values = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
            out.write_tensor_data(gguf.quantize(values, kind))
    finally:
        out.close()


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise MachineError("writing GGUF needs a package that is not installed", "pip install 'nudge-lm[formats]'") from None
    return gguf


def _tensors(config: ModelConfig, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their names and the tensors as they lie there."""
    yield "token_embd.weight", state["wte.weight"]
    yield "position_embd.weight", state["wpe.weight"]
    for part in ("weight", "bias"):
        yield f"output_norm.{part}", state[f"ln_f.{part}"]
    for layer in range(config.n_layer):
        for ours, theirs in _LAYER.items():
            weight = state[f"blocks.{layer}.{ours}.weight"]
            yield f"blk.{layer}.{theirs}.weight", weight.T if ours in _TURNED else weight
            yield f"blk.{layer}.{theirs}.bias", state[f"blocks.{layer}.{ours}.bias"]


def _type(gguf: Any, name: str, dtype: str) -> Any:
    matrices = ("token_embd", *(_LAYER[ours] for ours in _TURNED))
    matrix = name.endswith(tuple(f"{stem}.weight" for stem in matrices))
    return gguf.GGMLQuantizationType[dtype.upper() if matrix else "F32"]


def _add_tokenizer(out: Any, tokenizer: Tokenizer, vocab_size: int) -> None:
    gguf = _library()
    match tokenizer:
        case ByteTokenizer():
            model, tokens, merges, split = "gpt2", _printable(tokenizer), [_NO_MERGE], "gpt-2"
        case BpeTokenizer():
            model, tokens, merges, split = "gpt2", _printable(tokenizer), _merges(tokenizer), _split(tokenizer)
        case CharTokenizer():
            model, tokens, merges, split = "t5", _characters(tokenizer), [], ""
        case _:
            raise FormatError(f"llama.cpp has no counterpart of the tokenizer {tokenizer.name}")
    names = {id_: text for text, id_ in tokenizer.special.items() if id_ < vocab_size}
    types = [gguf.TokenType.NORMAL] * len(tokens)
    for id_ in range(len(tokens), vocab_size):
        tokens.append(names.get(id_, f"[UNUSED{id_}]"))
        types.append(gguf.TokenType.CONTROL if id_ in names else gguf.TokenType.UNUSED)
    out.add_tokenizer_model(model)
    out.add_token_list(tokens)
    out.add_token_types(types)
    out.add_bos_token_id(tokenizer.eot)
    out.add_eos_token_id(tokenizer.eot)
    out.add_add_bos_token(True)  # a document starts with it, and so does a prompt of `nudge sample`
    out.add_add_eos_token(False)
    if model == "gpt2":
        out.add_tokenizer_pre(split)
        out.add_token_merges(merges)
    else:
        out.add_token_scores([0.0] * len(tokens))
        out.add_unk_token_id(tokenizer.eot)
        out.add_add_space_prefix(False)
        out.add_remove_extra_whitespaces(False)


def _printable(tokenizer: ByteTokenizer | BpeTokenizer) -> list[str]:
    table = tokenizer.tokens if isinstance(tokenizer, BpeTokenizer) else [bytes([b]) for b in range(256)]
    return [ranks.printable(token) for token in table]


def _merges(tokenizer: BpeTokenizer) -> list[str]:
    return [f"{ranks.printable(left)} {ranks.printable(right)}" for left, right in ranks.merges(tokenizer.tokens)]


def _split(tokenizer: BpeTokenizer) -> str:
    if tokenizer.pattern not in _SPLITS:
        raise FormatError("x")
    return _SPLITS[tokenizer.pattern]


def _characters(tokenizer: CharTokenizer) -> list[str]:
    return [_SPACE if c == " " else c for c in tokenizer.characters]
