"""What a run is: frozen dataclasses, one section per component. A function gets only its section.

`None` means "not decided yet": the probe (machine/hardware_probe.py) or the data decide before update 1, and run.json
holds the config with every choice filled in.
"""

import contextlib
import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nudge.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The sizes of a GPT-2 (names as in OpenAI's code; Source: Radford et al. 2019), and what departs from it.

    Every switch is off in GPT-2. What each is worth was measured: docs/decisions/0004-modern.md.
    """

    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 256
    block_size: int = 64
    vocab_size: int = 4096
    rotary: bool = False  # positions turn queries and keys, instead of wpe
    untied: bool = False  # an output head of its own that begins at 0, so that wte can begin large
    zero_init: bool = False  # residual projections begin at 0: a fresh network passes its input on; still a GPT-2

    @property
    def is_gpt2(self) -> bool:
        """Whether this is GPT-2's own architecture, which other programs and the fast paths know."""
        return not self.departures

    @property
    def departures(self) -> tuple[str, ...]:
        """The switches that make another architecture of it."""
        return tuple(name for name in ("rotary", "untied") if getattr(self, name))


SORTING = "builtin:sorting"  # a path that is no file: the examples of data/sorting.py


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which text is learned, and how it becomes tokens."""

    paths: tuple[str, ...] = ()  # files, folders, globs, hf:OWNER/NAME, tokens; none: Python's standard library
    field: str = "text"  # of .jsonl files; the column of .parquet files
    hub_bytes: int = 1_000_000_000  # of text, at most, taken of each hf:OWNER/NAME
    tokenizer: str = "bpe-4096"  # bytes, chars, gpt2, cl100k, bpe-N (trained on this text), or a file
    val_share: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The training loop and its optimizer."""

    steps: int = 1000
    minutes: float | None = None  # turned into steps by the probe
    batch_tokens: int = 1024  # per update, whatever the number of passes it takes
    micro_batch: int | None = None  # sequences per pass; chosen by the memory there is
    optimizer: Literal["adamw", "muon"] = "muon"  # muon: hidden matrices only, the rest stays with AdamW
    lr: float = 1e-2
    schedule: Literal["cosine", "wsd"] = "cosine"
    warmup_steps: int = 20
    decay_share: float = 0.4  # of the steps, at the end; wsd only
    final_lr_ratio: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0
    max_skipped: int = 5  # non-finite updates in a row before the run stops


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """The text that is written from the same prompt and seed all along a run."""

    every: int = 20  # updates; 0: never
    prompt: str | None = None  # chosen by the kind of text
    max_tokens: int = 56
    temperature: float = 0.8
    top_k: int | None = 50
    top_p: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """The validation loss along a run."""

    every: int = 100  # updates; 0: only at the end
    tokens: int = 32768  # of the validation split, always the same; the last evaluation reads all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveConfig:
    """Checkpoints: which are written and which are kept."""

    every: int = 100  # updates; update 0 and the last are always saved
    keep_last: int = 3
    keep_every: int | None = None  # beside those, every N-th update's checkpoint is kept for good


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """What the probe decides, unless a person did."""

    device: str | None = None  # cpu, cuda, cuda:1, mps
    dtype: Literal["float32", "bfloat16"] | None = None  # of matrix products; weights stay float32
    threads: int | None = None
    update: Literal["fast", "compiled", "eager"] | None = None  # how it is computed (train/update.py)
    shard: bool = False  # each of several processes keeps a part of the weights and moments only (FSDP)
    recompute: bool = False  # activations are computed once more in the backward pass instead of kept: slower, smaller
    timeout_s: float = 300.0  # how long processes wait for each other before one counts as lost
    deterministic: bool = False  # bit-exact resume on CUDA too, at some cost in speed
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run. `seed` draws the first weights and the order of the windows."""

    recipe: str = "tiny"
    seed: int = 1337
    init: str | None = None  # SOURCE of the first weights (fine-tuning); none: random
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    save: SaveConfig = field(default_factory=SaveConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any]) -> Config:
    """The config that `to_dict` described. Raises: ConfigError for an unknown key or a value of the wrong type."""
    return override(Config(), values)


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with some values replaced, given as nested tables: `{"train": {"lr": 3e-4}}`.

    Raises: ConfigError for an unknown key (naming the closest) or a value of the wrong type.
    """
    return typing.cast(Config, _override(config, values, prefix=""))


def _override(section: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(type(section))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"unknown setting '{prefix}{key}'", _closest_setting(prefix + key))
        current = getattr(section, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(f"'{prefix}{key}' is a section of settings, got {value!r}", f"{prefix}{key}.NAME=...")
            changes[key] = _override(current, value, f"{prefix}{key}.")
        else:
            changes[key] = _convert(value, hints[key], prefix + key)
    return dataclasses.replace(section, **changes)


def _closest_setting(key: str) -> str:
    """People leave the section out (`lr`), so the last part of each known key is compared too."""
    last_parts = [name for name in keys() if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    close = last_parts or difflib.get_close_matches(key, keys(), n=3, cutoff=0.5)
    return nearest(close[0], close) if close else nearest(key, keys())


def keys() -> list[str]:
    """Every setting by its full name, such as `train.lr`."""
    return list(flat(to_dict(Config())))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one: {"train": {"lr": 3e-4}} -> {"train.lr": 3e-4}"""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _convert(value: Any, hint: Any, key: str) -> Any:
    """`value` (from TOML, JSON or the command line) as the type that the dataclass declares."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)  # `Literal[...] | None` is the older kind
    options = typing.get_args(hint) if union else (hint,)
    if value is None or value == "none":
        if type(None) in options:
            return None
        raise ConfigError(f"'{key}' needs a value", "leave it out to keep the default")
    expected = next(option for option in options if option is not type(None))
    if typing.get_origin(expected) is Literal:
        if value in typing.get_args(expected):
            return value
        raise ConfigError(f"'{key}' cannot be {value!r}", nearest(str(value), typing.get_args(expected)))
    if expected == tuple[str, ...]:
        return (value,) if isinstance(value, str) else tuple(str(item) for item in value)
    converted = _parse(value, expected)
    if converted is None:
        raise ConfigError(f"'{key}' must be {_described(expected)}, got {value!r}", f"for example --set {key}=...")
    return converted


def _parse(value: Any, expected: type) -> Any:
    """`value` as bool, int, float or str; None if it is none of these."""
    if expected is str:
        return str(value)
    if expected is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if expected is float:
        return number
    return int(number) if math.isfinite(number) and number == int(number) else None  # 1e6 is a whole number too


def _described(expected: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(expected, expected.__name__)


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`["train.lr=3e-4", "seed=1"]` as nested tables for `override`. Raises: ConfigError without an '='."""
    tables: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"expected section.key=value, got {setting!r}", "for example --set train.lr=3e-4")
        *sections, name = key.strip().split(".")
        table = tables
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value.strip()
    return tables


_SCALES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "만": 1e4, "억": 1e8, "조": 1e12}


def parse_count(text: str, name: str = "") -> int:
    """A number of things as people write it: 500,000, 5e5, 10M, 33.5B, 100억. Raises: ConfigError, saying `name`."""
    match = re.fullmatch(r"([+-]?[0-9.,_]+(?:E\+?[0-9]+)?)\s*([KMBT만억조]?)", text.strip().upper())
    if match:
        with contextlib.suppress(ValueError, OverflowError):  # 1.2.3; 1e999
            return round(float(match[1].replace(",", "").replace("_", "")) * _SCALES[match[2]])
    raise ConfigError(f"{name} {text[:40]!r} is not a count".lstrip(), "write 500000, 10M or 33.5B")


def read_toml(path: Path) -> dict[str, Any]:
    """The nested tables of a TOML file. Raises: ConfigError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {path}: {error}", "check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}", "sections look like [train], settings like lr = 3e-4"
        ) from error


def check(config: Config) -> None:
    """Refuse what cannot work, before anything is computed. Raises: ConfigError."""
    model, train, machine = config.model, config.train, config.machine
    for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size"):
        _require(getattr(model, name) >= 1, f"model.{name}", "at least 1", getattr(model, name))
    if model.n_embd % model.n_head:
        divisible = model.n_head * max(1, model.n_embd // model.n_head)
        raise ConfigError(
            f"model.n_embd {model.n_embd} is not divisible by model.n_head {model.n_head}",
            f"each head gets n_embd / n_head channels: try --set model.n_embd={divisible}",
        )
    if model.rotary and model.n_embd // model.n_head % 2:
        raise ConfigError(
            f"model.rotary turns pairs of channels, and a head has {model.n_embd // model.n_head}",
            "choose n_embd and n_head so that n_embd / n_head is even, or --set model.rotary=false",
        )
    _require(train.steps >= 0, "train.steps", "0 or more", train.steps)
    _require(train.minutes is None or 0 < train.minutes < math.inf, "train.minutes", "above 0", train.minutes)
    _require(0 <= train.lr < math.inf, "train.lr", "0 or a positive number", train.lr)
    _require(0 <= train.weight_decay < math.inf, "train.weight_decay", "0 or a positive number", train.weight_decay)
    _require(0 <= train.beta1 < 1, "train.beta1", "in [0, 1)", train.beta1)
    _require(0 <= train.beta2 < 1, "train.beta2", "in [0, 1)", train.beta2)
    _require(train.grad_clip > 0, "train.grad_clip", "above 0 (inf: no clipping)", train.grad_clip)
    _require(0 <= train.final_lr_ratio <= 1, "train.final_lr_ratio", "in [0, 1]", train.final_lr_ratio)
    _require(0 <= train.decay_share <= 1, "train.decay_share", "in [0, 1]", train.decay_share)
    _require(train.warmup_steps >= 0, "train.warmup_steps", "0 or more", train.warmup_steps)
    _require(train.max_skipped >= 1, "train.max_skipped", "at least 1", train.max_skipped)
    if train.batch_tokens < 1 or train.batch_tokens % model.block_size:
        whole = model.block_size * max(1, train.batch_tokens // model.block_size)
        raise ConfigError(
            f"train.batch_tokens {train.batch_tokens} is not a multiple of model.block_size {model.block_size}",
            f"an update reads whole windows: try --set train.batch_tokens={whole}",
        )
    sequences = train.batch_tokens // model.block_size
    if train.micro_batch is not None and (train.micro_batch < 1 or sequences % train.micro_batch):
        raise ConfigError(
            f"train.micro_batch {train.micro_batch} does not divide the {sequences} windows of an update",
            "leave it out: it is then chosen by the memory there is",
        )
    _require(config.data.hub_bytes >= 1, "data.hub_bytes", "at least 1", config.data.hub_bytes)
    _require(0 < config.data.val_share < 1, "data.val_share", "in (0, 1)", config.data.val_share)
    _require(config.eval.every >= 0, "eval.every", "0 or more", config.eval.every)
    _require(config.eval.tokens >= 1, "eval.tokens", "at least 1", config.eval.tokens)
    _require(config.save.every >= 1, "save.every", "at least 1", config.save.every)
    _require(config.save.keep_last >= 1, "save.keep_last", "at least 1", config.save.keep_last)
    _require(
        config.save.keep_every is None or config.save.keep_every >= 1,
        "save.keep_every",
        "at least 1",
        config.save.keep_every,
    )
    _require(machine.threads is None or machine.threads >= 1, "machine.threads", "at least 1", machine.threads)
    _require(0 < machine.timeout_s < math.inf, "machine.timeout_s", "a positive number", machine.timeout_s)
    _require(
        machine.usd_per_hour is None or 0 <= machine.usd_per_hour < math.inf,
        "machine.usd_per_hour",
        "0 or more",
        machine.usd_per_hour,
    )
    check_sampling(config.sample)


def check_sampling(sample: SampleConfig) -> None:
    """Raises: ConfigError for a temperature, top-k or top-p that no distribution can have."""
    _require(sample.every >= 0, "sample.every", "0 or more", sample.every)
    _require(sample.max_tokens >= 0, "sample.max_tokens", "0 or more", sample.max_tokens)
    _require(
        0 <= sample.temperature < math.inf,
        "temperature",
        "0 (greedy) or a positive number",
        sample.temperature,
        hint="0.8 is a good start",
    )
    _require(
        sample.top_k is None or sample.top_k >= 1,
        "top_k",
        "at least 1",
        sample.top_k,
        hint="leave it out for all tokens",
    )
    _require(
        sample.top_p is None or 0 < sample.top_p <= 1,
        "top_p",
        "above 0 and at most 1",
        sample.top_p,
        hint="0.9 is usual",
    )
    _require(0 <= sample.seed < 2**63, "seed", "0 or more, below 2**63", sample.seed)


def _require(holds: bool, name: str, expected: str, got: Any, hint: str = "see docs/configuration.md") -> None:
    # NaN fails every comparison above, so it is refused without a case of its own.
    if not holds:
        raise ConfigError(f"{name} must be {expected}, got {got}", hint)
