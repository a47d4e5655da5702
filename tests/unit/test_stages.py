"""A forward pass, opened: every stage against the network's own modules, and what a trace holds."""

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.refusals import refused
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nudge.config import ModelConfig
from nudge.look.forward_pass import trace
from nudge.model.gpt import GPT, init_weights

SIZES = {
    "gpt2": ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50),
    "one head": ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=5),
    "llm_viz": ModelConfig(n_layer=3, n_head=3, n_embd=48, block_size=11, vocab_size=3),
    "deep": ModelConfig(n_layer=12, n_head=12, n_embd=96, block_size=64, vocab_size=300),
    "rotary": ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50, rotary=True),
    "untied": ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50, untied=True),
    "both": ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=16, vocab_size=50, rotary=True, untied=True),
}


def random_network(config: ModelConfig, seed: int = 0) -> GPT:
    """Every parameter random, biases and norms too, and large enough that attention is not flat."""
    network = GPT(config)
    init_weights(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.empty(parameter.shape).normal_(0.0, 0.2, generator=generator))
    return network


def random_tokens(config: ModelConfig, T: int | None = None) -> list[int]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(config.vocab_size, (T or config.block_size,), generator=generator).tolist()


def hooked(network: GPT, tokens: list[int]) -> dict[str, Tensor]:
    """The stages as the network's own modules give and take them, seen by forward hooks."""
    seen: dict[str, Tensor] = {}
    handles = []

    def watch(path: str, *, given: str | None = None, got: str | None = None) -> None:
        def hook(module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.update({name: value[0] for name, value in ((given, inputs[0]), (got, output)) if name})

        handles.append(network.get_submodule(path).register_forward_hook(hook))

    watch("wte", got="wte")
    watch("ln_f", got="ln_f")
    for i in range(network.config.n_layer):
        at = f"blocks.{i}"
        watch(at, given=f"before {i}", got=f"{at}.out")
        watch(f"{at}.ln_1", got=f"{at}.ln_1")
        watch(f"{at}.attn.c_attn", got=f"qkv {i}")
        watch(f"{at}.attn.c_proj", given=f"heads {i}", got=f"{at}.attn.out")
        watch(f"{at}.ln_2", given=f"{at}.mid", got=f"{at}.ln_2")
        watch(f"{at}.mlp.c_fc", got=f"{at}.mlp.pre")
        watch(f"{at}.mlp.c_proj", given=f"{at}.mlp.post", got=f"{at}.mlp.out")
    with torch.no_grad():
        seen["logits"] = network(torch.tensor([tokens]))[0]
    for handle in handles:
        handle.remove()
    seen["embedding"] = seen["before 0"]
    seen["probabilities"] = seen["logits"].softmax(-1)
    if not network.config.rotary:
        seen["wpe"] = network.wpe.weight[: len(tokens)].detach()
    T, C, H = len(tokens), network.config.n_embd, network.config.n_head
    for i in range(network.config.n_layer):
        q, k, v = seen[f"qkv {i}"].view(T, 3, H, C // H).permute(1, 2, 0, 3)
        if network.config.rotary:
            q, k = turned(q), turned(k)
        scores = torch.stack([torch.stack([(q[h] * k[h][j]).sum(-1) for j in range(T)], -1) for h in range(H)])
        at = f"blocks.{i}.attn"
        seen |= {f"{at}.q": q, f"{at}.k": k, f"{at}.v": v, f"{at}.scores": scores / math.sqrt(C // H)}
        # Attention to one-hot values is the pattern itself: the fused kernel's own, without looking inside it.
        ones = torch.eye(T).expand(H, T, T)
        seen[f"{at}.pattern"] = F.scaled_dot_product_attention(q[None], k[None], ones[None], is_causal=True)[0]
        seen[f"{at}.heads"] = seen[f"heads {i}"].view(T, H, C // H).transpose(0, 1)
    return seen


def turned(x: Tensor) -> Tensor:
    """x [H, T, K]: pair i of token t as a complex number, turned by t * 10000^(-2i/K)."""
    half = x.size(-1) // 2
    angle = torch.arange(x.size(1))[:, None] * 10_000.0 ** (-torch.arange(half) / half)
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((z.real, z.imag), -1)


def assert_close(got: Tensor, expected: Tensor, name: str) -> None:
    assert got.shape == expected.shape, name
    error = (got - expected).abs().max().item()
    assert error <= 1e-5 * expected.abs().max().item(), f"{name}: off by {error}"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("full", [True, False])
def test_every_stage_is_the_network_s_own(size: str, full: bool) -> None:
    config = SIZES[size]
    network, tokens = random_network(config), random_tokens(config, None if full else 1)
    opened, expected = trace(network, tokens), hooked(network, tokens)
    assert opened["tokens"].tolist() == tokens
    names = [stage.name for stage in opened.stages[1:]]
    assert set(names) == {name for name in expected if " " not in name}
    assert ("wpe" in names) != config.rotary
    for stage in opened.stages[1:]:
        assert_close(opened[stage.name], expected[stage.name], stage.name)
        assert opened[stage.name].shape == stage.shape
        assert opened[stage.name].dtype == torch.float32


@pytest.mark.parametrize("size", ["gpt2", "both"])
def test_a_value_is_the_same_in_any_order_with_any_cap(size: str) -> None:
    network, tokens = random_network(SIZES[size]), random_tokens(SIZES[size])
    opened, expected = trace(network, tokens, cap_bytes=0), hooked(network, tokens)
    for stage in reversed(opened.stages[1:]):
        assert_close(opened.peek(stage.name), expected[stage.name], stage.name)
    assert opened.held_bytes == 0


def test_stages_are_in_the_order_of_the_computation_and_have_a_role() -> None:
    stages = trace(random_network(SIZES["gpt2"]), [1, 2]).stages
    names = [stage.name for stage in stages]
    assert names[:5] == ["tokens", "wte", "wpe", "embedding", "blocks.0.ln_1"]
    assert names[-4:] == ["blocks.1.out", "ln_f", "logits", "probabilities"]
    assert len(set(names)) == len(names) == 4 + 2 * 14 + 3
    for stage in stages:
        assert stage.role.endswith(".")
        assert stage.name == stage.kind if stage.block is None else stage.name.startswith(f"blocks.{stage.block}.")
    assert {stage.kind for stage in stages if stage.name.endswith(".out")} == {"attn.out", "mlp.out", "block.out"}


def test_pieces_are_the_rows_and_heads_of_the_whole() -> None:
    config = SIZES["both"]
    network, tokens = random_network(config), random_tokens(config)
    pieces, whole = trace(network, tokens), trace(network, tokens)
    for head in range(config.n_head):
        assert torch.equal(pieces.pattern(1, head), whole["blocks.1.attn.pattern"][head])
        assert torch.equal(pieces.scores(1, head), whole["blocks.1.attn.scores"][head])
        assert torch.equal(whole.pattern(1, head), whole["blocks.1.attn.pattern"][head])
    assert_close(pieces.logits([3, 0, 3]), whole["logits"][[3, 0, 3]], "logits")
    assert pieces.logits([]).shape == (0, config.vocab_size)


def test_nothing_is_kept_that_was_not_asked_for() -> None:
    config = SIZES["gpt2"]
    opened = trace(random_network(config), random_tokens(config))
    stream = 4 * config.block_size * config.n_embd
    assert opened.held_bytes == 0
    opened.pattern(0, 1)
    assert opened.held_bytes == 4 * config.block_size**2 + stream  # and the residual stream it was made from
    opened.pooled(0, 0)
    opened.peek("blocks.0.mlp.post")
    assert opened.held_bytes == 4 * config.block_size**2 + stream
    opened.peek("probabilities")
    opened.strip(name="logits")
    assert opened.held_bytes == 4 * config.block_size**2 + (config.n_layer + 1) * stream


class Live(TorchDispatchMode):
    """The most bytes of tensors that live at once, of those made while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = {leaf.untyped_storage()._cdata for leaf in given}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage())._cdata not in known:
                self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.storages = {key: (ref, n) for key, (ref, n) in self.storages.items() if not ref.expired()}
        self.peak_bytes = max(self.peak_bytes, sum(n for _, n in self.storages.values()))
        return result


def test_144_heads_of_1024_tokens_stay_under_the_cap() -> None:
    """All of them would be 604 MB. What is held never exceeds the cap; the worst moment takes a few heads more."""
    config = ModelConfig(n_layer=12, n_head=12, n_embd=96, block_size=1024, vocab_size=64)
    head_bytes, cap = 4 * 1024 * 1024, 20_000_000
    opened = trace(random_network(config), random_tokens(config), cap_bytes=cap)
    with Live() as live:
        for layer in range(12):
            for head in range(12):
                rows = opened.pattern(layer, head).sum(-1)
                assert torch.allclose(rows, torch.ones(1024), atol=1e-5)
                assert opened.held_bytes <= cap
    assert opened.held_bytes > cap - 2 * head_bytes  # the cap is made use of
    assert live.peak_bytes > opened.held_bytes  # the measure itself works
    assert live.peak_bytes <= cap + 2.5 * head_bytes + 4_000_000  # scores, masked scores, a mask of bytes; small things
    with Live() as live, refused("config.beyond_cap", needed=50_331_648, cap=cap):
        _ = opened["blocks.3.attn.pattern"]
    assert live.peak_bytes == 0  # refused before it was computed


def test_a_whole_stage_needs_one_head_on_top_of_itself() -> None:
    config = ModelConfig(n_layer=1, n_head=12, n_embd=96, block_size=512, vocab_size=64)
    opened, head_bytes = trace(random_network(config), random_tokens(config)), 4 * 512 * 512
    with Live() as live:
        _ = opened["blocks.0.attn.heads"]
        assert live.peak_bytes <= 4 * head_bytes
        _ = opened.peek("blocks.0.attn.pattern")
    assert live.peak_bytes <= (12 + 4) * head_bytes


def test_what_was_not_used_for_longest_goes_first() -> None:
    config = SIZES["gpt2"]
    one = 4 * config.block_size * config.n_embd  # [T, C]
    opened = trace(random_network(config), random_tokens(config), cap_bytes=4 * one)

    def is_kept(name: str) -> bool:
        return opened.peek(name) is opened.peek(name)

    for name in ("blocks.0.ln_1", "wte", "wpe"):
        _ = opened[name]
    assert opened.held_bytes == 4 * one  # with the embedding
    _ = opened["blocks.0.ln_1"]  # used again, and the embedding is too, for what follows
    _ = opened["blocks.0.attn.out"]
    assert [is_kept(name) for name in ("blocks.0.attn.out", "embedding", "blocks.0.ln_1", "wpe")] == [True] * 4
    assert not is_kept("wte")
    assert opened.held_bytes == 4 * one


@pytest.mark.parametrize(
    ("ask", "less"),
    [
        (lambda t: t["blocks.1.attn.pattern"], "trace.pattern(1, 0)"),
        (lambda t: t["blocks.1.attn.scores"], "trace.scores(1, 0)"),
        (lambda t: t.pattern(1, 1), "trace.pooled(1, 1)"),
        (lambda t: t["logits"], "trace.logits([15])"),
        (lambda t: t["probabilities"], "trace.logits([15])"),
        (lambda t: t["blocks.1.mlp.pre"], "trace.strip('blocks.1.mlp.pre')"),
    ],
)
def test_what_alone_is_beyond_the_cap_is_refused(ask: Callable[[Any], Tensor], less: str) -> None:
    opened = trace(random_network(SIZES["gpt2"]), random_tokens(SIZES["gpt2"]), cap_bytes=1000)
    with refused("config.beyond_cap", cap=1000, less=less) as caught:
        ask(opened)
    assert f"cap_bytes={caught.value.values['needed']}" in caught.value.hint
    assert opened.logits([15]).shape == (1, 50)  # a piece goes
    assert opened.pooled(1, 1, size=4).shape == (4, 4)
    assert opened.strip(name="blocks.1.mlp.pre").values.shape == (16, 128)


def test_what_is_returned_is_the_caller_s_own() -> None:
    opened = trace(random_network(SIZES["gpt2"]), [1, 2, 3])
    asks: list[Callable[[], Tensor]] = [
        lambda: opened["embedding"],
        lambda: opened["blocks.0.out"],
        lambda: opened["wte"],
        lambda: opened.pattern(0, 0),
        lambda: opened.scores(0, 0),
        lambda: opened.logits([0]),
        lambda: opened.pooled(0, 0),
        lambda: opened.strip(name="embedding").values,
        lambda: opened.strip(name="blocks.0.attn.pattern").values,
    ]
    for ask in asks:
        _ = ask()  # from now on kept, if it is at all
        before = ask().clone()
        ask().add_(1)
        assert torch.equal(ask(), before)


def test_the_network_stays_as_it_is() -> None:
    network = random_network(SIZES["gpt2"])
    before = copy.deepcopy(network.state_dict())
    opened = trace(network, [4, 4, 9])
    for stage in opened.stages:
        _ = opened[stage.name]
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad
        assert parameter.grad is None
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    network.loss(torch.tensor([[1, 2]]), torch.tensor([[2, 3]])).backward()  # training goes on as before


@pytest.mark.parametrize(
    ("T", "size", "cell"), [(50, 16, 4), (50, 50, 1), (50, 1, 50), (64, 32, 2), (33, 32, 2), (1, 32, 1)]
)
def test_pooled_is_the_largest_of_each_square(T: int, size: int, cell: int) -> None:
    opened = trace(random_network(SIZES["deep"]), random_tokens(SIZES["deep"], T))
    pattern, starts = opened.pattern(3, 5), range(0, T, cell)
    largest = [[pattern[i : i + cell, j : j + cell].max() for j in starts] for i in starts]
    assert len(largest) <= size
    assert_close(opened.pooled(3, 5, size=size), torch.tensor(largest), "pooled")


def test_a_strip_says_what_it_leaves_out() -> None:
    config = SIZES["deep"]
    opened = trace(random_network(config), random_tokens(config, 50))
    for name in ("embedding", "blocks.1.mlp.post", "logits", "probabilities"):
        strip, whole = opened.strip(name, rows=20, columns=100), opened[name]
        assert strip.row_stride == 3
        assert strip.column_stride == math.ceil(whole.size(1) / 100)
        assert_close(strip.values, whole[:: strip.row_stride, :: strip.column_stride], name)
    of_head = opened.strip(name="blocks.1.attn.pattern", rows=10, columns=10, head=7)
    assert torch.equal(of_head.values, opened.pattern(1, 7)[::5, ::5])
    assert torch.equal(opened.strip(name="blocks.1.attn.q").values, opened["blocks.1.attn.q"][0])
    assert opened.strip(name="tokens").values.flatten().tolist() == list(opened.tokens)


@pytest.mark.parametrize(
    ("tokens", "code", "values"),
    [
        ([], "empty_context", {}),
        ([1] * 17, "context_too_long", {"most": 16}),
        ([1, 50], "unknown_token", {"token": 50}),
        ([-1], "unknown_token", {"token": -1}),
    ],
)
def test_tokens_that_the_network_cannot_read(tokens: list[int], code: str, values: dict[str, int]) -> None:
    with refused(f"config.{code}", **values):
        trace(random_network(SIZES["gpt2"]), tokens)


@pytest.mark.parametrize(
    ("ask", "code", "values"),
    [
        (lambda t: t["blocks.0.attn.patern"], "unknown_stage", {"stage": "blocks.0.attn.patern"}),
        (lambda t: t["blocks.2.out"], "unknown_stage", {"stage": "blocks.2.out"}),
        (lambda t: t.pattern(2, 0), "no_such_number", {"name": "layer", "got": 2, "last": 1}),
        (lambda t: t.scores(0, 2), "no_such_number", {"name": "head", "got": 2, "last": 1}),
        (lambda t: t.pooled(-1, 0), "no_such_number", {"name": "layer", "got": -1}),
        (lambda t: t.pooled(0, 0, size=0), "below_minimum", {"name": "size", "least": 1}),
        (lambda t: t.pattern(0, -1), "no_such_number", {"name": "head", "got": -1}),
        (lambda t: t.logits([3]), "no_such_number", {"name": "position", "got": 3, "last": 2}),
        (lambda t: t.peek("embedding", head=0), "stage_without_heads", {"stage": "embedding"}),
        (lambda t: t.strip(name="blocks.0.attn.q", head=2), "no_such_number", {"name": "head", "got": 2}),
        (lambda t: t.strip(name="embedding", rows=0), "below_minimum", {"name": "rows", "got": 0}),
        (lambda t: trace(t.network, [1], cap_bytes=-1), "below_minimum", {"name": "cap_bytes", "least": 0}),
    ],
)
def test_what_is_not_there(ask: Callable[[Any], object], code: str, values: dict[str, object]) -> None:
    with refused(f"config.{code}", **values):
        ask(trace(random_network(SIZES["gpt2"]), [1, 2, 3]))


def test_what_comes_later_changes_nothing_before_it() -> None:
    network = random_network(SIZES["gpt2"])
    traces = [trace(network, tokens) for tokens in ([5, 6, 7], [5, 6, 7, 8], [5, 6, 7, 9])]
    for a, b in pairwise(traces):
        assert_close(a["blocks.1.attn.heads"][:, :3], b["blocks.1.attn.heads"][:, :3], "heads")
    assert (traces[1].pattern(0, 0).triu(1) == 0).all()
