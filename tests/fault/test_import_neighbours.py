"""Files of nanoGPT and llm.c that are damaged, hostile or of another network: one clear error, and nothing written."""

import dataclasses
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.refusals import refused

from nudge.config import Config, ModelConfig
from nudge.convert import import_export
from nudge.data import tokenizer as tokenizers
from nudge.data.foreign import meta_pkl
from nudge.errors import TokenizerError
from nudge.infer import engine
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder

BYTES = tokenizers.get("bytes")
T = "transformer"
CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=8, vocab_size=BYTES.vocab_size)


def model(**switches: bool) -> engine.LanguageModel:
    network = GPT(dataclasses.replace(CONFIG, **switches))
    init_weights(network, seed=0)
    return engine.LanguageModel(network, BYTES)


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    import_export.export_model(model(), tmp_path / "theirs", "nanogpt")
    return tmp_path / "theirs" / "ckpt.pt"


@pytest.fixture
def bin_file(tmp_path: Path) -> Path:
    import_export.export_model(model(), tmp_path / "theirs", "llmc")
    return tmp_path / "theirs" / "model.bin"


def refuses(path: Path, code: str, /, **values: Any) -> None:
    """`nudge import` raises this error and leaves no folder behind."""
    with refused(code, **values):
        import_export.import_model(str(path), path.parent.parent / "out")
    assert sorted(found.name for found in path.parent.parent.iterdir()) == [path.parent.name]


