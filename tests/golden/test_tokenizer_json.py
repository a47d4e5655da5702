"""A folder of ours in transformers' Auto classes: the same ids, the same text back, and the same greedy words."""

import json
from pathlib import Path

import pytest
import torch
from tests.spoken import KINDS, PROMPTS, TEXTS, greedy, speaker, spoken

from nudge.convert.formats import huggingface
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import EOT, Tokenizer

transformers = pytest.importorskip("transformers", reason="golden tests compare with transformers: pip install it")
N_TOKENS = 64


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return spoken(request.param, request)


@pytest.mark.slow
def test_the_auto_classes_read_write_and_speak_as_we_do(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = speaker(tokenizer)
    config = model.network.config
    assert huggingface.write(tmp_path, config, model.network.state_dict(), tokenizer) == ()
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, len(theirs)) == (tokenizer.eot, tokenizer.eot, config.vocab_size)

    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    for prompt in PROMPTS:
        ids, expected = greedy(model, prompt, N_TOKENS)
        assert theirs(EOT + prompt)["input_ids"] == ids
        start = torch.tensor([ids])
        written = network.generate(
            start, attention_mask=torch.ones_like(start), max_new_tokens=len(expected), do_sample=False
        )
        assert written[0, len(ids) :].tolist() == expected
        assert len(set(expected)) > 5, "a network that says one word forever proves little"
        assert theirs.decode(written[0], skip_special_tokens=True) == prompt + tokenizer.decode(expected)


def test_gpt2s_own_comes_back_from_tokenizer_json_alone(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    gpt2 = spoken("gpt2", request)
    model = speaker(gpt2, n_unused=0)
    huggingface.write(tmp_path, model.network.config, model.network.state_dict(), gpt2)
    (tmp_path / huggingface.OUR_TOKENIZER).unlink()
    assert huggingface.read_tokenizer(tmp_path, model.network.config).sha256 == gpt2.sha256


def test_a_vocabulary_without_an_end_of_text(tmp_path: Path) -> None:
    digits = tokenizers.CharTokenizer("012", has_eot=False)
    model = speaker(digits, n_unused=0)
    assert huggingface.write(tmp_path, model.network.config, model.network.state_dict(), digits) == ()
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("2012")["input_ids"] == digits.encode("2012")
    assert theirs.eos_token is None
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] is None


@pytest.mark.parametrize("kind", ["pattern", "stray byte", "no merges"])
def test_a_tokenizer_that_theirs_cannot_follow_is_left_out_with_words(kind: str, tmp_path: Path) -> None:
    single = [bytes([byte]) for byte in range(256)]
    strange = {
        "pattern": tokenizers.BpeTokenizer("odd", single, pattern=r"\S+|\s+", special={EOT: 256}),
        "stray byte": tokenizers.CharTokenizer("ab\udcff"),
        "no merges": tokenizers.BpeTokenizer(
            "odd", [*single, b"abc"], pattern=tokenizers.GPT2_PATTERN, special={EOT: 257}
        ),
    }[kind]
    model = speaker(strange)
    (note,) = huggingface.write(tmp_path, model.network.config, model.network.state_dict(), strange)
    assert note.startswith("without tokenizer.json, so that AutoTokenizer cannot read the folder: ")
    assert not list(tmp_path.glob("tokenizer*"))
    assert huggingface.read_tokenizer(tmp_path, model.network.config).sha256 == strange.sha256
