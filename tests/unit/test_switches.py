"""The switches that depart from GPT-2, each alone and all together, in the tests of GPT-2 itself."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nudge import config as configs
from nudge.config import Config, MachineConfig, ModelConfig, SampleConfig
from nudge.errors import ConfigError
from nudge.fast.decoder import PlainReader
from nudge.infer.streams import TokenStream
from nudge.model import sizes
from nudge.model.gpt import GPT, Cache, Rotation, init_weights
from nudge.recipes import RECIPES, recipe

GPT2 = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=24, vocab_size=61)
SWITCHES = [entry.name for entry in dataclasses.fields(ModelConfig) if isinstance(getattr(GPT2, entry.name), bool)]
CASES = [*((name,) for name in SWITCHES), tuple(SWITCHES)]


@pytest.fixture(params=CASES, ids=lambda names: "+".join(names) if len(names) == 1 else "all")
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return dataclasses.replace(GPT2, **dict.fromkeys(request.param, True))


def fresh(config: ModelConfig) -> GPT:
    network = GPT(config)
    init_weights(network, seed=0)
    return network


def outspoken(config: ModelConfig) -> GPT:
    """Return random weights that are large enough for every part to matter."""
    network = fresh(config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.1, generator=generator))
    return network


def tokens(n_tokens: int, batch: int = 2) -> Tensor:
    return torch.randint(GPT2.vocab_size, (batch, n_tokens), generator=torch.Generator().manual_seed(1))


def test_each_switch_changes_what_the_network_says(config: ModelConfig) -> None:
    x = tokens(24)
    ours, plain = outspoken(config), fresh(GPT2)
    shared = {name: value for name, value in ours.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict({**plain.state_dict(), **shared})
    same = torch.allclose(ours(x), plain(x), atol=1e-4)
    assert same == config.is_gpt2


def test_parameters_are_counted_exactly(config: ModelConfig) -> None:
    network = GPT(config)
    counts = sizes.parameter_counts(config)
    assert counts.total == sum(parameter.numel() for parameter in network.parameters())
    assert counts.norms == sum(p.numel() for name, p in network.named_parameters() if "ln_" in name)
    assert counts.head == sum(p.numel() for name, p in network.named_parameters() if name.startswith("head"))
    assert counts.wpe == sum(p.numel() for name, p in network.named_parameters() if name.startswith("wpe"))


def test_the_first_loss_is_that_of_guessing(config: ModelConfig) -> None:
    x = tokens(24, batch=8)
    loss = fresh(config).loss(x, x.roll(-1, dims=1)).item()
    assert loss == pytest.approx(math.log(config.vocab_size), abs=0.05)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_parameter_gets_a_finite_gradient(config: ModelConfig, dtype: str) -> None:
    network, x = outspoken(config), tokens(24)
    with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype == "bfloat16"):
        loss = network.loss(x, x.roll(-1, dims=1))
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("chunks", [[1] * 24, [10] + [1] * 14, [7, 9, 8]], ids=str)
@torch.no_grad()
def test_the_cache_gives_the_logits_of_the_whole_forward(config: ModelConfig, chunks: list[int]) -> None:
    network, x = outspoken(config), tokens(24)
    cache = Cache(network, batch=2)
    logits = torch.cat([network.logits(network.hidden(piece, cache)) for piece in x.split(chunks, dim=1)], dim=1)
    torch.testing.assert_close(logits, network(x), atol=1e-5, rtol=1e-5)


def test_a_window_that_slides_is_read_anew(config: ModelConfig) -> None:
    network = outspoken(config)
    sample = SampleConfig(max_tokens=40, temperature=0, top_k=None)
    stream = TokenStream(
        PlainReader(network, config.block_size),
        [1],
        sample,
        room=config.block_size,
        n_known=config.vocab_size,
        end=None,
    )
    while not stream.ended:
        logits = stream.read()
        with torch.no_grad():
            torch.testing.assert_close(logits, network(torch.tensor([stream.context]))[:, -1], atol=1e-5, rtol=1e-5)
        stream.draw(logits)
    assert stream.slid


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_kept_for_the_backward_pass_is_in_the_forecast(config: ModelConfig, dtype: str) -> None:
    def kept(n_layer: int, batch: int) -> int:
        network = fresh(dataclasses.replace(config, n_layer=n_layer))
        weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        saved: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        x = tokens(24, batch)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
        ):
            network.loss(x, x)
        return sum(saved[at].untyped_storage().nbytes() for at in saved.keys() - weights)

    def forecast(n_layer: int, batch: int) -> int:
        run = Config(model=dataclasses.replace(config, n_layer=n_layer), machine=MachineConfig(dtype=dtype))
        return sizes.memory_of_run(run, micro_batch=batch).activations

    def of_a_layer_and_a_window(count: Callable[[int, int], int]) -> int:
        return count(4, 8) - count(2, 8) - count(4, 4) + count(2, 4)

    assert of_a_layer_and_a_window(forecast) == pytest.approx(of_a_layer_and_a_window(kept), rel=0.02)


def test_only_the_start_of_the_residual_branches_is_zero() -> None:
    zero, plain = fresh(dataclasses.replace(GPT2, zero_init=True)), fresh(GPT2)
    assert zero.config.is_gpt2
    for name, parameter in zero.named_parameters():
        if name.endswith("c_proj.weight"):
            assert not parameter.any()
        else:
            assert torch.equal(parameter, plain.get_parameter(name))


def test_a_rotated_score_depends_on_the_distance_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def score(query_at: int, key_at: int) -> Tensor:
        return (Rotation(query_at, 1, 16, q.device)(q) * Rotation(key_at, 1, 16, q.device)(k)).sum()

    for distance in (0, 1, 7, 100):
        near, far = score(distance, 0), score(900 + distance, 900)
        torch.testing.assert_close(near, far, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(score(0, 0), score(7, 0), atol=1e-2)
    torch.testing.assert_close(Rotation(5, 1, 16, q.device)(q).norm(), q.norm())


def test_rotary_needs_pairs_of_channels() -> None:
    odd = Config(model=ModelConfig(n_head=4, n_embd=12, rotary=True))
    with pytest.raises(ConfigError) as error:
        configs.check(odd)
    assert error.value.code == "config.rotary_odd_head"
    configs.check(dataclasses.replace(odd, model=ModelConfig(n_head=4, n_embd=12)))


def test_only_modern_is_no_gpt2() -> None:
    assert [name for name in RECIPES if not recipe(name).model.is_gpt2] == ["modern"]
    assert {name for name in SWITCHES if getattr(recipe("tiny").model, name)} == set()


def test_a_config_without_the_switches_is_a_gpt2() -> None:
    """Checkpoints that were written before the switches existed hold such a config."""
    values = configs.to_dict(Config())
    for name in SWITCHES:
        del values["model"][name]
    assert configs.from_dict(values).model.is_gpt2
