"""Log-likelihoods of answers, read again the slow way: by transformers, one answer at a time, token by token."""

from pathlib import Path

import pytest
import torch
from tests.networks import random_network

from nudge.config import ModelConfig
from nudge.convert.formats import huggingface
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.eval import likelihood
from nudge.eval.tasks import Example
from nudge.infer.engine import LanguageModel

transformers = pytest.importorskip("transformers", reason="golden tests compare with transformers: pip install it")

TEXT = "the old bridge over the river, the old mill by the river: the miller is old. " * 4
PAIRS = [
    ("the old bridge", " over the river"),
    ("the old bridge over ", "the river"),  # the space is the next word's
    ("the mill by the river is older than the bridge over the river, the miller says", " is it?"),  # longer than 24
    ("", " the river"),
    ("Question: what is old?\nAnswer:", " the mill"),
    ("x", " y"),
    ("강 위의", " 다리"),
    ("the miller", " is old, the mill is old, the bridge by"),
]


@torch.no_grad()
def read_slowly(
    network: "transformers.GPT2LMHeadModel", tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[float, bool]:
    """ln p of each token of the continuation after those before it, the last block_size of which are seen."""
    while context.endswith((" ", "\n")):
        context, continuation = context[:-1], context[-1] + continuation
    start = tokenizer.encode(context) if context else []
    ids = tokenizer.encode(context + continuation)
    start, ids = (start, ids) if start else ([tokenizer.eot], [tokenizer.eot, *ids])
    window = network.config.n_positions
    first = max(0, len(ids) - 1 - window)
    logprob, greedy = 0.0, True
    for place in range(len(start), len(ids)):
        logits = network(torch.tensor([ids[first:place]])).logits[0, -1]
        logprob += torch.log_softmax(logits.double(), dim=-1)[ids[place]].item()
        greedy = greedy and int(logits.argmax()) == ids[place]
    return logprob, greedy


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_transformers_finds_the_same_likelihoods(name: str, tmp_path: Path):
    tokenizer = tokenizers.get("bytes") if name == "bytes" else tokenizers.train_bpe([TEXT], 300)
    block_size = 60 if name == "bytes" else 24
    config = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=block_size, vocab_size=tokenizer.vocab_size)
    network = random_network(config, spread=4.0)
    huggingface.write(tmp_path / "exported", config, network.state_dict(), tokenizer)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "exported", attn_implementation="eager").eval()

    # what the network itself would write, as far as it is text that is cut into the same tokens again
    model = LanguageModel(network, tokenizer)
    written = ((start, model.generate(start, max_tokens=1, temperature=0)) for start in map(chr, range(33, 127)))
    pairs = [*PAIRS, *((start, text) for start, text in written if text.isascii() and text.strip())]
    examples = [Example(pairs=(pair,), right=0, lengths=(1,), where="here") for pair in pairs]
    rows = likelihood.continuations(model, examples)
    assert any(row.n_cut for row in rows)
    found = dict(likelihood.log_likelihoods(network, rows, at_once=200))
    for i, pair in enumerate(pairs):
        logprob, greedy = read_slowly(theirs, tokenizer, *pair)
        assert found[i].logprob == pytest.approx(logprob, rel=0, abs=1e-5), pair
        assert found[i].greedy == greedy, pair
    assert any(one.greedy for one in found.values())
