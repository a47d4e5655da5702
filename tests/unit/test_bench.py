"""`nudge bench` for real, on networks so small that seconds are enough. What it measures is never asserted."""

import importlib.util
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
import torch

from nudge.bench import llmc, pictures, reports, samples, suites, tokenizing
from nudge.bench.limits import check_dtype
from nudge.bench.peers import NotHereError, peak_bytes
from nudge.bench.runner import Absent, Contender, Measured, Prepared, Turn, interleave
from nudge.bench.time_to_loss import NANOGPT_TRAIN, nanogpt_lr, read_characters
from nudge.cli import benchtable
from nudge.config import Config
from nudge.data import published_vocab
from nudge.errors import ConfigError, MachineError
from nudge.fast.weights import onednn_multiplies

Nudge = Callable[..., subprocess.CompletedProcess[str]]

# What a checkout of nanoGPT offers, as far as it is used here, in a network of one layer.
NANOGPT_LIKE = """
from dataclasses import dataclass
import torch
from torch.nn import functional as F

print("loading prints, and that must not get into the answers")

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = torch.nn.Embedding(config.vocab_size, config.n_embd)
        self.head = torch.nn.Linear(config.n_embd, config.vocab_size, bias=config.bias)

    def forward(self, x, y):
        logits = self.head(self.embedding(x))
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), y.reshape(-1))

    def configure_optimizers(self, weight_decay, lr, betas, device_type):
        return torch.optim.AdamW(self.parameters(), lr=lr, betas=betas, weight_decay=weight_decay)
"""

# What a checkout of llm.c offers, as far as it is used here: a program that prints how long its updates took.
TRAIN_GPT2_LIKE = r"""
#include <stdio.h>
#include <unistd.h>
int main() {
    int B = 4; // batch size
    int T = 64; // sequence length
    for (int step = 0; step <= 40; step++) {
        usleep(2000);
        printf("step %d: train loss %f (took %f ms)\n", step, 1.0 / (step + 1), (double)(B * T));
    }
}
"""
MAKEFILE_LIKE = "$(info ✓ OpenMP found)\ntrain_gpt2: train_gpt2.c\n\t$(CC) $< -o $@\n"


@pytest.fixture
def nanogpt(tmp_path: Path) -> Path:
    folder = tmp_path / "nanoGPT"
    folder.mkdir()
    (folder / "model.py").write_text(NANOGPT_LIKE, encoding="utf-8")
    return folder


