"""Models in and out: a folder of another program becomes one that every command here reads, and the way back."""

import re
from pathlib import Path

from torch import Tensor

from nudge.config import Config, DataConfig, ModelConfig
from nudge.convert.formats import OUR_TOKENIZER, gguf, huggingface, llmc, nanogpt
from nudge.data import tokenizer as tokenizers
from nudge.data.foreign import meta_pkl
from nudge.data.tokenizer import Tokenizer
from nudge.errors import ConfigError, FormatError, MachineError, first_line
from nudge.infer.engine import LanguageModel
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder
from nudge.util import files

HUB_TIMEOUT_S = 10
EXPORTS: dict[str, tuple[str, ...]] = {  # the types that weights can have in each format, the usual one first
    "hf": ("float32",),
    "nanogpt": ("float32",),
    "llmc": tuple(llmc.NAMES),
    "gguf": tuple(gguf.DTYPES),
}
_GPT2_ROWS = (huggingface.GPT2_VOCAB_SIZE, 50304)  # the second: padded, as nanoGPT trains it
_TORCH_FILES = (b"PK\x03\x04", b"\x80")  # torch.save's zip, and its pickle before 2020
_SUFFIXES = (".pt", ".bin", ".safetensors", ".gguf")


def import_model(source: str, out: Path, *, tokenizer: str | None = None) -> Checkpoint:
    """Turn another program's model into a run folder at step 0 without optimizer state.

    `source` is a Hugging Face folder or OWNER/NAME on their Hub, nanoGPT's ckpt.pt, llm.c's .bin, or a folder with one
    of these; its content tells which. `tokenizer` is a name, a file of nudge's or nanoGPT's meta.pkl, for a source that
    does not bring its own. `notes` of the result are words for the person: what was left behind or made equal.

    Raises: FormatError if it is not a GPT-2 or damaged; TokenizerError for a tokenizer that is none; MachineError
    without network or room on the disk; ConfigError if `out` is not free.
    """
    with files.new_folder(out) as temporary:
        kind, path = _recognised(Path(source)) if _is_here(source) else ("hf", _fetch(source))
        config, state, notes = _read(kind, path)
        spoken = _tokenizer_of(kind, path, config, tokenizer)
        run = RunFolder(temporary)
        spoken.save(run.tokenizer)
        imported = Checkpoint(
            step=0,
            config=Config(recipe="imported", model=config, data=DataConfig(tokenizer=spoken.name)),
            model=state,
            tokenizer_sha256=spoken.sha256,
            notes=(*notes, *_notes_on(spoken, config)),
        )
        checkpoints.save(run, imported)
    return imported


def export_model(model: LanguageModel, out: Path, kind: str, *, dtype: str | None = None) -> tuple[str, ...]:
    """Write a folder for another program, and where there is a way back nudge's own tokenizer with it.

    `kind` is one of EXPORTS, `dtype` one of its types. Returns words for the person: what the other program does
    otherwise or needs besides.

    Raises: FormatError if the network is no GPT-2; ConfigError if `out` is not free, or for a type that the format does
    not have; MachineError if it cannot be written.
    """
    dtype = dtype or EXPORTS[kind][0]
    if dtype not in EXPORTS[kind]:
        raise ConfigError(f"{kind} cannot hold weights as {dtype}", f"--dtype {' or '.join(EXPORTS[kind])}")
    config, state = model.network.config, model.network.state_dict()
    with files.new_folder(out) as temporary:
        if kind == "hf":
            return huggingface.write(temporary, config, state, model.tokenizer)
        elif kind == "gguf":
            path = temporary / f"{out.resolve().name}.gguf"
            gguf.write(path, config, state, model.tokenizer, dtype=dtype)
            files.write_text(temporary / "Modelfile", gguf.modelfile(path, config))
        elif kind == "llmc":
            llmc.write(temporary, config, state, model.tokenizer, dtype=dtype)
        elif kind == "nanogpt":
            return nanogpt.write(temporary, config, state, model.tokenizer, step=model.step)
    return ()


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


def _is_here(source: str) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # longer than names can be
        return False


