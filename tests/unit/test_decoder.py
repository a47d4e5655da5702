"""The compiled decoder against the readable network: odd sizes, every type of weights, any number of threads."""

import copy
import dataclasses
import dis
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests import networks
from torch import Tensor

from nudge.config import Config, ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.errors import ConfigError
from nudge.fast import DTYPES, native_loader
from nudge.fast.decoder import Decoder, PlainReader, causal_attention, feed_each
from nudge.fast.kernels import Kernels
from nudge.fast.weights import GROUP, DType, fastest_dtype, onednn_multiplies, pack_weights, quantize, take_over
from nudge.infer import engine
from nudge.infer.engine import LanguageModel
from nudge.model.gpt import GPT, init_weights
from nudge.recipes import recipe
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder

BYTES = tokenizers.get("bytes")
BYTE_MODEL = ModelConfig(n_layer=2, n_head=3, n_embd=48, block_size=24, vocab_size=BYTES.vocab_size)
SIZES = [
    ModelConfig(n_layer=2, n_head=4, n_embd=128, block_size=40, vocab_size=61),
    ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=1, vocab_size=3),
    ModelConfig(n_layer=3, n_head=3, n_embd=48, block_size=11, vocab_size=3),
    ModelConfig(n_layer=2, n_head=7, n_embd=35, block_size=21, vocab_size=65),
    ModelConfig(n_layer=1, n_head=5, n_embd=325, block_size=9, vocab_size=50_257),
    ModelConfig(n_layer=1, n_head=2, n_embd=6, block_size=300, vocab_size=5),
]


def random_network(config: ModelConfig) -> GPT:
    return networks.random_network(config, spread=5.0, positions=10.0)


def random_ids(config: ModelConfig, n_tokens: int | None = None) -> list[int]:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(config.vocab_size, (n_tokens or config.block_size,), generator=generator).tolist()


@pytest.fixture(params=SIZES, ids=lambda config: f"{config.n_layer}x{config.n_embd}-{config.vocab_size}")
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return request.param


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@torch.no_grad()
def rounded(network: GPT, dtype: DType) -> GPT:
    """Return the readable network with its weights rounded to a dtype; it computes in float32."""
    network = copy.deepcopy(network)
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1 or dtype == "float32" or name == "wpe.weight":
            continue
        if dtype == "bfloat16":
            parameter.copy_(parameter.bfloat16().float())
        elif name != "wte.weight":  # also the embeddings of the tokens, which stay bfloat16
            rows, scale = quantize(parameter.t())
            parameter.copy_(((rows[:, : parameter.size(0)].float() - 128) * scale[:, None]).t())
    return network


def one_by_one(decoder: Decoder, ids: list[int]) -> Tensor:
    """Return the logits [T, V] after each token."""
    return torch.cat([decoder.feed([token]) for token in ids])


# bfloat16 and int8 also round the activations: by up to 0.4% of each, or of the largest of 64.
TOLERANCE: dict[DType, float] = {"float32": 1e-5, "bfloat16": 0.01, "int8": 0.04}


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_logits_are_those_of_the_readable_network(config: ModelConfig, dtype: DType) -> None:
    network, ids = random_network(config), random_ids(config)
    expected = rounded(network, dtype)(torch.tensor([ids]))[0]
    difference = (one_by_one(Decoder(network, dtype), ids) - expected).abs().max() / expected.abs().max()
    assert difference < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_a_prompt_is_read_at_once_and_in_parts(dtype: DType) -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=300, vocab_size=31)
    network, ids = random_network(config), random_ids(config)
    expected = rounded(network, "float32" if dtype == "float32" else "bfloat16")(torch.tensor([ids]))[0]
    decoder = Decoder(network, dtype)
    for part in (slice(0, 200), slice(200, 203), slice(203, 204), slice(204, 300)):
        logits = decoder.feed(ids[part])[0]
        assert (logits - expected[part.stop - 1]).abs().max() / expected.abs().max() < TOLERANCE[dtype]
    assert decoder.n_tokens == 300
    decoder.clear()
    assert decoder.n_tokens == 0
    assert (decoder.feed(ids[:5])[0] - expected[4]).abs().max() / expected.abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize(("n_new", "n_all"), [(1, 1), (128, 128), (129, 129), (300, 300), (5, 140), (130, 400)])
