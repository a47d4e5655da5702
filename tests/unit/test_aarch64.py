"""decode.c on an emulated 64-bit Arm processor against PyTorch's values, as test_kernels.py does for layers.c."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.emulated.machine import PROCESSORS, compile_for, decode
from tests.networks import random_network
from tests.unit.test_decoder import TOLERANCE, rounded

from nudge.config import ModelConfig
from nudge.fast import DTYPES
from nudge.fast.weights import DType, pack_weights

CONFIGS = [
    ModelConfig(n_layer=2, n_head=4, n_embd=128, block_size=20, vocab_size=61),
    ModelConfig(n_layer=2, n_head=7, n_embd=35, block_size=11, vocab_size=65),  # nothing fills a vector
]


@pytest.fixture(scope="module", params=PROCESSORS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_for(request.param, "decode", tmp_path_factory.mktemp("aarch64"))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.n_embd))
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_the_kernels_compute_on_arm_what_pytorch_computes(program: Path, config: ModelConfig, dtype: DType) -> None:
    network = random_network(config, spread=5.0, positions=10.0)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(config.vocab_size, (config.block_size, 5), generator=generator)
    x = torch.randn(5, config.n_embd, generator=generator)
    plain = rounded(network, dtype)
    expected = plain(tokens.t()).transpose(0, 1)
    product = F.gelu(plain.blocks[0].mlp.c_fc(x), approximate="tanh")
    weights = pack_weights(network, dtype)
    logits, got = decode(program, weights, tokens, x, threads=2)
    assert (logits - expected).abs().max() / expected.abs().max() < TOLERANCE[dtype]
    assert (got - product).abs().max() / product.abs().max() < TOLERANCE[dtype]
    for text, threads in ((0, 1), (4, 3)):  # alone, and with another number of threads: the same bits
        alone, _ = decode(program, weights, tokens[:, text : text + 1], x[:1], threads=threads)
        assert torch.equal(alone[:, 0], logits[:, text])
