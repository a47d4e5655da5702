"""Text of the Hugging Face Hub: `hf:OWNER/NAME`, with `:CONFIG` and `@SPLIT` where a data set has several.

    hf:HuggingFaceFW/fineweb-edu:sample-10BT        hf:HAERAE-HUB/KOREAN-WEBTEXT@train

It is streamed by the library `datasets` (extra `hub`), in the order in which it lies there, until there are so many
bytes of text as were asked for. They are kept in the cache as a .jsonl file that is named by the revision: preparing
text reads it several times, and what is here needs no network any more. A folder of this machine that `datasets` can
read (its own, or one of .parquet, .jsonl, .csv files) may stand in place of OWNER/NAME.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from nudge.data.corpus import expand_user
from nudge.data.shards import writing_to
from nudge.data.tokenizer import to_bytes
from nudge.errors import DataError, MachineError, NudgeError, first_line, nearest
from nudge.events import Preparing
from nudge.util import files

PREFIX = "hf:"
TIMEOUT_S = 10
_PATTERN = re.compile(r"hf:(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+))?")


def is_hub(path: str) -> bool:
    """Whether a path is a name of the hub."""
    return path.startswith(PREFIX)


def fetch(paths: Sequence[str], field: str, n_bytes: int) -> Generator[Preparing, None, tuple[tuple[str, ...], str]]:
    """The paths with a local file in place of each data set of the hub, and what there is to say of those.

    `n_bytes`: the most text to take of each, in bytes. Raises: DataError, MachineError.
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


def _keep(spec: str, field: str, n_bytes: int) -> Generator[Preparing, None, tuple[Path, str]]:
    """The file with the first documents of a data set, streamed if there is none yet, and their revision."""
    match = _PATTERN.fullmatch(spec)
    if not match:
        raise DataError(f"{spec} names no data set", "type hf:OWNER/NAME, or all of hf:OWNER/NAME:CONFIG@SPLIT")
    name, config, split = match["name"], match["config"], match["split"] or "train"
    folder = expand_user(name)
    here = _state(folder) if folder.is_dir() else None
    decisive = json.dumps([str(folder.resolve()) if here else name, config, split, field, n_bytes])
    stem = f"{folder.name}-{hashlib.sha256(decisive.encode()).hexdigest()[:16]}"
    cache = files.cache_folder() / "hub"
    with writing_to(cache), filelock.FileLock(cache / f".{stem}.lock", thread_local=False):
        kept = next(iter(sorted(cache.glob(f"{stem}-{here or '*'}.jsonl"))), None)
        if kept is None:
            with _explained(spec, is_here=here is not None):
                revision = here or _revision(name)
                rows = _load(folder if here else name, config, split, None if here else revision)
            kept = cache / f"{stem}-{revision}.jsonl"
            texts = _texts(rows, spec, field, is_here=here is not None)
            yield from _write(kept, texts, spec=spec, field=field, n_bytes=n_bytes)
    return kept, kept.stem.removeprefix(f"{stem}-")


def _write(
    path: Path, texts: Iterator[str], *, spec: str, field: str, n_bytes: int
) -> Generator[Preparing, None, None]:
    """The first texts as a .jsonl file, which appears when it is whole."""
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
            raise DataError(f"{spec} gave no text within its first {n_bytes:,} bytes", "ask for more: data.hub_bytes")


def _texts(rows: Iterable[Any], spec: str, field: str, *, is_here: bool) -> Iterator[str]:
    """The texts that are not empty."""
    with _explained(spec, is_here=is_here):
        for row in rows:
            text = row.get(field)
            if field not in row or not isinstance(text, str | None):
                names = [name for name, inner in row.items() if isinstance(inner, str)]
                raise DataError(
                    f"{spec} has no column of text '{field}'; its columns are {', '.join(row)}",
                    f"name the column of the text with --field: {nearest(field, names)}" if names else "take another",
                )
            if text:
                yield text


def _load(name: str | Path, config: str | None, split: str, revision: str | None) -> Iterable[Any]:
    """The rows of a data set in its own order."""
    import datasets

    datasets.disable_progress_bars()  # the command has one
    if isinstance(name, Path) and (name / "state.json").exists():
        return datasets.load_from_disk(str(name))
    if isinstance(name, Path) and (name / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(name / split))
    return datasets.load_dataset(str(name), config, split=split, revision=revision, streaming=True)


def _revision(name: str) -> str:
    import huggingface_hub

    # Asked first, because only this call keeps to a timeout: a silent network must not hang a command.
    return str(huggingface_hub.HfApi().dataset_info(name, timeout=TIMEOUT_S).sha)


def _state(folder: Path) -> str:
    """Changes when a file of a folder does."""
    listed = [
        (path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (stat := path.stat())
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _explained(spec: str, *, is_here: bool) -> Iterator[None]:
    """Turn whatever the libraries raise into one line."""
    try:
        yield
    except NudgeError:
        raise
    except ModuleNotFoundError as error:
        raise MachineError(f"{spec} needs the library {error.name}", "pip install 'nudge-lm[hub]'") from error
    except Exception as error:  # of several libraries, without a common parent: whatever it was, nothing came
        said = first_line(error)[:300]
        if is_here:
            raise DataError(f"the library datasets cannot read {spec}: {said}", "check the folder") from error
        raise MachineError(
            f"fetching {spec} from the Hugging Face Hub failed: {said}",
            "check the name and the network; or download its files elsewhere and give them: --data FILE.parquet",
        ) from error
