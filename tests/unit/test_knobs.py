"""The mixing desk: what each knob does, that none touches the network, and two facts about GPT-2."""

import dataclasses
import math
import threading

import pytest
import torch
from tests.refusals import refused
from torch import Tensor

from nudge.config import ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.errors import ConfigError
from nudge.look import Knobs, knobs, predict, turn
from nudge.look.parameter_swap import with_parameters
from nudge.look.prediction import kl_divergence
from nudge.model.gpt import GPT, init_weights

BYTES = tokenizers.get("bytes")
CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=257)
CONTEXT = [5, 80, 7, 9, 200]


def make(config: ModelConfig = CONFIG) -> GPT:
    """A network in which every part matters, biases too."""
    network = GPT(config)
    init_weights(network, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.empty(parameter.shape).normal_(0, 0.2, generator=generator))
    return network.eval()


def plain(network: GPT) -> Tensor:
    return network(torch.tensor([CONTEXT]))[0, -1].detach().softmax(-1)


UNTIED = dataclasses.replace(CONFIG, untied=True, rotary=True)


@pytest.mark.parametrize("config", [CONFIG, UNTIED])
def test_all_knobs_at_1_reproduce_the_base_bit_for_bit(config: ModelConfig) -> None:
    network = make(config)
    ones = Knobs(
        attention={0: 1, 1: 1},
        mlp={0: 1, 1: 1},
        heads={(i, h): 1 for i in range(2) for h in range(2)},
        parameters=dict.fromkeys(knobs.names(network), 1),
    )
    turned = turn(network, BYTES, CONTEXT, ones)
    assert ones.moved == 0
    assert torch.equal(turned.base, turned.changed)
    assert turned.kl == 0
    torch.testing.assert_close(turned.base, plain(network))


def test_a_value_set_to_what_it_is_changes_nothing() -> None:
    network = make()
    value = network.wte.weight[9, 3].item()
    turned = turn(network, BYTES, CONTEXT, Knobs(weights={("wte.weight", (9, 3)): value, ("head", (9, 3)): value}))
    assert torch.equal(turned.base, turned.changed)


@pytest.mark.parametrize("factor", [0.0, 0.5, -2.0])
@pytest.mark.parametrize("part", ["attn", "mlp"])
def test_a_block_is_turned_as_a_hook_on_its_output_would(part: str, factor: float) -> None:
    network = make()
    turned = turn(network, BYTES, CONTEXT, Knobs(attention={1: factor}) if part == "attn" else Knobs(mlp={1: factor}))
    handle = getattr(network.blocks[1], part).register_forward_hook(lambda _, __, out: factor * out)
    torch.testing.assert_close(turned.changed, plain(network), rtol=1e-4, atol=1e-6)
    handle.remove()
    assert turned.kl == pytest.approx(kl_divergence(plain(network).log(), turned.changed.log()), rel=1e-3)
    assert turned.kl > 0


def test_a_head_is_turned_where_it_is_read() -> None:
    network = make()
    turned = turn(network, BYTES, CONTEXT, Knobs(heads={(0, 1): 0.25}))
    factors = torch.ones(32)
    factors[16:] = 0.25  # head 1 of 2
    network.blocks[0].attn.c_proj.register_forward_pre_hook(lambda _, args: (args[0] * factors,))
    torch.testing.assert_close(turned.changed, plain(network), rtol=1e-4, atol=1e-6)


def test_knobs_of_one_place_multiply() -> None:
    network, name = make(), "blocks.0.attn.c_proj.weight"
    both = Knobs(attention={0: 0.5}, heads={(0, 0): 3.0}, parameters={name: 2.0}, weights={(name, (0, 0)): 1.5})
    turned = turn(network, BYTES, CONTEXT, both)
    assert both.moved == 4
    with torch.no_grad():
        block = network.blocks[0].attn.c_proj
        block.weight[0, 0] = 1.5
        block.weight *= 0.5 * 2
        block.weight[:16] *= 3
        block.bias *= 0.5
    torch.testing.assert_close(turned.changed, plain(network), rtol=1e-4, atol=1e-6)


