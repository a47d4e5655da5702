"""Starting and resuming a run: what was left open is decided (resolve.py), written down, and then the loop begins."""

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
from nudge.config import Config, DataConfig, MachineConfig
from nudge.data.batches import Batches
from nudge.data.foreign.token_files import is_current
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset, open_dataset
from nudge.distributed.parallel import empty_network, load_weights
from nudge.distributed.rendezvous import rendezvous
from nudge.distributed.world import World
from nudge.errors import CheckpointError, ConfigError, DataError, MachineError, NudgeError, RunError, first_line
from nudge.events import Event, Preparing, RunEvent, Started, Stopped
from nudge.fast.fused_update import why_not_fast
from nudge.machine import memory_check
from nudge.machine.hardware_probe import Machine, agreed, probe
from nudge.model import sizes
from nudge.model.gpt import GPT, first_weights
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder, newest_run
from nudge.train import control, rehearsal
from nudge.train.loop import Trainer, make_batches
from nudge.train.rehearsal import Rehearsal
from nudge.train.resolve import check_share, counted, resolve_data, resolve_machine, resolve_parent
from nudge.util import files
from nudge.util.cpu import usable_cores
from nudge.version import __version__


def run(config: Config, folder: str | os.PathLike[str] | None = None, *, or_resume: bool = False) -> Iterator[Event]:
    """Train a model from the start, yielding what happens. `folder` None: a new one under `runs/`.

    In each of several processes that torchrun started, it is one of them (distributed/world.py). What torchrun starts
    once more, because a process was lost, goes on with its run; `or_resume`: so does what finds a run in `folder`.

    Raises: NudgeError's children before update 1 for what cannot work; MachineError later if a checkpoint cannot be
    written; LostError if another process is. Stopping the iteration saves the last finished update.
    """
    parent = checkpoint.find(config.init) if config.init else None
    if parent:
        config = resolve_parent(config, parent)
    configs.check(config)
    with rendezvous(config.machine) as world:
        path, is_begun = world.run_on_rank0(lambda: _choose_folder(config, folder, world, or_resume=or_resume))
        if is_begun:
            yield from _go_on(RunFolder(path), world)
        else:
            yield from _begin(config, parent, RunFolder(path), world)


def resume(
    folder: str | os.PathLike[str] | None = None, *, steps: int | None = None, minutes: float | None = None
) -> Iterator[Event]:
    """Go on with a run from its newest checkpoint that verifies. `folder` None: the newest run under `runs/`.

    `steps`: updates in all, if other than planned. `minutes`: that much longer than what was done. A finished run that
    is not asked for more yields one `Stopped`. There may be other processes than before: the batches stay the same.

    Raises: NudgeError's children for what cannot go on: no checkpoint, other data, a folder in use.
    """
    target = RunFolder(Path(folder) if folder else newest_run())
    if not target.run_json.exists():
        raise RunError(f"{target.path} holds no run", "'nudge runs' lists the runs here")
    with rendezvous(configs.from_dict(files.read_json(target.run_json)["config"]).machine) as world:
        yield from _go_on(target, world, steps=steps, minutes=minutes)


def _choose_folder(
    config: Config, folder: str | os.PathLike[str] | None, world: World, *, or_resume: bool
) -> tuple[Path, bool]:
    """Where the run is or will be, and whether it has begun. Raises: RunError if a folder holds another run."""
    path = Path(folder) if folder else (world.restarts and _begun_before(world.launch)) or new_folder(config.recipe)
    is_begun = RunFolder(path).run_json.exists()
    if is_begun and not (world.restarts or or_resume):
        raise RunError(f"{path} already holds a run", f"go on with it (nudge resume {path}) or choose another folder")
    return path, is_begun


def _begun_before(launch: str, runs: Path = Path("runs")) -> Path | None:
    """The run that torchrun began before it had to start its processes once more."""
    launched = psutil.Process(os.getppid()).create_time()
    found: dict[float, Path] = {}
    for path in runs.glob("*/run.json"):
        with contextlib.suppress(NudgeError, TypeError, KeyError):  # another run that cannot be read is not ours
            written = files.read_json(path)
            if written["launch"] == launch and written["created"] >= launched:
                found[written["created"]] = path.parent
    return found[max(found)] if found else None


