"""Our GPT-2 and Hugging Face's, weight for weight: logits, greedy tokens, every gradient, ten losses of AdamW."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.networks import random_network
from torch import Tensor

from nudge import recipes
from nudge.config import ModelConfig
from nudge.convert.formats import huggingface
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.fast.decoder import Decoder
from nudge.model.gpt import GPT, Cache, init_weights

transformers = pytest.importorskip("transformers", reason="golden tests compare with transformers: pip install it")

EOT = 0
TINY = [
    ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=16, vocab_size=61),
    ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=1, vocab_size=3),
    ModelConfig(n_layer=3, n_head=3, n_embd=48, block_size=11, vocab_size=3),
]


@pytest.fixture(params=TINY, ids=["2x32", "one-token", "llm_viz"])
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return request.param


def letters(config: ModelConfig) -> Tokenizer:
    """An export carries a tokenizer. The networks here do not speak; each of their ids has to be some text."""
    return tokenizers.chars(map(chr, range(0x10000, 0x10000 + config.vocab_size - 1)))


def to_theirs(network: GPT, folder: Path) -> "transformers.GPT2LMHeadModel":
    huggingface.write(folder, network.config, network.state_dict(), letters(network.config))
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager")
    return model.eval()


def random_theirs(config: ModelConfig, **other: object) -> "transformers.GPT2LMHeadModel":
    torch.manual_seed(3)
    described = transformers.GPT2Config(
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        n_positions=config.block_size,
        vocab_size=config.vocab_size,
        bos_token_id=EOT,
        eos_token_id=EOT,
        **other,
    )
    return transformers.GPT2LMHeadModel(described).eval()


def to_ours(model: "transformers.GPT2LMHeadModel", folder: Path) -> GPT:
    model.save_pretrained(folder)
    config, state = huggingface.read(folder)
    network = GPT(config)
    network.load_state_dict(state)
    return network


def random_tokens(config: ModelConfig, n_tokens: int, *, batch: int = 2) -> Tensor:
    return torch.randint(config.vocab_size, (batch, n_tokens), generator=torch.Generator().manual_seed(4))


def contexts(config: ModelConfig) -> list[Tensor]:
    """No context (the token that starts a document), one token, and a full window."""
    return [torch.tensor([[EOT]]), random_tokens(config, 1), random_tokens(config, config.block_size)]


@torch.no_grad()
def assert_same_logits(network: GPT, model: "transformers.GPT2LMHeadModel", tokens: Tensor) -> None:
    difference = (network(tokens) - model(tokens).logits).abs().max().item()
    assert difference < 1e-4, f"logits differ by {difference:.2e} over {tuple(tokens.shape)} tokens"


def test_logits_of_our_network_in_transformers(config: ModelConfig, tmp_path: Path) -> None:
    network = random_network(config, spread=10.0)
    model = to_theirs(network, tmp_path)
    for tokens in contexts(config):
        assert_same_logits(network, model, tokens)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh"])
def test_logits_of_their_network_in_ours(config: ModelConfig, activation: str, tmp_path: Path) -> None:
    model = random_theirs(config, activation_function=activation)
    network = to_ours(model, tmp_path)
    for tokens in contexts(config):
        assert_same_logits(network, model, tokens)


def test_there_and_back_again_is_bit_for_bit_the_same(config: ModelConfig, tmp_path: Path) -> None:
    network = random_network(config, spread=10.0)
    huggingface.write(tmp_path, config, network.state_dict(), letters(network.config))
    config_again, state = huggingface.read(tmp_path)
    assert config_again == config
    assert list(state) == list(network.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


@torch.no_grad()
def greedy(network: GPT, start: Tensor, n_tokens: int) -> list[int]:
    """As the engine decodes: prefill, then one token at a time through the cache."""
    cache, tokens, drawn = Cache(network), start, []
    for _ in range(n_tokens):
        drawn.append(int(network.logits(network.hidden(tokens, cache)[:, -1]).argmax()))
        tokens = torch.tensor([[drawn[-1]]])
    return drawn


def compiled_greedy(network: GPT, start: Tensor, n_tokens: int) -> list[int]:
    """The same through the kernels of a CPU, which take the network's weights over."""
    decoder, ids, drawn = Decoder(network), start[0].tolist(), []
    for _ in range(n_tokens):
        ids = [int(decoder.feed(ids).argmax())]
        drawn += ids
    return drawn


