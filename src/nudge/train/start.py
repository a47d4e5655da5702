"""Starting and resuming a run: what was left open is decided, checked and written down; then the loop begins."""

import dataclasses
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import nudge
from nudge import checkpoint, events, files
from nudge import config as configs
from nudge.checkpoint import Checkpoint
from nudge.config import Config, DataConfig, MachineConfig
from nudge.data.batches import Batches, check_windows
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset, open_dataset
from nudge.errors import CheckpointError, ConfigError, DataError, MachineError, RunError, TokenizerError
from nudge.events import Event, Preparing, RunEvent, Started, Stopped
from nudge.model import sizes
from nudge.model.gpt import GPT, init_weights
from nudge.runfolder import RunFolder, newest_run
from nudge.train import control, preflight
from nudge.train.loop import Trainer, make_batches
from nudge.train.preflight import Rehearsal
from nudge.train.probe import Machine, probe
from nudge.train.update import why_not_fast


def run(config: Config, folder: str | os.PathLike[str] | None = None) -> Iterator[Event]:
    """Train a model from the start, yielding what happens. `folder` None: a new one under `runs/`.

    Raises: NudgeError's children before update 1 for what cannot work; MachineError later if a checkpoint cannot be
    written. Stopping the iteration saves the last finished update.
    """
    parent = checkpoint.find(config.init) if config.init else None
    if parent:
        config = _fine_tuning(config, parent)
    configs.check(config)
    target = RunFolder(Path(folder) if folder else new_folder(config.recipe))
    if target.run_json.exists():
        raise RunError(
            f"{target.path} already holds a run", f"go on with it (nudge resume {target.path}) or choose another folder"
        )
    dataset = yield from prepare(config.data)
    if parent and dataset.tokenizer.sha256 != parent.tokenizer_sha256:
        raise CheckpointError(
            f"the data in {dataset.dir} was made with another tokenizer ({dataset.tokenizer.name}) than {config.init}",
            "give the raw text instead: it is then prepared with the checkpoint's own tokenizer",
        )
    config = fit_to_data(config, dataset)
    machine = probe(config.machine, config.model)
    config = fit_to_machine(config, machine)
    _set_up(config.machine)
    batches = make_batches(config, dataset)
    config, machine, rehearsal = _rehearse(config, machine, batches)
    if config.train.minutes is not None:
        steps = rehearsal.steps_in(60 * config.train.minutes, config, val_tokens=len(dataset.val))
        config = replace(config, train=replace(config.train, steps=steps, minutes=None))
    preflight.check_disk(config, target.path)
    _make_folder(target)
    with target.lock():
        control.clear(target)
        network = _first_network(config, parent)
        _write_down(target, config, machine, dataset)
        trainer = Trainer(config, network, dataset, target)
        forecast_s = rehearsal.total_s(config, val_tokens=len(dataset.val))
        started = _started(trainer, machine, forecast_s=forecast_s)
        yield from _recorded(target, started, trainer.events())


def resume(
    folder: str | os.PathLike[str] | None = None, *, steps: int | None = None, minutes: float | None = None
) -> Iterator[Event]:
    """Go on with a run from its newest checkpoint that verifies. `folder` None: the newest run under `runs/`.

    `steps`: updates in all, if other than planned. `minutes`: that much longer than what was done. A finished run that
    is not asked for more yields one `Stopped`.

    Raises: NudgeError's children for what cannot go on: no checkpoint, other data, a folder in use.
    """
    target = RunFolder(Path(folder) if folder else newest_run())
    if not target.run_json.exists():
        raise RunError(f"{target.path} holds no run", "'nudge runs' lists the runs here")
    with target.lock():
        written = files.read_json(target.run_json)
        config = configs.from_dict(written["config"])
        said = list(events.read(target.events))
        saved = (
            checkpoint.newest(target) if checkpoint.paths(target) else None
        )  # None: killed before update 0 was saved
        config = _with_more(config, saved.step if saved else 0, said, steps=steps, minutes=minutes)
        already = frozenset((type(event), event.step) for event in said if not isinstance(event, Preparing))
        if saved and saved.step >= config.train.steps and _is_finished(said, saved.step):
            yield Stopped(step=saved.step, time=time.time(), reason="finished", hint="ask for more with --steps")
            return
        dataset = yield from _same_data(config.data, written["data"])
        config, machine, notes = _as_before(config, written["machine"])
        preflight.check_disk(config, target.path)
        _set_up(config.machine)
        control.clear(target)
        if saved:
            trainer = Trainer(config, _empty_network(config), dataset, target)
            trainer.restore(saved)
        else:
            parent = checkpoint.find(config.init) if config.init else None
            trainer = Trainer(config, _first_network(config, parent), dataset, target)
        _write_down(target, config, machine, dataset, created=written["created"])
        started = _started(trainer, machine, resumed_from=saved, notes=notes)
        yield from _recorded(target, started, trainer.events(already=already))


