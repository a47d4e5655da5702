"""Decide once, before update 1, what a config leaves open: by the parent checkpoint, the text and the machine."""

import os
from dataclasses import dataclass, replace
from typing import Any

import torch

from nudge import config as configs
from nudge.config import Config, ResolvedConfig, ResolvedMachine
from nudge.data.batches import check_windows
from nudge.data.corpus import expand_user
from nudge.data.shards import Dataset, is_prepared
from nudge.distributed.world import ALONE, World
from nudge.errors import CheckpointError, ConfigError, TokenizerError, first_line
from nudge.machine import memory_check
from nudge.machine.hardware_probe import Machine, agree, probe
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint
from nudge.train.loop import make_batches
from nudge.train.rehearsal import Rehearsal, rehearse


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRun:
    """A run that can begin. `notes` are lines for the user; `forecast_s` None: it was not rehearsed."""

    config: ResolvedConfig
    machine: Machine
    forecast_s: float | None = None
    notes: tuple[str, ...] = ()


def resolve_start(config: Config, dataset: Dataset, world: World) -> ResolvedRun:
    """Decide everything about a new run. Raises: MachineError or ConfigError for what cannot work here."""
    machine = agree(world.run_all(lambda: probe(config.machine, config.model, world)), world)
    resolved = resolve_machine(config, machine, world)
    set_up(resolved.machine)
    resolved, machine, rehearsal = _rehearse(resolved, machine, dataset, world)
    if resolved.train.minutes is not None:
        steps = rehearsal.steps_in(60 * resolved.train.minutes, resolved, val_tokens=len(dataset.val))
        resolved = replace(resolved, train=replace(resolved.train, steps=steps, minutes=None))
    forecast_s = rehearsal.total_s(resolved, val_tokens=len(dataset.val))
    return ResolvedRun(config=resolved, machine=machine, forecast_s=forecast_s, notes=machine.reasons)


def resolve_resume(config: Config, written: dict[str, Any], world: World) -> ResolvedRun:
    """Decide again, with the answers that run.json has: other threads or another dtype would give other numbers.

    What is not possible any more gives way, and `notes` say so: the fast update on a machine without a compiler, the
    windows of a pass and the threads among another number of processes.
    """
    notes: tuple[str, ...] = ()
    n_before, at_most = written.get("processes", 1), config.train.micro_batch
    before = Machine(**{**written["machine"], "reasons": tuple(written["machine"]["reasons"])})
    before = replace(before, peak_flops={dtype: flops / n_before for dtype, flops in before.peak_flops.items()})
    if n_before != world.size:
        config = replace(
            config,
            train=replace(config.train, micro_batch=None),
            machine=replace(config.machine, threads=None),
        )
        notes = (f"{counted(world.size)} now, {n_before} before: the same batches, summed in another order",)
    machine = agree(world.run_all(lambda: probe(config.machine, config.model, world, before=before)), world)
    if machine.update == before.update:
        machine = replace(machine, reasons=before.reasons)
    else:
        notes = (f"no longer bit for bit as it began: {machine.reasons[-1]}", *notes)
    resolved = resolve_machine(config, machine, world, at_most=at_most)
    set_up(resolved.machine)
    return ResolvedRun(config=resolved, machine=machine, notes=notes)


def set_up(machine: ResolvedMachine) -> None:
    """Set what decides the last bit of every sum."""
    torch.set_num_threads(machine.threads)
    if machine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch's documentation on reproducibility
        torch.use_deterministic_algorithms(True)


def resolve_parent(config: Config, parent: Checkpoint) -> Config:
    """Fine-tuning keeps the sizes and the vocabulary of the model it starts from."""
    data = config.data
    if not (len(data.paths) == 1 and is_prepared(expand_user(data.paths[0]))):
        data = replace(data, tokenizer=str(checkpoint.tokenizer_path(parent)))
    return replace(config, model=parent.config.model, data=data)


