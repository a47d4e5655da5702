"""From prompt to text: the cache, the sliding window, characters that are never split, stop strings that never leak."""

import dataclasses
import importlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import refused

from nudge.config import Config, ModelConfig, SampleConfig
from nudge.data import tokenizer as tokenizers
from nudge.errors import CheckpointError, ConfigError
from nudge.infer import engine
from nudge.infer.engine import LanguageModel, TextStream
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder

BYTES = tokenizers.get("bytes")
CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=16, vocab_size=BYTES.vocab_size)


def random_network(config: ModelConfig = CONFIG) -> GPT:
    network = GPT(config)
    init_weights(network, seed=0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5)
        network.wpe.weight.mul_(10)  # so that what is said depends on the position
    return network


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(random_network(), BYTES)


def test_same_seed_same_text(model: LanguageModel) -> None:
    first = model.generate("ab", max_tokens=30, seed=7)
    assert model.generate("ab", max_tokens=30, seed=7) == first
    assert model.generate("ab", max_tokens=30, seed=8) != first


@pytest.mark.parametrize("prompt", ["", "a", "def f(x):", "0123456789abcdef"])
def test_the_pieces_joined_are_the_text(model: LanguageModel, prompt: str) -> None:
    stream = model.stream(prompt, max_tokens=40, top_k=20)
    assert "".join(stream) == model.generate(prompt, max_tokens=40, top_k=20)
    assert stream.ended in ("length", "end of text")


@torch.no_grad()
def whole_forward(network: GPT, ids: list[int], n_tokens: int) -> tuple[list[int], bool]:
    """The readable twin: no cache. The window holds block_size tokens; when it is full its newest half goes on."""
    window, drawn, slid = list(ids), [], False
    for _ in range(n_tokens):
        if len(window) > network.config.block_size:
            window, slid = window[-(network.config.block_size // 2) :], True
        token = int(network(torch.tensor([window]))[0, -1].argmax())
        if token == BYTES.eot:
            break
        drawn.append(token)
        window.append(token)
    return drawn, slid


@pytest.mark.parametrize("n_prompt", [1, 5, 15, 16])
@pytest.mark.parametrize("n_tokens", [0, 1, 12, 60])
def test_tokens_are_those_of_the_whole_forward(model: LanguageModel, n_prompt: int, n_tokens: int) -> None:
    ids = [BYTES.eot, *range(97, 96 + n_prompt)]
    stream = model.tokens(ids, max_tokens=n_tokens, temperature=0)
    drawn = list(stream)
    assert (drawn, stream.slid) == whole_forward(model.network, ids, n_tokens)
    assert stream.n_tokens == len(drawn)
    assert stream.slid == (n_prompt + n_tokens > CONFIG.block_size + 1)


def test_a_context_of_one_token() -> None:
    network = random_network(dataclasses.replace(CONFIG, block_size=1))
    stream = LanguageModel(network, BYTES).stream("", max_tokens=5, temperature=0)
    assert len("".join(stream)) <= 5
    assert stream.slid


def test_a_prompt_starts_a_document_unless_it_fills_the_context(model: LanguageModel) -> None:
    assert model.prompt_ids("") == [BYTES.eot]
    assert model.prompt_ids("a" * 15) == [BYTES.eot] + [97] * 15
    assert model.prompt_ids("a" * 16) == [97] * 16
    with pytest.raises(ConfigError, match="the prompt has 17 tokens, the context of this model holds 16"):
        model.stream("a" * 17)  # at once, not with the first piece


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 2},
        {"top_p": 0},
        {"max_tokens": -1},
        {"seed": -1},
        {"seed": 2**63},
        {"stop": ""},
        {"stop": ["a", ""]},
    ],
)
def test_values_no_distribution_can_have(model: LanguageModel, bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        model.stream("a", **bad)


@pytest.mark.parametrize(("ids", "message"), [([], "no token"), ([300], "token 300 is not in"), ([-1], "token -1")])
def test_ids_that_cannot_be_read(model: LanguageModel, ids: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.tokens(ids)


def loves(token: int, config: ModelConfig = CONFIG) -> GPT:
    """A network that finds one token likeliest, whatever came before."""
    network = random_network(config)
    with torch.no_grad():
        network.wte.weight[token] *= 100
        network.ln_f.weight.zero_()
        network.ln_f.bias.copy_(network.wte.weight[token])
    return network


def test_it_ends_at_the_end_of_text_token() -> None:
    stream = LanguageModel(loves(BYTES.eot), BYTES).stream("a", max_tokens=5, temperature=0)
    assert list(stream) == []
    assert (stream.ended, stream.n_tokens) == ("end of text", 0)


def test_rows_of_a_padded_vocabulary_are_never_drawn() -> None:
    network = loves(-1, dataclasses.replace(CONFIG, vocab_size=BYTES.vocab_size + 47))
    tokens = list(LanguageModel(network, BYTES).tokens([0], max_tokens=50, temperature=5.0))
    assert max(tokens) < BYTES.vocab_size


def decoded(data: bytes, stop: tuple[str, ...] = ()) -> list[str]:
    """The pieces of text when the model writes these bytes one by one."""
    return list(TextStream(iter(data), BYTES, stop))  # type: ignore[arg-type]


def test_a_character_is_never_split() -> None:
    assert decoded("한글 é 🙂".encode()) == ["한", "글", " ", "é", " ", "🙂"]


def test_the_unfinished_character_at_the_end_is_left_out() -> None:
    assert decoded("한글".encode()[:-1]) == ["한"]


def test_bytes_that_are_no_character_are_shown_as_such() -> None:
    assert "".join(decoded(b"a\xff\xeab")) == "a\ufffd\ufffdb"


@given(st.text(max_size=30))
def test_any_text_comes_through_whole(text: str) -> None:
    assert "".join(decoded(text.encode())) == text


@given(
    st.text(alphabet="ab\n한", max_size=30), st.lists(st.text(alphabet="ab\n한", min_size=1, max_size=4), max_size=3)
)
def test_stop_strings_never_leak(text: str, stop: list[str]) -> None:
    pieces = decoded(text.encode(), tuple(stop))
    written = next((text[:n] for n in range(len(text)) if any(s in text[:n] for s in stop)), text)  # it ends there
    starts = [written.find(s) for s in stop if s in written]
    assert "".join(pieces) == written[: min(starts, default=len(written))]
    assert all(pieces), "an empty piece says nothing"


def test_text_before_a_stop_string_does_not_wait_longer_than_it_must() -> None:
    assert decoded(b"ab\ncd", ("\n\n",)) == ["a", "b", "\nc", "d"]


def test_a_stop_string_ends_it(model: LanguageModel) -> None:
    free = model.generate("a", max_tokens=40)
    stop = free[5:7]
    stream = model.stream("a", max_tokens=40, stop=stop)
    assert "".join(stream) == free[: free.index(stop)]
    assert stream.ended == "stop"


def test_a_sample_in_the_middle_of_a_run_changes_nothing() -> None:
    network = random_network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rng = torch.get_rng_state()
    sample = SampleConfig(prompt="ab", max_tokens=30, seed=3)
    text = engine.write_sample(network, BYTES, sample)
    assert text == engine.write_sample(network, BYTES, sample)
    assert text == LanguageModel(network, BYTES).generate("ab", max_tokens=30, temperature=0.8, top_k=50, seed=3)
    assert torch.equal(torch.get_rng_state(), rng)
    assert network.training
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    loss = network.loss(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]))
    loss.backward()  # what inference mode touched must not stand in the way of learning