def _recognised(path: Path) -> tuple[str, Path]:
    """Whose format it is, by its content, and the file or folder to read. Raises: FormatError."""
    if not path.is_dir():
        head = _head(path)
        if llmc.is_checkpoint(head):
            return "llmc", path
        if head.startswith(_TORCH_FILES):
            return "nanogpt", path
        _refuse_gguf(path, head)
        raise FormatError(
            f"{path} is no model that can be read: it begins with the bytes {head[:4].hex(' ') or 'of an empty file'}",
            f"give nanoGPT's ckpt.pt, llm.c's .bin (its magic number is {llmc.MAGIC}), or a Hugging Face folder",
        )
    if (path / "config.json").is_file():
        return "hf", path
    if (path / "ckpt.pt").is_file():
        return "nanogpt", path / "ckpt.pt"
    found = [file for file in sorted(path.glob("*.bin")) if llmc.is_checkpoint(_head(file))]
    if len(found) > 1:
        raise FormatError(f"{path} holds {len(found)} checkpoints of llm.c", f"give one of them, such as {found[-1]}")
    if found:
        return "llmc", found[0]
    for file in path.glob("*.gguf"):
        _refuse_gguf(file, _head(file))
    return "hf", path  # whose reader tells what it expected


def _refuse_gguf(path: Path, head: bytes) -> None:
    if head.startswith(b"GGUF"):
        raise FormatError(f"{path} is llama.cpp's, and GGUF is written here, not read", "import what it was made from")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}", "check the path") from error


def _read(kind: str, path: Path) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    if kind == "nanogpt":
        return nanogpt.read(path)
    return *(llmc.read(path) if kind == "llmc" else huggingface.read(path)), ()


def _tokenizer_of(kind: str, path: Path, config: ModelConfig, given: str | None) -> Tokenizer:
    """The one that was asked for, else what lies beside the weights, else GPT-2's if the vocabulary has its size."""
    if given is not None:
        inside = Path(given) / meta_pkl.NAME
        meta = inside if inside.is_file() else Path(given)
        tokenizer = meta_pkl.read(meta) if meta.suffix == ".pkl" else tokenizers.get(given)
    elif kind == "hf":
        tokenizer = huggingface.read_tokenizer(path, config)
    elif (ours := path.parent / OUR_TOKENIZER).is_file():
        tokenizer = tokenizers.load(ours)
    elif kind == "nanogpt" and (meta := path.parent / meta_pkl.NAME).is_file():
        tokenizer = meta_pkl.read(meta)
    elif config.vocab_size in _GPT2_ROWS:
        tokenizer = tokenizers.get("gpt2")
    else:
        raise FormatError(
            f"{path} does not say which text its {config.vocab_size:,} tokens are",
            "--tokenizer: the meta.pkl of nanoGPT's data, a tokenizer.json of nudge, or one of gpt2, cl100k, bytes",
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise FormatError(
            f"{path}: the tokenizer has {tokenizer.vocab_size:,} tokens, the network knows {config.vocab_size:,}",
            "tokenizer and weights are not of the same model",
        )
    return tokenizer


def _notes_on(tokenizer: Tokenizer, config: ModelConfig) -> tuple[str, ...]:
    notes = []
    if beyond := config.vocab_size - tokenizer.vocab_size:
        notes.append(
            f"the network has {config.vocab_size:,} tokens, {tokenizer.name} {tokenizer.vocab_size:,}: the {beyond:,} "
            "beyond are kept and never written"
        )
    if not tokenizer.opening:
        notes.append("no token starts a document: give a prompt, and the text ends where the context does")
    return tuple(notes)


def _fetch(name: str) -> Path:
    """The files of a model on the Hugging Face Hub, in their own cache."""
    if not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", name):
        raise FormatError(
            f"no such folder: {name[:200]}", "give a folder, or OWNER/NAME of a model on the Hugging Face Hub"
        )
    if name.endswith(_SUFFIXES):
        raise FormatError(f"no such file: {name}", "check the path")
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
            f"there is no folder {name} here, and fetching it from the Hugging Face Hub failed: {first_line(error)}",
            "check the name and the network; or fetch it elsewhere and give the folder",
        ) from error
