"""The choices that a config leaves open, made once before update 1, by the parent model, the text and the machine."""

import os
from dataclasses import dataclass, replace

import torch

from nudge import config as configs
from nudge.config import Config, ResolvedConfig, ResolvedMachine
from nudge.data.batches import check_windows
from nudge.data.corpus import expand_user
from nudge.data.shards import Dataset, is_prepared
from nudge.distributed.share import check_share
from nudge.distributed.world import ALONE, World
from nudge.errors import CheckpointError, ConfigError, TokenizerError, first_line
from nudge.machine import memory_check
from nudge.machine.hardware_probe import Machine, agree, probe
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.run_json import RunJson
from nudge.train.loop import make_batches
from nudge.train.rehearsal import Rehearsal, rehearse
from nudge.util.formatting import clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRun:
    """A run that is ready to start. `notes` are lines for the user; `forecast_s` None: it was not rehearsed."""

    config: ResolvedConfig
    machine: Machine
    forecast_s: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumableRun(RunJson):
    """What is read of run.json to resume a run."""

    machine: Machine


def resolve_start(config: Config, dataset: Dataset, world: World) -> ResolvedRun:
    """Make all choices for a new run, and rehearse it. Raises: MachineError or ConfigError if it cannot work here."""
    machine = agree(world.run_all(lambda: probe(config.machine, config.model, world)), world)
    resolved = resolve_machine(config, machine, world)
    set_up_torch(resolved.machine)
    resolved, machine, rehearsal = _rehearse(resolved, machine, dataset, world)
    notes = machine.reasons
    fitted = rehearsal.fit_minutes(resolved, val_tokens=len(dataset.val))
    if (minutes := resolved.train.minutes) is not None:
        usual, usual_s = resolved.train.steps, rehearsal.total_s(resolved, val_tokens=len(dataset.val))
        other = f"{usual:,} would take {clock(usual_s)} (--steps {usual})"
        notes = (*notes, f"updates {fitted.train.steps:,}: as many as fit into {minutes:g} min here; {other}")
    forecast_s = rehearsal.total_s(fitted, val_tokens=len(dataset.val))
    return ResolvedRun(config=fitted, machine=machine, forecast_s=forecast_s, notes=notes)


def resolve_resume(config: Config, written: ResumableRun, world: World) -> ResolvedRun:
    """Make the choices recorded in run.json (`written`) again, since other threads or dtypes would change the numbers.

    Some choices may have to change, and `notes` report it: the update, if the fast one is unavailable here; the windows
    of a pass and the threads, if the number of processes has changed.
    """
    notes: tuple[str, ...] = ()
    n_before, at_most, before = written.processes, config.train.micro_batch, written.machine
    before = replace(before, peak_flops={dtype: flops / n_before for dtype, flops in before.peak_flops.items()})
    if n_before != world.size:
        config = replace(
            config,
            train=replace(config.train, micro_batch=None),
            machine=replace(config.machine, threads=None),
        )
        notes = (f"{format_processes(world.size)} now, {n_before} before: the same batches, summed in another order",)
    machine = agree(world.run_all(lambda: probe(config.machine, config.model, world, before=before)), world)
    if machine.update == before.update:
        machine = replace(machine, reasons=before.reasons)
    else:
        notes = (f"no longer bit for bit as it began: {machine.reasons[-1]}", *notes)
    resolved = resolve_machine(config, machine, world, at_most=at_most)
    set_up_torch(resolved.machine)
    return ResolvedRun(config=resolved, machine=machine, notes=notes)


def set_up_torch(machine: ResolvedMachine) -> None:
    """Set torch's thread count and, if requested, its deterministic algorithms. Both affect rounding."""
    torch.set_num_threads(machine.threads)
    if machine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch's documentation on reproducibility
        torch.use_deterministic_algorithms(True)


