"""The start or resumption of a run: prepare the text, resolve the config, lock the folder, train, log each event."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from nudge import config as configs
from nudge import events
from nudge.config import Config, DataConfig
from nudge.data.foreign.token_files import is_current
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset, open_dataset
from nudge.distributed.parallel import empty_network, load_weights
from nudge.distributed.rendezvous import rendezvous
from nudge.distributed.world import World
from nudge.errors import CheckpointError, ConfigError, DataError, MachineError, NudgeError, RunError
from nudge.events import Event, Preparing, RunEvent, Started, Stopped
from nudge.model import sizes
from nudge.model.gpt import first_weights
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.disk import check_disk
from nudge.runs.folder import RunFolder, newest_run
from nudge.runs.run_json import PreparedText, RunJson
from nudge.train.loop import Trainer
from nudge.train.resolve import (
    ResolvedRun,
    ResumableRun,
    format_processes,
    resolve_data,
    resolve_parent,
    resolve_resume,
    resolve_start,
)
from nudge.util import files, json_reader, locks
from nudge.version import __version__

NO_LOCKS = (
    "this disk has no locks: if this process is killed, a process on another machine must first delete .lock.held"
)


def run(
    config: Config, folder: str | os.PathLike[str] | None = None, *, or_resume: bool = False
) -> Generator[Event, None, None]:
    """Train a model from the start and yield the events of the run. `folder` None: a new one under `runs/`.

    Under torchrun, this process is one of several (distributed/world.py). After torchrun restarts its processes, they
    resume the run. `or_resume`: also resume a run that is already in `folder`. If the caller stops iterating, the last
    finished update is saved.

    Raises: a subclass of NudgeError before update 1 if the run cannot work; MachineError later if a checkpoint cannot
    be written; LostError if another process is lost.
    """
    parent = checkpoint.find(config.init) if config.init else None
    if parent:
        config = resolve_parent(config, parent)
    configs.check(config)
    with rendezvous(config.machine) as world:
        path, is_begun = world.run_on_rank0(lambda: _choose_folder(config, folder, world, or_resume=or_resume))
        if is_begun:
            yield from _resume(RunFolder(Path(path)), world)
        else:
            yield from _start(config, parent, RunFolder(Path(path)), world)


def resume(
    folder: str | os.PathLike[str] | None = None, *, steps: int | None = None, minutes: float | None = None
) -> Generator[Event, None, None]:
    """Resume a run from its newest checkpoint that verifies. `folder` None: the newest run under `runs/`.

    `steps`: the total number of updates, if it is to change. `minutes`: train that much longer. A finished run, without
    more updates to make, yields one `Stopped`. The number of processes may change: the batches stay the same.

    Raises: a subclass of NudgeError if the run cannot be resumed: no checkpoint, other data, a folder in use.
    """
    target = RunFolder(Path(folder) if folder else newest_run())
    if not files.exists(target.run_json):
        raise RunError("no_run", path=target.path)
    with rendezvous(target.read_json(RunJson).config.machine) as world:
        yield from _resume(target, world, steps=steps, minutes=minutes)


def _start(config: Config, parent: Checkpoint | None, folder: RunFolder, world: World) -> Iterator[Event]:
    """Prepare the text, resolve the config and train."""
    dataset = yield from world.run_all_iter(prepare(config.data))
    if parent and dataset.tokenizer.sha256 != parent.tokenizer_sha256:
        raise CheckpointError(
            "other_tokenizer",
            paths=", ".join(config.data.paths),
            init=config.init,
            tokenizer=dataset.tokenizer.name,
            n_tokens=dataset.tokenizer.vocab_size,
        )
    config = resolve_data(config, dataset)
    _check_processes_agree(config, dataset, world)
    run = resolve_start(config, dataset, world)
    world.run_on_rank0(lambda: _make_folder(folder, run.config))
    with _hold(folder, world):
        yield from _train(run, folder, dataset, world, parent=parent)


def _resume(
    folder: RunFolder, world: World, *, steps: int | None = None, minutes: float | None = None
) -> Iterator[Event]:
    """Read the run folder, resolve the config again and train on."""
    with _hold(folder, world):
        values, lines = world.run_on_rank0(lambda: _read_run(folder))
        written = json_reader.convert(values, ResumableRun)
        log = events.latest_events(filter(None, map(events.from_line, lines.encode().split(b"\n"))))
        config = written.config
        saved = _read_newest(folder, config, world)
        config = _extend(config, saved.step if saved else 0, log, steps=steps, minutes=minutes)
        if over := _find_end(config, saved, log, world):
            yield over
            return
        dataset = yield from world.run_all_iter(_open_same_data(config.data, written.data))
        run = resolve_resume(config, written, world)
        world.run_on_rank0(lambda: check_disk(run.config, folder.path))
        yield from _train(run, folder, dataset, world, saved=saved, log=log, created=written.created)


def _train(
    run: ResolvedRun,
    folder: RunFolder,
    dataset: Dataset,
    world: World,
    *,
    parent: Checkpoint | None = None,
    saved: Checkpoint | None = None,
    log: list[Event] | None = None,
    created: float | None = None,
) -> Iterator[RunEvent]:
    """Write run.json, build the network with its first or `saved` weights, and make the updates. `log`: past events."""
    config = run.config
    world.run_on_rank0(lambda: _write_run_json(folder, run, dataset, world, created or time.time()))
    network = empty_network(config, world)
    if saved is None:
        parent = parent or (checkpoint.find(config.init) if config.init else None)
        load_weights(network, parent.model.items() if parent else first_weights(network, config.seed))
    trainer = Trainer(config, network, dataset, folder, world)
    if saved is not None:
        trainer.restore(saved)
    # The events of the current step that are already in the log are not repeated.
    logged_events = frozenset((type(event), event.step) for event in log or () if not isinstance(event, Preparing))
    yield from _log_events(
        folder, _started_event(trainer, run, saved), trainer.events(logged_events=logged_events), world
    )


def _read_run(folder: RunFolder) -> list[Any]:
    """Return the values of run.json and the text of the log, for all processes. Raises: RunError if one is damaged."""
    folder.read_json(ResumableRun)
    log = b"".join(json_reader.lines(folder.events))
    return [json_reader.read(folder.run_json, dict[str, Any]), log.decode("utf-8", "replace")]


@contextlib.contextmanager
def _hold(folder: RunFolder, world: World) -> Iterator[None]:
    """Lock the run folder, in process 0 for all processes."""
    with contextlib.ExitStack() as held:

        def lock() -> None:
            held.enter_context(folder.lock())
            with files.writing(folder.control):  # a leftover control word was meant for an earlier process
                folder.control.unlink(missing_ok=True)

        world.run_on_rank0(lock)
        yield


def _make_folder(folder: RunFolder, config: Config) -> None:
    """Create the run folder. Raises: MachineError if the disk is too small or the folder cannot be created."""
    try:
        check_disk(config, folder.path)
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError("no_folder", path=folder.path, error=error.strerror) from error


def _choose_folder(
    config: Config, folder: str | os.PathLike[str] | None, world: World, *, or_resume: bool
) -> list[Any]:
    """Return the path of the run's folder, and whether it has begun. Raises: RunError if it contains another run."""
    path = (
        Path(folder) if folder else (world.restarts and _find_restarted_run(world.launch)) or new_folder(config.recipe)
    )
    is_begun = files.exists(RunFolder(path).run_json)
    if is_begun and not (world.restarts or or_resume):
        raise RunError("folder_taken", path=path)
    return [str(path), is_begun]