def _begin(config: Config, parent: Checkpoint | None, target: RunFolder, world: World) -> Iterator[Event]:
    dataset = yield from world.run_all_iter(prepare(config.data))
    if parent and dataset.tokenizer.sha256 != parent.tokenizer_sha256:
        raise CheckpointError(
            f"{', '.join(config.data.paths)} was made with another tokenizer than {config.init}: "
            f"{dataset.tokenizer.name} of {dataset.tokenizer.vocab_size:,} tokens",
            "give the raw text instead: it is then prepared with the checkpoint's own tokenizer",
        )
    config = resolve_data(config, dataset)
    _check_alike(config, dataset, world)
    machine = agreed(world.run_all(lambda: probe(config.machine, config.model, world)), world)
    config = world.run_on_rank0(lambda: resolve_machine(config, machine, world))
    _set_up(config.machine)
    batches = make_batches(config, dataset)
    config, machine, rehearsal = _rehearse(config, machine, batches, world)
    if config.train.minutes is not None:
        steps = rehearsal.steps_in(60 * config.train.minutes, config, val_tokens=len(dataset.val))
        config = replace(config, train=replace(config.train, steps=steps, minutes=None))
    with contextlib.ExitStack() as held:

        def prepare_folder() -> None:
            memory_check.check_disk(config, target.path)
            _make_folder(target)
            held.enter_context(target.lock())
            control.clear(target)
            _write_down(target, config, machine, dataset, world)

        world.run_on_rank0(prepare_folder)
        trainer = Trainer(config, _first_network(config, parent, world), dataset, target, world)
        forecast_s = rehearsal.total_s(config, val_tokens=len(dataset.val))
        yield from _recorded(target, _started(trainer, machine, forecast_s=forecast_s), trainer.events(), world)


def _go_on(
    target: RunFolder, world: World, *, steps: int | None = None, minutes: float | None = None
) -> Iterator[Event]:
    with contextlib.ExitStack() as held:

        def open_folder() -> tuple[dict[str, Any], list[Event]]:
            held.enter_context(target.lock())
            control.clear(target)  # what is said from now on is meant for us
            return files.read_json(target.run_json), list(events.read(target.events))

        written, said = world.run_on_rank0(open_folder)
        config = configs.from_dict(written["config"])
        saved = _newest(target, config, world)
        config = _with_more(config, saved.step if saved else 0, said, steps=steps, minutes=minutes)
        already = frozenset((type(event), event.step) for event in said if not isinstance(event, Preparing))
        if world.restarts and said and isinstance(said[-1], Stopped) and said[-1].reason == "diverged":
            yield said[-1]  # to start again changes nothing about that
            return
        if saved and saved.step >= config.train.steps and _is_finished(said, saved.step):
            yield Stopped(step=saved.step, time=time.time(), reason="finished", hint="ask for more with --steps")
            return
        dataset = yield from world.run_all_iter(_same_data(config.data, written["data"]))
        config, machine, notes = _as_before(config, written, world)
        _set_up(config.machine)
        if saved:
            trainer = Trainer(config, empty_network(config, world), dataset, target, world)
            trainer.restore(saved)
        else:
            parent = checkpoint.find(config.init) if config.init else None
            trainer = Trainer(config, _first_network(config, parent, world), dataset, target, world)

        def prepare_folder() -> None:
            memory_check.check_disk(config, target.path)
            _write_down(target, config, machine, dataset, world, created=written["created"])

        world.run_on_rank0(prepare_folder)
        started = _started(trainer, machine, resumed_from=saved, notes=notes)
        yield from _recorded(target, started, trainer.events(already=already), world)


def _newest(target: RunFolder, config: Config, world: World) -> Checkpoint | None:
    """The checkpoint to go on from, the same in all processes; None for a run that was killed before it had one."""
    if world.size == 1:
        return checkpoint.newest(target) if checkpoint.paths(target) else None

    def choose() -> tuple[Path, tuple[str, ...]] | None:
        if not checkpoint.paths(target):
            return None
        found = checkpoint.newest(target, tensors=False)
        return found.path, found.notes

    def read(path: Path) -> Checkpoint:
        if not path.exists():
            raise RunError(f"{path} is not there", "the run's folder must be on a disk that all processes share")
        return checkpoint.read(path, tensors=not config.machine.shard)

    chosen = world.run_on_rank0(choose)
    if chosen is None:
        return None
    path, notes = chosen
    return replace(world.run_all(lambda: read(path)), notes=notes)


def _check_alike(config: Config, dataset: Dataset, world: World) -> None:
    """Raises: DataError or ConfigError if the processes were given different things to do."""
    theirs = world.gather((dataset.fingerprint, configs.to_dict(config), str(dataset.dir)))
    for rank, (fingerprint, options, folder) in enumerate(theirs):
        if fingerprint != theirs[0][0]:
            raise DataError(
                f"process {rank} has other tokens ({folder}) than process 0 ({theirs[0][2]})",
                "give all processes the same text, or the same prepared folder (nudge data info DIR looks into one)",
            )
        if different := _differences(theirs[0][1], options):
            raise ConfigError(
                f"process {rank} was started with another {' and '.join(different)} than process 0",
                "start all processes with the same command",
            )