def resolve_parent(config: Config, parent: Checkpoint) -> Config:
    """Return the config of a fine-tuning run with the sizes and the vocabulary of its parent model."""
    data = config.data
    if not (len(data.paths) == 1 and is_prepared(expand_user(data.paths[0]))):
        data = replace(data, tokenizer=str(checkpoint.tokenizer_path(parent)))
    return replace(config, model=parent.config.model, data=data)


def resolve_data(config: Config, dataset: Dataset) -> Config:
    """Return the config with the tokenizer's vocabulary size and, if no prompt is set, a prompt for samples.

    Raises: CheckpointError if the tokenizer has more tokens than the parent model; ConfigError if the prompt is too
    long; DataError if the text is too short.
    """
    n_tokens = dataset.tokenizer.vocab_size
    if config.init is None:
        config = replace(config, model=replace(config.model, vocab_size=n_tokens))
    elif n_tokens > config.model.vocab_size:
        raise CheckpointError("tokenizer_too_large", n_tokens=n_tokens, vocab_size=config.model.vocab_size)
    for tokens in (dataset.train, dataset.val):
        check_windows(tokens, config.model.block_size)
    prompt = _choose_prompt(dataset) if config.sample.prompt is None else config.sample.prompt
    if len(dataset.tokenizer.encode(prompt)) + 1 >= config.model.block_size:  # with the token that starts a document
        raise ConfigError("sample_prompt_too_long", block_size=config.model.block_size)
    return replace(config, sample=replace(config.sample, prompt=prompt))


def _choose_prompt(dataset: Dataset) -> str:
    """Choose the prompt of samples.

    A single long document has only one start, so its samples start with a newline instead. No prompt ends with a space,
    because a space belongs to the token of the word after it.
    """
    if records := dataset.manifest.records:  # the question of a held-out example
        return dataset.tokenizer.decode(dataset.val.read(0, records.n_given).tolist())
    prompt = "def __init__(self" if dataset.is_python else "\n" if dataset.train.n_documents <= 1 else ""
    try:
        dataset.tokenizer.encode(prompt)
    except TokenizerError:  # a vocabulary of characters may lack some of these
        prompt = ""
    if not prompt and not dataset.tokenizer.opening:  # a sample needs a first token
        return dataset.tokenizer.decode(dataset.val.read(0, 1).tolist())
    return prompt


def resolve_machine(
    config: Config, machine: Machine, world: World = ALONE, *, at_most: int | None = None
) -> ResolvedConfig:
    """Return the config with the choices of the probe, and as many windows per pass as fit the memory, up to `at_most`.

    Raises: ConfigError if the windows of an update cannot be divided evenly among the processes; MachineError if not
    even one window fits.
    """
    chosen = {name: getattr(machine, name) for name in ("device", "dtype", "threads", "update")}
    sample = replace(config.sample, prompt=config.sample.prompt or "")
    config = replace(config, machine=replace(config.machine, **chosen), sample=sample)
    check_share(config, world.size)
    size = world.run_on_rank0(lambda: memory_check.choose_micro_batch(config, machine, world.size, at_most=at_most))
    return configs.to_resolved(replace(config, train=replace(config.train, micro_batch=size)))


def _rehearse(
    config: ResolvedConfig, machine: Machine, dataset: Dataset, world: World
) -> tuple[ResolvedConfig, Machine, Rehearsal]:
    """Rehearse the run; if torch.compile does not work, switch to the eager update and rehearse that."""
    batches = make_batches(config, dataset)
    try:
        with world.watch_processes():
            return config, machine, rehearse(config, batches, world)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # PyTorch's compilers raise many subclasses
        if machine.update != "compiled" or world.size > 1:  # several processes would all have to switch
            raise
        reason = f"update eager: torch.compile does not work here ({first_line(error)})"
    config = replace(config, machine=replace(config.machine, update="eager"))
    machine = replace(machine, update="eager", reasons=(*machine.reasons[:-1], reason))
    return config, machine, rehearse(config, batches, world)


def format_processes(n: int) -> str:
    """Return "1 process", "2 processes" and so on."""
    return "1 process" if n == 1 else f"{n} processes"