def _find_restarted_run(launch: str, runs: Path = Path("runs")) -> Path | None:
    """Return the folder of the run that torchrun began before it restarted its processes, or None."""
    launched = psutil.Process(os.getppid()).create_time()
    found: dict[float, Path] = {}
    for path in runs.glob("*/run.json"):
        # A run.json that cannot be read belongs to another run.
        with contextlib.suppress(NudgeError):
            written = RunFolder(path.parent).read_json(RunJson)
            if written.launch == launch and written.created >= launched:
                found[written.created] = path.parent
    return found[max(found)] if found else None


def new_folder(recipe: str, runs: Path = Path("runs")) -> Path:
    """Return the path of a folder that does not exist yet: `runs/tiny`, or else `runs/tiny-2` and so on."""
    names = [recipe, *(f"{recipe}-{n}" for n in range(2, 10_000))]
    return next(runs / name for name in names if not (runs / name).exists())


def _read_newest(folder: RunFolder, config: Config, world: World) -> Checkpoint | None:
    """Read the newest checkpoint, the same in all processes; None if the run has no checkpoint yet."""
    if world.size == 1:
        return checkpoint.read_newest(folder) if checkpoint.paths(folder) else None

    def choose() -> list[str] | None:
        if not checkpoint.paths(folder):
            return None
        found = checkpoint.read_newest(folder, tensors=False)
        return [str(found.path), *found.notes]

    def read(path: Path) -> Checkpoint:
        if not path.exists():
            raise RunError("folder_not_shared", path=path)
        return checkpoint.read(path, tensors=not config.machine.shard)

    chosen = world.run_on_rank0(choose)
    if chosen is None:
        return None
    path, *notes = chosen
    return replace(world.run_all(lambda: read(Path(path))), notes=tuple(notes))


def _extend(config: Config, done: int, log: list[Event], *, steps: int | None, minutes: float | None) -> Config:
    """Return the config with `steps` updates in total, or with as many more after `done` as fit into `minutes`.

    Raises: RunError or ConfigError.
    """
    if minutes is not None:
        recent = [event.step_s for event in log if isinstance(event, events.Step)][-50:]
        if not recent:
            raise RunError("no_update_timed")
        steps = done + max(1, int(60 * minutes / median(recent)))
    if steps is None:
        return config
    if steps < done:
        raise ConfigError("fewer_steps_than_done", done=done, steps=steps)
    return replace(config, train=replace(config.train, steps=steps))