def test_attention_of_a_prompt_is_pytorchs(n_new: int, n_all: int) -> None:
    q, k, v = torch.randn(3, n_new, 7), torch.randn(3, n_all, 7), torch.randn(3, n_all, 7)
    seen = torch.ones(n_new, n_all, dtype=torch.bool).tril(n_all - n_new)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    assert torch.allclose(causal_attention(Kernels(q.dtype), q, k, v), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n_embd", [128, 99])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype: DType, n_embd: int, threads: None) -> None:
    config = ModelConfig(n_layer=2, n_head=n_embd // 32, n_embd=n_embd, block_size=40, vocab_size=61)
    ids, decoder = random_ids(config), Decoder(random_network(config), dtype)
    logits = []
    for n_threads in (1, 2, 4, 4, 7):  # also more than a small machine has cores
        torch.set_num_threads(n_threads)
        decoder.clear()
        logits.append(one_by_one(decoder, ids))
    assert all(torch.equal(other, logits[0]) for other in logits)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_sequences_of_different_lengths_are_read_together(config: ModelConfig, dtype: DType) -> None:
    weights = pack_weights(random_network(config), dtype)
    ids = random_ids(config)
    for n_sequences in (1, 2, 5, 64):
        lengths = [i % len(ids) for i in range(n_sequences)]
        together = [Decoder(weights, room=n + 1) for n in lengths]
        alone = [Decoder(weights) for _ in lengths]
        for decoder, n in zip([*together, *alone], [*lengths, *lengths], strict=True):
            if n:
                decoder.feed(ids[:n])
        logits = feed_each(together, [ids[n] for n in lengths])
        expected = torch.cat([decoder.feed([ids[n]]) for decoder, n in zip(alone, lengths, strict=True)])
        assert torch.equal(logits, expected)
        assert [decoder.n_tokens for decoder in together] == [n + 1 for n in lengths]


def with_weights(network: GPT, dtype: DType = "float32") -> LanguageModel:
    return LanguageModel(network, BYTES, weights=pack_weights(network, dtype))


@pytest.mark.parametrize("n_prompt", [1, 5, 23, 24])
@pytest.mark.parametrize("n_tokens", [0, 1, 12, 60])
def test_the_same_tokens_as_without_the_kernels(n_prompt: int, n_tokens: int) -> None:
    plain = LanguageModel(random_network(BYTE_MODEL), BYTES)
    fast = with_weights(copy.deepcopy(plain.network))
    assert isinstance(plain.reader(), PlainReader)
    assert isinstance(fast.reader(), Decoder)
    ids = [BYTES.eot, *range(97, 96 + n_prompt)]
    streams = [model.tokens(ids, max_tokens=n_tokens, temperature=0) for model in (plain, fast)]
    assert list(streams[0]) == list(streams[1])
    assert streams[0].slid == streams[1].slid


@pytest.mark.parametrize("fast", [True, False])
def test_a_batch_writes_what_each_prompt_gives_alone(fast: bool) -> None:
    network = random_network(BYTE_MODEL)
    model = with_weights(network) if fast else LanguageModel(network, BYTES)
    n = 70 if fast else 5  # more than one batch
    prompts = ["abcdefghijklmnopqrstuvw"[: i % 24] for i in range(n)]
    settings = {"max_tokens": 40, "stop": ["q", "zz"]}
    alone = [model.generate(prompt, temperature=0, **settings) for prompt in prompts]
    assert model.generate_batch(prompts, temperature=0, **settings) == alone
    alone = [model.generate(prompt, seed=5 + i, **settings) for i, prompt in enumerate(prompts)]
    assert model.generate_batch(prompts, seed=5, **settings) == alone
    assert len(set(alone)) > 3
    assert len({len(text) for text in alone}) > 1, "no text ended before the others"


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_batch_in_fewer_bits_writes_what_each_prompt_gives_alone(dtype: DType) -> None:
    model = with_weights(random_network(BYTE_MODEL), dtype)
    prompts = ["", "a", "abcdefghijklmnopqrstuvw", "abcdefghijkl"]  # 24 tokens are the whole context
    for temperature in (0.0, 1.2):
        alone = [model.generate(p, max_tokens=30, temperature=temperature, seed=5 + i) for i, p in enumerate(prompts)]
        assert model.generate_batch(prompts, max_tokens=30, temperature=temperature, seed=5) == alone


def test_a_batch_of_nothing_and_bad_prompts() -> None:
    model = with_weights(random_network(BYTE_MODEL))
    assert model.generate_batch([]) == []
    assert model.generate_batch(["a", "b"], max_tokens=0) == ["", ""]
    with pytest.raises(ConfigError) as error:
        model.generate_batch(["a", "a" * 25])
    assert error.value.code == "config.prompt_too_long"
    assert error.value.values["n_tokens"] == 25
    with pytest.raises(ConfigError) as error:
        model.generate_batch(["a"], top_k=0)
    assert error.value.code == "config.out_of_range"
    assert error.value.values["key"] == "top_k"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_that_diverged_does_not_look_sane(dtype: DType) -> None:
    network = random_network(BYTE_MODEL)
    with torch.no_grad():
        network.blocks[0].mlp.c_fc.bias[3] = math.nan
    assert Decoder(network, dtype).feed([1]).isnan().all()
    assert isinstance(with_weights(network, dtype).generate("a", max_tokens=5), str)


@torch.no_grad()
def test_there_is_one_copy_of_the_weights_and_the_network_goes_on_working() -> None:
    network, ids = random_network(BYTE_MODEL), torch.tensor([random_ids(BYTE_MODEL)])
    before, logits = copy.deepcopy(network.state_dict()), network(ids)
    weights = pack_weights(network, "float32")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.allclose(network(ids), logits, atol=1e-4)
    assert network.blocks[0].mlp.c_fc.weight.data_ptr() == weights.layers[0].c_fc.weight.data_ptr()
    assert network.wte.weight.data_ptr() == weights.head.weight.data_ptr()
    weights = pack_weights(network, "bfloat16")
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert network.blocks[0].mlp.c_fc.weight.data_ptr() == weights.layers[0].c_fc.weight.data_ptr()
    assert (network(ids).float() - logits).abs().max() < 0.1 * logits.abs().max()


def test_int8_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(5, 70) * torch.tensor([1.0, 1e-3, 1e3, 0.0, 1.0])[:, None]
    rows, scale = quantize(weight)
    assert rows.shape == (5, 2 * GROUP)
    assert (rows[:, 70:] == 128).all()
    assert (((rows[:, :70].float() - 128) * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()
    assert (rows[3] == 128).all()
    assert rows[[0, 1, 2, 4]].float().sub(128).abs().amax(1).tolist() == [127] * 4


def test_a_switch_that_is_not_gpt_2_is_refused() -> None:
    network = random_network(BYTE_MODEL)
    network.config = dataclasses.replace(BYTE_MODEL, rotary=True)
    before = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    weights, note = take_over(network, "float32")
    assert weights is None
    assert note is not None
    assert note.endswith("they support plain GPT-2 only, not rotary")
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == before


def test_a_product_without_onednn_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = pack_weights(random_network(BYTE_MODEL), "float32")
    x = torch.randn(4, BYTE_MODEL.n_embd)
    with_onednn = weights.layers[0].c_fc(x, gelu=True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not onednn_multiplies(torch.float32)
    assert torch.allclose(weights.layers[0].c_fc(x, gelu=True), with_onednn, atol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "first")
    config = Config(model=BYTE_MODEL)
    network = random_network(BYTE_MODEL)
    checkpoints.save(
        folder, Checkpoint(step=7, config=config, model=network.state_dict(), tokenizer_sha256=BYTES.sha256)
    )
    BYTES.save(folder.tokenizer)
    return folder.path


LOAD_EVERY_TYPE = """
import json, sys
from nudge.fast import DTYPES, native_loader
from nudge.infer import engine
for dtype in DTYPES:
    model = engine.load(sys.argv[1], device="cpu", dtype=dtype)
    print(json.dumps([model.notes, model.generate("ab", max_tokens=50, temperature=0)]))
"""

READ_TOGETHER_AND_ALONE = """
import torch
from tests.networks import random_network
from nudge.config import ModelConfig
from nudge.fast.decoder import Decoder, feed_each
from nudge.fast.weights import pack_weights
odd = ModelConfig(n_layer=2, n_head=7, n_embd=35, block_size=21, vocab_size=65)
for dtype in DTYPES:
    weights = pack_weights(random_network(odd, spread=5.0, positions=10.0), dtype)
    alone, batches = Decoder(weights), [[Decoder(weights) for _ in range(n)] for n in (2, 4, 5)]
    for token in range(odd.block_size):
        expected = alone.feed([token])
        for batch in batches:
            assert (feed_each(batch, [token] * len(batch)) == expected).all(), (dtype, len(batch), token)
"""


def in_another_process(run: Path, script: str = LOAD_EVERY_TYPE, **environment: str) -> list[tuple[list[str], str]]:
    """Return the notes and the text for each type of weights, with other settings of the compiler."""
    command, root = [sys.executable, "-c", script, run], Path(__file__).parents[2]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True, cwd=root)
    return [json.loads(line) for line in done.stdout.splitlines()]


def here(run: Path, dtype: DType) -> str:
    return engine.load(run, device="cpu", dtype=dtype).generate("ab", max_tokens=50, temperature=0)


def test_without_a_compiler_plain_pytorch_decodes_and_a_note_gives_the_reason(run: Path) -> None:
    loaded = in_another_process(run, CC="/nonexistent/cc")
    for notes, _ in loaded:
        assert len(notes) == 1
        assert notes[0].startswith("plain PyTorch decodes")
        assert "/nonexistent/cc" in notes[0]
    assert ["in bfloat16 instead of int8" in notes[0] for notes, _ in loaded] == [False, False, True]
    assert loaded[0][1] == here(run, "float32")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names an x86-64 level")
@pytest.mark.parametrize("level", ["x86-64-v3 -mtune=znver1", "x86-64"])  # for Zen, GCC fuses only some products
def test_a_processor_without_avx_512(run: Path, level: str) -> None:
    older = in_another_process(run, LOAD_EVERY_TYPE + READ_TOGETHER_AND_ALONE, CFLAGS=f"-march={level}")
    assert all(notes == [] for notes, _ in older)
    assert older[0][1] == here(run, "float32")
    assert older[2][1] == here(run, "int8")


def test_the_command_prints_one_line_if_the_kernels_are_missing(run: Path) -> None:
    command = [sys.executable, "-m", "nudge", "sample", run, "--dtype", "int8", "--max-tokens", "3"]
    environment = {**os.environ, "CC": "/nonexistent/cc"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1
    assert "plain PyTorch decodes in bfloat16 instead of int8" in done.stderr


def test_a_dtype_that_does_not_exist(run: Path) -> None:
    with pytest.raises(ConfigError) as error:
        engine.load(run, device="cpu", dtype="int4")  # type: ignore[arg-type]
    assert error.value.code == "config.unknown_choice"
    assert (error.value.values["key"], error.value.values["value"]) == ("dtype", "int4")


def test_a_large_network_writes_in_bfloat16_with_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (GPT(recipe(name).model) for name in ("mini_24k", "gpt2_small"))  # no values: only sizes count
    assert [fastest_dtype(network) for network in (small, large)] == ["float32", "bfloat16"]
    rotary = GPT(dataclasses.replace(large.config, rotary=True))  # for plain PyTorch, which may emulate bfloat16
    assert fastest_dtype(rotary) == "float32"
    monkeypatch.setattr(native_loader, "load", _no_compiler)
    assert fastest_dtype(large) == "float32"


def _no_compiler(name: str) -> None:
    raise native_loader.UnavailableError("no compiler")


def test_what_is_loaded_for_the_cpu_decodes_with_the_kernels(run: Path) -> None:
    model = engine.load(run, device="cpu")
    assert model.notes == ()
    assert isinstance(model.reader(), Decoder)
    assert engine.load(run, device="cpu", dtype="bfloat16").network.wte.weight.dtype == torch.bfloat16


@pytest.mark.slow
def test_a_trained_network_predicts_as_well_with_fewer_bits() -> None:
    """Compare the loss on held-out text, token by token through the kernels; docs/decoding.md has more."""
    config = ModelConfig(n_layer=2, n_head=4, n_embd=64, block_size=64, vocab_size=256)
    network = GPT(config)
    init_weights(network, seed=1)
    text = torch.frombuffer(bytearray(Path(dis.__file__).read_bytes()), dtype=torch.uint8).long()
    train, held_out = text[:-2600], text[-2600:]
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        starts = torch.randint(len(train) - 65, (16, 1), generator=generator) + torch.arange(65)
        optimizer.zero_grad()
        network.loss(train[starts][:, :-1], train[starts][:, 1:]).backward()
        optimizer.step()
    windows = held_out[: 40 * 65].view(40, 65)
    losses = {}
    for dtype in DTYPES:
        decoder = Decoder(copy.deepcopy(network), dtype)
        logits = []
        for window in windows:
            decoder.clear()
            logits.append(one_by_one(decoder, window[:-1].tolist()))
        losses[dtype] = F.cross_entropy(torch.cat(logits), windows[:, 1:].flatten()).item()
    assert losses["float32"] < 2.7, "it has not learned"
    assert abs(losses["bfloat16"] - losses["float32"]) < 0.002
    assert abs(losses["int8"] - losses["float32"]) < 0.01
