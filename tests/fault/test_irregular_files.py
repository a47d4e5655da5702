"""Folders from a stranger: a link to another file, a pipe that never ends, a device. None is opened."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.networks import random_network
from tests.refusals import refused
from tests.unit.test_weight_files import save_in_parts

from nudge.config import DataConfig, ModelConfig
from nudge.convert import import_export
from nudge.convert.formats import huggingface
from nudge.data import tokenizer as tokenizers
from nudge.data.prepare import prepare
from nudge.data.shards import is_prepared, open_dataset
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder

LETTERS = tokenizers.chars(["abcdefghij"])
CONFIG = ModelConfig(n_layer=1, n_head=2, n_embd=8, block_size=8, vocab_size=LETTERS.vocab_size)


def link(path: Path) -> None:
    """To a copy of the same content elsewhere: it is refused for what it is, not for what it holds."""
    path.symlink_to(path.rename(path.parent.parent / f"outside {path.name}"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


KINDS: list[Callable[[Path], None]] = [link, pipe, device]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "text.txt").write_text("the quick brown fox. " * 500)
    steps = prepare(DataConfig(paths=(str(folder / "text.txt"),), tokenizer="bytes"), out=folder / "tokens")
    for _ in steps:
        pass
    return folder / "tokens"


FILES = ("manifest.json", "tokenizer.json", "train_000000.bin", "train_000000.ends.npy", "val_000000.bin")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("irregular", KINDS)
def test_prepared_text(name: str, irregular: Callable[[Path], None], prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder" / "tokens"
    shutil.copytree(prepared, folder)
    irregular(folder / name)
    with refused("data.not_regular", path=folder / name):
        open_dataset(folder)


def test_a_manifest_that_is_a_pipe_is_not_opened_to_see_whose_it_is(prepared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "tokens"))
    pipe(folder / "manifest.json")
    assert not is_prepared(folder)


def test_the_folder_itself_may_be_a_link(prepared: Path, tmp_path: Path) -> None:
    """The person who types its name made it."""
    (tmp_path / "tokens").symlink_to(prepared)
    assert len(open_dataset(tmp_path / "tokens").train) > 1000


@pytest.fixture
def parts(trained: Path, tmp_path: Path) -> Path:
    run = RunFolder(shutil.copytree(trained / "small", tmp_path / "run", symlinks=True))
    whole = checkpoint.read(checkpoint.paths(run)[0])
    for path in checkpoint.paths(run):
        path.unlink()
    save_in_parts(run, whole)
    return checkpoint.paths(run)[0]


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("irregular", KINDS)
@pytest.mark.parametrize("verify", [True, False])
def test_a_checkpoint_of_several_files(name: str, irregular: Callable[[Path], None], verify: bool, parts: Path) -> None:
    assert checkpoint.read(parts).verified
    irregular(parts / name)
    with refused("checkpoint.not_regular", file=f"{parts.name}/{name}"):
        checkpoint.read(parts, verify=verify)


@pytest.mark.parametrize("verify", [True, False])
def test_a_checkpoint_that_is_a_pipe(verify: bool, trained: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(trained / "small", tmp_path / "run", symlinks=True))
    path = checkpoint.paths(run)[0]
    pipe(path)
    with refused("checkpoint.not_a_checkpoint"):
        checkpoint.read(path, verify=verify)


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    folder = tmp_path / "hub" / "snapshot"
    huggingface.write(folder, CONFIG, random_network(CONFIG, spread=1.0).state_dict(), LETTERS)
    return folder


def test_the_cache_of_the_hub_consists_of_links_and_is_read(hf: Path, tmp_path: Path) -> None:
    for path in sorted(hf.iterdir()):
        link(path)
    assert import_export.import_model(str(hf), tmp_path / "out").config.model == CONFIG


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "merges.txt", "other.bin"])
def test_a_pipe_or_a_device_in_a_folder_of_hugging_face(name: str, hf: Path, tmp_path: Path) -> None:
    for number, irregular in enumerate((pipe, device)):
        (hf / name).unlink(missing_ok=True)
        (hf / name).touch()
        irregular(hf / name)
        with refused("format.not_regular", path=hf / name):
            import_export.import_model(str(hf), tmp_path / str(number))


def test_a_pipe_instead_of_a_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ckpt.pt")
    with refused("format.not_regular", path=tmp_path / "ckpt.pt"):
        import_export.import_model(str(tmp_path / "ckpt.pt"), tmp_path / "out")
