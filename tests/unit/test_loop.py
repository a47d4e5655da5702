"""The training loop from the inside: order of events, skipped updates, the control file, what is fixed in run.json."""

import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nudge
from nudge import events
from nudge.config import Config
from nudge.errors import ConfigError, NudgeError
from nudge.events import Evaluation, Event, Sample, Saved, Skipped, Started, Step, Stopped
from nudge.fast.fused_update import FusedUpdate, why_not_fast
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder, newest_run
from nudge.train import control
from nudge.train.update import AutogradUpdate


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i} and {i} make {2 * i}.\n" for i in range(500)))
    return path


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def make(text: Path, **sections: dict[str, Any]) -> Config:
    small: dict[str, Any] = {
        "model": {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16},
        "data": {"paths": [str(text)], "tokenizer": "bytes"},
        "train": {"steps": 8, "batch_tokens": 64},
        "sample": {"every": 2, "max_tokens": 4},
        "eval": {"every": 4, "tokens": 64},
        "save": {"every": 4},
        "machine": {"dtype": "float32", "threads": 1},
    }
    for name, values in sections.items():
        small[name] = {**small[name], **values}
    return nudge.recipe("tiny", **small)


def told(config: Config, run: Path) -> list[Event]:
    return [event for event in nudge.run(config, run) if not isinstance(event, events.Preparing)]


def test_the_story_of_a_run(text: Path, tmp_path: Path) -> None:
    story = told(make(text), tmp_path / "run")
    kinds = [(type(event), event.step) for event in story]  # type: ignore[union-attr]
    at_0 = [(Started, 0), (Saved, 0), (Evaluation, 0), (Sample, 0)]
    at_4 = [(Step, 4), (Saved, 4), (Evaluation, 4), (Sample, 4)]  # saved before anything else can go wrong
    at_8 = [(Step, 8), (Saved, 8), (Evaluation, 8), (Sample, 8), (Stopped, 8)]
    assert kinds == [
        *at_0,
        *[(Step, 1), (Step, 2), (Sample, 2), (Step, 3)],
        *at_4,
        *[(Step, 5), (Step, 6), (Sample, 6), (Step, 7)],
        *at_8,
    ]
    assert list(events.read(tmp_path / "run" / "events.jsonl")) == sorted(story, key=lambda event: event.step)  # type: ignore[union-attr]


def test_a_run_begins_at_a_random_guess_and_learns(text: Path, tmp_path: Path) -> None:
    story = told(make(text, train={"steps": 60, "lr": 1e-2}), tmp_path / "run")
    losses = [event.loss for event in story if isinstance(event, Step)]
    assert losses[0] == pytest.approx(math.log(257), abs=0.1)
    assert losses[-1] < losses[0] - 1.5


def test_bits_per_byte_of_a_byte_model(text: Path, tmp_path: Path) -> None:
    """One token is one byte (the end-of-text token aside), so both losses are the same number in other units."""
    evaluation = [event for event in told(make(text), tmp_path / "run") if isinstance(event, Evaluation)][-1]
    assert evaluation.whole_split
    dataset_tokens = evaluation.tokens
    nats_per_byte = evaluation.bits_per_byte * math.log(2)
    assert nats_per_byte == pytest.approx(evaluation.loss * dataset_tokens / (dataset_tokens - 1), rel=0.01)


@pytest.mark.slow
def test_everything_is_decided_in_run_json(text: Path, tmp_path: Path) -> None:
    begun = told(make(text, train={"minutes": 0.02}), tmp_path / "run")
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    config = written["config"]
    assert config["train"]["minutes"] is None
    assert config["train"]["steps"] >= 1
    (started,) = (event for event in begun if isinstance(event, Started))
    assert started.steps == config["train"]["steps"]
    assert any(note.startswith(f"updates {started.steps:,}: as many as fit into 0.02 min") for note in started.notes)
    assert config["train"]["micro_batch"] == 4
    assert config["machine"] == {
        "device": config["machine"]["device"],
        "dtype": "float32",
        "threads": 1,
        "update": config["machine"]["update"],
        "shard": False,
        "recompute": False,
        "timeout_s": 300.0,
        "deterministic": False,
        "usd_per_hour": None,
    }
    assert config["machine"]["update"] in ("fast", "compiled", "eager")
    assert config["model"]["vocab_size"] == 257
    assert config["sample"]["prompt"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    text: Path, tmp_path: Path, update: str, optimizer: str
) -> None:
    machine = {"update": update}
    whole = told(make(text, train={"micro_batch": 4, "optimizer": optimizer}, machine=machine), tmp_path / "whole")
    parts = told(make(text, train={"micro_batch": 1, "optimizer": optimizer}, machine=machine), tmp_path / "parts")
    for a, b in zip(whole, parts, strict=True):
        if isinstance(a, Step):
            assert isinstance(b, Step)
            assert a.loss == pytest.approx(b.loss, rel=1e-5)
            assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)


