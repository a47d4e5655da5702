"""The log of finished shards, with which an interrupted preparation continues."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from nudge.data.manifest import Shard, SplitName
from nudge.data.shards import ends_name, is_intact
from nudge.util import files, json_reader

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
        first, *lines = list(json_reader.lines(folder / NAME)) or [b""]
        self.continues = json_reader.convert_line(first, _Header) == _Header(key=key)  # an interrupted preparation
        broken = {"train": not self.continues, "val": not self.continues}
        kept: list[_Header | _Finished] = [_Header(key=key)]
        for line in lines:
            if not (done := json_reader.convert_line(line, _Finished)):
                broken = {"train": True, "val": True}  # no line of ours: what follows it cannot be trusted
                continue
            broken[done.split] = broken[done.split] or not is_intact(folder, done.shard)
            if broken[done.split]:
                _remove(folder, done.shard)
            else:
                self._count(done)
                kept.append(done)
        files.write_text(folder / NAME, "".join(json.dumps(asdict(line)) + "\n" for line in kept))

    def add(self, split: SplitName, shard: Shard, *, n_groups: int) -> None:
        """Log a shard that is on disk, and how many groups of text it holds."""
        done = _Finished(split=split, groups=n_groups, shard=shard)
        self._count(done)
        with files.open_json_lines(self.folder / NAME) as file:
            files.append_json(file, asdict(done), sync=True)

    def close(self) -> None:
        """Remove the log. It is not needed once the manifest is written."""
        (self.folder / NAME).unlink(missing_ok=True)

    def _count(self, done: "_Finished") -> None:
        self.shards[done.split].append(done.shard)
        self.n_groups[done.split] += done.groups


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The first line."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished:
    """The line of a shard. Raises: ValueError if it names a file that no preparation writes."""

    split: SplitName
    groups: int
    shard: Shard

    def __post_init__(self) -> None:
        named = _SHARD.fullmatch(self.shard.file)
        if not named or named[1] != self.split or self.shard.place:
            raise ValueError(f"{self.shard.file!r} is no shard of {self.split}")


def _remove(folder: Path, shard: Shard) -> None:
    for name in (shard.file, ends_name(shard.file)):
        (folder / name).unlink(missing_ok=True)
