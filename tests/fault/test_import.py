"""Hugging Face folders that are damaged, hostile or of another network: one clear error each, and nothing written."""

import dataclasses
import json
import os
import random
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.refusals import refused
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert import import_export
from nudge.convert.formats import huggingface
from nudge.data import published_vocab
from nudge.data import tokenizer as tokenizers
from nudge.errors import ConfigError, FormatError
from nudge.infer import engine
from nudge.model.gpt import GPT, init_weights

BYTES = tokenizers.get("bytes")
CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=8, vocab_size=BYTES.vocab_size)


def network() -> GPT:
    network = GPT(CONFIG)
    init_weights(network, seed=0)
    return network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    import_export.export_model(engine.LanguageModel(network(), BYTES), folder, "hf")
    return folder


def refuses(folder: Path, code: str, /, **values: Any) -> None:
    """Both the reader and `nudge import` raise this error, and no folder is left behind."""
    with refused(code, **values):
        huggingface.read(folder)
    with refused(code, **values):
        import_export.import_model(str(folder), folder.parent / "out")
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def test_a_folder_round_trips_through_import_and_export(folder: Path, tmp_path: Path) -> None:
    import_export.import_model(str(folder), tmp_path / "imported")
    model = engine.load(tmp_path / "imported", device="cpu")
    assert (model.step, model.verified, model.notes) == (0, True, ())
    assert model.tokenizer.sha256 == BYTES.sha256
    assert all(torch.equal(model.network.state_dict()[name], t) for name, t in network().state_dict().items())
    import_export.export_model(model, tmp_path / "again", "hf")
    for name in ("config.json", "model.safetensors", "nudge_tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "llama"),
        ("activation_function", "relu"),
        ("layer_norm_epsilon", 1e-6),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("n_inner", 16),
        ("tie_word_embeddings", False),
        ("add_cross_attention", True),
        ("quantization_config", {"bits": 4}),
    ],
)
def test_a_network_that_is_not_gpt2(folder: Path, key: str, value: object) -> None:
    change_config(folder, **{key: value})
    refuses(folder, "format.other_setting", path=folder / "config.json", key=key, got=json.dumps(value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_layer", -1),
        ("n_head", 0),
        ("n_embd", 8.0),
        ("n_positions", None),
        ("vocab_size", "many"),
        ("vocab_size", True),
    ],
)
def test_sizes_that_no_network_has(folder: Path, key: str, value: object) -> None:
    change_config(folder, **{key: value})
    refuses(folder, "format.bad_size", path=folder / "config.json", name=key, got=repr(value))


def test_heads_that_do_not_divide_the_width(folder: Path) -> None:
    change_config(folder, n_head=3)
    refuses(folder, "format.indivisible_heads", n_embd=8, n_head=3)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("n_layer", 10**9, "format.other_n_layer"),
        ("n_embd", 10**12, "format.wrong_shape"),
        ("vocab_size", 10**12, "format.wrong_shape"),
        ("n_positions", 10**12, "format.wrong_shape"),
    ],
)
def test_sizes_that_would_fill_the_machine(folder: Path, key: str, value: int, code: str) -> None:
    change_config(folder, **{key: value})
    refuses(folder, code, sizes_in="config.json")


@pytest.mark.parametrize("text", ["", "{", "\0\xff", "[" * 100_000])
def test_a_config_that_is_not_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=r"config\.json"):
        huggingface.read(folder)


@pytest.mark.parametrize("text", ["[1, 2]", "null"])
def test_a_config_without_settings(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refuses(folder, "format.unreadable", path=folder / "config.json")


def test_a_folder_without_config_or_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights")
    refuses(folder, "format.no_weights", folder=folder)
    (folder / "config.json").unlink()
    refuses(folder, "format.missing_file", name="config.json", folder=folder)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_truncated_weights(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refuses(folder, "format.unreadable", path=path)


def test_a_wrong_shape(folder: Path) -> None:
    name = "transformer.h.1.mlp.c_fc.weight"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].t().contiguous()}))
    refuses(folder, "format.wrong_shape", tensor=name, got=[32, 8], sizes_in="config.json", expected=[8, 32])


