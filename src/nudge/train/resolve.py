"""What a config leaves open follows from the checkpoint it starts from, the text and the machine."""

from dataclasses import replace

from nudge.config import Config
from nudge.data.batches import check_windows
from nudge.data.corpus import expand_user
from nudge.data.shards import Dataset, is_prepared
from nudge.distributed.world import ALONE, World
from nudge.errors import CheckpointError, ConfigError, TokenizerError
from nudge.machine import memory_check
from nudge.machine.hardware_probe import Machine
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint


def resolve_parent(config: Config, parent: Checkpoint) -> Config:
    """Fine-tuning keeps the sizes and the vocabulary of the model it starts from."""
    data = config.data
    if not (len(data.paths) == 1 and is_prepared(expand_user(data.paths[0]))):
        data = replace(data, tokenizer=str(checkpoint.tokenizer_path(parent)))
    return replace(config, model=parent.config.model, data=data)


def resolve_data(config: Config, dataset: Dataset) -> Config:
    """The vocabulary is the tokenizer's; the prompt that is shown all along fits the kind of text."""
    if config.init is None:
        config = replace(config, model=replace(config.model, vocab_size=dataset.tokenizer.vocab_size))
    elif dataset.tokenizer.vocab_size > config.model.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {dataset.tokenizer.vocab_size:,} symbols, the model {config.model.vocab_size:,}",
            "give the raw text instead: it is then prepared with the checkpoint's own tokenizer",
        )
    for tokens in (dataset.train, dataset.val):
        check_windows(tokens, config.model.block_size)
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
    prompt = "def __init__(self" if dataset.is_python else "\n" if dataset.train.n_documents <= 1 else ""
    try:
        dataset.tokenizer.encode(prompt)
    except TokenizerError:  # a vocabulary of characters need not have these
        prompt = ""
    if not prompt and not dataset.tokenizer.opening:  # then a sample needs something to begin with
        return dataset.tokenizer.decode(dataset.val.read(0, 1).tolist())
    return prompt


def resolve_machine(config: Config, machine: Machine, world: World = ALONE) -> Config:
    """The config with what the probe chose, and as many sequences per pass as fit.

    Raises: ConfigError if the windows of an update cannot be divided evenly among the processes.
    """
    chosen = replace(
        config.machine,
        device=machine.device,
        dtype=machine.dtype,  # type: ignore[arg-type]
        threads=machine.threads,
        update=machine.update,  # type: ignore[arg-type]
    )
    config = replace(config, machine=chosen)
    check_share(config, world)
    size = memory_check.choose_micro_batch(config, machine, world.size)
    return replace(config, train=replace(config.train, micro_batch=size))


def check_share(config: Config, world: World) -> None:
    """Raises: ConfigError if the windows of an update, or its passes, are not the same number for all processes."""
    n_windows, wanted = config.train.batch_tokens // config.model.block_size, config.train.micro_batch or 1
    if n_windows % (world.size * wanted):
        fitting = [n for n in range(1, n_windows + 1) if n_windows % (n * wanted) == 0]
        raise ConfigError(
            f"{counted(world.size)} cannot share the {n_windows} windows of an update evenly"
            + (f" in passes of {wanted}" if wanted > 1 else ""),
            f"start {', '.join(map(str, fitting[:8]))} of them, or choose another --set train.batch_tokens",
        )


def counted(n: int) -> str:
    """1 process, 2 processes."""
    return "1 process" if n == 1 else f"{n} processes"