def test_muted_blocks_pass_their_input_on() -> None:
    network = make()
    turned = turn(network, BYTES, CONTEXT, Knobs(mlp={0: 2.0}).mute([0, 1]))
    network.blocks = torch.nn.ModuleList()
    torch.testing.assert_close(turned.changed, plain(network))


def test_wte_and_the_tied_head_are_two_knobs() -> None:
    network = make()
    both = {name: turn(network, BYTES, CONTEXT, Knobs(parameters={name: 0.5})) for name in ("wte.weight", "head")}
    hidden = network.hidden(torch.tensor([CONTEXT]))[0, -1]
    torch.testing.assert_close(both["head"].changed, network.logits(0.5 * hidden).detach().softmax(-1))
    network.wte.register_forward_hook(lambda _, __, out: 0.5 * out)
    torch.testing.assert_close(both["wte.weight"].changed, plain(network))
    assert not torch.allclose(both["head"].changed, both["wte.weight"].changed)


def test_the_head_of_an_untied_network() -> None:
    network = make(UNTIED)
    turned = turn(network, BYTES, CONTEXT, Knobs(parameters={"head": 0.5}))
    assert torch.equal(turned.changed, turn(network, BYTES, CONTEXT, Knobs(parameters={"head.weight": 0.5})).changed)
    with torch.no_grad():
        network.head.weight *= 0.5
    torch.testing.assert_close(turned.changed, plain(network))


@pytest.mark.parametrize("block", [0, 1])
def test_a_key_bias_changes_nothing_under_softmax(block: int) -> None:
    """It adds the same number to all scores of a query: q_i . (k_j + b) = q_i . k_j + q_i . b, and softmax is blind to
    that. Only rounding differs: less than 1e-5 of any probability, while query biases change them by more than 1e-3.
    """
    network, name, C = make(), f"blocks.{block}.attn.c_attn.bias", CONFIG.n_embd
    bias = network.get_parameter(name).tolist()
    queries, keys = ({(name, (i,)): 3 * bias[i] for i in third} for third in (range(C), range(C, 2 * C)))
    by_key, by_query = (turn(network, BYTES, CONTEXT, Knobs(weights=values)) for values in (keys, queries))
    torch.testing.assert_close(by_key.changed, by_key.base, rtol=1e-5, atol=0)
    assert ((by_query.changed - by_query.base).abs() / by_query.base).max() > 1e-3


def test_the_network_is_not_touched() -> None:
    network = make()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    own = dict(network.named_parameters())
    everything = Knobs(attention={0: 0}, mlp={1: 3}, heads={(0, 0): -1}, weights={("wpe.weight", (0, 0)): 9.0})
    everything = dataclasses.replace(everything, parameters=dict.fromkeys(knobs.names(network), 0.5))
    turn(network, BYTES, CONTEXT, everything)
    for name, parameter in network.named_parameters():
        assert parameter is own[name]
        assert torch.equal(parameter, before[name])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_another_thread_computes_meanwhile_is_not_disturbed() -> None:
    network = make()
    expected, wrong, done = plain(network), [], threading.Event()

    def compute() -> None:
        while not done.is_set():
            if not torch.equal(plain(network), expected):
                wrong.append(1)

    other = threading.Thread(target=compute)
    other.start()
    for _ in range(100):
        turn(network, BYTES, CONTEXT, Knobs(parameters={"wte.weight": 0.0, "ln_f.weight": 5.0}).mute([0, 1]))
    done.set()
    other.join()
    assert not wrong


def test_a_copy_shares_what_it_does_not_replace() -> None:
    network = make()
    other = with_parameters(network, {"ln_f.bias": torch.zeros(32)})
    assert other.wte.weight is network.wte.weight
    assert other.blocks[0] is not network.blocks[0]
    assert other.ln_f.bias.eq(0).all()
    assert network.ln_f.bias.ne(0).any()


def test_names() -> None:
    assert set(knobs.names(make())) == {*dict(make().named_parameters()), "head"}