def test_greedy_tokens_are_identical(tmp_path: Path) -> None:
    config = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=128, vocab_size=61)
    network = random_network(config, spread=10.0, positions=20.0)
    model = to_theirs(network, tmp_path)
    start = random_tokens(config, 5, batch=1)
    theirs = model.generate(
        start,
        attention_mask=torch.ones_like(start),
        max_new_tokens=120,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    ours = greedy(network, start, 120)
    assert ours == theirs[0, 5:].tolist()
    assert len(set(ours)) > 10, "a network that says one word forever proves little"
    assert compiled_greedy(network, start, 120) == ours


def gradients(network: GPT, model: "transformers.GPT2LMHeadModel") -> dict[str, tuple[Tensor, Tensor]]:
    """Our gradient and theirs of every parameter, by our name."""
    theirs = dict(model.named_parameters())
    return {
        name: (parameter.grad, theirs["transformer." + name.replace("blocks.", "h.")].grad)
        for name, parameter in network.named_parameters()
    }


def test_every_gradient(tmp_path: Path) -> None:
    config = TINY[0]
    network = random_network(config, spread=5.0)
    model = to_theirs(network, tmp_path)
    window = random_tokens(config, config.block_size + 1, batch=3)
    x, y = window[:, :-1], window[:, 1:]
    network.loss(x, y).backward()
    F.cross_entropy(model(x).logits.flatten(0, 1), y.flatten()).backward()
    pairs = gradients(network, model)
    assert len(pairs) == len(list(model.parameters()))
    for name, (ours, theirs) in pairs.items():
        error = ((ours - theirs).norm() / theirs.norm()).item()
        assert error < 1e-4, f"the gradient of {name} is off by {error:.2e}"


def test_ten_losses_of_adamw(tmp_path: Path) -> None:
    """torch's AdamW with its defaults on both sides; nudge's own parameter groups are tested with the optimizer."""
    config = TINY[0]
    network = random_network(config, spread=3.0)
    model = to_theirs(network, tmp_path)
    window = random_tokens(config, config.block_size + 1, batch=4)
    x, y = window[:, :-1], window[:, 1:]
    ours, theirs = torch.optim.AdamW(network.parameters(), lr=3e-3), torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        loss, their_loss = network.loss(x, y), F.cross_entropy(model(x).logits.flatten(0, 1), y.flatten())
        for optimizer, value in ((ours, loss), (theirs, their_loss)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        losses.append((loss.item(), their_loss.item()))
    assert losses[-1][0] < losses[0][0] - 0.5
    assert all(abs(a - b) < 1e-4 for a, b in losses), losses


@pytest.mark.slow
def test_full_size_gpt2_small_both_ways(tmp_path: Path) -> None:
    config = recipes.recipe("gpt2_small").model
    network = GPT(config)
    init_weights(network, seed=1)
    tokens = random_tokens(config, 300, batch=1)
    model = to_theirs(network, tmp_path / "ours")
    for context in (torch.tensor([[50256]]), tokens):
        assert_same_logits(network, model, context)
    del network
    network = to_ours(model, tmp_path / "theirs")
    assert_same_logits(network, model, tokens)
    with torch.no_grad():
        theirs = model(tokens[:, :60]).logits[0]
    decoder = Decoder(network)
    ours = torch.cat([decoder.feed([token]) for token in tokens[0, :60].tolist()])
    assert (ours - theirs).abs().max() < 1e-4
    assert ours.argmax(-1).tolist() == theirs.argmax(-1).tolist()


@pytest.mark.slow
def test_greedy_tokens_of_a_full_size_gpt2_small(tmp_path: Path) -> None:
    network = GPT(recipes.recipe("gpt2_small").model)
    init_weights(network, seed=1)
    with torch.no_grad():
        network.wpe.weight.mul_(20)
    model = to_theirs(network, tmp_path)
    start = random_tokens(network.config, 7, batch=1)
    theirs = model.generate(
        start,
        attention_mask=torch.ones_like(start),
        max_new_tokens=50,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    ours = compiled_greedy(network, start, 50)
    assert ours == theirs[0, 7:].tolist()
    assert len(set(ours)) > 10, "a network that says one word forever proves little"


VOCAB = Path(__file__).parents[3] / "shared" / "data"
needs_vocab = pytest.mark.skipif(not (VOCAB / "vocab.bpe").exists(), reason="GPT-2's published vocabulary is not here")


@needs_vocab
@pytest.mark.parametrize("layout", ["vocab.json and merges.txt", "tokenizer.json"])
def test_their_tokenizer_of_gpt2_becomes_ours(layout: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes((VOCAB / "encoder.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((VOCAB / "vocab.bpe").read_bytes())
    theirs = transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    if layout == "tokenizer.json":
        (tmp_path / "vocab.json").unlink()
        (tmp_path / "merges.txt").unlink()
        theirs.save_pretrained(tmp_path)
        assert not (tmp_path / "merges.txt").exists()
    ours = huggingface.read_tokenizer(tmp_path, ModelConfig(vocab_size=50257))
    assert ours.sha256 == tokenizers.load(VOCAB / "gpt2.tiktoken").sha256
    text = "def f(x):\n    return x  # 한글 🙂\n\n\n"
    assert ours.encode(text) == theirs(text)["input_ids"]
