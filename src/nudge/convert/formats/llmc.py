"""llm.c's checkpoint .bin, import and export: version 3 holds float32, version 5 bfloat16.

A header of 256 int32: magic number, version, block_size, vocab_size, n_layer, n_head, n_embd, rows of wte; zeros. Then
the parameters, one kind after another, each for all layers in order. The matrices are [n_out, n_in], the transpose of
ours, and wte is padded with rows of zeros to a multiple of 128. Everything is little-endian.

Source: llm.c's train_gpt2.py (write_model), train_gpt2.c and train_gpt2.cu (gpt2_build_from_checkpoint).
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert.formats import OUR_TOKENIZER, read_sizes, require_gpt2, transpose_matrix
from nudge.data.tokenizer import Tokenizer
from nudge.errors import FormatError, first_line
from nudge.model.sizes import parameter_counts
from nudge.util import files

MAGIC = 20240326
NAMES = {"float32": "model.bin", "bfloat16": "model_bf16.bin"}  # llm.c's usual file names
_VERSIONS = {3: torch.float32, 5: torch.bfloat16}
_HEADER = struct.Struct("<256i")
_TOKENIZER_MAGIC, _TOKENIZER_VERSION = 20240328, 2
_ROWS = 128  # wte is padded to a multiple of this
_PARTS = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")


def is_checkpoint(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a checkpoint of llm.c."""
    return head[:4] == struct.pack("<i", MAGIC)


def read(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the sizes and the float32 weights by our names, without the padding of wte.

    Raises: FormatError if it is not a checkpoint of llm.c, has another version, or its length does not match its sizes.
    """
    try:
        with path.open("rb") as file:
            config, rows, dtype = _read_header(file.read(_HEADER.size), path)
            n_numbers = parameter_counts(config).total + (rows - config.vocab_size) * config.n_embd
            expected = _HEADER.size + n_numbers * dtype.itemsize
            if (n_bytes := path.stat().st_size) != expected:
                raise FormatError("wrong_length", path=path, got=n_bytes, expected=expected)
            state = {}
            for name, shape in _parameters(config, rows):
                data = bytearray(file.read(shape.numel() * dtype.itemsize))
                values = torch.frombuffer(data, dtype=dtype).view(shape).to(torch.float32)
                state[name] = transpose_matrix(name, values).contiguous()
    except OSError as error:
        raise FormatError("unreadable", path=path, error=error.strerror or first_line(error)) from error
    state["wte.weight"] = state["wte.weight"][: config.vocab_size].clone()
    return config, state


def write(
    folder: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer, *, dtype: str = "float32"
) -> None:
    """Fill `folder` with the checkpoint in `dtype`, and with the tokenizer in llm.c's format and in ours.

    Raises: FormatError if the network is not a GPT-2; OSError.
    """
    write_checkpoint(folder / NAMES[dtype], config, state, dtype=dtype)
    (folder / "gpt2_tokenizer.bin").write_bytes(_tokenizer_file(tokenizer))
    tokenizer.save(folder / OUR_TOKENIZER)


def write_checkpoint(path: Path, config: ModelConfig, state: Mapping[str, Tensor], *, dtype: str = "float32") -> None:
    """Write only the checkpoint. Raises: FormatError if the network is not a GPT-2; OSError."""
    require_gpt2(config)
    version, stored_as = next((v, kind) for v, kind in _VERSIONS.items() if str(kind) == f"torch.{dtype}")
    rows = -(-config.vocab_size // _ROWS) * _ROWS
    sizes = (config.block_size, config.vocab_size, config.n_layer, config.n_head, config.n_embd, rows)
    with files.atomic_writer(path) as file:
        file.write(_header(MAGIC, version, *sizes))
        for name, shape in _parameters(config, rows):
            tensor = transpose_matrix(name, state[name].detach().cpu()).to(stored_as)
            if name == "wte.weight":
                tensor = F.pad(tensor, (0, 0, 0, rows - config.vocab_size))
            assert tensor.shape == shape, f"{name} is {list(tensor.shape)}, expected {list(shape)}"
            file.write(tensor.flatten().view(torch.uint8).numpy().tobytes())


def _header(*values: int) -> bytes:
    return _HEADER.pack(*values, *[0] * (256 - len(values)))


def _read_header(head: bytes, path: Path) -> tuple[ModelConfig, int, torch.dtype]:
    """Return the sizes, the rows of wte with padding, and the type of the weights. Raises: FormatError."""
    if len(head) < _HEADER.size:
        raise FormatError("wrong_length", path=path, got=len(head), expected=_HEADER.size)
    magic, version, block_size, vocab_size, n_layer, n_head, n_embd, rows, *_ = _HEADER.unpack(head)
    if magic != MAGIC:
        raise FormatError("not_llmc", path=path, got=magic, expected=MAGIC)
    if version not in _VERSIONS:
        raise FormatError("llmc_version", path=path, got=version)
    sizes = {"block_size": block_size, "vocab_size": vocab_size, "n_layer": n_layer, "n_head": n_head, "n_embd": n_embd}
    config = read_sizes(sizes, path)
    if rows < vocab_size:
        raise FormatError("too_few_rows", path=path, got=rows, expected=vocab_size)
    return config, rows, _VERSIONS[version]


def _parameters(config: ModelConfig, rows: int) -> Iterator[tuple[str, torch.Size]]:
    """Yield our name and the stored shape of each parameter in the file's order."""
    C = config.n_embd
    widths = {"attn.c_attn": (3 * C, C), "attn.c_proj": (C, C), "mlp.c_fc": (4 * C, C), "mlp.c_proj": (C, 4 * C)}
    yield "wte.weight", torch.Size((rows, C))
    yield "wpe.weight", torch.Size((config.block_size, C))
    for part in _PARTS:
        weight = widths.get(part, (C,))
        for kind, shape in (("weight", weight), ("bias", weight[:1])):
            for layer in range(config.n_layer):
                yield f"blocks.{layer}.{part}.{kind}", torch.Size(shape)
    yield "ln_f.weight", torch.Size((C,))
    yield "ln_f.bias", torch.Size((C,))


def _tokenizer_file(tokenizer: Tokenizer) -> bytes:
    """Return the bytes of llm.c's tokenizer file: a 256-int32 header, then each token's length (1-255) and bytes."""
    eot = (*tokenizer.opening, 0)[0]  # llm.c's samples begin with this token, so there must be one
    head = (_TOKENIZER_MAGIC, _TOKENIZER_VERSION, tokenizer.vocab_size, eot)
    names = {id_: name.encode() for name, id_ in tokenizer.special.items()}
    texts = [(tokenizer.token_bytes(i) or names.get(i, b"?"))[:255] for i in range(tokenizer.vocab_size)]
    return _header(*head) + b"".join(bytes([len(text)]) + text for text in texts)