@pytest.mark.parametrize(
    ("turned", "code", "values"),
    [
        (Knobs(attention={2: 1}), "no_such_number", {"name": "block", "got": 2, "last": 1}),
        (Knobs(mlp={-1: 0}), "no_such_number", {"name": "block", "got": -1, "last": 1}),
        (Knobs(heads={(0, 7): 0}), "no_such_number", {"name": "head", "got": 7, "last": 1}),
        (Knobs(heads={(9, 0): 0}), "no_such_number", {"name": "block", "got": 9, "last": 1}),
        (Knobs(parameters={"wte.wieght": 1}), "unknown_parameter", {"name": "wte.wieght"}),
        (Knobs(weights={("bloks.0.ln_1.bias", (0,)): 1}), "unknown_parameter", {"name": "bloks.0.ln_1.bias"}),
        (Knobs(weights={("ln_f.bias", (32,)): 1}), "no_such_index", {"shape": [32], "got": [32], "last": [31]}),
        (Knobs(weights={("wpe.weight", (1,)): 1}), "no_such_index", {"shape": [16, 32], "got": [1]}),
        (Knobs(mlp={0: math.nan}), "knob_not_finite", {"name": "blocks.0.mlp"}),
        (Knobs(parameters={"head": 1e39}), "knobs_overflow", {}),
    ],
)
def test_a_knob_that_is_not_there(turned: Knobs, code: str, values: dict[str, object]) -> None:
    with refused(f"config.{code}", **values) as caught:
        turn(make(), BYTES, CONTEXT, turned)
    assert code != "unknown_parameter" or caught.value.hint.startswith("did you mean ")


def test_no_context_is_the_start_of_a_document() -> None:
    network = make()
    assert torch.equal(turn(network, BYTES, [], Knobs()).base, turn(network, BYTES, [BYTES.eot], Knobs()).base)
    with refused("config.context_too_long", got=17, most=16):
        turn(network, BYTES, [0] * 17, Knobs())


def test_the_likeliest_of_both_and_the_rest() -> None:
    network = make()
    turned = turn(network, BYTES, CONTEXT, Knobs(mlp={0: 0.0, 1: -1.0}))
    top = turned.top(4)
    tokens = [moved.token for moved in top]
    by_base, by_changed = (p.sort(descending=True).indices[:4].tolist() for p in (turned.base, turned.changed))
    assert tokens == by_base + [token for token in by_changed if token not in by_base]
    assert len(tokens) > 4, "this example shows no newcomer"
    assert [moved.before for moved in top] == turned.base[tokens].tolist()
    assert [moved.after for moved in top] == turned.changed[tokens].tolist()
    before, after = turned.rest(tokens)
    assert before == pytest.approx(1 - sum(moved.before for moved in top), abs=1e-6)
    assert after == pytest.approx(1 - sum(moved.after for moved in top), abs=1e-6)
    assert not turned.same


def test_a_base_that_is_known_is_not_asked_for_again() -> None:
    network = make()
    base, turned_up = predict(network, BYTES, CONTEXT), Knobs(attention={0: 2.0})
    alone, told = (turn(network, BYTES, CONTEXT, turned_up, base=known) for known in (None, base))
    assert torch.equal(alone.changed, told.changed)
    assert (told.base is base.probabilities, told.kl) == (True, alone.kl)
    assert turn(network, BYTES, CONTEXT, Knobs(), base=base).same
    with refused("config.base_of_other_context"):
        turn(network, BYTES, CONTEXT[1:], turned_up, base=base)


def test_one_value_as_trained() -> None:
    network = make()
    assert knobs.value(network, "wte.weight", (9, 3)) == network.wte.weight[9, 3].item()
    assert knobs.value(network, "head", (9, 3)) == network.wte.weight[9, 3].item()
    for name, index in (("wte.weight", (9,)), ("wte.weight", (257, 0)), ("wte.wait", (0, 0))):
        with pytest.raises(ConfigError):
            knobs.value(network, name, index)
