"""Which shards of an unfinished preparation are safely on disk, so that it can go on after any interruption."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nudge.data.shards import Shard, SplitName, ends_name, is_intact
from nudge.util import files

NAME = ".progress.jsonl"  # hidden, so that it is never taken for text


class ResumeLog:
    """A line for every finished shard: `{"split": "train", "groups": 61, "shard": {...}}` after one that names the key.

    A shard that is not intact does not count, nor do those of its split after it. What was made for another key (other
    text, another tokenizer) is removed. Only for a folder that this process has locked.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key
        self.shards: dict[SplitName, list[Shard]] = {"train": [], "val": []}
        self.n_groups: dict[SplitName, int] = {"train": 0, "val": 0}
        first, *lines = list(files.read_json_lines(folder / NAME)) or [{}]
        self.continues = first.get("key") == key  # what an earlier, interrupted preparation began
        broken = {"train": not self.continues, "val": not self.continues}
        kept = []
        for line in lines:
            split, shard = line["split"], Shard(**line["shard"])
            broken[split] = broken[split] or not is_intact(folder, shard)
            if broken[split]:
                _remove(folder, shard)
            else:
                self._count(split, shard, line["groups"])
                kept.append(line)
        self._write(kept)

    def add(self, split: SplitName, shard: Shard, *, n_groups: int) -> None:
        """Note a shard that is on disk, and how many groups of text it holds."""
        self._count(split, shard, n_groups)
        with files.open_json_lines(self.folder / NAME) as file:
            files.append_json(file, {"split": split, "groups": n_groups, "shard": asdict(shard)}, sync=True)

    def close(self) -> None:
        """The manifest is written: the log has served."""
        (self.folder / NAME).unlink(missing_ok=True)

    def _count(self, split: SplitName, shard: Shard, n_groups: int) -> None:
        self.shards[split].append(shard)
        self.n_groups[split] += n_groups

    def _write(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in [{"key": self.key}, *lines])
        files.write_text(self.folder / NAME, text)


def _remove(folder: Path, shard: Shard) -> None:
    for name in (shard.file, ends_name(shard.file)):
        (folder / name).unlink(missing_ok=True)
