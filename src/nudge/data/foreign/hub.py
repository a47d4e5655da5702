"""Text from the Hugging Face Hub: `hf:OWNER/NAME`, with `:CONFIG` and `@SPLIT` if a data set has several.

    hf:HuggingFaceFW/fineweb-edu:sample-10BT        hf:HAERAE-HUB/KOREAN-WEBTEXT@train

The library `datasets` (extra `hub`) streams the text in the data set's order, up to a number of bytes. The text is kept
in the cache as a .jsonl file with the revision in its name: preparation reads it several times, and needs no network
afterwards. OWNER/NAME may also be a local folder that `datasets` can read (saved by `datasets`, or with .parquet,
.jsonl or .csv files).
"""

import contextlib
import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nudge.data.corpus import expand_user, is_hub
from nudge.data.manifest import key_of, writing_to
from nudge.data.tokenizer import to_bytes
from nudge.errors import DataError, MachineError, NudgeError, first_line
from nudge.events import Preparing
from nudge.util import files
from nudge.util.locks import make_lock

TIMEOUT_S = 10
_PATTERN = re.compile(r"hf:(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+))?")


def fetch(paths: Sequence[str], field: str, n_bytes: int) -> Generator[Preparing, None, tuple[tuple[str, ...], str]]:
    """Return the paths, each data set of the Hub replaced by a local file, and a note with the revisions.

    `n_bytes`: the most text to take from each, in bytes. Raises: DataError, MachineError.
    """
    local, notes = [], []
    for path in paths:
        if is_hub(path):
            kept, revision = yield from _keep(path, field, n_bytes)
            local.append(str(kept))
            notes.append(f"{path} at revision {revision}, its first documents up to {n_bytes:,} bytes of text")
        else:
            local.append(path)
    return tuple(local), "; ".join(notes)


def is_here(spec: str, field: str, n_bytes: int) -> bool:
    """Return whether the first documents of a data set of the Hub are in the cache. Raises: DataError."""
    return any(_cache().glob(f"{_stem(*_parse(spec), field, n_bytes)}-*.jsonl"))


def _cache() -> Path:
    return files.cache_folder() / "hub"


def _parse(spec: str) -> tuple[str, str | None, str]:
    """Return the name, the configuration and the split. Raises: DataError."""
    match = _PATTERN.fullmatch(spec)
    if not match:
        raise DataError("bad_hub_path", path=spec)
    return match["name"], match["config"], match["split"] or "train"


def _stem(name: str, config: str | None, split: str, field: str, n_bytes: int) -> str:
    """Return how the names of a data set's files in the cache begin."""
    folder = expand_user(name)
    place = str(folder.resolve()) if folder.is_dir() else name
    return f"{folder.name}-{key_of([place, config, split, field, n_bytes])[:16]}"


def _keep(spec: str, field: str, n_bytes: int) -> Generator[Preparing, None, tuple[Path, str]]:
    """Return a local file with the first documents of a data set, and its revision; download it if need be."""
    name, config, split = _parse(spec)
    folder = expand_user(name)
    is_local = folder.is_dir()
    stem, cache = _stem(name, config, split, field, n_bytes), _cache()
    with writing_to(cache), make_lock(cache / f".{stem}.lock"):
        pattern = _digest_folder(folder) if is_local else "*"  # from the Hub, any revision that was downloaded before
        kept = next(iter(sorted(cache.glob(f"{stem}-{pattern}.jsonl"))), None)
        if kept is None:
            with _explain_errors(spec, is_local=is_local):
                revision = pattern if is_local else _revision(name)
                rows = _load(folder if is_local else name, config, split, None if is_local else revision)
            kept = cache / f"{stem}-{revision}.jsonl"
            texts = _texts(rows, spec, field, is_local=is_local)
            yield from _write(kept, texts, spec=spec, field=field, n_bytes=n_bytes)
    return kept, kept.stem.removeprefix(f"{stem}-")


def _write(
    path: Path, texts: Iterator[str], *, spec: str, field: str, n_bytes: int
) -> Generator[Preparing, None, None]:
    """Write the first texts to a .jsonl file, up to `n_bytes` of text. The file appears when it is complete."""
    done = 0
    with files.atomic_writer(path) as out:
        for text in texts:
            size = len(to_bytes(text))
            if done + size > n_bytes:
                break
            done += size
            out.write(to_bytes(json.dumps({field: text}, ensure_ascii=False) + "\n"))
            yield Preparing(what="downloading", done=done, total=n_bytes)
        if not done:
            raise DataError("no_hub_text", path=spec, n_bytes=n_bytes)


def _texts(rows: Iterable[Any], spec: str, field: str, *, is_local: bool) -> Iterator[str]:
    """Yield the nonempty texts of the rows. Raises: DataError for a row without that field, or with no text in it."""
    with _explain_errors(spec, is_local=is_local):
        for number, row in enumerate(rows, start=1):
            text, place = row.get(field), f"{spec}, row {number}"
            if field not in row:
                raise DataError("no_field", place=place, field=field, names=", ".join(row))
            if not isinstance(text, str | None):
                raise DataError("not_text", place=place, field=field, kind=type(text).__name__)
            if text:
                yield text


def _load(name: str | Path, config: str | None, split: str, revision: str | None) -> Iterable[Any]:
    """Return the rows of a data set in the data set's order."""
    import datasets

    datasets.disable_progress_bars()  # the command shows its own
    if isinstance(name, Path) and (name / "state.json").exists():
        return datasets.load_from_disk(str(name))
    if isinstance(name, Path) and (name / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(name / split))
    return datasets.load_dataset(str(name), config, split=split, revision=revision, streaming=True)


def _revision(name: str) -> str:
    import huggingface_hub

    # Called before `datasets`, which has no timeout: a network that does not answer must not hang a command.
    return str(huggingface_hub.HfApi().dataset_info(name, timeout=TIMEOUT_S).sha)


def _digest_folder(folder: Path) -> str:
    """Return a digest that changes when a file of the folder does."""
    listed = [
        (path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (stat := path.stat())
    ]
    return key_of(listed)[:16]


@contextlib.contextmanager
def _explain_errors(spec: str, *, is_local: bool) -> Iterator[None]:
    """Turn any error of the libraries into a NudgeError with a message of one line."""
    try:
        yield
    except NudgeError:
        raise
    except ModuleNotFoundError as error:
        raise MachineError("no_library", what=spec, library=error.name, extra="hub") from error
    except Exception as error:  # several libraries, whose errors have no common base class
        reason = first_line(error)[:300]
        if is_local:
            raise DataError("unreadable_dataset", path=spec, error=reason) from error
        raise MachineError("hub_failed", path=spec, error=reason) from error
