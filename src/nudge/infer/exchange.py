"""Models in and out: a folder of another program becomes one that every command here reads, and the way back."""

import re
from pathlib import Path

from nudge import checkpoint as checkpoints
from nudge import files
from nudge.checkpoint import Checkpoint
from nudge.config import Config, DataConfig
from nudge.errors import FormatError, MachineError
from nudge.infer.engine import LanguageModel
from nudge.model.formats import huggingface
from nudge.runfolder import RunFolder

HUB_TIMEOUT_S = 10


def import_huggingface(source: str, out: Path) -> Checkpoint:
    """Turn a Hugging Face folder, or OWNER/NAME on their Hub, into a run folder at step 0 without optimizer state.

    Raises: FormatError if it is not a GPT-2 or damaged; MachineError without network or room on the disk; ConfigError
    if `out` is not free.
    """
    with files.new_folder(out) as temporary:
        folder = Path(source) if Path(source).exists() else _fetch(source)
        config, state = huggingface.read(folder)
        tokenizer = huggingface.read_tokenizer(folder, config)
        if tokenizer.vocab_size > config.vocab_size:
            raise FormatError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size:,} tokens, the network knows {config.vocab_size:,}",
                "tokenizer and weights are not of the same model",
            )
        run = RunFolder(temporary)
        tokenizer.save(run.tokenizer)
        imported = Checkpoint(
            step=0,
            config=Config(recipe="imported", model=config, data=DataConfig(tokenizer=tokenizer.name)),
            model=state,
            tokenizer_sha256=tokenizer.sha256,
        )
        checkpoints.save(run, imported)
    return imported


def export_huggingface(model: LanguageModel, out: Path) -> None:
    """Write a folder that `transformers` reads, with nudge's own tokenizer beside it so that nothing is lost.

    Raises: FormatError if the network is no GPT-2; ConfigError if `out` is not free; MachineError if it cannot be
    written.
    """
    with files.new_folder(out) as temporary:
        network = model.network
        huggingface.write(temporary, network.config, network.state_dict(), model.tokenizer)


def export_checkpoint(source: str | None, out: Path) -> Checkpoint:
    """Copy a checkpoint, optimizer state included, into a folder of its own as one file, whatever wrote it.

    Raises: CheckpointError if there is none; ConfigError if `out` is not free; MachineError if it cannot be written.
    """
    found = checkpoints.find(source)
    tokenizer = checkpoints.tokenizer_path(found).read_bytes()
    with files.new_folder(out) as temporary:
        folder = RunFolder(temporary)
        folder.tokenizer.write_bytes(tokenizer)
        checkpoints.save(folder, found)
    return found


def _fetch(name: str) -> Path:
    """The files of a model on the Hugging Face Hub, in their own cache."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise FormatError(f"no such folder: {name}", "give a folder, or OWNER/NAME of a model on the Hugging Face Hub")
    try:
        import huggingface_hub
    except ImportError:
        raise MachineError(
            f"there is no folder {name} here, and the Hugging Face Hub needs a package that is not installed",
            "pip install 'nudge-lm[hub]'",
        ) from None
    try:
        # Asked first, because only this call keeps to a timeout: a silent network must not hang a command.
        info = huggingface_hub.HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
        names = [file.rfilename for file in info.siblings or []]
        weights = "*.safetensors" if any(n.endswith(".safetensors") for n in names) else "pytorch_model*.bin"
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=info.sha, allow_patterns=["*.json", "merges.txt", weights], ignore_patterns=["*/*"]
            )
        )
    except Exception as error:  # of several libraries, without a common parent: whatever it was, nothing came
        raise MachineError(
            f"there is no folder {name} here, and fetching it from the Hugging Face Hub failed: "
            f"{str(error).splitlines()[0] or type(error).__name__}",
            "check the name and the network; or fetch it elsewhere and give the folder",
        ) from error
