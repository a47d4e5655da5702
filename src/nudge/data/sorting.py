"""The smallest task that is worth a network: six letters of A, B and C, then the same letters in order.

    C B A B B C A B B B C C
    the question|the answer

There are 729 questions. The task is the one of the llm-viz page (Source: https://bbycroft.net/llm), and its examples
are records: all of one length, without a token between them, each learned from its own beginning.
"""

import hashlib
import itertools
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nudge.config import SORTING, DataConfig
from nudge.data import tokenizer as tokenizers
from nudge.data.shards import (
    Dataset,
    Manifest,
    Records,
    Source,
    SplitManifest,
    SplitName,
    check_key,
    open_dataset,
    token_dtype,
    write_shard,
    writing_to,
)
from nudge.data.split import hash_number
from nudge.data.tokenizer import CharTokenizer
from nudge.data.vocabulary import is_learned
from nudge.errors import ConfigError
from nudge.util.files import cache_folder

LETTERS = "ABC"
N_LETTERS = 6
RECORDS = Records(n_tokens=2 * N_LETTERS, n_given=N_LETTERS)


def examples() -> list[str]:
    """Every question with its answer, in the order of the questions' hashes: fixed, and as good as shuffled."""
    questions = ("".join(letters) for letters in itertools.product(LETTERS, repeat=N_LETTERS))
    return [question + "".join(sorted(question)) for question in sorted(questions, key=hash_number)]


def prepare(config: DataConfig, folder: Path | None = None) -> Dataset:
    """The examples as a prepared folder; the first ones, a share of `val_share`, are held out for validation.

    It takes no lock: whoever writes, writes the same. Raises: ConfigError for other data beside it or another
    tokenizer than its own; DataError, MachineError.
    """
    tokenizer = _own_tokenizer(config)
    decisive = {"task": SORTING, "tokenizer": tokenizer.sha256, "val_share": config.val_share}
    key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
    folder = folder or cache_folder() / "datasets" / key[:16]
    with writing_to(folder):
        if (folder / "manifest.json").exists():
            check_key(folder, key)
        else:
            _write(folder, key, config.val_share, tokenizer)
    return open_dataset(folder)


def _own_tokenizer(config: DataConfig) -> CharTokenizer:
    """Three letters and nothing else: the network has no token that it never meets."""
    tokenizer = CharTokenizer(LETTERS, has_eot=False)
    if config.paths != (SORTING,):
        raise ConfigError(f"{SORTING} cannot be mixed with other text", f"give one of them: --data {SORTING}")
    given = config.tokenizer
    if given != "chars" and (is_learned(given) or tokenizers.get(given).sha256 != tokenizer.sha256):
        raise ConfigError(
            f"{SORTING} has a vocabulary of its own, the letters {', '.join(LETTERS)}; got {given}",
            "give --tokenizer chars",
        )
    return tokenizer


def _write(folder: Path, key: str, val_share: float, tokenizer: CharTokenizer) -> None:
    all_examples = examples()
    n_val = min(max(1, round(val_share * len(all_examples))), len(all_examples) - 1)
    parts: dict[SplitName, list[str]] = {"train": all_examples[n_val:], "val": all_examples[:n_val]}
    splits = {}
    for name, part in parts.items():
        text = "".join(part)
        tokens = tokenizer.encode_array(text).astype(token_dtype(tokenizer.vocab_size))
        no_ends = np.zeros(0, dtype=np.uint64)  # records are no documents
        splits[name] = SplitManifest.of([write_shard(folder, f"{name}_000000.bin", tokens, no_ends, len(text))])
    text = "".join(all_examples)
    tokenizer.save(folder / "tokenizer.json")
    Manifest(
        key=key,
        tokenizer=tokenizer.name,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        val_share=val_share,
        source=Source(
            paths=(SORTING,),
            n_files=0,
            n_bytes=len(text),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            suffixes=(),
        ),
        train=splits["train"],
        val=splits["val"],
        versions={"nudge-lm": version("nudge-lm")},
        records=RECORDS,
    ).save(folder / "manifest.json")
