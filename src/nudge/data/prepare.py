"""Raw text to a prepared folder: find it, decide the split, get the tokenizer, encode, write the manifest.

What was prepared once is found again by its key: the content of the files, the tokenizer and the split.
"""

import hashlib
import json
import platform
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import filelock

from nudge.config import SORTING, DataConfig
from nudge.data import corpus, sorting, vocabulary
from nudge.data import tokenizer as tokenizers
from nudge.data.corpus import TextFile
from nudge.data.encoding import encode_documents
from nudge.data.foreign import hub, token_files
from nudge.data.resume_log import ResumeLog
from nudge.data.shards import Dataset, Manifest, Source, SplitManifest, check_key, is_prepared, open_dataset, writing_to
from nudge.data.split import Split, decide
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError, TokenizerError
from nudge.events import Preparing
from nudge.util.cpu import usable_cores
from nudge.util.files import cache_folder

# Part of every key: to be raised when the same text would be prepared in another way.
RECIPE = 1


def prepare(
    config: DataConfig, *, out: Path | None = None, threads: int | None = None
) -> Generator[Preparing, None, Dataset]:
    """Prepare text, or open it if it is prepared already; use as `dataset = yield from prepare(config)`.

    One folder that holds a manifest.json is opened as it is; token files of another program are read where they lie.
    Without `out` the tokens go to the user's cache. An interrupted preparation goes on with its finished shards; two at
    once wait for each other.
    Raises: DataError, TokenizerError, MachineError.
    """
    if len(config.paths) == 1 and is_prepared(prepared := corpus.expand_user(config.paths[0])):
        return open_dataset(prepared)
    if found := token_files.find(config.paths):
        return (yield from token_files.prepare(config, found, out))
    if SORTING in config.paths:
        return sorting.prepare(config, out)
    paths, note = yield from hub.fetch(config.paths, config.field, config.hub_bytes)
    texts = corpus.find(paths)
    source = yield from _read_source(config, texts, note)
    tokenizer = None if vocabulary.is_learned(config.tokenizer) else tokenizers.get(config.tokenizer)
    if tokenizer and not tokenizer.opening:
        raise TokenizerError(
            f"the tokenizer {config.tokenizer} has no token that starts a document: text cannot be prepared with it",
            f"it reads --data {SORTING}, or tokens: the folder of a train.bin; text takes bytes, chars, gpt2 or bpe-N",
        )
    key = _key(config, source, texts, tokenizer)
    folder = out or cache_folder() / "datasets" / key[:16]
    with writing_to(folder), filelock.FileLock(folder / ".lock", thread_local=False):
        if (folder / "manifest.json").exists():
            check_key(folder, key)
        else:
            work = _Preparation(config=config, texts=texts, source=source, tokenizer=tokenizer, key=key, folder=folder)
            yield from work.run(threads or usable_cores())
    return open_dataset(folder)


def find_text(paths: Sequence[str]) -> list[TextFile]:
    """The text files that paths name; none if they name tokens, or text that is not here. Raises: DataError."""
    if (len(paths) == 1 and is_prepared(corpus.expand_user(paths[0]))) or SORTING in paths or token_files.find(paths):
        return []
    local = [path for path in paths if not hub.is_hub(path)]
    return corpus.find(local) if local or not paths else []


def _read_source(config: DataConfig, texts: list[TextFile], note: str) -> Generator[Preparing, None, Source]:
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
    """Names what decides the tokens, and nothing else: not the paths, not the number of threads."""
    decisive = {
        "recipe": RECIPE,
        "content": source.sha256,
        "suffixes": [(file.suffix, file.compression != "") for file in texts],
        "field": config.field if {".jsonl", ".parquet"} & set(source.suffixes) else None,
        "tokenizer": tokenizer.sha256 if tokenizer else config.tokenizer,
        "val_share": config.val_share,
    }
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preparation:
    """What is to be done in a folder that this process has locked."""

    config: DataConfig
    texts: list[TextFile]
    source: Source
    tokenizer: Tokenizer | None  # None: learned from the text
    key: str
    folder: Path

    def run(self, threads: int) -> Generator[Preparing, None, None]:
        for left_over in self.folder.glob(".*.part"):  # of a process that was killed: whoever writes holds the lock
            left_over.unlink(missing_ok=True)
        log = ResumeLog(self.folder, self.key)
        split = decide((text for text, _ in self._documents()), self.config.val_share)
        tokenizer = yield from self._get_tokenizer(split, continues=log.continues)
        for position in encode_documents(self._documents(), split, tokenizer, log, threads):
            yield Preparing(what="tokens", done=position, total=self.source.n_bytes)
        self._manifest(tokenizer, log).save(self.folder / "manifest.json")
        log.close()

    def _documents(self) -> Iterator[tuple[str, int]]:
        return corpus.read_all(self.texts, self.config.field)

    def _get_tokenizer(self, split: Split, *, continues: bool) -> Generator[Preparing, None, Tokenizer]:
        path = self.folder / "tokenizer.json"
        if continues and path.exists():
            return tokenizers.load(path)
        tokenizer = self.tokenizer or (
            yield from vocabulary.learn(
                self.config.tokenizer, self._documents(), lambda text: split(text)[0], total=self.source.n_bytes
            )
        )
        tokenizer.save(path)
        return tokenizer

    def _manifest(self, tokenizer: Tokenizer, log: ResumeLog) -> Manifest:
        if not log.shards["train"] or not log.shards["val"]:
            raise DataError("the text is a single character: there is nothing to split", "name longer text")
        return Manifest(
            key=self.key,
            tokenizer=tokenizer.name,
            tokenizer_sha256=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
            val_share=self.config.val_share,
            source=self.source,
            train=SplitManifest.of(log.shards["train"]),
            val=SplitManifest.of(log.shards["val"]),
            versions={name: version(name) for name in ("nudge-lm", "tiktoken", "tokenizers")}
            | {"python": platform.python_version()},
        )
