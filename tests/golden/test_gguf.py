"""GGUF files, read back by the `gguf` package, and loaded by llama.cpp itself where it is installed."""

import ctypes
import dataclasses
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.refusals import refused
from tests.spoken import KINDS, PROMPTS, TEXTS, greedy, speaker, spoken

from nudge.convert import import_export
from nudge.convert.formats import gguf
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import EOT, Tokenizer
from nudge.infer.engine import LanguageModel
from nudge.model.gpt import GPT

library = pytest.importorskip("gguf", reason="GGUF needs its package: pip install -e '.[formats]'")
N_TOKENS = 64
BYTES = tokenizers.get("bytes")
NEAR = {"float32": 0.0, "bfloat16": 2**-8, "q8_0": 2**-7}  # of a matrix's largest weight: what rounding may cost


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return spoken(request.param, request)


def written(model: LanguageModel, folder: Path, dtype: str) -> Path:
    path = folder / "model.gguf"
    gguf.write(path, model.network.config, model.network.state_dict(), model.tokenizer, dtype=dtype)
    return path


@pytest.mark.parametrize("dtype", gguf.DTYPES)
def test_what_is_written_is_what_is_read(dtype: str, tmp_path: Path) -> None:
    model = speaker(BYTES)
    config, state = model.network.config, model.network.state_dict()
    reader = library.GGUFReader(written(model, tmp_path, dtype))
    fields = {key: field.contents() for key, field in reader.fields.items()}
    expected = {
        "general.architecture": "gpt2",
        "general.name": "model",
        "gpt2.block_count": config.n_layer,
        "gpt2.context_length": config.block_size,
        "gpt2.embedding_length": config.n_embd,
        "gpt2.feed_forward_length": 4 * config.n_embd,
        "gpt2.attention.head_count": config.n_head,
        "gpt2.vocab_size": 257,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 256,
        "tokenizer.ggml.add_bos_token": True,
    }
    assert {key: fields[key] for key in expected} == expected
    assert fields["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    assert fields["tokenizer.ggml.token_type"] == [1] * 256 + [3]
    assert fields["tokenizer.ggml.tokens"][10] == "Ċ"  # a newline, in GPT-2's alphabet of bytes

    tensors = {tensor.name: library.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    assert len(tensors) == len(state)
    assert "output.weight" not in tensors, "the head is the embedding"
    theirs = torch.tensor(tensors["token_embd.weight"])
    ours = state["wte.weight"][:257]  # without the rows that stand for no text
    assert (theirs - ours).abs().max() <= NEAR[dtype] * ours.abs().max()
    theirs = torch.tensor(tensors["blk.1.ffn_down.weight"])
    ours = state["blocks.1.mlp.c_proj.weight"].T
    assert (theirs - ours).abs().max() <= NEAR[dtype] * ours.abs().max()
    for name, ours_name in (
        ("blk.0.attn_qkv.bias", "blocks.0.attn.c_attn.bias"),
        ("position_embd.weight", "wpe.weight"),
    ):
        assert np.array_equal(tensors[name], state[ours_name].numpy()), "small tensors are never rounded"


def test_an_export_is_a_folder_with_what_ollama_needs(tmp_path: Path) -> None:
    import_export.export_model(speaker(BYTES), tmp_path / "first", "gguf", dtype="q8_0")
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == ["Modelfile", "first.gguf"]
    assert (tmp_path / "first" / "Modelfile").read_text() == "FROM ./first.gguf\nPARAMETER num_ctx 128\n"


def refuses(model: LanguageModel, folder: Path, code: str, dtype: str | None = None, **values: Any) -> None:
    with refused(f"format.{code}", **values):
        import_export.export_model(model, folder / "out", "gguf", dtype=dtype)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("switch", ["rotary", "untied"])
def test_another_network_than_gpt2_is_refused(switch: str, tmp_path: Path) -> None:
    config = dataclasses.replace(speaker(BYTES).network.config, **{switch: True})
    refuses(LanguageModel(GPT(config), BYTES), tmp_path, "not_gpt2", departures=switch)


def test_a_width_that_has_no_groups_is_refused(tmp_path: Path) -> None:
    config = dataclasses.replace(speaker(BYTES).network.config, n_embd=48)
    model = LanguageModel(GPT(config), BYTES)
    refuses(model, tmp_path, "q8_0_width", dtype="q8_0", n_embd=48)
    import_export.export_model(model, tmp_path / "out", "gguf", dtype="bfloat16")


@pytest.mark.parametrize(
    ("tokenizer", "code", "values"),
    [
        (tokenizers.CharTokenizer("012", has_eot=False), "gguf_no_eot", {}),
        (tokenizers.CharTokenizer("a\0"), "gguf_character", {"code": 0}),
        (tokenizers.CharTokenizer("a\u2581"), "gguf_character", {"code": 0x2581}),
        (tokenizers.CharTokenizer("a\udcff"), "gguf_character", {"code": 0xDCFF}),
        (
            tokenizers.BpeTokenizer("odd", [bytes([b]) for b in range(256)], pattern=r"\S+|\s+", special={EOT: 256}),
            "gguf_split",
            {"tokenizer": "odd"},
        ),
    ],
    ids=["no end", "zero", "their space", "stray byte", "pattern"],
)
def test_a_tokenizer_that_llamacpp_cannot_follow_is_refused(
    tokenizer: Tokenizer, code: str, values: dict[str, Any], tmp_path: Path
) -> None:
    with refused(f"format.{code}", **values):
        import_export.export_model(speaker(tokenizer), tmp_path / "out", "gguf")
    assert list(tmp_path.iterdir()) == []


class Llama:
    """llama.cpp on one file, by its own functions, with a cache of float32."""

    def __init__(self, path: Path) -> None:
        self.lib = pytest.importorskip("llama_cpp", reason="needs llama.cpp: pip install llama-cpp-python")
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        assert self.model, "llama.cpp cannot load the file"
        self.vocabulary = self.lib.llama_model_get_vocab(self.model)

    def encode(self, text: str, *, start: bool = False) -> list[int]:
        data = text.encode()
        ids = (self.lib.llama_token * (len(data) + 8))()
        n = self.lib.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), start, False)
        return ids[:n]

    def decode(self, ids: Sequence[int]) -> bytes:
        piece, data = ctypes.create_string_buffer(512), b""
        for id_ in ids:
            data += piece[: self.lib.llama_token_to_piece(self.vocabulary, id_, piece, len(piece), 0, False)]
        return data

    def greedy(self, ids: list[int], n_tokens: int) -> Iterator[int]:
        params = self.lib.llama_context_default_params()
        params.n_ctx, params.n_threads, params.n_threads_batch = 128, 1, 1
        params.type_k = params.type_v = 0  # float32
        context = self.lib.llama_init_from_model(self.model, params)
        for _ in range(n_tokens):
            tokens = (self.lib.llama_token * len(ids))(*ids)
            assert self.lib.llama_decode(context, self.lib.llama_batch_get_one(tokens, len(ids))) == 0
            logits = self.lib.llama_get_logits_ith(context, -1)
            n_vocab = self.lib.llama_vocab_n_tokens(self.vocabulary)
            ids = [int(np.ctypeslib.as_array(logits, shape=(n_vocab,)).argmax())]
            yield ids[0]
        self.lib.llama_free(context)


