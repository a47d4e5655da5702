"""The preparation of raw text: find the files, decide the split, get the tokenizer, encode, write the manifest.

Text is prepared only once: the folder is named by a key of the files' content, the tokenizer and the split.
"""

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nudge.config import SORTING, DataConfig
from nudge.data import corpus, named_texts, sorting, vocabulary
from nudge.data import tokenizer as tokenizers
from nudge.data.corpus import TextFile
from nudge.data.encoding import encode_documents
from nudge.data.foreign import hub, named, token_files
from nudge.data.manifest import Source, key_of, locked_folder, write_manifest
from nudge.data.resume_log import ResumeLog
from nudge.data.shards import Dataset, is_prepared, open_dataset
from nudge.data.split import decide, decide_by_size, is_near
from nudge.data.text import Text
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError, TokenizerError
from nudge.events import Preparing
from nudge.util.cpu import usable_cores

# Part of every key: raise it when the same text would be prepared in another way.
RECIPE = 2


def prepare(
    config: DataConfig, *, out: Path | None = None, threads: int | None = None
) -> Generator[Preparing, None, Dataset]:
    """Prepare text, or open it if it is already prepared; use as `dataset = yield from prepare(config)`.

    A prepared folder is only opened; token files of another program are used in place. Without `out` the tokens go to
    the user's cache. An interrupted preparation continues after its finished shards. If two run at once, the second
    waits for the first.
    Raises: DataError, TokenizerError, MachineError.
    """
    if len(config.paths) == 1 and is_prepared(prepared := corpus.expand_user(config.paths[0])):
        return open_dataset(prepared)
    if found := token_files.find(config.paths):
        return (yield from token_files.prepare(config, found, out))
    if SORTING in config.paths:
        return sorting.prepare(config, out)
    paths, note = yield from named.fetch(config.paths, config.field)
    paths, revisions = yield from hub.fetch(paths, config.field, config.hub_bytes)
    texts = corpus.find(paths)
    source = yield from _read_source(config, texts, "; ".join(filter(None, [note, revisions])))
    tokenizer = None if tokenizers.is_learned(config.tokenizer) else tokenizers.get(config.tokenizer)
    if tokenizer and not tokenizer.opening:
        raise TokenizerError("no_opening", name=config.tokenizer, sorting=SORTING)
    key = _key(config, source, texts, tokenizer)
    with locked_folder(key, out) as folder:
        if not (folder / "manifest.json").exists():
            yield from _fill(folder, key, config, texts, source, tokenizer, threads or usable_cores())
    return open_dataset(folder)


def find_text(paths: Sequence[str]) -> list[TextFile]:
    """Return the text files that the paths name; none for tokens or text that is fetched first. Raises: DataError."""
    if (len(paths) == 1 and is_prepared(corpus.expand_user(paths[0]))) or SORTING in paths or token_files.find(paths):
        return []
    local = [path for path in paths if not (corpus.is_hub(path) or named_texts.find(path))]
    return corpus.find(local) if local or not paths else []


def _read_source(config: DataConfig, texts: list[TextFile], note: str) -> Generator[Preparing, None, Source]:
    """Read all files once, and describe them with a digest of their content."""
    total = sum(file.n_bytes for file in texts)
    content, done = hashlib.sha256(), 0
    for file in texts:
        digest = hashlib.sha256()
        for chunk in corpus.chunks(file):
            digest.update(chunk)
            done += len(chunk)
            yield Preparing(what="reading", done=done, total=total)
        content.update(digest.digest())
    return Source(
        paths=config.paths,
        n_files=len(texts),
        n_bytes=total,
        sha256=content.hexdigest(),
        suffixes=tuple(sorted({file.suffix for file in texts})),
        note=note or None,
    )


def _key(config: DataConfig, source: Source, texts: list[TextFile], tokenizer: Tokenizer | None) -> str:
    """Return the key of the settings that determine the tokens; paths and the number of threads do not."""
    return key_of(
        {
            "recipe": RECIPE,
            "content": source.sha256,
            "suffixes": [(file.suffix, file.compression != "") for file in texts],
            "field": config.field if {".jsonl", ".parquet"} & set(source.suffixes) else None,
            "tokenizer": tokenizer.sha256 if tokenizer else config.tokenizer,
            "val_share": config.val_share,
        }
    )


def _fill(
    folder: Path,
    key: str,
    config: DataConfig,
    texts: list[TextFile],
    source: Source,
    given: Tokenizer | None,
    threads: int,
) -> Generator[Preparing, None, None]:
    """Write the shards, the tokenizer and the manifest to a locked folder. Without a given tokenizer, learn one."""
    stray: Counter[Path] = Counter()

    def documents() -> Iterator[tuple[Text, int]]:
        stray.clear()
        return corpus.read_all(texts, config.field, stray)

    for left_over in folder.glob(".*.part"):  # from a process that was killed: the folder is locked
        left_over.unlink(missing_ok=True)
    path = folder / "tokenizer.json"
    # Only at the end is it known how much text either split got, and rarely it has to be done again: to read everything
    # before would slow down every preparation on a machine with many cores.
    for rule in (decide, decide_by_size):
        if (better := rule((text for text, _ in documents()), config.val_share)) is None:
            break
        split = better
        log = ResumeLog(folder, key_of([key, split.cut_above]))
        if log.continues and path.exists():
            tokenizer = tokenizers.load(path)
        else:
            tokenizer = given or (
                yield from vocabulary.learn(config.tokenizer, documents(), split.train, total=source.n_bytes)
            )
            tokenizer.save(path)
        for position in encode_documents(documents(), split, tokenizer, log, threads):
            yield Preparing(what="tokens", done=position, total=source.n_bytes)
        n_train, n_val = (sum(shard.text_bytes for shard in log.shards[name]) for name in ("train", "val"))
        if is_near(config.val_share, n_val, n_train):
            break
    if not (log.shards["train"] and log.shards["val"]):
        raise DataError("nothing_to_split", path=", ".join(config.paths))
    write_manifest(
        folder,
        key=key,
        tokenizer=tokenizer,
        val_share=config.val_share,
        source=replace(source, note="; ".join(filter(None, [source.note, _describe_stray(stray)])) or None),
        shards=log.shards,
        cut_above=split.cut_above or None,
    )
    log.close()


def _describe_stray(stray: Counter[Path]) -> str:
    """Describe in one line how many bytes are not UTF-8."""
    ((path, n), *others) = stray.most_common() or [(Path(), 0)]
    more = sum(n > 0 for _, n in others)
    files = f"{path} and {more:,} more files" if more else str(path)
    return f"{stray.total():,} bytes of {files} are not UTF-8; they are learned as they are" if n else ""