def found(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    value = json.loads(result.stdout)
    assert {"benchmark", "time", "nudge", "machine", "settings", "limits", "contenders", "comparisons"} <= value.keys()
    flops = [value["limits"][f"{dtype}_flops_per_s"] for dtype in ("float32", "bfloat16")]
    assert value["limits"]["flops_per_s"] == max(flops)
    assert value["limits"]["read_bytes_per_s"] > 0
    for contender in value["contenders"]:
        if not contender["absent"]:
            assert contender["version"]
            assert contender["peak_bytes"] > 1e6
            for figure in contender["figures"].values():
                assert figure["low"] <= figure["median"] <= figure["high"]
                assert len(figure["rounds"]) == value["rounds"]
    return value


def measured(value: dict[str, Any]) -> list[str]:
    return [contender["name"] for contender in value["contenders"] if not contender["absent"]]


@pytest.mark.slow
def test_train(nudge: Nudge, nanogpt: Path):
    peers = [option for name in ("nanoGPT float32", "transformers float32", "llm.c") for option in ("--peer", name)]
    args = ("--recipe", "llm_viz", "--batch", "2", "--rounds", "2", "--turn", "0.01", "--nanogpt", str(nanogpt), *peers)
    value = found(nudge("bench", "train", *args, "--json"))
    assert measured(value) == ["nudge", "nanoGPT float32", "transformers float32"]
    assert value["contenders"][-1]["absent"] == suites.LLMC_ABSENT
    assert value["settings"]["batch"] == 2
    assert [(c["ours"], c["peer"]) for c in value["comparisons"]] == [
        ("nudge", "nanoGPT float32"),
        ("nudge", "transformers float32"),
    ]
    # On a busy machine a moment's limit may be below what was reached in another moment.
    assert all(c["share_of_limit"] > 0 for c in value["contenders"] if not c["absent"])


@pytest.mark.slow
def test_decode(nudge: Nudge, tmp_path: Path):
    """Every contender writes what ours writes: they compute the same network."""
    picture = [] if importlib.util.find_spec("matplotlib") is None else ["--plot", str(tmp_path / "decode.svg")]
    args = ("--recipe", "tiny", "--prompt", "8", "--tokens", "4", "--dtype", "float32", "--rounds", "1")
    value = found(nudge("bench", "decode", *args, "--json", *picture))
    assert measured(value)[:2] == ["nudge float32", "transformers float32"]
    for contender in value["contenders"]:
        if contender["absent"]:
            assert contender["absent"].startswith("not installed: pip install")
        else:
            assert contender["agreement"] == 1.0
            assert {"ms_per_token", "prefill_ms"} <= contender["figures"].keys()
    assert (tmp_path / "decode.svg").exists() == bool(picture)


@pytest.mark.slow
def test_tokenize(nudge: Nudge, tmp_path: Path):
    text = Path(random.__file__).read_text(encoding="utf-8") + "한국어 문장 🙂\n\n  two  spaces"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    value = found(nudge("bench", "tokenize", "text.txt", "--cores", "1", "--rounds", "1", "--json"))
    assert measured(value) == ["nudge 1 core", "tiktoken 1 core", "tokenizers 1 core"]
    assert [contender["agreement"] for contender in value["contenders"]] == [1.0, 1.0, 1.0]


@pytest.mark.slow
def test_time_to_loss(nudge: Nudge, nanogpt: Path, tmp_path: Path):
    (tmp_path / "text.txt").write_text(" ".join(random.Random(0).choices(["ab", "cde", "f"], k=3000)), encoding="utf-8")
    args = ("--text", "text.txt", "--target", "1.8", "--every", "10", "--rounds", "1", "--nanogpt", str(nanogpt))
    small = (
        "--set",
        "model.n_layer=1",
        "--set",
        "model.n_embd=16",
        "--set",
        "train.steps=60",
        "--peer",
        "nanoGPT tuned",
    )
    value = found(nudge("bench", "time-to-loss", *args, *small, "--nanogpt-steps", "120", "--json"))
    assert measured(value) == ["nudge tiny", "nanoGPT tuned"]
    for contender in value["contenders"]:
        ((*_, (updates, seconds, loss)),) = contender["output"]
        assert updates % 10 == 0
        assert seconds > 0
        assert (loss <= 1.8) == bool(contender["figures"]["reached"]["median"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("train", "--recipe", "gpt9"), "gpt9"),
        (("train", "--peer", "nanogtp"), "'nanogtp'"),
        (("train", "--nanogpt", "nowhere"), "nowhere"),
        (("decode", "--recipe", "llm_viz"), "--prompt 5 --tokens 2"),
        (("decode", "--recipe", "tiny", "--tokens", "4", "--plot", "bars.gif"), "--plot bars.svg"),
        (("tokenize", "nowhere.txt"), "nowhere.txt"),
        (("time-to-loss",), "--text"),
    ],
)
def test_what_cannot_work_is_said_at_once(nudge: Nudge, args: tuple[str, ...], expected: str):
    result = nudge("bench", *args)
    assert result.returncode == 2
    assert expected in result.stderr
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_contender_names_a_function_that_prepares_it(tmp_path: Path, device: str):
    decoding = suites.decoding(
        Config().model,
        name="tiny",
        batch=1,
        prompt=4,
        tokens=4,
        dtypes=list(suites.DTYPES),
        threads=1,
        device=device,
        work=tmp_path,
    )
    training = suites.training(
        Config(),
        batch=1,
        context=8,
        threads=1,
        turn_s=1.0,
        updates=(),
        nanogpt=tmp_path,
        llmc=tmp_path,
        work=tmp_path,
        cuda=device == "cuda",
    )
    tokenizing = suites.tokenizing(["text.txt"], field_name="text", cores=[1], n_bytes=1)
    contenders = [*decoding.contenders, *training.contenders, *tokenizing.contenders]
    for module, function in {tuple(contender.prepare.split(":")) for contender in contenders}:
        spec = importlib.util.find_spec(module)
        assert spec, module
        assert f"\ndef {function}(" in Path(str(spec.origin)).read_text(encoding="utf-8")


def contender(name: str, function: str, **settings: Any) -> Contender:
    """A contender of this file's own."""
    return Contender(name=name, prepare=f"bench_players:{function}", options={"work": "w"}, **settings)