@pytest.fixture(params=["fast", "eager"])
def update(request: pytest.FixtureRequest) -> str:
    if request.param == "fast" and (obstacle := why_not_fast("cpu", "float32")):
        pytest.skip(obstacle)
    return str(request.param)


def break_losses(monkeypatch: pytest.MonkeyPatch, broken: set[int]) -> None:
    """From now on the loss and the gradients of these updates (from 0) are no numbers."""
    calls = iter(range(10_000))
    autograd, explicit = AutogradUpdate.forward_backward, FusedUpdate.forward_backward

    def with_autograd(self: AutogradUpdate, *batch: Any, last: bool) -> Tensor:
        loss = autograd(self, *batch, last=last)
        if next(calls) in broken:
            loss *= torch.nan
            for parameter in self.network.parameters():
                parameter.grad = parameter.grad * torch.nan if parameter.grad is not None else None
        return loss

    def written_out(self: FusedUpdate, *batch: Any, last: bool) -> Tensor:
        loss = explicit(self, *batch, last=last)
        if next(calls) in broken:
            loss *= torch.nan
            self.flat.grads *= torch.nan
        return loss

    monkeypatch.setattr(AutogradUpdate, "forward_backward", with_autograd)
    monkeypatch.setattr(FusedUpdate, "forward_backward", written_out)


