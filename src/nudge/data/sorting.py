"""A very small task for a network: six letters of A, B and C, then the same letters sorted.

    C B A B B C A B B B C C
    the question|the answer

There are 729 questions. The llm-viz page shows the same task (Source: https://bbycroft.net/llm). The examples are
records: they have one length and no token between them, and each window of training is one example.
"""

import hashlib
import itertools
from pathlib import Path

import numpy as np

from nudge.config import SORTING, DataConfig
from nudge.data import tokenizer as tokenizers
from nudge.data.manifest import Records, Shard, Source, SplitName, key_of, locked_folder, write_manifest
from nudge.data.shards import Dataset, open_dataset, token_dtype, write_shard
from nudge.data.split import hash_number
from nudge.data.tokenizer import CharTokenizer
from nudge.errors import ConfigError

LETTERS = "ABC"
N_LETTERS = 6
RECORDS = Records(n_tokens=2 * N_LETTERS, n_given=N_LETTERS)


def examples() -> list[str]:
    """Return every question with its answer, in the order of the questions' hashes: fixed, but practically shuffled."""
    questions = ("".join(letters) for letters in itertools.product(LETTERS, repeat=N_LETTERS))
    return [question + "".join(sorted(question)) for question in sorted(questions, key=hash_number)]


def prepare(config: DataConfig, out: Path | None = None) -> Dataset:
    """Prepare the examples, or open them if they are prepared. The first `val_share` of them are for validation.

    Raises: ConfigError for other paths besides, or another tokenizer than the task's; DataError, MachineError.
    """
    tokenizer = _sorting_tokenizer(config)
    key = key_of({"task": SORTING, "tokenizer": tokenizer.sha256, "val_share": config.val_share})
    with locked_folder(key, out) as folder:
        if not (folder / "manifest.json").exists():
            _fill(folder, key, config.val_share, tokenizer)
    return open_dataset(folder)


def _sorting_tokenizer(config: DataConfig) -> CharTokenizer:
    """Return the tokenizer of the three letters, without end-of-text. Raises: ConfigError for other settings."""
    tokenizer = CharTokenizer(LETTERS, has_eot=False)
    if config.paths != (SORTING,):
        raise ConfigError("sorting_alone", path=SORTING)
    given = config.tokenizer
    if given != "chars" and (tokenizers.is_learned(given) or tokenizers.get(given).sha256 != tokenizer.sha256):
        raise ConfigError("sorting_tokenizer", path=SORTING, letters=", ".join(LETTERS), given=given)
    return tokenizer


def _fill(folder: Path, key: str, val_share: float, tokenizer: CharTokenizer) -> None:
    """Write the shards, the tokenizer and the manifest to a locked folder."""
    all_examples = examples()
    n_val = min(max(1, round(val_share * len(all_examples))), len(all_examples) - 1)
    parts: dict[SplitName, list[str]] = {"train": all_examples[n_val:], "val": all_examples[:n_val]}
    shards: dict[SplitName, list[Shard]] = {}
    for name, part in parts.items():
        text = "".join(part)
        tokens = tokenizer.encode_array(text).astype(token_dtype(tokenizer.vocab_size))
        no_ends = np.zeros(0, dtype=np.uint64)  # records are not documents
        shards[name] = [write_shard(folder, f"{name}_000000.bin", tokens, no_ends, len(text))]
    tokenizer.save(folder / "tokenizer.json")
    text = "".join(all_examples)
    digest = hashlib.sha256(text.encode()).hexdigest()
    source = Source(paths=(SORTING,), n_files=0, n_bytes=len(text), sha256=digest, suffixes=())
    write_manifest(
        folder, key=key, tokenizer=tokenizer, val_share=val_share, source=source, shards=shards, records=RECORDS
    )