@pytest.mark.parametrize("name", ["wte.weight", "wpe.weight", "h.0.attn.c_proj.bias", "ln_f.weight"])
def test_a_missing_tensor(folder: Path, name: str) -> None:
    change_weights(folder, lambda tensors: tensors.pop(f"transformer.{name}"))
    refuses(folder, "format.missing_tensor", tensor=f"transformer.{name}")


def test_a_tensor_too_many(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"score.weight": torch.zeros(2, 8)}))
    refuses(folder, "format.unknown_tensors", n=1, first="score.weight")


def test_weights_that_are_whole_numbers(folder: Path) -> None:
    name = "transformer.ln_f.bias"
    change_weights(folder, lambda tensors: tensors.update({name: torch.zeros(8, dtype=torch.int8)}))
    refuses(folder, "format.not_tensors", path=folder / "model.safetensors")


def test_the_same_tensor_under_two_names(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"ln_f.bias": torch.zeros(8)}))
    refuses(folder, "format.duplicate_tensor", tensor="transformer.ln_f.bias")


def test_a_head_of_its_own(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"] + 1}))
    refuses(folder, "format.untied_head", path=folder)


def test_a_tied_head_that_diverged_is_tied(folder: Path) -> None:
    def diverge(tensors: dict[str, Tensor]) -> None:
        tensors["transformer.wte.weight"][3, 1] = float("nan")
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()

    change_weights(folder, diverge)
    assert huggingface.read(folder)[1]["wte.weight"].isnan().sum() == 1


def as_bin(folder: Path, tensors: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


def test_an_old_folder_with_masks_a_tied_head_and_no_prefix(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    old: dict[str, Tensor] = {name.removeprefix("transformer."): tensor.half() for name, tensor in tensors.items()}
    for layer in range(CONFIG.n_layer):
        old[f"h.{layer}.attn.bias"] = torch.ones(8, 8, dtype=torch.uint8).tril()[None, None]
        old[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    old["lm_head.weight"] = old["wte.weight"]
    as_bin(folder, old)
    config, state = huggingface.read(folder)
    assert config == CONFIG
    for name, tensor in network().state_dict().items():
        assert torch.equal(state[name], tensor.half().float()), name


def test_a_pickle_that_wants_to_run_code_is_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "it ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch '{target}'",)

    as_bin(folder, {"transformer.wte.weight": Bomb()})
    refuses(folder, "format.runs_code", path=folder / "pytorch_model.bin")
    assert not target.exists()


@pytest.mark.parametrize("value", [[1, 2], {"transformer.wte.weight": "text"}, {1: torch.zeros(2)}])
def test_a_bin_file_without_tensors_by_name(folder: Path, value: object) -> None:
    as_bin(folder, value)
    refuses(folder, "format.not_tensors", path=folder / "pytorch_model.bin")


def shard(
    folder: Path, names: tuple[str, str] = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
) -> None:
    """The same weights in two files with an index, as `save_pretrained` writes large networks."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: names[number % 2] for number, name in enumerate(tensors)}
    for file in set(names):
        if "/" not in file:
            part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == file}
            safetensors.torch.save_file(part, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards(folder: Path) -> None:
    shard(folder)
    config, state = huggingface.read(folder)
    assert config == CONFIG
    assert all(torch.equal(state[name], tensor) for name, tensor in network().state_dict().items())
    (folder / "model-00002-of-00002.safetensors").unlink()
    refuses(folder, "format.missing_file", name="model-00002-of-00002.safetensors", folder=folder)


@pytest.mark.parametrize("outside", ["../secret.safetensors", "/etc/passwd", ".."])
def test_a_shard_outside_the_folder(folder: Path, outside: str) -> None:
    shard(folder, ("model-00001-of-00002.safetensors", outside if "/" in outside else "/" + outside))
    refuses(folder, "format.shard_outside", path=folder / "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("weight_map", "code"),
    [
        (None, "format.unreadable"),
        ({}, "format.no_shards"),
        ([], "format.unreadable"),
        ({"wte.weight": None}, "format.unreadable"),
        ({"wte.weight": "gone"}, "format.missing_file"),
    ],
)
def test_an_index_that_names_no_shards(folder: Path, weight_map: object, code: str) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refuses(folder, code)


BYTE_LEVEL = {"type": "ByteLevel"}


def test_a_tokenizer_with_more_tokens_than_the_network(folder: Path) -> None:
    tokenizers.chars(["".join(map(chr, range(300)))]).save(folder / huggingface.OUR_TOKENIZER)
    with refused("format.tokenizer_too_large", got=301, network=257):
        import_export.import_model(str(folder), folder.parent / "out")
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({}, "unreadable"),
        ({"model": None}, "unreadable"),
        ({"model": {}}, "other_tokenizer"),
        ({"model": {"type": "Unigram"}}, "other_tokenizer"),
        ({"model": {"type": "BPE", "vocab": [], "merges": 3}, "pre_tokenizer": BYTE_LEVEL}, "not_byte_pairs"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}, "pre_tokenizer": BYTE_LEVEL}, "token_order"),
        ({"model": {"type": "BPE"}, "pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}}, "other_tokenizer"),
        ({"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Whitespace"}}, "other_tokenizer"),
        ({"model": {"type": "BPE"}, "pre_tokenizer": "ByteLevel"}, "unreadable"),
    ],
)
def test_their_tokenizer_is_of_another_kind(folder: Path, content: object, code: str) -> None:
    for name in (huggingface.OUR_TOKENIZER, "tokenizer.json"):
        (folder / name).unlink()
    with refused("format.no_tokenizer", folder=folder):
        huggingface.read_tokenizer(folder, CONFIG)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with refused(f"format.{code}", path=folder / "tokenizer.json"):
        huggingface.read_tokenizer(folder, CONFIG)


FULL_DISK = """
    import resource, sys
    import torch
    from pathlib import Path
    from nudge.errors import MachineError
    from nudge.convert import import_export

    # No file of this process grows beyond the limit: to a program this is what a full disk is.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    try:
        import_export.import_model(sys.argv[1], Path(sys.argv[2]))
    except MachineError as error:
        print(error.message, error.hint, sep="\\n")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
def test_a_full_disk_leaves_nothing_behind_and_nothing_to_resume(folder: Path) -> None:
    limit_bytes = 8_000  # more than the vocabulary, less than the weights
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(FULL_DISK),
        str(folder),
        str(folder.parent / "out"),
        str(limit_bytes),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    message, hint = ended.stdout.splitlines()
    assert message == "could not save step_00000000.pt: File too large"
    assert "make room on the disk" in hint
    assert "resume" not in hint
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


def test_a_target_that_is_taken(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="not an empty folder"):
        import_export.import_model(str(folder), out)
    with pytest.raises(ConfigError, match="not an empty folder"):
        import_export.export_model(engine.LanguageModel(network(), BYTES), out, "hf")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    (out / "mine.txt").unlink()
    import_export.import_model(str(folder), out)
    assert (out / "ckpt.pt").is_symlink()


@pytest.mark.parametrize("switch", ["rotary", "untied"])
def test_only_a_gpt2_is_exported(switch: str, tmp_path: Path) -> None:
    other = GPT(dataclasses.replace(CONFIG, **{switch: True}))
    with refused("format.not_gpt2", departures=switch) as caught:
        import_export.export_model(engine.LanguageModel(other, BYTES), tmp_path / "out", "hf")
    assert "nudge train" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_gpt2_that_began_at_zero_is_exported(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, zero_init=True)
    model = GPT(config)
    init_weights(model, seed=0)
    import_export.export_model(engine.LanguageModel(model, BYTES), tmp_path / "out", "hf")
    assert huggingface.read(tmp_path / "out")[0] == CONFIG


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with refused("format.not_found", source="./not/here/at/all"):
        import_export.import_model("./not/here/at/all", tmp_path / "out")


def test_the_hub_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused("machine.hub_not_installed", name="owner/name") as caught:
        import_export.import_model("owner/name", tmp_path / "out")
    assert caught.value.hint.endswith('pip install -e ".[hub]"')
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")
    monkeypatch.setattr(import_export, "HUB_TIMEOUT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # connections wait for ever
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        started = time.monotonic()
        with refused("machine.model_not_fetched", name="owner/name"):
            import_export.import_model("owner/name", tmp_path / "out")
    assert time.monotonic() - started < 10
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_without_a_byte(folder: Path) -> None:
    as_bin(folder, {})
    (folder / "pytorch_model.bin").write_bytes(b"")
    refuses(folder, "format.unreadable", path=folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "change", [lambda x: x.to("meta"), lambda x: x.to_sparse(), lambda x: torch.ones(1).expand(x.shape)]
)
def test_an_old_file_whose_numbers_are_not_all_in_it(folder: Path, change: Callable[[Tensor], Tensor]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"] = change(tensors["transformer.wte.weight"])
    as_bin(folder, tensors)
    refuses(folder, "format.not_tensors", path=folder / "pytorch_model.bin")


def read_or_refused(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]] | FormatError:
    try:
        return huggingface.read(folder)
    except FormatError as error:
        return error


def test_damaged_pickles_of_before_2020_are_read_right_or_refused_in_one_line(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    as_bin(folder, tensors)
    path, rng = folder / "pytorch_model.bin", random.Random(1)
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    whole, n_refused = path.read_bytes(), 0
    for number in range(300):
        damaged = bytearray(whole)
        for _ in range(number % 4):
            damaged[rng.randrange(1500)] = rng.randrange(256)  # where the pickle is; the numbers come after it
        n_bytes = rng.choice([len(whole), rng.randrange(len(whole))])
        path.write_bytes(damaged[:n_bytes])
        found = read_or_refused(folder)
        if isinstance(found, FormatError):
            n_refused += 1
            assert re.match(rf"{re.escape(str(folder))}\S* .+$", found.message)
            assert n_bytes < len(whole) or damaged != whole, "the whole file"
        else:
            config, state = found
            assert n_bytes == len(whole), "it was cut short"
            assert config == CONFIG
            assert all(torch.equal(state[name], tensor) for name, tensor in network().state_dict().items())
    assert 200 < n_refused < 300


def test_a_vocabulary_of_gpt2s_size_need_not_be_gpt2s(tmp_path: Path) -> None:
    """Models of other languages often have 50,257 tokens of their own."""
    letters = list(published_vocab.byte_alphabet().values())
    merges = [(a, b) for a in letters for b in letters][:50_000]
    tokens = [*letters, *(a + b for a, b in merges), "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: id_ for id_, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]))
    config = dataclasses.replace(CONFIG, vocab_size=50_257)
    assert huggingface.read_tokenizer(tmp_path, config).name == "bpe-50257"


@pytest.mark.parametrize(
    "special",
    [
        {"<|endoftext|>": 10**13},
        {"<|endoftext|>": 2**31},
        {"<|endoftext|>": -1},
        {"<|endoftext|>": 255},
        {"<|endoftext|>": 256, "more": 2**32},
        {"<|endoftext|>": 256, "more": 256},
        {"<|endoftext|>": 256, "": 257},
    ],
    ids=str,
)
def test_ids_that_no_table_could_hold(tmp_path: Path, special: dict[str, Any]) -> None:
    letters = list(published_vocab.byte_alphabet().values())
    vocab = {token: id_ for id_, token in enumerate(letters)} | special
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with refused("format.token_order", path=tmp_path / "merges.txt"):
        huggingface.read_tokenizer(tmp_path, CONFIG)


def test_gguf_is_not_read(tmp_path: Path) -> None:
    import_export.export_model(engine.LanguageModel(network(), BYTES), tmp_path / "theirs", "gguf")
    for source in (tmp_path / "theirs", tmp_path / "theirs" / "theirs.gguf"):
        with refused("format.gguf_not_read", path=tmp_path / "theirs" / "theirs.gguf"):
            import_export.import_model(str(source), tmp_path / "out")


def test_a_name_that_is_longer_than_names_can_be(tmp_path: Path) -> None:
    with refused("format.not_found", source="a" * 200):
        import_export.import_model("a" * 300, tmp_path / "out")
