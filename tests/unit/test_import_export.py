"""Models that go to nanoGPT and llm.c and come back: bit for bit the same, with their tokenizer."""

import json
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.networks import random_network
from tests.refusals import refused
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert import import_export
from nudge.convert.formats import OUR_TOKENIZER, llmc
from nudge.data import tokenizer as tokenizers
from nudge.data.foreign import meta_pkl
from nudge.data.tokenizer import Tokenizer
from nudge.errors import MachineError
from nudge.eval import likelihood, tasks
from nudge.eval.loss import evaluate
from nudge.infer import engine
from nudge.infer.engine import LanguageModel
from nudge.look import prediction

BYTES = tokenizers.get("bytes")
ALPHABET = "\n abcdefghij한"
WITHOUT_EOT = tokenizers.CharTokenizer(ALPHABET, has_eot=False)


def model_of(tokenizer: Tokenizer, *, rows: int | None = None) -> LanguageModel:
    sizes = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=6, vocab_size=rows or tokenizer.vocab_size)
    return LanguageModel(random_network(sizes, spread=10.0), tokenizer, step=3)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize(
    "tokenizer", [BYTES, tokenizers.chars(ALPHABET), WITHOUT_EOT], ids=["bytes", "chars", "no-eot"]
)
@pytest.mark.parametrize("kind", ["hf", "nanogpt", "llmc"])
def test_there_and_back_is_bit_for_bit_the_same(kind: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_of(tokenizer)
    import_export.export_model(model, tmp_path / "theirs", kind)
    import_export.import_model(str(tmp_path / "theirs"), tmp_path / "back")
    back = engine.load(tmp_path / "back", device="cpu")
    assert same(back.network.state_dict(), model.network.state_dict())
    assert back.network.config == model.network.config
    assert back.tokenizer.sha256 == tokenizer.sha256


def test_bfloat16_loses_only_its_digits(tmp_path: Path) -> None:
    model = model_of(BYTES)
    import_export.export_model(model, tmp_path / "theirs", "llmc", dtype="bfloat16")
    _, state = llmc.read(tmp_path / "theirs" / "model_bf16.bin")
    rounded = {name: tensor.bfloat16().float() for name, tensor in model.network.state_dict().items()}
    assert all(torch.equal(state[name], tensor) for name, tensor in rounded.items())
    import_export.import_model(str(tmp_path / "theirs"), tmp_path / "back")
    again = engine.load(tmp_path / "back", device="cpu")
    import_export.export_model(again, tmp_path / "again", "llmc", dtype="bfloat16")
    for name in ("model_bf16.bin", "gpt2_tokenizer.bin"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


@pytest.mark.parametrize("kind", ["hf", "nanogpt"])
def test_a_type_that_a_format_does_not_have(kind: str, tmp_path: Path) -> None:
    with refused("config.export_dtype", format=kind, dtype="bfloat16"):
        import_export.export_model(model_of(BYTES), tmp_path / "out", kind, dtype="bfloat16")
    assert list(tmp_path.iterdir()) == []


def test_matrices_are_turned_and_wte_is_padded(tmp_path: Path) -> None:
    model = model_of(BYTES)
    state = model.network.state_dict()
    import_export.export_model(model, tmp_path / "nano", "nanogpt")
    theirs = torch.load(tmp_path / "nano" / "ckpt.pt")
    assert torch.equal(theirs["model"]["transformer.h.1.mlp.c_fc.weight"], state["blocks.1.mlp.c_fc.weight"].t())
    assert torch.equal(theirs["model"]["lm_head.weight"], state["wte.weight"])
    assert (theirs["iter_num"], theirs["model_args"]["bias"]) == (3, True)

    import_export.export_model(model, tmp_path / "llmc", "llmc")
    data = (tmp_path / "llmc" / "model.bin").read_bytes()
    header = torch.frombuffer(bytearray(data[:1024]), dtype=torch.int32).tolist()
    assert header[:9] == [20240326, 3, 6, 257, 2, 2, 8, 384, 0]
    wte = torch.frombuffer(bytearray(data[1024 : 1024 + 384 * 8 * 4]), dtype=torch.float32).view(384, 8)
    assert torch.equal(wte[:257], state["wte.weight"])
    assert not wte[257:].any()


def test_rows_beyond_the_tokenizer_are_kept_and_never_written(tmp_path: Path) -> None:
    """nanoGPT trains GPT-2's 50,257 tokens with 50,304 rows."""
    model = model_of(WITHOUT_EOT, rows=64)
    with torch.no_grad():
        model.network.wte.weight[WITHOUT_EOT.vocab_size :] *= 100  # the likeliest, if they were asked
    import_export.export_model(model, tmp_path / "theirs", "nanogpt")
    imported = import_export.import_model(str(tmp_path / "theirs"), tmp_path / "back")
    assert imported.config.model.vocab_size == 64
    assert any("the 51 beyond are kept and never written" in note for note in imported.notes)
    back = engine.load(tmp_path / "back", device="cpu")
    assert len(back.generate("abc", max_tokens=3, temperature=0)) == 3


def test_transformers_is_told_not_to_draw_rows_beyond_the_tokenizer(tmp_path: Path) -> None:
    import_export.export_model(model_of(WITHOUT_EOT, rows=64), tmp_path / "hf", "hf")
    settings = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert settings["suppress_tokens"] == list(range(WITHOUT_EOT.vocab_size, 64))
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["vocab_size"] == 64


def test_a_network_without_biases_computes_the_same_with_zeros(tmp_path: Path) -> None:
    model = model_of(BYTES)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    import_export.export_model(model, tmp_path / "theirs", "nanogpt")
    path = tmp_path / "theirs" / "ckpt.pt"
    content = torch.load(path)
    content["model"] = {name: tensor for name, tensor in content["model"].items() if not name.endswith(".bias")}
    content["model_args"]["bias"] = False
    torch.save(content, path)
    imported = import_export.import_model(str(path), tmp_path / "back")
    assert same(imported.model, model.network.state_dict())
    assert any("no biases: they are 0 here" in note for note in imported.notes)


def meta(path: Path, texts: list[str]) -> Path:
    """As nanoGPT's prepare.py writes it."""
    ids = {text: id_ for id_, text in enumerate(texts)}
    path.write_bytes(pickle.dumps({"vocab_size": len(texts), "itos": dict(enumerate(texts)), "stoi": ids}))
    return path


def test_the_characters_of_nanogpt(tmp_path: Path) -> None:
    tokenizer = meta_pkl.read(meta(tmp_path / "meta.pkl", sorted(ALPHABET)))
    assert tokenizer.sha256 == WITHOUT_EOT.sha256
    assert tokenizer.encode("ab한\n") == [sorted(ALPHABET).index(character) for character in "ab한\n"]
    assert not tokenizer.has_eot


def test_a_model_of_nanogpts_characters_does_what_any_other_does(tmp_path: Path) -> None:
    """None of its tokens ends a text: an empty context is then the end of a line, as in nanoGPT's sample.py."""
    model, newline = model_of(WITHOUT_EOT), sorted(ALPHABET).index("\n")
    written = model.stream("abc", max_tokens=40, temperature=1.0, seed=1)
    assert len("".join(written)) == 40  # the context is 6
    assert written.slid
    assert model.prompt_ids("ab") == WITHOUT_EOT.encode("ab")
    assert model.generate("", max_tokens=5) == model.generate("\n", max_tokens=5)
    assert prediction.predict(model.network, WITHOUT_EOT, ()).context == (newline,)

    text = tmp_path / "text.txt"
    text.write_text("abc한 ja\nbad egg")
    ids = torch.tensor(WITHOUT_EOT.encode("\n" + text.read_text()))
    windows = [ids[at : at + 7] for at in range(0, len(ids) - 1, 6)]
    with torch.no_grad():
        nats = sum(F.cross_entropy(model.network(w[None, :-1])[0], w[1:], reduction="sum") for w in windows)
    assert evaluate(model, [text]).loss == pytest.approx(float(nats) / (len(ids) - 1), rel=1e-5)
    example = tasks.Example(pairs=(("", "ab"),), right=0, lengths=(2,), where="here")
    assert likelihood.continuations(model, [example])[0].ids == (newline, *WITHOUT_EOT.encode("ab"))


def test_which_tokenizer_an_import_takes(tmp_path: Path) -> None:
    import_export.export_model(model_of(WITHOUT_EOT), tmp_path / "theirs", "nanogpt")
    path = tmp_path / "theirs" / "ckpt.pt"
    (path.parent / OUR_TOKENIZER).unlink()
    import_export.import_model(str(path), tmp_path / "beside")
    assert engine.load(tmp_path / "beside", device="cpu").tokenizer.sha256 == WITHOUT_EOT.sha256

    elsewhere = (path.parent / "meta.pkl").rename(tmp_path / "meta.pkl")
    with refused("format.no_vocabulary", path=path, n=13) as caught:
        import_export.import_model(str(path), tmp_path / "none")
    assert caught.value.hint.startswith("--tokenizer")
    assert not (tmp_path / "none").exists()

    import_export.import_model(str(path), tmp_path / "given", tokenizer=str(elsewhere))
    assert engine.load(tmp_path / "given", device="cpu").tokenizer.sha256 == WITHOUT_EOT.sha256
    WITHOUT_EOT.save(tmp_path / "ours.json")
    import_export.import_model(str(path), tmp_path / "named", tokenizer=str(tmp_path / "ours.json"))
    with refused("format.tokenizer_too_large", got=257, network=13):
        import_export.import_model(str(path), tmp_path / "other", tokenizer="bytes")


@pytest.mark.parametrize("rows", [50257, 50304])
def test_gpt2s_vocabulary_is_known_by_its_size(rows: int, tmp_path: Path) -> None:
    try:
        gpt2 = tokenizers.get("gpt2")
    except MachineError as error:
        pytest.skip(error.message)
    sizes = ModelConfig(n_layer=1, n_head=1, n_embd=2, block_size=2, vocab_size=rows)
    llmc.write_checkpoint(tmp_path / "model.bin", sizes, random_network(sizes, spread=1.0).state_dict())
    imported = import_export.import_model(str(tmp_path / "model.bin"), tmp_path / "back")
    assert engine.load(tmp_path / "back", device="cpu").tokenizer.sha256 == gpt2.sha256
    assert any("the 47 beyond are kept" in note for note in imported.notes) is (rows == 50304)


def test_the_commands(nudge: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    import_export.export_model(model_of(BYTES), tmp_path / "theirs", "nanogpt")
    imported = nudge("import", "theirs/ckpt.pt", "--out", "runs/mine", "--json")
    assert json.loads(imported.stdout)["vocab_size"] == 257
    assert "optimizer's state after 3 updates is not imported" in imported.stderr
    exported = nudge("export", "runs/mine", "--to", "llmc", "--dtype", "bfloat16", "--out", "llmc")
    assert exported.returncode == 0, exported.stderr
    assert sorted(path.name for path in (tmp_path / "llmc").iterdir()) == [
        "gpt2_tokenizer.bin",
        "model_bf16.bin",
        "nudge_tokenizer.json",
    ]
    refused = nudge("export", "runs/mine", "--to", "ckpt", "--dtype", "float32", "--out", "x")
    assert refused.returncode == 2
    assert "leave out --dtype" in refused.stderr