@pytest.fixture
def no_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rehearsal makes passes too, which would be counted."""
    from nudge.train import rehearsal, resolve

    calm = rehearsal.Rehearsal(step_s=0.01, eval_token_s=1e-5, sample_token_s=1e-3)
    monkeypatch.setattr(resolve, "rehearse", lambda *_: calm)


@pytest.mark.usefixtures("no_rehearsal")
def test_an_update_without_a_number_is_skipped(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str
) -> None:
    config = make(text, save={"every": 1, "keep_last": 100}, machine={"update": update})
    break_losses(monkeypatch, {2, 3, 5})
    story = told(config, tmp_path / "run")
    skipped = [(event.step, event.in_a_row) for event in story if isinstance(event, Skipped)]
    assert skipped == [(3, 1), (4, 2), (6, 1)]
    assert [event.step for event in story if isinstance(event, Step)] == [1, 2, 5, 7, 8]
    saved = {s: checkpoint.read(tmp_path / "run" / "checkpoints" / f"step_{s:08d}.pt") for s in (2, 4, 5)}
    assert saved[4].skipped_in_a_row == 2
    assert saved[5].skipped_in_a_row == 0
    assert saved[2].optimizer is not None
    assert saved[4].optimizer is not None
    for name, tensor in saved[2].model.items():
        assert torch.equal(tensor, saved[4].model[name]), name
        assert all(torch.equal(v, saved[4].optimizer[name][k]) for k, v in saved[2].optimizer[name].items()), name
    assert not torch.equal(saved[4].model["wte.weight"], saved[5].model["wte.weight"])


@pytest.mark.usefixtures("no_rehearsal")
def test_five_skipped_in_a_row_stop_the_run(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str
) -> None:
    break_losses(monkeypatch, {1, 2, 3, 4, 5, 6})
    story = told(make(text, train={"steps": 30}, machine={"update": update}), tmp_path / "run")
    stopped = story[-1]
    assert isinstance(stopped, Stopped)
    assert (stopped.reason, stopped.step) == ("diverged", 6)
    assert "learning rate" in stopped.hint
    line = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[-3])
    assert line["event"] == "skipped"
    assert line["loss"] is None
    assert "loss" in line["not_finite"]


def test_whoever_stops_listening_loses_nothing(text: Path, tmp_path: Path) -> None:
    for event in nudge.run(make(text, save={"every": 1000}), tmp_path / "run"):
        if isinstance(event, Step) and event.step == 5:
            break
    assert checkpoint.read_newest(RunFolder(tmp_path / "run")).step == 5
    rest = [event.step for event in nudge.resume(tmp_path / "run") if isinstance(event, Step)]
    assert rest == [6, 7, 8]


def test_control_file(text: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    seen: list[Event] = []
    paused_s = 0.0
    for event in nudge.run(make(text, train={"steps": 1000}, save={"every": 1000}), folder.path):
        seen.append(event)
        if isinstance(event, Step) and event.step == 3:
            control.send(folder, "save")
        if isinstance(event, Step) and event.step == 5:
            control.send(folder, "pause")
            threading.Timer(0.5, control.send, (folder, "resume")).start()
            begun = time.perf_counter()
        if isinstance(event, Step) and event.step == 6:
            paused_s = time.perf_counter() - begun
        if isinstance(event, Step) and event.step == 9:
            control.send(folder, "stop")
    assert paused_s >= 0.4
    assert [event.step for event in seen if isinstance(event, Saved)] == [0, 3, 9]
    assert isinstance(seen[-1], Stopped)
    assert seen[-1].reason == "interrupted"
    with pytest.raises(NudgeError, match="unknown word"):
        control.send(folder, "halt")  # type: ignore[arg-type]


def test_a_finished_run_is_finished(text: Path, tmp_path: Path) -> None:
    told(make(text), tmp_path / "run")
    again = list(nudge.resume(tmp_path / "run"))
    assert [type(event) for event in again] == [Stopped]
    more = [event.step for event in nudge.resume(tmp_path / "run", steps=10) if isinstance(event, Step)]
    assert more == [9, 10]


def test_fine_tuning_takes_weights_sizes_and_tokenizer(text: Path, tmp_path: Path) -> None:
    told(make(text), tmp_path / "parent")
    parent = checkpoint.read_newest(RunFolder(tmp_path / "parent"))
    other = tmp_path / "other.txt"
    other.write_text("something else to learn. " * 100)
    config = nudge.recipe(
        "tiny",
        init=str(tmp_path / "parent"),
        data={"paths": [str(other)]},
        train={"steps": 2, "batch_tokens": 64, "lr": 0.0},
        sample={"every": 0},
        machine={"dtype": "float32", "threads": 1},
    )
    told(config, tmp_path / "child")
    child = checkpoint.read_newest(RunFolder(tmp_path / "child"))
    assert child.config.model == parent.config.model
    assert child.tokenizer_sha256 == parent.tokenizer_sha256
    for name, tensor in parent.model.items():
        assert torch.equal(tensor, child.model[name])  # at learning rate 0


def test_python_api_of_the_readme(text: Path, tmp_path: Path) -> None:
    told(make(text), tmp_path / "run")
    model = nudge.load(tmp_path / "run")
    written = model.generate("1 and", max_tokens=10, seed=0)
    assert "".join(model.stream("1 and", max_tokens=10, seed=0)) == written
    logged = [e for e in events.read(tmp_path / "run" / "events.jsonl") if isinstance(e, Evaluation)][-1]
    assert nudge.evaluate(model).loss == pytest.approx(logged.loss, rel=1e-5)
    assert nudge.evaluate(model, [str(text)]).tokens > logged.tokens


def test_a_new_folder_for_each_run(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        list(nudge.run(make(text, train={"steps": 1})))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny", "tiny-2"]
    assert newest_run() == Path("runs/tiny-2")


def test_memory_and_disk_are_checked_first(text: Path, tmp_path: Path) -> None:
    with pytest.raises(NudgeError, match="GB of memory"):
        list(nudge.run(make(text, model={"n_layer": 96, "n_embd": 65536}), tmp_path / "run"))
    with pytest.raises(NudgeError, match="GB of disk"):
        list(nudge.run(make(text, save={"keep_last": 10**9}), tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"train\.lr"):
        list(nudge.run(make(text, train={"lr": math.nan}), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
