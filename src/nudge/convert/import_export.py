"""The import of another program's model into a run folder that every command reads, and the export."""

from pathlib import Path

from torch import Tensor

from nudge.config import Config, DataConfig, ModelConfig
from nudge.convert.formats import OUR_TOKENIZER, gguf, huggingface, llmc, nanogpt
from nudge.convert.source import check_source, exists
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
EXPORTS: dict[str, tuple[str, ...]] = {  # the possible types of the weights in each format, the default first
    "hf": ("float32",),
    "nanogpt": ("float32",),
    "llmc": tuple(llmc.NAMES),
    "gguf": tuple(gguf.DTYPES),
}
_GPT2_ROWS = (huggingface.GPT2_VOCAB_SIZE, 50304)  # the second: nanoGPT pads the vocabulary
_TORCH_FILES = (b"PK\x03\x04", b"\x80")  # torch.save's zip, and its pickle before 2020


def import_model(source: str, out: Path, *, tokenizer: str | None = None) -> Checkpoint:
    """Turn another program's model into a run folder at step 0 without optimizer state.

    `source` is a Hugging Face folder or OWNER/NAME on the Hub, nanoGPT's ckpt.pt, llm.c's .bin, or a folder with one of
    these; the format is recognized by the content. `tokenizer`, for a source without one, is a name, a tokenizer.json
    of nudge or nanoGPT's meta.pkl. The result's `notes` tell the user what was left out or replaced.

    Raises: FormatError if the source is damaged or not a GPT-2; TokenizerError for a bad tokenizer; MachineError
    without network or disk space; ConfigError if `out` exists.
    """
    with files.new_folder(out) as temporary:
        kind, path = _recognize(Path(source)) if exists(source) else ("hf", _download(source))
        config, state, notes = _read(kind, path)
        found = _tokenizer_of(kind, path, config, tokenizer)
        run = RunFolder(temporary)
        found.save(run.tokenizer)
        imported = Checkpoint(
            step=0,
            config=Config(recipe="imported", model=config, data=DataConfig(tokenizer=found.name)),
            model=state,
            tokenizer_sha256=found.sha256,
            notes=(*notes, *_describe_limits(found, config)),
        )
        checkpoints.save(run, imported)
    return imported


def export_model(model: LanguageModel, out: Path, kind: str, *, dtype: str | None = None) -> tuple[str, ...]:
    """Write a folder for another program, with nudge's tokenizer file if the format can be imported again.

    `kind` is one of EXPORTS, `dtype` one of its types. Return notes for the user on what the other program does
    differently or needs in addition.

    Raises: FormatError if the network is not a GPT-2; ConfigError if `out` exists or the format does not have that
    type; MachineError if the folder cannot be written.
    """
    dtype = dtype or EXPORTS[kind][0]
    if dtype not in EXPORTS[kind]:
        raise ConfigError("export_dtype", format=kind, dtype=dtype, known=", ".join(EXPORTS[kind]))
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
    """Copy a checkpoint, including the optimizer state, as one file into a new folder.

    Raises: CheckpointError if there is none; ConfigError if `out` exists; MachineError if it cannot be written.
    """
    found = checkpoints.find(source)
    tokenizer = checkpoints.tokenizer_path(found).read_bytes()
    with files.new_folder(out) as temporary:
        folder = RunFolder(temporary)
        folder.tokenizer.write_bytes(tokenizer)
        try:
            checkpoints.save(folder, found)
        except MachineError as error:  # of a run, which this is not
            raise MachineError("not_written", path=out, error=error.values["error"]) from error
    return found


def _recognize(path: Path) -> tuple[str, Path]:
    """Recognize a path's format by its content; return it, and the file or folder to read. Raises: FormatError."""
    if not path.is_dir():
        return _recognize_file(path), path
    # Links may lead anywhere: the cache of the Hub consists of links, and what they lead to is checked as any file.
    for entry in sorted(path.glob("*")):
        if entry.exists() and not (entry.is_file() or entry.is_dir()):
            raise FormatError("not_regular", path=entry)
    if (path / "config.json").is_file():
        return "hf", path
    if (path / "ckpt.pt").is_file():
        return "nanogpt", path / "ckpt.pt"
    found = [file for file in sorted(path.glob("*.bin")) if llmc.is_checkpoint(_first_bytes(file))]
    if len(found) > 1:
        raise FormatError("several_checkpoints", folder=path, n=len(found), last=found[-1])
    if found:
        return "llmc", found[0]
    if gguf_file := next(path.glob("*.gguf"), None):
        raise FormatError("gguf_not_read", path=gguf_file)
    return "hf", path  # reading it raises an error that names the expected files


def _recognize_file(path: Path) -> str:
    """Recognize a file's format by its first bytes. Raises: FormatError."""
    if not path.is_file():  # a pipe can be read only once
        raise FormatError("not_regular", path=path)
    head = _first_bytes(path)
    if llmc.is_checkpoint(head):
        return "llmc"
    if head.startswith(_TORCH_FILES):
        return "nanogpt"
    if head.startswith(b"GGUF"):
        raise FormatError("gguf_not_read", path=path)
    raise FormatError("not_a_model", path=path, head=head[:4].hex(" "), magic=llmc.MAGIC)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise FormatError("unreadable", path=path, error=error.strerror or first_line(error)) from error


def _read(kind: str, path: Path) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    if kind == "nanogpt":
        return nanogpt.read(path)
    return *(llmc.read(path) if kind == "llmc" else huggingface.read(path)), ()


def _tokenizer_of(kind: str, path: Path, config: ModelConfig, given: str | None) -> Tokenizer:
    """Return the given tokenizer, else the one in the weights' folder, else GPT-2's if the vocabulary size matches.

    Raises: FormatError if there is none, or it has more tokens than the network; TokenizerError.
    """
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
        raise FormatError("no_vocabulary", path=path, n=config.vocab_size)
    if tokenizer.vocab_size > config.vocab_size:
        raise FormatError("tokenizer_too_large", path=path, got=tokenizer.vocab_size, network=config.vocab_size)
    return tokenizer


def _describe_limits(tokenizer: Tokenizer, config: ModelConfig) -> tuple[str, ...]:
    """Return notes for the user on ids without text, and on the lack of a first token."""
    notes = []
    if beyond := config.vocab_size - tokenizer.vocab_size:
        notes.append(
            f"the network has {config.vocab_size:,} tokens, {tokenizer.name} {tokenizer.vocab_size:,}: the {beyond:,} "
            "beyond are kept and never written"
        )
    if not tokenizer.opening:
        notes.append("no token starts a document: give a prompt, and the text ends where the context does")
    return tuple(notes)


def _download(name: str) -> Path:
    """Return the local folder of a Hugging Face Hub model, downloading it if it is not cached.

    Raises: FormatError if it is not a name on the Hub; MachineError without the library or the network.
    """
    check_source(name)
    try:
        import huggingface_hub
    except ImportError:
        raise MachineError("hub_not_installed", name=name) from None
    try:
        # Before the download, because only this call has a timeout: a network that does not answer must not hang a
        # command.
        info = huggingface_hub.HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
        names = [file.rfilename for file in info.siblings or []]
        weights = "*.safetensors" if any(n.endswith(".safetensors") for n in names) else "pytorch_model*.bin"
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=info.sha, allow_patterns=["*.json", "merges.txt", weights], ignore_patterns=["*/*"]
            )
        )
    except Exception as error:  # several libraries, whose errors have no common base class
        raise MachineError("model_not_fetched", name=name, error=first_line(error)) from error
