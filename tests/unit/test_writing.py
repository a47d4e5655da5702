"""Watching a text being written: the same tokens, and what the network said of each."""

import pytest
import torch

from nudge.config import ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.infer.engine import LanguageModel
from nudge.look import predict, watch
from nudge.model.gpt import GPT, init_weights

BYTES = tokenizers.get("bytes")


def language_model(vocab_size: int = BYTES.vocab_size) -> LanguageModel:
    network = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=12, vocab_size=vocab_size))
    init_weights(network, seed=0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5)
    return LanguageModel(network, BYTES)


@pytest.mark.parametrize("top_k", [None, 5])
def test_what_is_watched_is_what_is_written(top_k: int | None) -> None:
    model = language_model()
    settings = {"max_tokens": 40, "temperature": 0.7, "top_k": top_k, "seed": 3}
    ids = model.prompt_ids("ab")
    plain, watched = model.tokens(ids, **settings), model.tokens(ids, **settings)
    seen = list(watch(watched))
    assert [drawn.token for drawn in seen if drawn.token != BYTES.eot] == list(plain)
    assert (watched.ended, watched.slid, watched.n_tokens) == (plain.ended, plain.slid, plain.n_tokens)


def test_what_the_network_said_is_its_prediction() -> None:
    model = language_model()
    ids = model.prompt_ids("ab")
    seen = list(watch(model.tokens(ids, max_tokens=8, temperature=0.7, top_p=0.9, seed=1), n_likeliest=4))
    assert len(seen) == 8
    for drawn in seen:
        said = predict(model.network, BYTES, ids, temperature=0.7, top_p=0.9)
        assert drawn.probability == pytest.approx(said.probability(drawn.token), rel=1e-4)
        assert drawn.sampled == pytest.approx(said.sampled[drawn.token].item(), rel=1e-4)
        assert drawn.rank == said.rank(drawn.token)
        top = said.top(4)
        assert [(c.token, c.rank) for c in drawn.likeliest] == [(c.token, c.rank) for c in top]
        assert [c.probability for c in drawn.likeliest] == pytest.approx([c.probability for c in top], rel=1e-4)
        ids.append(drawn.token)


def test_the_end_of_the_text_is_seen_too() -> None:
    model = language_model()
    with torch.no_grad():
        for block in model.network.blocks:
            for parameter in block.parameters():
                parameter.zero_()
        model.network.ln_f.weight.zero_()
        model.network.ln_f.bias.copy_(100 * model.network.wte.weight[BYTES.eot])
    tokens = model.tokens(model.prompt_ids("a"), max_tokens=5)
    assert [drawn.token for drawn in watch(tokens)] == [BYTES.eot]
    assert tokens.ended == "end of text"


def test_ids_beyond_the_tokenizer_may_be_likely_but_are_never_drawn() -> None:
    model = language_model(vocab_size=BYTES.vocab_size + 7)
    with torch.no_grad():
        model.network.ln_f.bias.copy_(100 * model.network.wte.weight[-1])
    first = next(watch(model.tokens(model.prompt_ids(""), max_tokens=1)))
    assert first.token < BYTES.vocab_size
    assert (first.likeliest[0].token, first.likeliest_sampled[0]) == (BYTES.vocab_size + 6, 0.0)