def is_tie(model: LanguageModel, ids: list[int]) -> bool:
    """Whether the two likeliest next tokens are closer than the table of float16 from which llama.cpp takes GELU."""
    with torch.no_grad():
        logits = model.network(torch.tensor([ids]))[0, -1]
    first, second = logits.topk(2).values.tolist()
    return (first - second) / logits.std().item() < 0.01


def test_llamacpp_reads_writes_and_speaks_as_we_do(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = speaker(tokenizer)
    llama = Llama(written(model, tmp_path, "float32"))
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert llama.encode(text) == ids
        assert llama.decode(ids).decode() == text
    differ = 0
    for prompt in PROMPTS:
        ids, expected = greedy(model, prompt, N_TOKENS)
        assert llama.encode(prompt, start=True) == ids
        assert len(set(expected)) > 5, "a network that says one word forever proves little"
        theirs = list(llama.greedy(ids, len(expected)))
        if theirs != expected:
            at = next(at for at, pair in enumerate(zip(theirs, expected, strict=True)) if pair[0] != pair[1])
            assert is_tie(model, ids + expected[:at])
            differ += 1
    assert differ <= 1


@pytest.mark.parametrize("dtype", ["bfloat16", "q8_0"])
def test_llamacpp_loads_the_smaller_types(dtype: str, tmp_path: Path) -> None:
    model = speaker(BYTES)
    ids, expected = greedy(model, "First", 1)
    assert list(Llama(written(model, tmp_path, dtype)).greedy(ids, 1)) == expected


def test_a_character_that_llamacpp_does_not_know_ends_the_text(tmp_path: Path) -> None:
    letters = tokenizers.chars(["ab"])
    llama = Llama(written(speaker(letters), tmp_path, "float32"))
    assert llama.encode("a한b") == [0, letters.eot, 1]


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from tests.spoken import speaker
    from nudge.data import tokenizer as tokenizers
    from nudge.errors import MachineError
    from nudge.convert import import_export

    # No file of this process grows beyond the limit: to a program this is what a full disk is.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        import_export.export_model(speaker(tokenizers.get("bytes")), Path(sys.argv[1]), sys.argv[3])
    except MachineError as error:
        print(error.message, error.hint, sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
@pytest.mark.parametrize(("kind", "limit_bytes"), [("gguf", 1_000), ("gguf", 50_000), ("hf", 3_000)])
def test_a_full_disk_leaves_nothing_behind(kind: str, limit_bytes: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path / "out"), str(limit_bytes), kind]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=root)
    assert ended.returncode == 0, ended.stderr
    message, hint = ended.stdout.splitlines()
    assert message.startswith(f"could not write {tmp_path / 'out'}: ")
    assert "make room on the disk" in hint
    assert list(tmp_path.iterdir()) == []


def test_without_its_package_the_words_say_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with refused("machine.gguf_not_installed") as caught:
        import_export.export_model(speaker(BYTES), tmp_path / "out", "gguf")
    assert caught.value.hint.endswith('pip install -e ".[formats]"')
    assert list(tmp_path.iterdir()) == []
