"""No compiler, a broken one, a read-only cache, an older processor: the right result, and the reason in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nudge.fast.fused_update import why_not_fast

OLDER_PROCESSORS = [
    {"CFLAGS": "-march=x86-64-v3", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    {"CFLAGS": "-march=x86-64-v2", "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
]

# Makes three updates, with the kernels if they are available, and prints the reason if not.
THREE_UPDATES = """
import json, torch
from nudge.config import MachineConfig, ModelConfig, TrainConfig, Config
from nudge.model.gpt import GPT, init_weights
from nudge.machine.hardware_probe import probe
from nudge.train.update import make_update
from dataclasses import replace

machine = probe(MachineConfig(dtype="float32", threads=2))
config = Config(model=ModelConfig(n_layer=2, n_head=2, n_embd=30, block_size=16, vocab_size=67))
config = replace(config, machine=MachineConfig(device="cpu", dtype="float32", threads=2, update=machine.update))
network = GPT(config.model)
init_weights(network, seed=0)
update = make_update(network, config)
ids = torch.randint(0, 67, (8, 17), generator=torch.Generator().manual_seed(0))
losses = []
for _ in range(3):
    loss = update.forward_backward(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), 1.0)
    update.step(1e-2, loss)
    losses.append(loss.item())
print(json.dumps({"update": machine.update, "why": machine.reasons[-1], "losses": losses}))
"""


def three_updates(cache: Path, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", THREE_UPDATES],
        capture_output=True,
        text=True,
        env={**os.environ, "NUDGE_CACHE": str(cache), **environment},
        check=True,
    )
    assert done.stderr == ""
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def expected() -> object:
    """Return the losses of the plain path."""
    result = three_updates(Path("/dev/null/no"), CC="/nowhere/cc")
    assert result["update"] == "eager"
    return result["losses"]


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    if obstacle := why_not_fast("cpu", "float32"):
        pytest.skip(obstacle)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CC": "/nowhere/cc"}, "the C compiler does not run"),
        ({"CC": "false"}, "cannot"),
        ({"PATH": "/nowhere"}, "no C compiler here (cc, gcc or clang)"),
        ({"CFLAGS": "-march=nonsense"}, "cannot compile the kernels"),
    ],
)
def test_without_a_compiler_the_plain_path_runs_and_says_so(
    environment: dict[str, str], words: str, tmp_path: Path, expected: list[float]
) -> None:
    result = three_updates(tmp_path, **environment)
    assert result["update"] == "eager"
    assert words in str(result["why"])
    assert "\n" not in str(result["why"])
    assert result["losses"] == pytest.approx(expected, rel=1e-5)


def test_a_cache_that_cannot_be_written_costs_only_the_compilation(expected: list[float]) -> None:
    result = three_updates(Path("/dev/null/cache"))
    assert result["update"] == "fast"
    assert result["losses"] == pytest.approx(expected, rel=1e-4)


def test_a_damaged_library_in_the_cache_is_compiled_anew(tmp_path: Path, expected: list[float]) -> None:
    three_updates(tmp_path)
    (library,) = (tmp_path / "kernels").glob("layers-*.so")
    whole = library.stat().st_size
    library.write_bytes(b"not a library")
    result = three_updates(tmp_path)
    assert result["update"] == "fast"
    assert result["losses"] == pytest.approx(expected, rel=1e-4)
    assert library.stat().st_size == whole


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the mask is of x86-64")
@pytest.mark.parametrize("older", OLDER_PROCESSORS, ids=["AVX2", "SSE4"])
def test_an_older_processor(tmp_path: Path, older: dict[str, str], expected: list[float]) -> None:
    result = three_updates(tmp_path, **older)
    assert result["update"] == "fast"
    assert result["losses"] == pytest.approx(expected, rel=1e-4)


def test_a_compiler_without_openmp_makes_kernels_for_one_thread(tmp_path: Path, expected: list[float]) -> None:
    compiler = tmp_path / "without"
    compiler.write_text('#!/bin/sh\nfor each; do [ "$each" = -fopenmp ] && exit 1; done\nexec cc "$@"\n')
    compiler.chmod(0o700)
    result = three_updates(tmp_path / "cache", CC=str(compiler))
    assert result["update"] == "fast"
    assert str(result["why"]).endswith("for one thread, without OpenMP")
    assert result["losses"] == pytest.approx(expected, rel=1e-4)


def test_many_processes_may_compile_at_once(tmp_path: Path) -> None:
    code = "import torch; from nudge.fast.kernels import Kernels; Kernels(torch.bfloat16); print('good')"
    environment = {**os.environ, "NUDGE_CACHE": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate()[0] for process in processes] == ["good\n"] * 4
    assert len(list((tmp_path / "kernels").iterdir())) == 1  # one library, and nothing left over


def test_the_fast_way_that_was_asked_for_is_not_replaced_in_silence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nudge", "train", "--steps", "1", "--set", "machine.update=fast"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "CC": "/nowhere/cc"},
    )
    assert done.returncode == 2
    assert "no fast update here: the C compiler does not run" in done.stderr
    assert "machine.update=eager" in done.stderr


def test_a_run_that_loses_its_compiler_goes_on_and_says_so(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i} and {i} make {2 * i}.\n" for i in range(500)))
    small = ["model.n_layer=1", "model.n_embd=16", "model.block_size=16", "train.batch_tokens=64", "sample.every=0"]
    train = ["train", "--data", str(text), "--tokenizer", "bytes", "--run", "run", "--steps", "4"]
    nudge = [sys.executable, "-m", "nudge"]
    subprocess.run([*nudge, *train, *(f"--set={s}" for s in small)], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [*nudge, "resume", "run", "--steps", "8"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "CC": "/nowhere/cc"},
    )
    assert "no longer bit for bit as it began: update eager" in done.stdout
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert written["config"]["machine"]["update"] == written["machine"]["update"] == "eager"