def new_folder(recipe: str, runs: Path = Path("runs")) -> Path:
    """`runs/tiny`, or `runs/tiny-2` and so on if there is one already."""
    names = [recipe, *(f"{recipe}-{n}" for n in range(2, 10_000))]
    return next(runs / name for name in names if not (runs / name).exists())


def _fine_tuning(config: Config, parent: Checkpoint) -> Config:
    """Fine-tuning keeps the sizes and the vocabulary of the model it starts from."""
    data = config.data
    if not (len(data.paths) == 1 and (Path(data.paths[0]) / "manifest.json").exists()):
        data = replace(data, tokenizer=str(checkpoint.tokenizer_path(parent)))
    return replace(config, model=parent.config.model, data=data)


def fit_to_data(config: Config, dataset: Dataset) -> Config:
    """The vocabulary is the tokenizer's; the prompt that is shown all along fits the kind of text."""
    if config.init is None:
        config = replace(config, model=replace(config.model, vocab_size=dataset.tokenizer.vocab_size))
    elif dataset.tokenizer.vocab_size > config.model.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {dataset.tokenizer.vocab_size:,} symbols, the model {config.model.vocab_size:,}",
            "give the raw text instead: it is then prepared with the checkpoint's own tokenizer",
        )
    for name, tokens in (("training", dataset.train), ("validation", dataset.val)):
        check_windows(tokens, config.model.block_size, name)
    if config.sample.prompt is None:
        config = replace(config, sample=replace(config.sample, prompt=_fitting_prompt(dataset)))
    room = config.model.block_size - len(dataset.tokenizer.encode(config.sample.prompt or "")) - 1
    if room < 1:
        raise ConfigError(
            f"sample.prompt is longer than the context of {config.model.block_size} tokens", "choose a shorter one"
        )
    return config


def _fitting_prompt(dataset: Dataset) -> str:
    """What a sample begins with: in a single long document, its start says little about the rest.

    No prompt ends with a space: a space belongs to the token of the word after it.
    """
    if records := dataset.manifest.records:  # a question that is held out
        return dataset.tokenizer.decode(dataset.val.read(0, records.n_given).tolist())
    prompt = "def __init__(self" if dataset.is_python else "\n" if dataset.train.n_documents == 1 else ""
    try:
        dataset.tokenizer.encode(prompt)
    except TokenizerError:  # a vocabulary of characters need not have these
        return ""
    return prompt


def fit_to_machine(config: Config, machine: Machine) -> Config:
    """The config with what the probe chose, and as many sequences per pass as fit."""
    chosen = replace(
        config.machine,
        device=machine.device,
        dtype=machine.dtype,  # type: ignore[arg-type]
        threads=machine.threads,
        update=machine.update,  # type: ignore[arg-type]
    )
    size = preflight.choose_micro_batch(config, machine)
    return replace(config, machine=chosen, train=replace(config.train, micro_batch=size))


def _rehearse(config: Config, machine: Machine, batches: Batches) -> tuple[Config, Machine, Rehearsal]:
    """The rehearsal, and what is left of the plan after it: code that cannot be compiled here runs as it is."""
    try:
        return config, machine, preflight.rehearse(config, batches)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # whatever PyTorch's compilers raise is one
        if machine.update != "compiled":
            raise
        config = replace(config, machine=replace(config.machine, update="eager"))
        reason = f"update eager: torch.compile does not work here ({str(error).strip().splitlines()[0]})"
        machine = replace(machine, update="eager", reasons=(*machine.reasons[:-1], reason))
        return config, machine, preflight.rehearse(config, batches)


def _set_up(machine: MachineConfig) -> None:
    """What decides the last bit of every sum."""
    torch.set_num_threads(machine.threads or 1)
    if machine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch's documentation on reproducibility
        torch.use_deterministic_algorithms(True)


def _make_folder(folder: RunFolder) -> None:
    try:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder {folder.path}: {error.strerror}", "give --run another place"
        ) from error


def _empty_network(config: Config) -> GPT:
    with torch.device("meta"):
        network = GPT(config.model)
    return network.to_empty(device=config.machine.device or "cpu")


def _first_network(config: Config, parent: Checkpoint | None) -> GPT:
    network = _empty_network(config)
    if parent:
        network.load_state_dict(parent.model)
    else:
        init_weights(network, config.seed)
    return network