def change(path: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    content = torch.load(path)
    how(content)
    torch.save(content, path)


def args(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["model_args"].update(values)


def tensors(**values: Any) -> Callable[[dict[str, Any]], Any]:
    """Set tensors by their names, written with two underscores for a dot."""
    return lambda content: content["model"].update({name.replace("__", "."): value for name, value in values.items()})


@pytest.mark.parametrize(
    ("how", "code", "values"),
    [
        (lambda c: c.pop("model_args"), "not_nanogpt", {"missing": "model_args"}),
        (lambda c: c.pop("model"), "not_nanogpt", {"missing": "model"}),
        (lambda c: c.update(model=[1, 2]), "not_nanogpt", {"missing": "model"}),
        (lambda c: c["model_args"].pop("n_layer"), "bad_size", {"name": "n_layer", "got": "None"}),
        (args(n_embd=8.0), "bad_size", {"name": "n_embd", "got": "8.0"}),
        (args(block_size=-1), "bad_size", {"name": "block_size", "got": "-1"}),
        (args(vocab_size=None), "bad_size", {"name": "vocab_size", "got": "None"}),
        (args(vocab_size=torch.ones(9, 9)), "bad_size", {"name": "vocab_size", "got": "Tensor"}),
        (args(n_embd=2**40, bias=False), "wrong_shape", {"got": [257, 8], "sizes_in": "model_args"}),
        (args(n_head=3), "indivisible_heads", {"n_embd": 8, "n_head": 3}),
        (args(n_layer=10**9), "other_n_layer", {"expected": 10**9, "got": 2}),
        (args(vocab_size=10**12), "wrong_shape", {"got": [257, 8], "expected": [10**12, 8]}),
        (lambda c: c["model"].pop(f"{T}.ln_f.bias"), "missing_tensor", {"tensor": f"{T}.ln_f.bias"}),
        (lambda c: c["model"].pop(f"{T}.wpe.weight"), "missing_tensor", {"tensor": f"{T}.wpe.weight"}),
        (tensors(transformer__ln_f__bias=torch.ones(9)), "wrong_shape", {"tensor": f"{T}.ln_f.bias", "got": [9]}),
        (
            tensors(transformer__h__0__mlp__c_fc__weight=torch.ones(8, 32)),
            "wrong_shape",
            {"tensor": f"{T}.h.0.mlp.c_fc.weight"},
        ),
        (tensors(transformer__h__0__more=torch.ones(1)), "unknown_tensors", {"n": 1, "first": "blocks.0.more"}),
        (tensors(_orig_mod__lm_head__weight=torch.ones(1)), "duplicate_tensor", {"tensor": "_orig_mod.lm_head.weight"}),
        (tensors(lm_head__weight=torch.ones(257, 8)), "untied_head", {}),
        (tensors(lm_head__weight=torch.ones(257, 8).double()), "untied_head", {}),
        (tensors(transformer__ln_f__bias=torch.ones(8).int()), "not_tensors", {}),
        (tensors(transformer__wpe__weight=torch.ones(1).expand(8, 8)), "not_tensors", {}),
        (tensors(transformer__wpe__weight="none"), "not_tensors", {}),
        (lambda c: c["model"].update({7: torch.ones(1)}), "not_tensors", {}),
    ],
)
def test_a_ckpt_of_another_network_or_damaged(
    ckpt: Path, how: Callable[[dict[str, Any]], Any], code: str, values: dict[str, Any]
) -> None:
    change(ckpt, how)
    refuses(ckpt, f"format.{code}", path=ckpt, **values)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_ckpt_that_was_cut_short(ckpt: Path, share: float) -> None:
    data = ckpt.read_bytes()
    ckpt.write_bytes(data[: int(len(data) * share)])
    refuses(ckpt, "format.unreadable" if share else "format.not_a_model", path=ckpt)


class Hostile:
    """What a pickle can do to who loads it: this one would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_ckpt_that_wants_to_run_code(ckpt: Path) -> None:
    ran = ckpt.parent / "ran"
    change(ckpt, lambda content: content.update(config=Hostile(ran)))
    refuses(ckpt, "format.runs_code", path=ckpt)
    ckpt.write_bytes(pickle.dumps({"model_args": {}, "model": Hostile(ran)}))
    refuses(ckpt, "format.runs_code", path=ckpt)
    assert not ran.exists()


def test_a_meta_that_wants_to_run_code(tmp_path: Path) -> None:
    path, ran = tmp_path / "meta.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"stoi": Hostile(ran), "itos": {}}))
    with pytest.raises(TokenizerError, match="could run code when loaded"):
        meta_pkl.read(path)
    assert not ran.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"stoi": {"a": 0}}),
        pickle.dumps({"stoi": {"a": 0}, "itos": {1: "a"}}),
        pickle.dumps({"stoi": {"a": 0}, "itos": {0: "b"}}),
        pickle.dumps({"stoi": {"ab": 0}, "itos": {0: "ab"}}),
        pickle.dumps({"stoi": {"b": 0, "a": 1}, "itos": {0: "b", 1: "a"}}),
        pickle.dumps({"stoi": {1: 0}, "itos": {0: 1}}),
        pickle.dumps({"stoi": {}, "itos": {}}),
        pickle.dumps({"stoi": {"a": 0}, "itos": "a"})[:-4],
        bytes((1 << 25) + 1),
    ],
)
def test_a_meta_that_holds_no_characters(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"meta\.pkl"):
        meta_pkl.read(tmp_path / "meta.pkl")


GREEDY = {  # what they ask for, in a few bytes
    "a place in two billion": b"\x80\x04}r\xff\xff\xff\x7f.",
    "a place in 150 million": b"\x80\x04}r\x00\x00\x00\x09.",
    "a place by its digits": b"}p2147483647\n.",
    "a text of an exabyte": b"\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x10a.",
    "a text of 4 GB": b"\x80\x04X\xff\xff\xff\xffa.",
    "a number of 2 GB": b"\x80\x04\x8b\xff\xff\xff\x7f\x01.",
    "a frame of an exabyte": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x10}.",
    "bytes of an exabyte": b"\x80\x05\x96\x00\x00\x00\x00\x00\x00\x00\x10a.",
    "tuples of tuples": b"\x80\x04)" + b"2\x86" * 40 + b".",
    "an extension": b"\x82\x01.",
    "an object of its maker's": b"\x80\x04Pname\n.",
    "a buffer": b"\x80\x05\x97.",
}

MEMORY = """
    import resource, sys
    from pathlib import Path
    from nudge.data.foreign import meta_pkl
    from nudge.errors import TokenizerError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    room = 400 * 1024**2 + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    try:
        meta_pkl.read(Path(sys.argv[1]))
    except TokenizerError as error:
        print(error.code, error.message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
"""


@pytest.mark.parametrize("kind", GREEDY)
def test_a_meta_that_asks_for_more_than_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(GREEDY[kind])
    with refused("tokenizer.not_meta", path=path):
        meta_pkl.read(path)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and their units are those of Linux")
def test_a_small_meta_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(GREEDY["a place in 150 million"])
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "keeps an object in place 150,994,944" in ended.stdout


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("itos", [dict, list])
def test_metas_of_all_protocols(tmp_path: Path, protocol: int, itos: type) -> None:
    texts = ["\n", "a", "é", "한"]
    numbered = dict(enumerate(texts)) if itos is dict else texts
    meta = {"vocab_size": 4, "itos": numbered, "stoi": {text: token for token, text in enumerate(texts)}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=protocol))
    assert meta_pkl.read(tmp_path / "meta.pkl").characters == texts


def test_a_meta_that_is_not_there(ckpt: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot read data/meta\.pkl"):
        import_export.import_model(str(ckpt), ckpt.parent.parent / "out", tokenizer="data/meta.pkl")
    assert not (ckpt.parent.parent / "out").exists()


def shared_layers(content: dict[str, Any]) -> None:
    """A thousand layers in the bytes of one."""
    state = content["model"]
    state |= {
        name.replace(".h.0.", f".h.{layer}."): tensor
        for layer in range(1, 1000)
        for name, tensor in list(state.items())
        if ".h.0." in name
    }
    content["model_args"]["n_layer"] = 1000


def test_many_layers_in_the_same_bytes(ckpt: Path) -> None:
    change(ckpt, shared_layers)
    assert ckpt.stat().st_size < 4_000_000
    refuses(ckpt, "format.larger_than_file", n_bytes=ckpt.stat().st_size)


def test_a_file_that_unpacks_to_more_than_itself(ckpt: Path) -> None:
    change(ckpt, lambda content: content.update(padding="\0" * 10**7))
    with zipfile.ZipFile(ckpt) as source:
        entries = [(entry.filename, source.read(entry)) for entry in source.infolist()]
    with zipfile.ZipFile(ckpt, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in entries:
            packed.writestr(name, data)
    refuses(ckpt, "format.larger_than_file", n_bytes=ckpt.stat().st_size)


def test_nudges_own_checkpoint_is_not_imported(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    checkpoint.save(run, checkpoint.Checkpoint(step=1, config=Config(), model={}))
    refuses(run.ckpt, "format.own_checkpoint", path=run.ckpt)


@pytest.mark.parametrize(
    ("at", "value", "code", "values"),
    [
        (0, 20240327, "not_a_model", {"head": struct.pack("<i", 20240327).hex(" ")}),
        (1, 1, "llmc_version", {"got": 1}),
        (1, 4, "llmc_version", {"got": 4}),
        (1, 5, "wrong_length", {}),
        (2, 9, "wrong_length", {}),
        (2, 0, "bad_size", {"name": "block_size", "got": "0"}),
        (3, -5, "bad_size", {"name": "vocab_size", "got": "-5"}),
        (4, 2**31 - 1, "wrong_length", {}),
        (5, 3, "indivisible_heads", {"n_embd": 8, "n_head": 3}),
        (6, 2**31 - 2, "wrong_length", {}),
        (7, 128, "too_few_rows", {"got": 128, "expected": 257}),
        (7, 2**31 - 1, "wrong_length", {}),
    ],
)
def test_a_header_of_llmc_that_cannot_be(
    bin_file: Path, at: int, value: int, code: str, values: dict[str, Any]
) -> None:
    data = bytearray(bin_file.read_bytes())
    struct.pack_into("<i", data, 4 * at, value)
    bin_file.write_bytes(data)
    refuses(bin_file, f"format.{code}", path=bin_file, **values)


@pytest.mark.parametrize("n_bytes", [0, 3, 4, 1023, 1024, 5000, -1])
def test_an_llmc_file_that_was_cut_short(bin_file: Path, n_bytes: int) -> None:
    data = bin_file.read_bytes()[:n_bytes]
    bin_file.write_bytes(data)
    if len(data) < 4:
        refuses(bin_file, "format.not_a_model", path=bin_file)
    else:
        refuses(bin_file, "format.wrong_length", path=bin_file, got=len(data))


def test_an_llmc_file_with_more_behind_it(bin_file: Path) -> None:
    whole = bin_file.read_bytes()
    bin_file.write_bytes(whole + b"\0\0\0\0")
    refuses(bin_file, "format.wrong_length", path=bin_file, got=len(whole) + 4, expected=len(whole))


def test_several_checkpoints_in_one_folder(bin_file: Path) -> None:
    (bin_file.parent / "model_2.bin").write_bytes(bin_file.read_bytes())
    with refused("format.several_checkpoints", n=2, last=bin_file.parent / "model_2.bin"):
        import_export.import_model(str(bin_file.parent), bin_file.parent.parent / "out")


@pytest.mark.parametrize("kind", ["nanogpt", "llmc"])
@pytest.mark.parametrize("switch", ["rotary", "untied"])
def test_only_a_gpt2_is_exported(kind: str, switch: str, tmp_path: Path) -> None:
    with refused("format.not_gpt2", departures=switch):
        import_export.export_model(model(**{switch: True}), tmp_path / "out", kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out/ckpt.pt", "model.bin"])
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(name: str, tmp_path: Path) -> None:
    with refused("format.not_found", source=name):
        import_export.import_model(name, tmp_path / "out")


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from nudge.errors import MachineError
    from nudge.convert import import_export
    from tests.fault.test_import_neighbours import model

    exported = model()
    # No file of this process grows beyond the limit: to a program this is what a full disk is.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))
    try:
        import_export.export_model(exported, Path(sys.argv[2]), sys.argv[1])
    except MachineError as error:
        print(error.message, error.hint, sep="\\n")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
@pytest.mark.parametrize("kind", ["nanogpt", "llmc"])
def test_a_full_disk_leaves_no_half_export(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), kind, str(tmp_path / "out")]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    message, hint = ended.stdout.splitlines()
    assert "could not write" in message
    assert "make room on the disk" in hint
    assert list(tmp_path.iterdir()) == []
