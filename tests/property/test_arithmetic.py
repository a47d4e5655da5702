"""How a number was made: what is said must give that number again, for every stage and every index."""

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.refusals import refused

from nudge.config import ModelConfig
from nudge.look.arithmetic import FORMULAS, Arithmetic, explain
from nudge.look.forward_pass import Trace, trace
from nudge.look.stages import ROLES
from nudge.model.gpt import GPT, init_weights

MODELS = {
    "gpt2": ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=12, vocab_size=40),
    "llm_viz": ModelConfig(n_layer=3, n_head=3, n_embd=48, block_size=11, vocab_size=3),
    "modern": ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=12, vocab_size=40, rotary=True, untied=True),
}


@cache
def opened(model: str, T: int, seed: int = 0) -> Trace:
    config, generator = MODELS[model], torch.Generator().manual_seed(seed)
    network = GPT(config)
    init_weights(network, seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.empty(parameter.shape).normal_(0.0, 0.3, generator=generator))
    return trace(network, torch.randint(config.vocab_size, (T,), generator=generator).tolist())


def assert_made_right(made: Arithmetic, opened: Trace) -> None:
    stage = opened[made.name].double()
    assert made.value == pytest.approx(stage[made.index].item(), rel=1e-4, abs=1e-6 * stage.abs().max().item())
    size = max([stage.abs().max().item(), *(abs(term.value) for term in made.terms if made.operation == "sum")])
    assert made.recomputed == pytest.approx(made.value, abs=1e-5 * size)
    assert len(made.terms) <= made.n_terms
    assert made.rest == 0 or (made.operation == "sum" and made.n_terms > len(made.terms))
    for term in made.terms:
        assert not term.factors or math.prod(term.factors) == pytest.approx(term.value, rel=1e-9)


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_the_terms_give_the_value(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(sorted(MODELS)))
    trace = opened(model, data.draw(st.sampled_from([1, 2, 11])), data.draw(st.integers(0, 2)))
    stage = data.draw(st.sampled_from(trace.stages))
    index = [data.draw(st.integers(0, n - 1)) for n in stage.shape]
    made = explain(trace, stage.name, index, n_terms=data.draw(st.sampled_from([1, 3, 8, 1000])))
    assert made.index == tuple(index)
    assert_made_right(made, trace)


@pytest.mark.parametrize("model", MODELS)
def test_every_stage_has_an_arithmetic(model: str) -> None:
    trace = opened(model, 11)
    for stage in trace.stages:
        for index in ([0] * len(stage.shape), [n - 1 for n in stage.shape]):
            assert_made_right(explain(trace, stage.name, index), trace)
    assert FORMULAS.keys() == ROLES.keys()


def test_a_long_sum_lists_its_largest_products_and_the_bias() -> None:
    trace = opened("gpt2", 11)
    made = explain(trace, "blocks.1.mlp.pre", (4, 9), n_terms=5)
    fc = trace.network.get_submodule("blocks.1.mlp.c_fc")
    products = (trace["blocks.1.ln_2"][4].double() * fc.weight[:, 9].detach().double()).tolist()
    order = sorted(range(16), key=lambda c: -abs(products[c]))
    assert [term.label for term in made.terms] == [*(f"channel {c}" for c in order[:5]), "bias"]
    assert [term.value for term in made.terms[:5]] == pytest.approx([products[c] for c in order[:5]])
    assert made.terms[5].value == fc.bias[9].item()
    assert made.rest == pytest.approx(sum(products[c] for c in order[5:]))
    assert made.n_terms == 17
    assert made.operation == "sum"


def test_what_a_head_gives_is_its_share_of_the_output() -> None:
    trace = opened("gpt2", 11)
    made = explain(trace, "blocks.0.attn.out", (7, 3))
    shares = {term.index: term.value for term in made.terms if term.label.startswith("head")}
    assert shares.keys() == {0, 1}
    gathered, weight = trace["blocks.0.attn.heads"], trace.network.blocks[0].attn.c_proj.weight
    K = gathered.size(-1)
    for head, share in shares.items():
        alone = gathered[head, 7] @ weight[head * K : (head + 1) * K, 3]
        assert share == pytest.approx(alone.item(), rel=1e-4, abs=1e-6)


def test_the_pattern_is_a_share_of_what_came_before() -> None:
    trace = opened("gpt2", 11)
    made = explain(trace, "blocks.0.attn.pattern", (1, 4, 2))
    at = {term.label: term.value for term in made.terms}
    scores = trace.scores(0, 1)[4, :5].tolist()
    assert (at["score"], at["largest"]) == (scores[2], max(scores))
    assert at["sum"] == pytest.approx(sum(math.exp(score - max(scores)) for score in scores))
    later = explain(trace, "blocks.0.attn.pattern", (1, 4, 5))
    assert (later.operation, later.value, later.recomputed, later.terms) == ("hidden", 0.0, 0.0, ())


def test_tokens_and_tables() -> None:
    trace = opened("gpt2", 11)
    token = trace.tokens[6]
    assert explain(trace, "tokens", [6]).value == token
    (row,) = explain(trace, "wte", [6, 5]).terms
    assert (row.index, row.value) == (token, trace.network.wte.weight[token, 5].item())
    assert [term.label for term in explain(trace, "embedding", [6, 5]).terms] == ["wte", "wpe"]
    assert explain(opened("modern", 11), "embedding", [6, 5]).formula == "wte"


def test_only_the_residual_stream_is_kept_for_it() -> None:
    asked, config = opened("gpt2", 11), MODELS["gpt2"]
    fresh = trace(asked.network, asked.tokens)
    for stage in fresh.stages:
        explain(fresh, stage.name, [0] * len(stage.shape))
    assert fresh.held_bytes == (config.n_layer + 1) * 11 * config.n_embd * 4


@pytest.mark.parametrize(
    ("name", "index", "n_terms", "code", "values"),
    [
        ("blocks.0.ln_3", (0, 0), 8, "unknown_stage", {"stage": "blocks.0.ln_3"}),
        ("embedding", (0,), 8, "no_such_index", {"got": [0], "shape": [11, 16], "last": [10, 15]}),
        ("embedding", (11, 0), 8, "no_such_index", {"got": [11, 0]}),
        ("blocks.0.attn.q", (0, 0, -1), 8, "no_such_index", {"got": [0, 0, -1]}),
        ("embedding", (0, 0), 0, "below_minimum", {"name": "n_terms", "got": 0}),
    ],
)
def test_what_is_not_there(
    name: str, index: tuple[int, ...], n_terms: int, code: str, values: dict[str, object]
) -> None:
    with refused(f"config.{code}", **values):
        explain(opened("gpt2", 11), name, index, n_terms=n_terms)