def _write_down(
    folder: RunFolder, config: Config, machine: Machine, dataset: Dataset, created: float | None = None
) -> None:
    """run.json: everything that was decided, before update 1."""
    dataset.tokenizer.save(folder.tokenizer)
    files.write_json(
        folder.run_json,
        {
            "nudge": nudge.__version__,
            "created": created or time.time(),
            "config": configs.to_dict(config),
            "machine": dataclasses.asdict(machine),
            "torch": torch.__version__,
            "data": {"dir": str(dataset.dir.resolve()), "fingerprint": dataset.fingerprint},
            "tokenizer_sha256": dataset.tokenizer.sha256,
        },
    )


def _started(
    trainer: Trainer,
    machine: Machine,
    *,
    forecast_s: float | None = None,
    resumed_from: Checkpoint | None = None,
    notes: tuple[str, ...] = (),
) -> Started:
    config = trainer.config
    micro_batch = config.train.micro_batch or 1
    verified = "verified" if resumed_from and resumed_from.verified else "not verified"
    return Started(
        step=trainer.step,
        time=time.time(),
        run=str(trainer.folder.path),
        steps=config.train.steps,
        n_params=sizes.parameter_counts(config.model).total,
        batch_tokens=config.train.batch_tokens,
        micro_batch=micro_batch,
        device=machine.device,
        dtype=machine.dtype,
        threads=machine.threads,
        peak_flops=machine.peak_flops[machine.dtype],
        flops_per_token=sizes.training_flops_per_token(config.model),
        forecast_s=forecast_s,
        forecast_bytes=sizes.training_bytes(
            config.model,
            micro_tokens=micro_batch * config.model.block_size,
            dtype=machine.dtype,
            fast=machine.update == "fast",
            optimizer=config.train.optimizer,
            accumulate=micro_batch * config.model.block_size < config.train.batch_tokens,
        ),
        data=str(trainer.dataset.dir.resolve()),
        eval_every=config.eval.every,
        usd_per_hour=config.machine.usd_per_hour,
        resumed_from=f"{resumed_from.path.name} ({verified})" if resumed_from else None,
        notes=(*(resumed_from.notes if resumed_from else machine.reasons), *notes),
    )


def _recorded(folder: RunFolder, started: Started, told: Iterator[RunEvent]) -> Iterator[RunEvent]:
    """Each event is a line of events.jsonl before anybody sees it."""
    with files.open_json_lines(folder.events) as log:
        files.append_json(log, events.to_json(started))
        yield started
        for event in told:
            files.append_json(log, events.to_json(event))
            yield event


def _with_more(config: Config, done: int, said: list[Event], *, steps: int | None, minutes: float | None) -> Config:
    """The config of a run that was planned shorter; `done` updates are made."""
    if minutes is not None:
        recent = [event.step_s for event in said if isinstance(event, events.Step)][-50:]
        if not recent:
            raise RunError("no update was made yet, so nothing tells how long one takes", "give --steps instead")
        steps = done + max(1, int(60 * minutes / median(recent)))
    if steps is None:
        return config
    if steps < done:
        raise ConfigError(
            f"{done} updates are made already, more than --steps {steps}", "--steps counts from the beginning"
        )
    return replace(config, train=replace(config.train, steps=steps))


def _same_data(config: DataConfig, written: dict[str, Any]) -> Generator[Preparing, None, Dataset]:
    """The dataset the run began with; made anew from the same text if its folder is gone."""
    folder = Path(written["dir"])
    dataset = open_dataset(folder) if (folder / "manifest.json").exists() else (yield from prepare(config))
    if dataset.fingerprint != written["fingerprint"]:
        raise DataError(
            f"the text is not what this run began with (the tokens in {folder} are gone and the text has changed)",
            "bring the old text back, or start a new run from these weights: nudge train --init RUN",
        )
    return dataset


def _is_finished(said: list[Event], step: int) -> bool:
    return any(isinstance(event, Stopped) and event.step == step and event.reason == "finished" for event in said)


def _as_before(config: Config, written: dict[str, Any]) -> tuple[Config, Machine, tuple[str, ...]]:
    """Resuming never probes again: other threads or another dtype would give other numbers.

    What cannot be had any more (a run that moved to a machine without a compiler) is replaced, and said.
    """
    machine = Machine(**{**written, "reasons": tuple(written["reasons"])})
    if machine.update == "fast" and (
        obstacle := why_not_fast(config.machine.device or "cpu", machine.dtype, config.model)
    ):
        config = replace(config, machine=replace(config.machine, update="eager"))
        note = f"update eager from here on, no longer bit for bit as it began: {obstacle}"
        return config, replace(machine, update="eager"), (note,)
    return config, machine, ()