def resolve_data(config: Config, dataset: Dataset) -> Config:
    """Take the vocabulary from the tokenizer, and a prompt for samples that fits the text."""
    n_tokens = dataset.tokenizer.vocab_size
    if config.init is None:
        config = replace(config, model=replace(config.model, vocab_size=n_tokens))
    elif n_tokens > config.model.vocab_size:
        raise CheckpointError("tokenizer_too_large", n_tokens=n_tokens, vocab_size=config.model.vocab_size)
    for tokens in (dataset.train, dataset.val):
        check_windows(tokens, config.model.block_size)
    prompt = _fitting_prompt(dataset) if config.sample.prompt is None else config.sample.prompt
    if len(dataset.tokenizer.encode(prompt)) + 1 >= config.model.block_size:  # with the token that starts a document
        raise ConfigError("sample_prompt_too_long", block_size=config.model.block_size)
    return replace(config, sample=replace(config.sample, prompt=prompt))


def _fitting_prompt(dataset: Dataset) -> str:
    """Choose what samples start with. The start of a single long document would show little of the rest.

    No prompt ends with a space: a space belongs to the token of the word after it.
    """
    if records := dataset.manifest.records:  # a question that is held out
        return dataset.tokenizer.decode(dataset.val.read(0, records.n_given).tolist())
    prompt = "def __init__(self" if dataset.is_python else "\n" if dataset.train.n_documents <= 1 else ""
    try:
        dataset.tokenizer.encode(prompt)
    except TokenizerError:  # a vocabulary of characters may lack these
        prompt = ""
    if not prompt and not dataset.tokenizer.opening:  # then a sample needs something to start with
        return dataset.tokenizer.decode(dataset.val.read(0, 1).tolist())
    return prompt


def resolve_machine(
    config: Config, machine: Machine, world: World = ALONE, *, at_most: int | None = None
) -> ResolvedConfig:
    """Take what the probe chose, and as many windows per pass as fit the memory, or `at_most` so many.

    Raises: ConfigError if the windows of an update cannot be divided evenly among the processes.
    """
    chosen = {name: getattr(machine, name) for name in ("device", "dtype", "threads", "update")}
    sample = replace(config.sample, prompt=config.sample.prompt or "")
    config = replace(config, machine=replace(config.machine, **chosen), sample=sample)
    check_share(config, world)
    size = world.run_on_rank0(lambda: memory_check.choose_micro_batch(config, machine, world.size, at_most=at_most))
    return configs.resolved(replace(config, train=replace(config.train, micro_batch=size)))


def check_share(config: Config, world: World) -> None:
    """Raises: ConfigError if the windows of an update, or its passes, are not the same number for all processes."""
    n_windows, wanted = config.train.batch_tokens // config.model.block_size, config.train.micro_batch or 1
    if n_windows % (world.size * wanted):
        fitting = [str(n) for n in range(1, n_windows + 1) if n_windows % (n * wanted) == 0]
        raise ConfigError(
            "uneven_share", size=world.size, n_windows=n_windows, micro_batch=wanted, fitting=", ".join(fitting[:8])
        )


def _rehearse(
    config: ResolvedConfig, machine: Machine, dataset: Dataset, world: World
) -> tuple[ResolvedConfig, Machine, Rehearsal]:
    """Rehearse; where torch.compile does not work, switch to the eager update and rehearse that."""
    batches = make_batches(config, dataset)
    try:
        with world.watched():
            return config, machine, rehearse(config, batches, world)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # PyTorch's compilers raise all kinds of it
        if machine.update != "compiled" or world.size > 1:  # several processes would have to fail and go on alike
            raise
        reason = f"update eager: torch.compile does not work here ({first_line(error)})"
    config = replace(config, machine=replace(config.machine, update="eager"))
    machine = replace(machine, update="eager", reasons=(*machine.reasons[:-1], reason))
    return config, machine, rehearse(config, batches, world)


def counted(n: int) -> str:
    """Return "1 process", "2 processes" and so on."""
    return "1 process" if n == 1 else f"{n} processes"