def _find_end(config: Config, saved: Checkpoint | None, log: list[Event], world: World) -> Stopped | None:
    """Return the `Stopped` event of a run that has nothing left to do, or None."""
    if world.restarts and log and isinstance(log[-1], Stopped) and log[-1].reason == "diverged":
        return log[-1]  # a restart would diverge again
    if saved is None or saved.step < config.train.steps:
        return None
    if any(isinstance(event, Stopped) and (event.step, event.reason) == (saved.step, "finished") for event in log):
        return Stopped(step=saved.step, time=time.time(), reason="finished", hint="ask for more with --steps")
    return None


def _open_same_data(config: DataConfig, written: PreparedText) -> Generator[Preparing, None, Dataset]:
    """Open the dataset the run began with; prepare it again from the same text if its folder is gone.

    Raises: DataError if the text has changed.
    """
    folder = Path(written.dir)
    dataset = open_dataset(folder) if is_current(folder) else (yield from prepare(config))
    if dataset.fingerprint != written.fingerprint:
        raise DataError("text_changed", folder=folder)
    return dataset


def _check_processes_agree(config: Config, dataset: Dataset, world: World) -> None:
    """Check that all processes have the same data and the same config. Raises: DataError or ConfigError."""
    given: list[Any] = [dataset.fingerprint, configs.flatten(configs.to_dict(config)), str(dataset.dir)]
    all_given = world.gather(given)
    first_fingerprint, first_options, first_folder = all_given[0]
    for rank, (fingerprint, options, folder) in enumerate(all_given):
        if fingerprint != first_fingerprint:
            raise DataError("processes_differ", rank=rank, folder=folder, first=first_folder)
        # The same text may have different paths on different machines.
        differing = [key for key in options if options[key] != first_options[key] and key != "data.paths"]
        if differing:
            raise ConfigError("processes_differ", rank=rank, keys=" and ".join(differing))


def _write_run_json(folder: RunFolder, run: ResolvedRun, dataset: Dataset, world: World, created: float) -> None:
    """Write tokenizer.json, and all choices to run.json."""
    dataset.tokenizer.save(folder.tokenizer)
    files.write_json(
        folder.run_json,
        {
            "nudge": __version__,
            "created": created,
            "config": configs.to_dict(run.config),
            "machine": dataclasses.asdict(run.machine),
            "processes": world.size,
            "launch": world.launch,
            "torch": torch.__version__,
            "data": {
                "dir": str(dataset.dir.resolve()),
                "fingerprint": dataset.fingerprint,
                "source": dataclasses.asdict(dataset.manifest.source),
            },
            "tokenizer_sha256": dataset.tokenizer.sha256,
        },
    )


def _started_event(trainer: Trainer, run: ResolvedRun, saved: Checkpoint | None) -> Started:
    """Return the event at the start of a run or its continuation."""
    config, machine, world = run.config, run.machine, trainer.world
    verified = "verified" if saved and saved.verified else "not verified"
    return Started(
        step=trainer.progress.step,
        time=time.time(),
        run=str(trainer.folder.path),
        steps=config.train.steps,
        n_params=sizes.parameter_counts(config.model).total,
        batch_tokens=config.train.batch_tokens,
        micro_batch=config.train.micro_batch,
        device=machine.device,
        dtype=machine.dtype,
        threads=machine.threads,
        peak_flops=machine.peak_flops[machine.dtype],
        flops_per_token=sizes.training_flops_per_token(config.model),
        forecast_s=run.forecast_s,
        forecast_bytes=sizes.memory_of_run(config, processes=world.size).total,
        data=str(trainer.dataset.dir.resolve()),
        eval_every=config.eval.every,
        processes=world.size,
        usd_per_hour=config.machine.usd_per_hour,
        resumed_from=f"{saved.path.name} ({verified})" if saved else None,
        notes=(
            *(saved.notes if saved else ()),
            *run.notes,
            *([] if locks.has_locks(trainer.folder.path) else [NO_LOCKS]),
            *trainer.dataset.manifest.notes,
            *([_describe_sharing(trainer)] if world.size > 1 else ()),
        ),
    )


def _describe_sharing(trainer: Trainer) -> str:
    """Describe in one line how several processes share the run."""
    world, n = trainer.world, trainer.batches.n_sequences
    backend = "NCCL" if world.device == "cuda" else "gloo"
    weights = "each keeps a part of the weights (FSDP)" if trainer.sharded else "each has all weights (DDP)"
    share = f"{n // world.size} of the {n} windows of an update each"
    return f"{format_processes(world.size)} over {backend}, {share}; {weights}"


def _log_events(
    folder: RunFolder, started: Started, rest: Generator[RunEvent, None, None], world: World
) -> Iterator[RunEvent]:
    """Yield all events; process 0 first appends each to events.jsonl. Raises: MachineError if it cannot."""
    if not world.is_rank0:
        yield started
        yield from rest
        return
    # `rest` is closed, and so saves, before the error of a log that cannot be written ends the run.
    with files.open_json_lines(folder.events) as log, contextlib.closing(rest):
        files.append_json(log, events.to_json(started))
        yield started
        for event in rest:
            files.append_json(log, events.to_json(event))
            yield event