def test_a_diverged_network_still_writes() -> None:
    network = random_network()
    with torch.no_grad():
        network.wte.weight.fill_(float("nan"))
    assert isinstance(LanguageModel(network, BYTES).generate("a", max_tokens=5), str)


def save(path: Path, network: GPT, *, tokenizer_sha256: str = BYTES.sha256, config: ModelConfig = CONFIG) -> RunFolder:
    run = RunFolder(path)
    checkpoint = Checkpoint(
        step=420, config=Config(model=config), model=network.state_dict(), tokenizer_sha256=tokenizer_sha256
    )
    checkpoints.save(run, checkpoint)
    BYTES.save(run.tokenizer)
    return run


def test_loading_a_run(tmp_path: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save(tmp_path / "runs" / "first", model.network)
    monkeypatch.chdir(tmp_path)
    for source in (run.path, run.ckpt, str(run.checkpoints / "step_00000420.pt"), None):
        loaded = engine.load(source, device="cpu")
        assert (loaded.step, loaded.verified, loaded.notes) == (420, True, ())
        assert loaded.generate("ab", max_tokens=20) == model.generate("ab", max_tokens=20)


def test_a_run_without_checksums_loads_with_a_note(tmp_path: Path, model: LanguageModel) -> None:
    run = save(tmp_path / "run", model.network)
    run.index.unlink()
    loaded = engine.load(run.path)
    assert not loaded.verified
    assert "not verified" in loaded.notes[0]


def test_a_damaged_checkpoint_is_passed_over_with_a_note(tmp_path: Path, model: LanguageModel) -> None:
    run = save(tmp_path / "run", model.network)
    (run.checkpoints / "step_00000421.pt").write_bytes(b"PK")
    loaded = engine.load(run.path)
    assert loaded.step == 420
    assert "step_00000421.pt skipped" in loaded.notes[0]


def test_a_tokenizer_of_another_run(tmp_path: Path, model: LanguageModel) -> None:
    run = save(tmp_path / "run", model.network, tokenizer_sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not the one"):
        engine.load(run.path)


def test_a_tokenizer_with_too_many_tokens(tmp_path: Path) -> None:
    small = dataclasses.replace(CONFIG, vocab_size=100)
    run = save(tmp_path / "run", random_network(small), config=small)
    with pytest.raises(CheckpointError, match=f"{BYTES.vocab_size} tokens.*only 100"):
        engine.load(run.path)


def test_weights_that_do_not_fit_their_config(tmp_path: Path, model: LanguageModel) -> None:
    run = save(tmp_path / "run", model.network, config=dataclasses.replace(CONFIG, n_layer=3))
    with refused("checkpoint.bad_tensor", name="blocks.2.ln_1.weight", got="missing"):
        engine.load(run.ckpt)


def test_a_sample_of_a_run_goes_on_after_the_end_of_a_document() -> None:
    tokenizer = tokenizers.get("bytes")
    network = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=16, vocab_size=257))
    torch.nn.init.zeros_(network.wte.weight)  # every token is equally likely, the end of a document among them
    for name, parameter in network.named_parameters():
        if name != "wte.weight":
            torch.nn.init.zeros_(parameter)
    ends = SampleConfig(max_tokens=2000, temperature=1.0, top_k=None, seed=1)
    text = engine.write_sample(network, tokenizer, ends)
    assert len(text) > 1500
    assert engine.write_sample(network, tokenizer, ends) == text
    assert len(LanguageModel(network, tokenizer).generate(max_tokens=2000, temperature=1.0, seed=1)) < len(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nudge.train.likelihood", "nudge.eval.likelihood"),
        ("nudge.train.tasks", "nudge.eval.tasks"),
        ("nudge.infer.decode", "nudge.fast.decoder"),
    ],
)
def test_modules_that_the_pages_of_0_1_named_keep_their_names(old: str, new: str) -> None:
    assert importlib.import_module(old) is importlib.import_module(new)