def _differences(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """List the settings of two configs that differ; the same text may lie in different places."""
    theirs = configs.flat(other)
    return [key for key, value in configs.flat(first).items() if value != theirs[key] and key != "data.paths"]


def new_folder(recipe: str, runs: Path = Path("runs")) -> Path:
    """`runs/tiny`, or `runs/tiny-2` and so on if there is one already."""
    names = [recipe, *(f"{recipe}-{n}" for n in range(2, 10_000))]
    return next(runs / name for name in names if not (runs / name).exists())


def _rehearse(config: Config, machine: Machine, batches: Batches, world: World) -> tuple[Config, Machine, Rehearsal]:
    """The rehearsal, and what is left of the plan after it: code that cannot be compiled here runs as it is."""
    try:
        with world.watched():
            return config, machine, rehearsal.rehearse(config, batches, world)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # whatever PyTorch's compilers raise is one
        if machine.update != "compiled" or world.size > 1:  # several would have to fail and to go on alike
            raise
        config = replace(config, machine=replace(config.machine, update="eager"))
        reason = f"update eager: torch.compile does not work here ({first_line(error)})"
        machine = replace(machine, update="eager", reasons=(*machine.reasons[:-1], reason))
        return config, machine, rehearsal.rehearse(config, batches, world)


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


def _first_network(config: Config, parent: Checkpoint | None, world: World) -> GPT:
    network = empty_network(config, world)
    load_weights(network, parent.model.items() if parent else first_weights(network, config.seed))
    return network


def _write_down(
    folder: RunFolder, config: Config, machine: Machine, dataset: Dataset, world: World, created: float | None = None
) -> None:
    """run.json: everything that was decided, before update 1."""
    dataset.tokenizer.save(folder.tokenizer)
    files.write_json(
        folder.run_json,
        {
            "nudge": __version__,
            "created": created or time.time(),
            "config": configs.to_dict(config),
            "machine": dataclasses.asdict(machine),
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


def _started(
    trainer: Trainer,
    machine: Machine,
    *,
    forecast_s: float | None = None,
    resumed_from: Checkpoint | None = None,
    notes: tuple[str, ...] = (),
) -> Started:
    config, world = trainer.config, trainer.world
    if said := trainer.dataset.manifest.source.note:
        notes += (said,)
    if world.size > 1:
        how = "each keeps a part of the weights (FSDP)" if trainer.sharded else "each has all weights (DDP)"
        spoken = "NCCL" if world.device == "cuda" else "gloo"
        each = trainer.batches.n_sequences // world.size
        windows = f"{each} of the {trainer.batches.n_sequences} windows of an update each"
        notes += (f"{world.size} processes over {spoken}, {windows}; {how}",)
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
        forecast_bytes=sizes.memory_of_run(config, processes=world.size).total,
        data=str(trainer.dataset.dir.resolve()),
        eval_every=config.eval.every,
        processes=trainer.world.size,
        usd_per_hour=config.machine.usd_per_hour,
        resumed_from=f"{resumed_from.path.name} ({verified})" if resumed_from else None,
        notes=(*(resumed_from.notes if resumed_from else machine.reasons), *notes),
    )


def _recorded(folder: RunFolder, started: Started, told: Iterator[RunEvent], world: World) -> Iterator[RunEvent]:
    """Each event is a line of events.jsonl before anybody sees it. Of several processes the first one writes."""
    if not world.is_rank0:
        yield started
        yield from told
        return
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
    dataset = open_dataset(folder) if is_current(folder) else (yield from prepare(config))
    if dataset.fingerprint != written["fingerprint"]:
        raise DataError(
            f"the text is not what this run began with (the tokens in {folder} are gone and the text has changed)",
            "bring the old text back, or start a new run from these weights: nudge train --init RUN",
        )
    return dataset


def _is_finished(said: list[Event], step: int) -> bool:
    return any(isinstance(event, Stopped) and event.step == step and event.reason == "finished" for event in said)


def _as_before(config: Config, written: dict[str, Any], world: World) -> tuple[Config, Machine, tuple[str, ...]]:
    """Resuming never probes again: other threads or another dtype would give other numbers.

    What cannot be had any more (a run that moved to a machine without a compiler), or does not fit other processes than
    before, is replaced, and said.
    """
    machine = Machine(**{**written["machine"], "reasons": tuple(written["machine"]["reasons"])})
    notes: tuple[str, ...] = ()
    obstacle = why_not_fast(config.machine.device or "cpu", machine.dtype, config.model, config.machine)
    if machine.update == "fast" and (obstacle := next(filter(None, world.gather(obstacle)), None)):
        config = replace(config, machine=replace(config.machine, update="eager"))
        machine = replace(machine, update="eager")
        notes += (f"update eager from here on, no longer bit for bit as it began: {obstacle}",)
    if (before := written.get("processes", 1)) != world.size:
        train, machine = config.train, replace(machine, threads=max(1, usable_cores() // world.local_size))
        check_share(replace(config, train=replace(train, micro_batch=None)), world)
        n_windows = train.batch_tokens // config.model.block_size // world.size
        most = min(n_windows, train.micro_batch or 1)
        size = next(n for n in range(most, 0, -1) if n_windows % n == 0)
        config = replace(
            config,
            train=replace(train, micro_batch=size),
            machine=replace(config.machine, threads=machine.threads),
        )
        notes += (f"{counted(world.size)} now, {before} before: the same batches, summed in another order",)
    return config, machine, notes
