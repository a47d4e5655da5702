"""The settings of a run: frozen dataclasses, one section per component. A function gets only its section.

`None` in `sample.prompt`, `train.micro_batch` and `machine` means "not chosen yet". train/resolve.py makes these
choices before update 1, by the data and the probe. run.json contains the resolved config.
"""

import contextlib
import dataclasses
import difflib
import re
import shlex
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nudge.errors import ConfigError, did_you_mean, first_line
from nudge.other_names import OTHER_NAMES, PLANNED_ONLY
from nudge.util import json_reader


def setting(default: Any, within: str) -> Any:
    """Declare a setting's default and the interval of its values, such as "[0, inf)". `None` is always allowed."""
    return field(default=default, metadata={"within": within})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The sizes of a GPT-2 (names as in OpenAI's code; Source: Radford et al. 2019), and switches that change it.

    Every switch is off in GPT-2. docs/decisions/0004-modern.md measures the gain of each.
    """

    n_layer: int = setting(4, "[1, inf)")
    n_head: int = setting(4, "[1, inf)")
    n_embd: int = setting(256, "[1, inf)")
    block_size: int = setting(64, "[1, inf)")
    vocab_size: int = setting(4096, "[1, inf)")
    rotary: bool = False  # rotary position embeddings on queries and keys, instead of wpe
    untied: bool = False  # a separate output head that starts at 0, so that wte can start large
    zero_init: bool = False  # residual projections start at 0: a new network passes its input through; still a GPT-2

    @property
    def is_gpt2(self) -> bool:
        """Whether this is GPT-2's own architecture, which other programs and the fast paths support."""
        return not self.departures

    @property
    def departures(self) -> tuple[str, ...]:
        """The switches in use that change the architecture."""
        return tuple(name for name in ("rotary", "untied") if getattr(self, name))


SORTING = "builtin:sorting"  # stands in place of a path: the examples of data/sorting.py


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The text to train on, and its tokenizer."""

    paths: tuple[str, ...] = ()  # files, folders, globs, names, hf:OWNER/NAME, tokens; none: Python's library
    field: str = "text"  # of .jsonl files; the column of .parquet files
    hub_bytes: int = setting(1_000_000_000, "[1, inf)")  # of text, at most, from each hf:OWNER/NAME
    tokenizer: str = "bpe-4096"  # bytes, chars, gpt2, cl100k, bpe-N (trained on this text), or a file
    val_share: float = setting(0.1, "(0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The training loop and its optimizer."""

    steps: int = setting(1000, "[0, inf)")
    minutes: float | None = setting(None, "(0, inf)")  # becomes `steps` before update 1
    batch_tokens: int = setting(1024, "[1, inf)")  # per update, however many passes it takes
    micro_batch: int | None = setting(None, "[1, inf)")  # sequences per pass; None: what fits the memory
    optimizer: Literal["adamw", "muon"] = "muon"  # muon: hidden matrices only, AdamW for the rest
    lr: float = setting(1e-2, "[0, inf)")
    schedule: Literal["cosine", "wsd"] = "cosine"
    warmup_steps: int = setting(20, "[0, inf)")
    decay_share: float = setting(0.4, "[0, 1]")  # of the steps, at the end; wsd only
    final_lr_ratio: float = setting(0.1, "[0, 1]")
    weight_decay: float = setting(0.1, "[0, inf)")
    beta1: float = setting(0.9, "[0, 1)")
    beta2: float = setting(0.95, "[0, 1)")
    grad_clip: float = setting(1.0, "(0, inf)")  # a large number: no clipping
    max_skipped: int = setting(5, "[1, inf)")  # non-finite updates in a row before the run stops


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """The settings of sampling. All samples of a run use the same prompt and seed."""

    every: int = setting(20, "[0, inf)")  # updates; 0: never
    prompt: str | None = None  # None: chosen to fit the text
    max_tokens: int = setting(56, "[0, inf)")
    temperature: float = setting(0.8, "[0, inf)")  # 0: always the most likely token
    top_k: int | None = setting(50, "[1, inf)")  # None: all tokens
    top_p: float | None = setting(None, "(0, 1]")  # None: all tokens
    seed: int = setting(0, "[0, 9223372036854775808)")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """The evaluations during a run."""

    every: int = setting(100, "[0, inf)")  # updates; 0: only at the end
    tokens: int = setting(32768, "[1, inf)")  # of the validation split, always the same; at the end it is read whole


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveConfig:
    """The checkpoints that are written and the ones that are kept."""

    every: int = setting(100, "[1, inf)")  # updates; update 0 and the last are always saved
    keep_last: int = setting(3, "[1, inf)")
    keep_every: int | None = setting(None, "[1, inf)")  # also keep the checkpoint of every N-th update forever


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """The choices about the machine (None: the probe chooses), and how several processes share the work."""

    device: str | None = None  # cpu, cuda, cuda:1, mps
    dtype: Literal["float32", "bfloat16"] | None = None  # of matrix products; weights stay float32
    threads: int | None = setting(None, "[1, inf)")
    update: Literal["fast", "compiled", "eager"] | None = None  # how updates are computed (train/update.py)
    shard: bool = False  # each of several processes keeps only a part of the weights and moments (FSDP)
    recompute: bool = False  # compute activations again in the backward pass: slower, but takes less memory
    timeout_s: float = setting(300.0, "(0, inf)")  # how long processes wait for each other before one counts as lost
    deterministic: bool = False  # bit-exact resume on CUDA too, at some cost in speed
    usd_per_hour: float | None = setting(None, "[0, inf)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run. `seed` determines the first weights and the order of the windows."""

    recipe: str = "tiny"
    seed: int = 1337
    init: str | None = None  # SOURCE of the first weights (fine-tuning); None: random
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    save: SaveConfig = field(default_factory=SaveConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedTrain(TrainConfig):
    """The section `train` of a resolved config."""

    micro_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSample(SampleConfig):
    """The section `sample` of a resolved config."""

    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedMachine(MachineConfig):
    """The section `machine` of a resolved config."""

    device: str
    dtype: Literal["float32", "bfloat16"]
    threads: int
    update: Literal["fast", "compiled", "eager"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig(Config):
    """A config with all choices made, by the data and the machine (train/resolve.py)."""

    train: ResolvedTrain
    sample: ResolvedSample
    machine: ResolvedMachine


def to_resolved(config: Config) -> ResolvedConfig:
    """Convert a config with all choices made to a ResolvedConfig. Raises: ConfigError if a choice is not made."""
    for key in ("train.micro_batch", "sample.prompt", *(f"machine.{name}" for name in _CHOSEN)):
        section, name = key.split(".")
        if getattr(getattr(config, section), name) is None:
            raise ConfigError("open", key=key)
    return ResolvedConfig(
        **_field_values(config)
        | {
            "train": ResolvedTrain(**_field_values(config.train)),
            "sample": ResolvedSample(**_field_values(config.sample)),
            "machine": ResolvedMachine(**_field_values(config.machine)),
        }
    )


_CHOSEN = ("device", "dtype", "threads", "update")


def _field_values(section: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, without converting nested dataclasses."""
    return {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(values: Any) -> Config:
    """Convert the result of `to_dict` back to a config.

    Raises: ConfigError for an unknown key or a value of the wrong type.
    """
    try:
        config = json_reader.convert(values, Config)
    except ValueError as error:
        raise ConfigError("not_a_config", error=first_line(error)) from error
    override(config, values)  # refuses a setting that this version does not know
    return config


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """Return `config` with some values replaced, given as nested tables: `{"train": {"lr": 3e-4}}`.

    Raises: ConfigError for an unknown key (the hint names the closest ones) or a value of the wrong type.
    """
    return typing.cast(Config, _override(config, values, prefix=""))


def _override(section: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Return a section with some values replaced. `prefix`: its name and a dot, for errors."""
    hints = typing.get_type_hints(type(section))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints and prefix + key in PLANNED_ONLY:
            raise ConfigError("planned_only", key=prefix + key, typed=shlex.quote(f"{prefix}{key}={value}"))
        if key not in hints:
            raise ConfigError("unknown_setting", key=prefix + key, closest=_setting_hint(prefix + key))
        current = getattr(section, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError("section", key=prefix + key, value=value)
            changes[key] = _override(current, value, f"{prefix}{key}.")
        else:
            changes[key] = _convert(value, hints[key], prefix + key)
    return dataclasses.replace(section, **changes)


def _setting_hint(key: str) -> str:
    """Return a hint with the settings closest to an unknown one.

    Also if only its section is wrong or missing, or if another program calls it so.
    """
    last = key.rsplit(".", 1)[-1]
    same_last_part = [name for name in keys() if name.rsplit(".", 1)[-1] == last]
    close = same_last_part or OTHER_NAMES.get(last) or difflib.get_close_matches(key, keys(), n=3, cutoff=0.5)
    return did_you_mean(close[0], close) if close else did_you_mean(key, keys())


def keys() -> list[str]:
    """Return the full names of all settings, such as `train.lr`."""
    return list(flatten(to_dict(Config())))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables: {"train": {"lr": 3e-4}} -> {"train.lr": 3e-4}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _convert(value: Any, hint: Any, key: str) -> Any:
    """Convert `value` (from TOML, JSON or the command line) to the type that the dataclass declares."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)  # `Literal[...] | None` is a typing.Union
    options = typing.get_args(hint) if union else (hint,)
    if value is None or value == "none":
        if type(None) in options:
            return None
        raise ConfigError("missing_value", key=key)
    expected = next(option for option in options if option is not type(None))
    if typing.get_origin(expected) is Literal:
        if value in typing.get_args(expected):
            return value
        raise ConfigError(
            "unknown_choice", key=key, value=value, closest=did_you_mean(str(value), typing.get_args(expected))
        )
    converted = _parse(value, expected)
    if converted is None:
        raise ConfigError("wrong_type", key=key, expected=_TYPES[expected], value=str(value)[:40])
    return converted


def _parse(value: Any, expected: Any) -> Any:
    """Return `value` as bool, int, float, str or a tuple of str; None if it is not one."""
    if expected is str:
        return value if isinstance(value, str) else None
    if expected == tuple[str, ...]:
        items = (value,) if isinstance(value, str) else value
        return (
            tuple(items) if isinstance(items, list | tuple) and all(isinstance(item, str) for item in items) else None
        )
    if expected is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if expected is float:
        return number
    return int(number) if abs(number) < 2**63 and number.is_integer() else None  # 1e6 is a valid whole number


_TYPES = {
    bool: "true or false",
    int: "a whole number of at most 64 bits",
    float: "a number",
    str: "text",
    tuple[str, ...]: "a list of texts",
}


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Parse `["train.lr=3e-4", "seed=1"]` to nested tables for `override`. Raises: ConfigError if an '=' is missing."""
    tables: dict[str, Any] = {}
    for assignment in settings:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError("no_assignment", text=assignment)
        *sections, name = key.strip().split(".")
        table = tables
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError("section", key=section, value=table)
        table[name] = value.strip()
    return tables


_SCALES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "만": 1e4, "억": 1e8, "조": 1e12}


def parse_count(text: str, name: str = "the number") -> int:
    """Parse a count such as 500,000, 5e5, 10M, 33.5B or 100억. `name`: of the option, for the error.

    Raises: ConfigError if the text is not a count.
    """
    match = re.fullmatch(r"([+-]?[0-9.,_]+(?:E\+?[0-9]+)?)\s*([KMBT만억조]?)", text.strip().upper())
    if match:
        with contextlib.suppress(ValueError, OverflowError):  # 1.2.3; 1e999
            return round(float(match[1].replace(",", "").replace("_", "")) * _SCALES[match[2]])
    raise ConfigError("no_count", name=name, text=text[:40])


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as nested tables. Raises: ConfigError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("unreadable_file", path=path, error=str(error)) from error
    except (ValueError, RecursionError) as error:  # ValueError also for a number of 5,000 digits
        raise ConfigError("not_toml", path=path, error=first_line(error)) from error


def check(config: Config) -> None:
    """Check that the settings are in range and fit together. Raises: ConfigError."""
    check_saved(config)
    model, train = config.model, config.train
    n_windows, rest = divmod(train.batch_tokens, model.block_size)
    if rest:
        whole = model.block_size * max(1, n_windows)
        raise ConfigError("partial_window", batch_tokens=train.batch_tokens, block_size=model.block_size, whole=whole)
    if train.micro_batch is not None and n_windows % train.micro_batch:
        raise ConfigError("micro_batch_does_not_divide", micro_batch=train.micro_batch, n_windows=n_windows)


def check_saved(config: Config) -> None:
    """Check the config of a network that exists; how its updates were divided does not matter. Raises: ConfigError."""
    for name, section in _field_values(config).items():
        if dataclasses.is_dataclass(section):
            check_ranges(section, f"{name}.")
    model = config.model
    if model.n_embd % model.n_head:
        divisible = model.n_head * max(1, model.n_embd // model.n_head)
        raise ConfigError("heads_do_not_divide", n_embd=model.n_embd, n_head=model.n_head, divisible=divisible)
    if model.rotary and model.n_embd // model.n_head % 2:
        raise ConfigError("rotary_odd_head", n_channels=model.n_embd // model.n_head)


def check_ranges(section: Any, prefix: str = "") -> None:
    """Check that the settings of a section are in their intervals. Raises: ConfigError for the first that is not."""
    for declared in dataclasses.fields(section):
        value, within = getattr(section, declared.name), declared.metadata.get("within")
        if within and value is not None and not _lies_within(value, within):
            expected = _describe_interval(within)
            raise ConfigError("out_of_range", key=prefix + declared.name, expected=expected, value=value)


def _lies_within(value: float, interval: str) -> bool:
    """Return whether a number is in an interval such as "(0, 1]"; NaN is in no interval."""
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def _describe_interval(interval: str) -> str:
    """Describe an interval in words: "[1, inf)" -> "1 or more"."""
    low, high = interval[1:-1].split(", ")
    words = f"{low} or more" if interval[0] == "[" else f"above {low}"
    if high == "inf":
        return words
    return f"{words} and {f'at most {high}' if interval[-1] == ']' else f'below {high}'}"
