"""The probability of every token."""

import math

import pytest
import torch
from tests.refusals import refused

from nudge.config import ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.errors import CheckpointError, ConfigError
from nudge.infer import sampling
from nudge.look import predict
from nudge.look.prediction import kl_divergence
from nudge.model.gpt import GPT, init_weights

BYTES = tokenizers.get("bytes")


def make(vocab_size: int = BYTES.vocab_size) -> GPT:
    network = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=vocab_size))
    init_weights(network, seed=1)
    torch.nn.init.normal_(network.wte.weight, std=0.6)  # probabilities that differ
    return network.eval()


@pytest.mark.parametrize("context", [[5], [5, 6, 7], list(range(16))])
def test_it_is_the_softmax_of_the_networks_own_logits(context: list[int]) -> None:
    network = make()
    prediction = predict(network, BYTES, context)
    expected = network(torch.tensor([context]))[0, -1].detach()
    assert prediction.context == tuple(context)
    assert prediction.probabilities.dtype == torch.float32
    torch.testing.assert_close(prediction.logits, expected)
    torch.testing.assert_close(prediction.probabilities, expected.softmax(-1))
    assert prediction.probabilities.double().sum().item() == pytest.approx(1, abs=1e-5)
    assert not prediction.logits.requires_grad


def test_no_context_is_the_start_of_a_document() -> None:
    network = make()
    assert torch.equal(predict(network, BYTES, []).logits, predict(network, BYTES, [BYTES.eot]).logits)


def test_no_context_of_a_network_that_knows_no_document() -> None:
    with refused("config.no_start_token", last=2):
        predict(make(vocab_size=3), BYTES, [])


def test_ranks_candidates_and_the_rest() -> None:
    prediction = predict(make(), BYTES, [1, 2])
    top = prediction.top(5)
    assert [candidate.rank for candidate in top] == [1, 2, 3, 4, 5]
    assert top[0].token == int(prediction.logits.argmax())
    assert [c.probability for c in top] == prediction.by_rank()[:5].tolist()
    assert all(prediction.rank(c.token) == c.rank for c in top)
    assert sorted(prediction.rank(token) for token in range(257)) == list(range(1, 258))
    assert sum(c.probability for c in top) + prediction.rest(5) == pytest.approx(1, abs=1e-5)
    assert prediction.rest(257) == 0
    assert len(prediction.top(1000)) == 257


def test_equal_tokens_share_a_rank_and_stand_in_the_order_of_ids() -> None:
    network = make()
    with torch.no_grad():
        network.wte.weight[10:20] = network.wte.weight[10]
    prediction = predict(network, BYTES, [1])
    ranks = {prediction.rank(token) for token in range(10, 20)}
    assert len(ranks) == 1
    tied = [c for c in prediction.top(257) if 10 <= c.token < 20]
    assert [c.token for c in tied] == list(range(10, 20))
    assert {c.rank for c in tied} == ranks


def test_loss_and_entropy() -> None:
    network = make()
    prediction = predict(network, BYTES, [3, 4])
    assert prediction.loss(9) == pytest.approx(-math.log(prediction.probability(9)), rel=1e-5)
    entropy = torch.distributions.Categorical(logits=prediction.logits.double()).entropy().item()
    assert prediction.entropy == pytest.approx(entropy, rel=1e-5)
    with torch.no_grad():
        network.wte.weight.zero_()
    even = predict(network, BYTES, [3, 4])
    assert even.entropy == pytest.approx(math.log(257))
    with torch.no_grad():
        network.ln_f.weight.zero_()
        network.ln_f.bias.fill_(100)
        network.wte.weight[7] = 1
    certain = predict(network, BYTES, [3, 4])
    assert certain.entropy == 0
    assert certain.probability(8) == 0
    assert certain.loss(8) == pytest.approx(3200)  # though its probability is too small for a float32
    assert (certain.rank(7), certain.rank(8)) == (1, 2)


def test_what_is_drawn_is_apart_from_what_is_said() -> None:
    network = make()
    plain = predict(network, BYTES, [1, 2])
    assert torch.equal(plain.sampled, plain.probabilities)
    prediction = predict(network, BYTES, [1, 2], temperature=0.7, top_k=4, top_p=0.9)
    assert torch.equal(prediction.probabilities, plain.probabilities)
    expected = sampling.probabilities(plain.logits[None], temperature=0.7, top_k=4, top_p=0.9)[0]
    assert torch.equal(prediction.sampled, expected)
    drawn = prediction.top(20, sampled=True)
    assert 1 <= len(drawn) <= 4
    assert [c.token for c in drawn] == [c.token for c in plain.top(len(drawn))]
    assert sum(c.probability for c in drawn) == pytest.approx(1)
    assert prediction.rest(4, sampled=True) == 0


def test_rows_that_pad_the_vocabulary_are_never_drawn() -> None:
    prediction = predict(make(vocab_size=320), BYTES, [1])
    assert prediction.sampled[257:].sum() == 0
    assert prediction.sampled.sum().item() == pytest.approx(1)
    assert prediction.probabilities[257:].sum() > 0


@pytest.mark.parametrize(
    ("context", "code", "values"),
    [
        ([0] * 17, "context_too_long", {"got": 17, "most": 16}),
        ([257], "unknown_token", {"token": 257, "vocab_size": 257}),
        ([-1], "unknown_token", {"token": -1}),
    ],
)
def test_a_context_that_does_not_fit(context: list[int], code: str, values: dict[str, int]) -> None:
    with refused(f"config.{code}", **values):
        predict(make(), BYTES, context)


def test_a_token_that_is_not_there() -> None:
    prediction = predict(make(), BYTES, [1])
    for ask in (prediction.rank, prediction.loss, prediction.probability):
        with refused("config.unknown_token", token=-1):
            ask(-1)


def test_impossible_sampling() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        predict(make(), BYTES, [1], temperature=-1)


def test_a_network_that_diverged() -> None:
    network = make()
    with torch.no_grad():
        network.ln_f.bias[0] = math.nan
    with pytest.raises(CheckpointError, match="are not numbers"):
        predict(network, BYTES, [1])


def test_kl_divergence() -> None:
    a, b = torch.tensor([0.1, 2.0, -1.0]), torch.tensor([0.3, 0.0, 5.0])
    p, q = a.softmax(-1), b.softmax(-1)
    assert kl_divergence(a, b) == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    assert kl_divergence(a, a + 3) == pytest.approx(0, abs=1e-7)
    assert kl_divergence(a, torch.tensor([0.0, -1e6, 0.0])) > 1e5  # finite