@pytest.fixture
def players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Contenders that write down when they play."""
    log = tmp_path / "log"
    source = f"""
        import os, subprocess, sys
        from nudge.bench.peers import NotHereError
        def steady(work):
            def play():
                print("noise on standard output")
                open({str(log)!r}, "a").write("steady ")
                return {{"tokens_per_s": 2.0, "output": "x"}}
            return "1.0", play
        def other(work):
            def play():
                open({str(log)!r}, "a").write("other ")
                return {{"tokens_per_s": 1.0}}
            return "2.0", play
        def refuses(work):
            raise NotHereError("this needs a different machine")
        def falls(work):
            rounds = iter([1.0, 1.0])
            return "3.0", lambda: {{"tokens_per_s": next(rounds)}}
        def dies(work):
            def play():
                print("last words", file=sys.stderr, flush=True)
                os._exit(9)
            return "4.0", play
        def endless(work):
            helper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            def play():
                open({str(log)!r}, "w").write(f"{{helper.pid}}\\n")
                while True:
                    pass
            return "5.0", play
    """
    lines = source.splitlines()
    (tmp_path / "bench_players.py").write_text("\n".join(line[8:] for line in lines), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + ":" + str(Path(samples.__file__).parents[2]))
    return log


@pytest.mark.slow
def test_turns_alternate_and_nobody_who_fails_stops_the_others(players: Path):
    everybody = [
        contender("steady", "steady"),
        contender("missing", "steady", needs=("no_such_package", "no-such-package")),
        contender("refuses", "refuses"),
        contender("falls", "falls"),
        contender("dies", "dies"),
        contender("other", "other"),
    ]
    events = list(interleave(everybody, 2, threads=1))
    assert players.read_text().split() == ["steady", "other", *["steady", "other"] * 2]
    absent = {event.contender.name: (event.why, event.began) for event in events if isinstance(event, Absent)}
    assert absent == {
        "missing": ("not installed: pip install no-such-package", False),
        "refuses": ("this needs a different machine", False),
        "falls": ("StopIteration: ", True),
        "dies": ("its process ended with 9: last words", False),
    }
    assert [event.version for event in events if isinstance(event, Prepared)] == ["1.0", "3.0", "2.0"]
    turns = [(event.number, event.contender.name) for event in events if isinstance(event, Turn)]
    ready = [(-1, name) for name in ("steady", "refuses", "falls", "dies", "other")]  # said before it takes its time
    rounds = [(0, "steady"), (0, "falls"), (0, "other"), (1, "steady"), (1, "falls"), (1, "other")]
    assert turns == [*ready, *rounds]
    outputs = [event.output for event in events if isinstance(event, Measured) and event.contender.name == "steady"]
    assert outputs == ["x", "x"]


def test_a_worker_ends_with_its_input_however_busy_it_is(players: Path):
    """`nudge bench` was killed: nothing that it started goes on computing."""
    requests = ({"prepare": "bench_players:endless", "options": {"work": "w"}}, {"round": 0})
    with subprocess.Popen([sys.executable, "-m", "nudge.bench.worker"], stdin=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        for request in requests:
            worker.stdin.write(json.dumps(request) + "\n")
        worker.stdin.flush()
        while not (players.exists() and players.read_text().endswith("\n")):
            assert worker.poll() is None
            time.sleep(0.01)
        helper = psutil.Process(int(players.read_text()))
        worker.stdin.close()  # as the system does for a process that is killed
        try:
            assert worker.wait(timeout=60) == 0
            helper.wait(timeout=60)
        finally:
            worker.kill()


def test_a_known_ratio_and_its_interval():
    """Rounds that share their noise: the ratio is exact, however much both vary."""
    noise = random.Random(1)
    theirs = [100 * noise.uniform(0.5, 2) for _ in range(9)]
    exact = samples.ratio([1.5 * value for value in theirs], theirs)
    assert exact.ratio == exact.low == pytest.approx(1.5)
    assert exact.high == pytest.approx(1.5)


def test_an_interval_holds_the_true_ratio_about_as_often_as_it_says():
    noise = random.Random(2)
    inside = 0
    for _ in range(60):
        theirs = [100 * noise.lognormvariate(0, 0.1) for _ in range(15)]
        found = samples.ratio([2 * 100 * noise.lognormvariate(0, 0.1) for _ in theirs], theirs)
        assert found.low <= found.ratio <= found.high
        inside += found.low <= 2 <= found.high
    assert inside >= 50


def test_of_few_rounds_the_interval_is_the_range():
    assert samples.ratio([2.0, 6.0, 4.0], [1.0, 2.0, 2.0]) == samples.Ratio(2.0, 2.0, 3.0)
    assert samples.spread([3.0, 1.0, 2.0]) == samples.Spread(2.0, 1.0, 3.0)


def report(measure: suites.Measure, figures: dict[str, list[dict[str, float]]], **settings: Any) -> reports.Report:
    """A report of made-up rounds; who is called nudge is ours."""
    everybody = tuple(
        Contender(name=name, prepare="", options={}, ours=name.startswith("nudge"), group=name.partition("/")[2])
        for name in figures
    )
    suite = suites.Suite(name="train", title="", measures=(measure,), contenders=everybody, **settings)
    made = reports.Report(suite, suites.machine(threads=1, device=None))
    for one in everybody:
        for number, values in enumerate(figures[one.name]):
            made.add(Measured(one, number, values, 10))
    return made


def test_the_table_has_everything(capsys: pytest.CaptureFixture[str]):
    reached = {"reached": 1.0, "updates": 7.0, "loss": 1.25}
    missed = {"reached": 0.0, "updates": 9.0, "loss": 2.5}
    made = report(
        suites.SECONDS,
        {"nudge": [{"seconds": 1.0, **reached}], "peer": [{"seconds": 2.0, **missed}], "nobody": []},
        also=(suites.Measure("updates", "updates", 0),),
    )
    made.add(Absent(made.suite.contenders[-1], "not installed: pip install nobody"))
    limits = {"float32_flops_per_s": 1e12, "bfloat16_flops_per_s": 2e12, "read_bytes_per_s": 3e10}
    made.add(Measured(made.machine, 0, limits, 10))
    machine = {"gpu": None, "processor": "a processor", "threads": 1, "pytorch": torch.__version__}
    found = made.as_dict({"machine": machine, "rounds": 1})
    assert found["limits"] == {**limits, "flops_per_s": 2e12}  # of the faster dtype, whichever that is
    benchtable.show(found)
    printed = capsys.readouterr().out
    for words in (
        "matrix products 2,000 GFLOP/s in bfloat16, 1,000 in float32; reading memory 30.0 GB/s",
        "nudge beside peer",
        "2.00x",
        "fewer than 5 rounds",
        "peer missed the target in 1 of 1 runs",
        "nobody: not installed: pip install nobody",
    ):
        assert words in printed


def test_emulated_bfloat16_is_left_out():
    cpu = torch.device("cpu")
    check_dtype("float32", cpu)
    check_dtype("bfloat16", torch.device("cuda"))
    if onednn_multiplies(torch.bfloat16):
        check_dtype("bfloat16", cpu)
    else:
        with pytest.raises(NotHereError, match="no bfloat16"):
            check_dtype("bfloat16", cpu)


def test_times_as_fast_is_above_one_when_ours_takes_less_time():
    (compared,) = report(
        suites.MS_PER_TOKEN, {"nudge": [{"ms_per_token": 2.0}] * 5, "peer": [{"ms_per_token": 3.0}] * 5}
    ).comparisons()
    assert compared["ratio"] == pytest.approx(1.5)


def test_groups_compare_within_and_the_best_with_the_best():
    made = report(
        suites.TOKENS_PER_S,
        {name: [{"tokens_per_s": speed}] for name, speed in (("nudge/a", 2), ("x/a", 1), ("nudge/b", 3), ("y/b", 5))},
    )
    pairs = [(c["ours"], c["peer"], c["ratio"]) for c in made.comparisons()]
    assert pairs == [("nudge/a", "x/a", 2), ("nudge/b", "y/b", 0.6)]
    made = report(
        suites.TOKENS_PER_S,
        {name: [{"tokens_per_s": speed}] for name, speed in (("nudge/a", 4), ("x/a", 1), ("nudge/b", 3), ("y/b", 5))},
    )
    assert ("nudge/a", "y/b", 0.8) in [(c["ours"], c["peer"], c["ratio"]) for c in made.comparisons()]


def test_a_target_that_ours_misses_is_no_comparison():
    missed = {"nudge": [{"seconds": 1.0, "reached": 0.0}], "peer": [{"seconds": 3.0, "reached": 1.0}]}
    assert report(suites.SECONDS, missed).comparisons() == []
    reached = {"nudge": [{"seconds": 1.0, "reached": 1.0}], "peer": [{"seconds": 3.0, "reached": 0.0}]}
    assert report(suites.SECONDS, reached).comparisons()[0]["ratio"] == 3


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_written(tmp_path: Path, suffix: str):
    pytest.importorskip("matplotlib", reason="the extra 'bench' brings matplotlib")
    made = report(suites.TOKENS_PER_S, {"nudge": [{"tokens_per_s": 2.0}], "peer": [{"tokens_per_s": 1.0}]})
    machine = {"gpu": None, "processor": "a processor", "threads": 1}
    pictures.draw(made.as_dict({"machine": machine, "rounds": 1}), tmp_path / f"bars{suffix}")
    data = (tmp_path / f"bars{suffix}").read_bytes()
    assert data.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in data


def test_a_picture_without_matplotlib_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as missing:
        pictures.check(tmp_path / "bars.png")
    assert missing.value.code == "machine.no_matplotlib"
    assert "pip install matplotlib" in missing.value.hint
    with pytest.raises(ConfigError) as refused:
        pictures.check(tmp_path / "nowhere" / "bars.png")
    assert (refused.value.code, refused.value.values["folder"]) == ("config.plot_folder", tmp_path / "nowhere")
    with pytest.raises(ConfigError) as refused:
        pictures.check(tmp_path / "bars.gif")
    assert (refused.value.code, refused.value.hint) == ("config.plot_format", "--plot bars.svg")


def test_tokens_for_llmc(tmp_path: Path):
    llmc.write_tokens(tmp_path / "tokens.bin", 200, 100)
    assert (tmp_path / "tokens.bin").stat().st_size == 1024 + 2 * 100
    with pytest.raises(NotHereError, match="65,535"):
        llmc.write_tokens(tmp_path / "tokens.bin", 100_000, 100)


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="needs make and a C compiler")
def test_llmc_is_built_for_the_batch_and_stopped_between_its_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "llm.c"
    (folder / "llmc").mkdir(parents=True)
    (folder / "train_gpt2.c").write_text(TRAIN_GPT2_LIKE, encoding="utf-8")
    (folder / "Makefile").write_text(MAKEFILE_LIKE, encoding="utf-8")
    monkeypatch.setenv("CC", "cc")
    llmc.build(folder, tmp_path / "home", batch=3, context=5)
    program = llmc.Program(tmp_path / "home")
    try:
        steps = []
        for _ in range(6):
            assert program.run_updates(3) == [15.0, 15.0, 15.0]  # B x T, so it was built for them
            steps.append(program.step)
        assert steps == [4, 8, 12, 16, 4, 8]  # begun anew before the 20th, and nothing ran between the turns
        assert peak_bytes(program.process.pid) > 0
    finally:
        program.process.kill()
        program.process.wait()
    (folder / "train_gpt2.c").write_text("int main() { return 0; }", encoding="utf-8")
    with pytest.raises(NotHereError, match="does not set B"):
        llmc.build(folder, tmp_path / "home2", batch=3, context=5)


def test_merges_found_from_ranks_give_the_ranks_back():
    vocabulary = published_vocab.find("gpt2")[:3000]
    pairs = tokenizing.merged_pairs(vocabulary)
    assert [left + right for left, right in pairs] == vocabulary[256:]
    known = set(vocabulary)
    assert all(left in known and right in known for left, right in pairs)


def test_the_text_is_split_as_a_run_splits_it(tmp_path: Path):
    (tmp_path / "text.txt").write_text("ab" * 50, encoding="utf-8")
    train, val, n_chars = read_characters(tmp_path / "text.txt", val_share=Config().data.val_share)
    assert (len(train), len(val), n_chars) == (90, 10, 2)
    assert torch.equal(val, torch.tensor([0, 1] * 5))


def test_nanogpts_learning_rate_warms_up_and_falls_to_a_tenth():
    config = Config(train=NANOGPT_TRAIN).train
    rates = [nanogpt_lr(step, config) for step in range(config.steps + 1)]
    assert rates[0] == pytest.approx(config.lr / 101)
    assert max(rates) == rates[100] == pytest.approx(config.lr)
    assert rates[-1] == pytest.approx(config.lr / 10)
    assert median(rates[100:]) == pytest.approx(0.55 * config.lr, rel=0.01)


def test_asking_for_contenders_imports_no_torch():
    code = "import sys, nudge.bench.suites, nudge.bench.runner, nudge.bench.reports; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
