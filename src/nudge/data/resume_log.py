"""The log of finished shards, with which an interrupted preparation continues."""

import contextlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nudge.data.manifest import Shard, SplitName
from nudge.data.shards import ends_name, is_intact
from nudge.util import files

_SHARD = re.compile(r"(train|val)_[0-9]{6,}\.bin")  # only such files are ever read or removed here
NAME = ".progress.jsonl"  # hidden, so that it is never read as text


class ResumeLog:
    """A line with the key, then one for each finished shard: `{"split": "train", "groups": 61, "shard": {...}}`.

    Opening the log removes every damaged shard with all later shards of its split, and all shards of another key
    (other text, another tokenizer). Only for a folder that this process has locked.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.shards: dict[SplitName, list[Shard]] = {"train": [], "val": []}
        self.n_groups: dict[SplitName, int] = {"train": 0, "val": 0}
        first, *lines = list(files.read_json_lines(folder / NAME)) or [{}]
        self.continues = first.get("key") == key  # an interrupted preparation of the same text
        broken = {"train": not self.continues, "val": not self.continues}
        kept = []
        for line in lines:
            if not (read := _finished(line)):
                broken = {"train": True, "val": True}  # no line of ours: what follows it cannot be trusted
                continue
            split, shard = read
            broken[split] = broken[split] or not is_intact(folder, shard)
            if broken[split]:
                _remove(folder, shard)
            else:
                self._count(split, shard, line["groups"])
                kept.append(line)
        header = {"key": key}
        files.write_text(folder / NAME, "".join(json.dumps(line) + "\n" for line in [header, *kept]))

    def add(self, split: SplitName, shard: Shard, *, n_groups: int) -> None:
        """Log a shard that is on disk, and how many groups of text it holds."""
        self._count(split, shard, n_groups)
        with files.open_json_lines(self.folder / NAME) as file:
            files.append_json(file, {"split": split, "groups": n_groups, "shard": asdict(shard)}, sync=True)

    def close(self) -> None:
        """Remove the log. It is not needed once the manifest is written."""
        (self.folder / NAME).unlink(missing_ok=True)

    def _count(self, split: SplitName, shard: Shard, n_groups: int) -> None:
        self.shards[split].append(shard)
        self.n_groups[split] += n_groups


def _finished(line: dict[str, Any]) -> tuple[SplitName, Shard] | None:
    """Return the split and the shard of a line; None if it does not name a file that a preparation writes."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # a field is missing or of another type
        shard = Shard(**line["shard"])
        numbers = (line["groups"], shard.n_tokens, shard.n_documents, shard.text_bytes)
        named = _SHARD.fullmatch(shard.file)
        if named and named[1] == line["split"] and not shard.place and all(isinstance(n, int) for n in numbers):
            return line["split"], shard
    return None


def _remove(folder: Path, shard: Shard) -> None:
    for name in (shard.file, ends_name(shard.file)):
        (folder / name).unlink(missing_ok=True)
